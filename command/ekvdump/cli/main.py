"""The program `ekvdump`: streams, signals, one command, exit status. [OUTC-7]"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

from ekvdump.cli.arguments import parse_arguments
from ekvdump.cli.commands import (
    COMMANDS,
    Ending,
    Moment,
    UsageError,
    decoded,
    failed,
    interrupted,
    misused,
    print_error,
)
from ekvdump.cli.signals import Interrupted, Interruption, handlers, restore_handlers
from ekvdump.cli.streams import prepare_streams, silence
from ekvdump.exit_statuses import EXIT_DISK_FULL, EXIT_INTERRUPTED, EXIT_IO_ERROR

PRINTS_KEYS: Final = ("get", "keys", "resp")
"""Commands that do nothing but print: with a closed standard output they fail."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. [OUTC-7]

    Without `arguments` the process is expected to exit next, and signals stay ignored. With
    `arguments` the caller's signal handlers are restored; a stream that could not be written
    to discards everything from then on.
    """
    if arguments is None:
        return _main(sys.argv[1:])
    before = handlers()
    try:
        return _main(list(arguments))
    finally:
        restore_handlers(before)


def _main(words: list[str]) -> int:
    is_closed = sys.stdout is None
    prepare_streams()
    moment = Moment()
    interruption = Interruption(moment.is_late)
    try:
        try:
            with interruption:
                _run(words, moment, is_closed=is_closed)
                # Inside the context, so that a signal still ends the wait for a reader.
                sys.stdout.flush()
        except Interrupted:
            # Everything has been cleaned up.
            interruption.end_process_by_signals()
            _end_early(moment)
            sys.stdout.flush()
        exit_status = _status_of(moment)
    except OSError as error:
        # Errors of files are faults; this is an error of standard output. A reader that has seen enough
        # closes the pipe, which is not an error; an answer that could not be printed is one.
        silence(sys.stdout)
        exit_status = _status_of(moment)
        # Of commands for a server none may be missing.
        if not isinstance(error, BrokenPipeError) or (moment.options and moment.options.command == "resp"):
            print_error(f"cannot print the answer: {error.strerror}")
            from ekvdump.system_faults import NO_SPACE

            is_full = error.errno in NO_SPACE
            exit_status = exit_status or (EXIT_DISK_FULL if is_full else EXIT_IO_ERROR)
    try:
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)  # otherwise the interpreter would exit with a status of its own
    return exit_status


def _status_of(moment: Moment) -> int:
    return 0 if moment.ending is None else moment.ending.exit_status


def _run(words: list[str], moment: Moment, *, is_closed: bool) -> None:
    """Run a command and print how it ended."""
    try:
        options = moment.options = parse_arguments(words)
    except SystemExit as asked:
        moment.ending = Ending(int(asked.code or 0))  # argparse has printed help or a usage error
        return
    if is_closed and options.command in PRINTS_KEYS:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    from ekvformat.outcomes import Fault

    try:
        ending = COMMANDS[options.command](options, moment)
    except Fault as fault:
        ending = failed(options, moment, fault)
    except UsageError as error:
        ending = misused(options, error)
    moment.ending = ending
    ending.print_answer()


def _end_early(moment: Moment) -> None:
    """End an interrupted command; one that already has an answer keeps its exit status."""
    sealed = moment.sealed_outcome
    if moment.ending is not None or moment.options is None:
        # There may be no reader: printing more could wait for one. A dump that is sealed is whole. [OUTC-7]
        status = _status_of(moment) or (EXIT_INTERRUPTED if sealed is None else sealed.exit_status)
        moment.ending = Ending(status)
        silence(sys.stdout)
        silence(sys.stderr)
        return
    moment.ending = interrupted(moment.options, moment) if sealed is None else decoded(moment.options, sealed)
    moment.ending.print_answer()
