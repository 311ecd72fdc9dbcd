"""Implements the command `ekvconform`."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType
from typing import Final

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import BrokenCaseError
from ekvconform.cli.arguments import Run, build_parser
from ekvconform.cli.campaigns import faults, step
from ekvconform.cli.running import combine, compare, init, run
from ekvconform.cli.selection import EXIT_BROKEN_SUITE, EXIT_INTERRUPTED, EXIT_UNEXPECTED, EXIT_USAGE
from ekvconform.cli.showing import export, list_cases, repro, show, snapshot
from ekvconform.judge.workers import SIGNALS

EXTRA: Final = ("jinja2", "jsonschema", "junitparser", "rich")
"""What the extra `conform` brings; imported where it is needed."""


COMMANDS: Final[dict[str, Run]] = {
    "run": run,
    "init": init,
    "step": step,
    "faults": faults,
    "list": list_cases,
    "show": show,
    "repro": repro,
    "snapshot": snapshot,
    "export": export,
    "combine": combine,
    "compare": compare,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] | None = None
    if "--" in words:
        place = words.index("--")
        words, command = words[:place], words[place + 1 :]
    before = {name: signal.signal(name, _interrupt) for name in SIGNALS}
    try:
        options = build_parser(COMMANDS).parse_args(words)
        if not all(map(find_spec, EXTRA)):
            raise UsageError("install ekvdump[conform]")
        if command is not None and not options.takes_command:
            raise UsageError(f"{options.command} does not take a program after --")
        if command == []:
            raise UsageError("the program after -- is missing")
        options.program = command or []
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except SystemExit as end:
        return int(end.code or 0)
    except UsageError as error:
        print(f"ekvconform: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenCaseError as error:
        print(f"ekvconform: broken suite: {error}", file=sys.stderr)
        return EXIT_BROKEN_SUITE
    except KeyboardInterrupt:
        print("ekvconform: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        # An error with a file that the caller named, or with stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_UNEXPECTED
        print(f"ekvconform: {error}", file=sys.stderr)
        return EXIT_USAGE
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt` for the first signal and ignore others, so that everything is cleaned up."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt
