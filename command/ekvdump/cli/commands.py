"""The commands decode, inspect, verify and explain, and how every command ends.

Each command does its work and returns an `Ending`: the exit status, and what prints the
answer. Nothing is printed before that but the findings of `verify` and the lines of `explain`, so an interrupt needs to
know only which decode is under way and whether an ending is being printed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ekvdump.cli.streams import console_of, is_terminal
from ekvdump.exit_statuses import EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_USAGE

if TYPE_CHECKING:
    from ekvformat.outcomes import Fault

    from ekvdump.engine.source import Progress
    from ekvdump.inspection import Inspection
    from ekvdump.outcome import Outcome
    from ekvdump.run import Run
    from ekvdump.verify.findings import Finding
    from ekvdump.verify.verification import Verification

MAX_LISTED_FINDINGS: Final = 1000
"""Findings that the JSON object of `verify` lists; all of them are counted, and printed without `--json`."""


def print_nothing() -> None:
    """Print nothing."""


class Ending(NamedTuple):
    """How a command ended."""

    exit_status: int
    print_answer: Callable[[], None] = print_nothing


class Moment:
    """What an interrupt needs to know about the command that it interrupts."""

    def __init__(self) -> None:
        self.options: argparse.Namespace | None = None
        """The parsed command line."""
        self.run: Run | None = None
        """The decode under way."""
        self.ending: Ending | None = None
        """The ending that is being printed, or has been."""

    @property
    def sealed_outcome(self) -> "Outcome | None":
        """The outcome of the decode, if its dump is sealed."""
        return self.run.sealed_outcome if self.run is not None else None

    def is_late(self) -> bool:
        """Return True while the decode fails and cleans up, which a signal must not disturb. [SAFE-24]"""
        return self.run is not None and self.run.is_ending


class UsageError(Exception):
    """A command line that only what it names shows to be wrong."""


Command = Callable[[argparse.Namespace, Moment], Ending]
"""Runs a command. Raises a `Fault` or `UsageError`."""


# ---- commands ----


def decode(options: argparse.Namespace, moment: Moment) -> Ending:
    """Decode a snapshot into a dump."""
    from ekvformat.decode import Options
    from ekvformat.manifest import Provenance

    from ekvdump.filesystem.directories import HAS_HANDLES
    from ekvdump.run import Run

    provenance = Provenance(
        options.snapshot,
        wall_time=options.wall_time,
        cluster_id=options.cluster_id,
        elastickv_version=options.elastickv_version,
    )
    with progress_of(options) as progress:
        moment.run = Run(
            options.snapshot,
            options.out,
            Options(options.db, options.only, options.salvage, options.key, options.prefix),
            provenance,
            progress,
            into_existing=options.into_existing,
            sync=not options.no_sync,
            handles=HAS_HANDLES and not options.by_path,
        )
        outcome = moment.run.run()
    return decoded(options, outcome)


def decoded(options: argparse.Namespace, outcome: "Outcome") -> Ending:
    """Return the ending of a decode that wrote a whole dump."""
    return Ending(outcome.exit_status, partial(print_decoded, options, outcome))


def inspect(options: argparse.Namespace, moment: Moment) -> Ending:
    """Describe a snapshot."""
    from ekvdump.inspection import inspect as inspect_snapshot

    with progress_of(options) as progress:
        result = inspect_snapshot(options.snapshot, progress)
    exit_status = 0 if result.fault is None else result.fault.exit_status
    return Ending(exit_status, partial(print_inspected, options, result))


def verify(options: argparse.Namespace, moment: Moment) -> Ending:
    """Compare a dump with what its own files say."""
    from ekvdump.cli.text import text_of_fault
    from ekvdump.filesystem.directories import HAS_HANDLES
    from ekvdump.verify.verification import Verification

    listed: list[Finding] = []

    def report(finding: "Finding") -> None:
        if options.json and len(listed) < MAX_LISTED_FINDINGS:
            listed.append(finding)
        elif not options.json and not options.quiet:
            moment.ending = Ending(EXIT_FINDINGS)
            print(text_of_fault(finding))
            moment.ending = None

    with progress_of(options) as progress:
        verification = Verification(options.out, report, progress, handles=HAS_HANDLES and not options.by_path)
        verification.run()
    exit_status = EXIT_FINDINGS if verification.counts else 0
    return Ending(exit_status, partial(print_verified, options, verification, listed))


def explain(options: argparse.Namespace, moment: Moment) -> Ending:
    """Show the bytes of a snapshot with their meaning, or a clause."""
    from ekvexplain.clauses import CLAUSE_ID, load_clauses, render_clause

    name = options.snapshot.upper()
    if CLAUSE_ID.fullmatch(name) and not os.path.lexists(options.snapshot):
        clause = load_clauses().get(name)
        if clause is None:
            return Ending(EXIT_USAGE, partial(print_error, f"{name} is not a clause of this version of the format"))
        return Ending(0, partial(print, f"{render_clause(clause)}\n  in {clause.chapter}"))

    from ekvdump.explanation import Explanation, iter_lines

    with progress_of(options) as progress:
        opened = Explanation(options.snapshot, progress)
    with opened as explanation:
        fault = explanation.fault
        if options.key is None and options.offset is None:
            fault = fault or explanation.inspection.value_fault
        exit_status = 0 if fault is None else fault.exit_status
        if options.offset is not None and options.offset > (size := explanation.inspection.size):
            raise UsageError(f"offset {options.offset} is behind the end of the file, which has {size} bytes")
        for line in iter_lines(explanation, options.key, options.offset):
            moment.ending = Ending(exit_status)
            print(line)
            moment.ending = None
        explanation.check_unchanged()
        if explanation.is_unknown_key:
            exit_status = EXIT_FINDINGS
    return Ending(exit_status, print_nothing if fault is None else partial(print_faults, (fault,), options.snapshot))


def _key_command(name: str) -> Command:
    """Return one of the commands that read single keys, which most runs do not need to load."""

    def run(options: argparse.Namespace, moment: Moment) -> Ending:
        from ekvdump.cli import key_commands

        command: Command = getattr(key_commands, name)
        return command(options, moment)

    return run


COMMANDS: Final = {"decode": decode, "inspect": inspect, "verify": verify, "explain": explain} | {
    name: _key_command(name) for name in ("get", "keys", "resp", "diff")
}


# ---- commands that do not come to their end ----


def failed(options: argparse.Namespace, moment: Moment, fault: "Fault") -> Ending:
    """Return the ending of a command that a fault ended."""
    return Ending(fault.exit_status, partial(print_failed, options, moment.run, fault))


def misused(options: argparse.Namespace, error: UsageError) -> Ending:
    """Return the ending of a command whose arguments do not fit what they name."""

    def print_answer() -> None:
        print_error(str(error))
        if options.json:
            from ekvdump.cli.json_output import print_json, render_envelope

            print_json(render_envelope(options.command, EXIT_USAGE) | {"usage": str(error)})

    return Ending(EXIT_USAGE, print_answer)


def interrupted(options: argparse.Namespace, moment: Moment) -> Ending:
    """Return the ending of a command that was interrupted before it had an answer."""
    return Ending(EXIT_INTERRUPTED, partial(print_interrupted, options, moment.run))


# ---- answers ----


def print_decoded(options: argparse.Namespace, outcome: "Outcome") -> None:
    """Print the answer of `decode`."""
    if options.json:
        from ekvdump.cli.json_output import print_json, render_envelope, render_outcome, text_of_path

        print_json(
            render_envelope("decode", outcome.exit_status)
            | {"snapshot": text_of_path(options.snapshot), "out": text_of_path(options.out), "out_state": "sealed"}
            | render_outcome(outcome)
        )
    elif not options.quiet:
        from ekvdump.cli.text import print_outcome, printable_path

        is_part = options.key is not None or options.prefix is not None
        print_outcome(outcome, printable_path(options.out), say, is_part=is_part)


def print_inspected(options: argparse.Namespace, result: "Inspection") -> None:
    """Print the answer of `inspect`."""
    fault = result.fault
    if options.json:
        from ekvdump.cli.json_output import print_json, render_envelope, render_inspection, text_of_path

        faults, exit_status = ([], 0) if fault is None else ([fault], fault.exit_status)
        print_json(
            render_envelope("inspect", exit_status, faults)
            | {"snapshot": text_of_path(options.snapshot)}
            | render_inspection(result)
        )
    elif not options.quiet:
        from ekvdump.cli.text import print_inspection

        print_inspection(result, say)
    if fault is not None:
        print_faults((fault,), options.snapshot)


def print_verified(options: argparse.Namespace, verification: "Verification", listed: "list[Finding]") -> None:
    """Print the answer of `verify`; the findings have been printed already, except with `--json`."""
    counts, complete = verification.counts, verification.says_complete
    if options.json:
        from ekvdump.cli.json_output import print_json, render_envelope, render_fault, text_of_path

        print_json(
            render_envelope("verify", EXIT_FINDINGS if counts else 0)
            | {
                "out": text_of_path(options.out),
                "files": verification.file_count,
                "complete": complete,
                "counts": dict(sorted(counts.items())),
                "findings": [render_fault(finding) for finding in listed],
            }
        )
    elif not options.quiet:
        from ekvdump.cli.text import print_verdict, printable_path

        print_verdict(printable_path(options.out), verification, say)


def print_failed(options: argparse.Namespace, run: "Run | None", fault: "Fault") -> None:
    """Print a fault, the faults met while cleaning up after it, and what to do."""
    from ekvdump.cli.advice import advice_about_arguments

    faults = (fault, *fault.also)
    snapshot = getattr(options, "snapshot", None) or getattr(options, "opened", None)
    print_faults(faults, snapshot, advice_about_arguments(options, fault))
    print_state_of_out(options, run, fault)
    if options.json:
        print_unanswered(options, run, fault.exit_status, faults)


def print_interrupted(options: argparse.Namespace, run: "Run | None") -> None:
    """Print that the command was interrupted."""
    print_error("interrupted")
    print_state_of_out(options, run)
    if options.json:
        print_unanswered(options, run, EXIT_INTERRUPTED, ())


def print_unanswered(
    options: argparse.Namespace, run: "Run | None", exit_status: int, faults: "Sequence[Fault]"
) -> None:
    """Print the JSON object of a command that did not come to its end."""
    from ekvdump.cli.json_output import print_json, render_envelope, render_outcome, text_of_path
    from ekvdump.run import UNTOUCHED

    rendered: dict[str, Any] = render_envelope(options.command, exit_status, faults)
    for name in ("snapshot", "out", "source", "a", "b"):
        if hasattr(options, name):
            rendered[name] = text_of_path(getattr(options, name))
    if options.command == "decode":
        rendered |= {"out_state": run.out_state if run else UNTOUCHED} | render_outcome(None)
    print_json(rendered)


def print_state_of_out(options: argparse.Namespace, run: "Run | None", fault: "Fault | None" = None) -> None:
    """Print what is in the output directory after a decode, and how to continue."""
    if options.command != "decode":
        return
    from ekvdump.cli.advice import command_again
    from ekvdump.cli.text import printable_path
    from ekvdump.run import UNTOUCHED

    out = printable_path(options.out)
    if run is None or run.out_state == UNTOUCHED:
        there = os.path.lexists(options.out)
        print_error(f"{out} is as it was." if there else f"{out} was not created.")
        return
    salvage = ["--salvage"] if fault is not None and fault.name == "invalid-value" else []
    again = command_again(options, *salvage, "--into-existing")
    if options.into_existing:
        print_error(f"{out} has no seal now; run again with: {again}")
    else:
        print_error(f"{out} holds an unfinished dump without a seal: remove it, or run again with: {again}")


# ---- lines ----


def print_faults(faults: "Sequence[Fault]", snapshot: str | None, advice: str | None = None) -> None:
    """Print faults, and what to do about the first of them.

    `snapshot` is the path of the snapshot, if there is one; `advice` is better than what is always said of the fault.
    """
    from ekvdump.cli.advice import advice_for
    from ekvdump.cli.text import text_of_fault

    for fault in faults:
        print_error(text_of_fault(fault, snapshot))
    print_error(advice or advice_for(faults[0]))


def print_error(words: str) -> None:
    """Print a line to standard error."""
    with suppress(OSError):  # there is no other place to report it; the exit status does
        print(f"ekvdump: {words}", file=sys.stderr)


def say(words: str, state: str = "", style: str = "") -> None:
    """Print a line of the answer; `text.Say`."""
    if state and is_terminal(sys.stdout):
        from rich.text import Text

        console_of(sys.stdout).print(Text.assemble(words, (state, style)), soft_wrap=True)
    else:
        print(words + state)


def progress_of(options: argparse.Namespace) -> "AbstractContextManager[Progress | None]":
    """Return a context that shows progress on a terminal, and nothing elsewhere."""
    if options.quiet or not is_terminal(sys.stderr):
        return nullcontext()
    from ekvdump.cli.progress import TerminalProgress

    return TerminalProgress(console_of(sys.stderr))
