"""Signals that end a run.

The rules this module lives by: the first signal raises `Interrupted` in the main program;
later signals are ignored until everything is cleaned up [SAFE-24]; and a signal that the
caller ignores, as a shell does for background jobs, stays ignored.
"""

import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run; SIGHUP is sent when a terminal or a connection is closed. [SAFE-24]"""


class Interrupted(BaseException):
    """The user or the system wants the run to end. [SAFE-24]

    Not an `Exception`, so that it passes through the code that handles faults.
    """


def handlers() -> dict[signal.Signals, Any]:
    """Return the current handler of each of `SIGNALS`; None for a handler that was not set from Python."""
    return {number: signal.getsignal(number) for number in SIGNALS}


def restore_handlers(before: dict[signal.Signals, Any]) -> None:
    """Set the handlers that `handlers` returned."""
    for number, action in before.items():
        if action is not None:  # a handler that was not set from Python cannot be set again
            signal.signal(number, action)


class Interruption:
    """A context in which one signal raises `Interrupted`; on leaving it, signals are ignored.

    `is_late` returns True while a signal would only disturb the cleaning up of a run.
    """

    def __init__(self, is_late: Callable[[], bool]) -> None:
        self._is_late = is_late
        self._numbers: list[signal.Signals] = []
        self._has_come = False

    def __enter__(self) -> Self:
        self._hook, sys.unraisablehook = sys.unraisablehook, self._lose
        self._numbers = [number for number, action in handlers().items() if action not in (signal.SIG_IGN, None)]
        for number in self._numbers:
            signal.signal(number, self._interrupt)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)
        sys.unraisablehook = self._hook

    def end_process_by_signals(self) -> None:
        """Give the signals their default action: from here on one of them ends the process at once."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)

    def _interrupt(self, *_: object) -> None:
        if not self._has_come and not self._is_late():
            self._has_come = True
            raise Interrupted

    def _lose(self, exception: "sys.UnraisableHookArgs") -> None:
        # Python discards an exception that is raised while an object is finalized, so the next signal must count.
        if isinstance(exception.exc_value, Interrupted):
            self._has_come = False
        else:
            self._hook(exception)
