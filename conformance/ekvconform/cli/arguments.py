"""The commands and their arguments."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ekvconform.cases.carriers import CARRIERS, HEADER_AND_FOOTER
from ekvconform.cases.loading import SMOKE
from ekvconform.judge.suite_run import ANY, CHOICES

PROGRAM: Final = "[-- CMD ... {snapshot} {out} {db}]"
STEPPED: Final = ("tree-every-kind-of-file", "tree-other-database-stays")
"""Default cases of `step`: a new dump with all kinds of files, and one beside another dump."""
FAILING: Final = (*STEPPED, "envl-large-value")
"""Default cases of `faults`; one has a file of many pages."""
EPILOG: Final = """\
examples:
  ekvconform run --smoke -- ./decoder {snapshot} {out}  a few cases; {db} is the database index
  ekvconform init -- ./decoder {snapshot} {out} {db}    infer a profile and known failures
  ekvconform run                                        ./ekvconform.toml and the list beside it
  ekvconform run --profile ekvconform.toml envl-8       one clause (also an id glob, a chapter, a level)
  ekvconform show visi-deleted                          a case with its clauses; ENVL-8: a clause with its cases
  ekvconform compare last.jsonl new.jsonl               what a release has fixed and broken
  ekvconform step -- ./decoder {snapshot} {out}         tamper with the tree at each moment of a run
  ekvconform repro visi-deleted -- ./decoder {snapshot} {out}
  ekvconform snapshot store.toml -o store.fsm           a snapshot from a few readable lines

exit status:
  0    as expected
  1    unexpected verdicts
  2    usage, or a profile or list that is broken
  3    the suite itself is broken
  130  interrupted
"""
Run = Callable[[argparse.Namespace], int]


def build_parser(runs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """Return the parser of all commands; `runs` is what each of them does."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ekvconform", description="Judge any decoder program by the golden cases of the format.",
        epilog=EPILOG, formatter_class=formatter, allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, words: str, *, usage: str | None = None) -> argparse.ArgumentParser:
        lines = EPILOG.splitlines(keepends=True)
        own = [line for line in lines if f"ekvconform {name} " in line or "ekvconform " not in line]
        command = commands.add_parser(
            name, help=words, description=words, usage=usage and f"ekvconform {name} [options] {usage}",
            epilog="".join(own), formatter_class=formatter, allow_abbrev=False,
        )  # fmt: skip
        command.set_defaults(run=runs[name], takes_command=usage is not None)
        return command

    _add_run(add("run", "run cases against a program", usage=f"[SELECT ...] {PROGRAM}"))
    words = "run a program on some cases; write a commented profile and a list of known failures"
    _add_init(add("init", words, usage="-- CMD ... {snapshot} {out} {db}"))
    words = "tamper with the tree at each moment of a run, and check that nothing outside is touched"
    step = add("step", words, usage=f"[CASE ...] {PROGRAM}")
    _add_campaign(step, STEPPED)

    words = "make each call that writes fail, or kill the program at it, and check the tree and the messages"
    faults = add("faults", words, usage=f"[CASE ...] {PROGRAM}")
    _add_campaign(faults, FAILING)

    listing = add("list", "list cases")
    _add_selection(listing)

    show = add("show", "print one case with its clauses, or one clause with its cases")
    show.add_argument("case", metavar="CASE|CLAUSE")

    repro = add("repro", "prepare the run of one case, keep it, and print the command", usage=f"CASE {PROGRAM}")
    repro.add_argument("case", metavar="CASE")
    _add_program(repro)
    _add_carrier(repro)
    _add_vary(repro)
    repro.add_argument("--directory", type=Path, metavar="DIR", help="a new directory for it (default a temporary one)")

    snapshot = add("snapshot", "write the snapshot of a case or a description")
    snapshot.add_argument("source", metavar="CASE|FILE.toml")
    snapshot.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: annotated hex on stdout")
    _add_carrier(snapshot)
    _add_vary(snapshot)
    snapshot.add_argument("--twin", action="store_true", help="that of the repaired twin of the case")

    comparing = add("compare", "say what a new report has fixed and broken; exit status 1 if anything is broken")
    comparing.add_argument("old", type=Path, metavar="OLD.jsonl")
    comparing.add_argument("new", type=Path, metavar="NEW.jsonl")

    combine = add("combine", "render JSONL reports of several programs as one HTML page")
    combine.add_argument("reports", nargs="+", type=Path, metavar="REPORT.jsonl")
    combine.add_argument("--html", type=Path, required=True, metavar="FILE")

    exporting = add("export", "write all cases as JSON lines, for a test loop in any language")
    exporting.add_argument("file", type=Path, metavar="FILE", help="one object a case (case.schema.json)")
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    _add_selection(run)
    _add_program(run)
    run.add_argument("--name", help="name of the program, for reports")
    run.add_argument("--smoke", action="store_true", help=f"run only {len(SMOKE)} cases, in a few seconds")
    run.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of cases to run in parallel"
    )
    run.add_argument("--strict-reasons", action="store_true", help="an unmapped message of a refusal is WRONG_REASON")
    _add_known_failures(run)
    run.add_argument("--update-known-failures", action="store_true", help="rewrite that list and print the changes")
    words = (
        "kind of file that cases come in, unless they are about it (default any: the richest that the program reads)"
    )
    run.add_argument("--carrier", choices=CHOICES, default=ANY, help=words)
    _add_vary(run)
    run.add_argument(
        "--failed", type=Path, metavar="REPORT.jsonl", help="run only the cases that failed in this report"
    )
    run.add_argument("--fail-fast", action="store_true", help="stop at the first unexpected verdict")
    run.add_argument("--first", action="store_true", help="print only the first cause")
    words = "cases that have to run at least; fewer make the run red"
    run.add_argument("--min-ran", type=_positive, default=1, metavar="N", help=words)
    run.add_argument("--quiet", action="store_true", help="print unexpected verdicts and a summary only")
    run.add_argument("--jsonl", type=Path, metavar="FILE", help="one object a case (report.schema.json)")
    run.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML")
    run.add_argument("--markdown", type=Path, metavar="FILE", help="a summary for CI, appended to the file")
    run.add_argument("--html", type=Path, metavar="FILE", help="one page: matrix, filter, each failure")
    run.add_argument("--badge", type=Path, metavar="FILE", help="JSON of a badge")
    run.add_argument("--annotations", action="store_true", help="print error annotations of a GitHub workflow")


def _add_init(init: argparse.ArgumentParser) -> None:
    init.add_argument(
        "--directory", type=Path, default=Path(), metavar="DIR", help="directory to write both to (default .)"
    )
    words = "command line that verifies a dump, in one word: './decoder verify {out}'"
    init.add_argument("--verify", metavar="'CMD {out}'", help=words)
    init.add_argument("--name", help="name of the program, for reports")
    init.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of cases to run in parallel"
    )
    init.add_argument("--force", action="store_true", help="overwrite existing files")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SELECT",
        help="id glob, clause, chapter, level, family, or `big`; default all but big cases",
    )


def _add_campaign(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"cases that complete; default {' '.join(default)}")
    _add_program(parser)
    _add_known_failures(parser)
    parser.add_argument("--number", type=_positive, metavar="N", help="repeat only the run of this number")
    parser.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of runs in parallel"
    )


def _add_known_failures(parser: argparse.ArgumentParser) -> None:
    words = "what the program is known to do otherwise (default: the list beside ./ekvconform.toml)"
    parser.add_argument("--known-failures", type=Path, metavar="FILE", help=words)


def _add_carrier(parser: argparse.ArgumentParser) -> None:
    words = "kind of file that the case comes in, unless it is about it (default: as the fixture shows it)"
    parser.add_argument("--carrier", choices=CARRIERS, default=HEADER_AND_FOOTER, help=words)


def _add_vary(parser: argparse.ArgumentParser) -> None:
    words = (
        "give the program other user keys, payloads, times and indexes than the fixtures have, from this seed (any "
        "word), so that a pass means that it was decoded (default: as written, the same every day)"
    )
    parser.add_argument("--vary", metavar="SEED", default="", help=words)


def _add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", type=Path, metavar="FILE", help="description of the program (TOML)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
