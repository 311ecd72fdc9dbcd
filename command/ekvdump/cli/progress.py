"""The progress of a run on a terminal: bytes, keys or files, rate, time left.

Imported only if standard error is a terminal.
"""

import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from ekvdump.engine.source import READING

WORDS = {READING: "reading"}
"""Labels of the stages; the label of any other stage is its name, which says what it counts."""


class RateColumn(ProgressColumn):
    """Shows keys or files per second."""

    def render(self, task: Task) -> Text:
        """Return the rate of a stage."""
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed")


class TerminalProgress:
    """A context that shows the progress of a run; called as `source.Progress`."""

    def __init__(self, console: Console) -> None:
        # Lines printed meanwhile must appear above the bar, but only if they go to the same terminal.
        redirected = sys.stdout.isatty()
        start, left = (TextColumn("{task.description:11}"), BarColumn()), TimeRemainingColumn()
        self._bytes = Progress(
            *start, DownloadColumn(), TransferSpeedColumn(), left,
            console=console, transient=True, redirect_stdout=redirected,
        )  # fmt: skip
        self._things = Progress(
            *start, MofNCompleteColumn(), RateColumn(), left,
            console=console, transient=True, redirect_stdout=redirected,
        )  # fmt: skip
        self._shown = self._bytes
        self._stage = ""
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        with suppress(OSError):
            self._shown.stop()

    def __call__(self, stage: str, done: int, in_all: int) -> None:
        """Show how much of a stage is done; ignore a terminal that has been closed."""
        with suppress(OSError):
            self._show(stage, done, in_all)

    def _show(self, stage: str, done: int, in_all: int) -> None:
        if stage != self._stage:
            self._shown.stop()
            self._stage = stage
            self._shown = self._bytes if stage == READING else self._things
            self._task = self._shown.add_task(WORDS.get(stage, stage), total=in_all)
            self._shown.start()
        self._shown.update(self._task, completed=done)
