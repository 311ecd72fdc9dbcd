"""The command `ekvconform`."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from difflib import unified_diff
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import BrokenCaseError, Case, load_cases, select_cases
from ekvconform.known import (
    NOTHING_KNOWN,
    XFAIL,
    XPASS,
    KnownFailure,
    load_known_failures,
    render_updated,
)
from ekvconform.profiles import REFERENCE, Profile, bare_profile, load_profile
from ekvconform.snapshots import BadDescriptionError, describe_snapshot, render_hex
from ekvconform.usage import UsageError
from ekvconform.verdicts import PASS, UNSUPPORTED, VERDICTS, VOID, Judgement, judge_case

EXIT_AS_EXPECTED: Final = 0
EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_BROKEN_SUITE: Final = 3

AS_EXPECTED: Final = frozenset((PASS, UNSUPPORTED, XFAIL))
"""Verdicts that do not make a run red."""
FIXTURES: Final = Path(__file__).resolve().parent.parent.parent / "fixtures"
"""Where the cases lie in a checkout."""

EPILOG: Final = """\
examples:
  ekvconform run                                        the reference decoder
  ekvconform run -- ./decoder {snapshot} {out} {db}     any other program
  ekvconform run --profile decoder.toml rstr-7          one clause (also an id glob, a chapter, a level)
  ekvconform show visi-deleted
  ekvconform snapshot store.toml -o store.fsm           a snapshot from a few readable lines

exit status:
  0  as expected   1  unexpected verdicts   2  usage or a broken profile   3  the suite itself is broken
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if "--" in words:
        place = words.index("--")
        words, command = words[:place], words[place + 1 :]
    try:
        options = _parser().parse_args(words)
        status: int = options.run(options, command)
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
    except OSError as error:
        # What is run is judged elsewhere; this is about files that the caller named, and about what is printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_UNEXPECTED
        print(f"ekvconform: {error}", file=sys.stderr)
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ekvconform", description="Judge any decoder program by the fixtures of the format.",
        epilog=EPILOG, formatter_class=formatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run cases against a program: -- CMD .. {snapshot} {out} {db}")
    run.add_argument("words", nargs="*", metavar="SELECT", help="id glob, clause, chapter or level; all cases if none")
    run.add_argument("--profile", type=Path, metavar="FILE", help="what is known of the program (TOML)")
    run.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="cases at once")
    run.add_argument("--known-failures", type=Path, metavar="FILE", help="case-id  VERDICT  # reason, one a line")
    run.add_argument("--update-known-failures", action="store_true", help="rewrite that file, and print the change")
    run.add_argument("--jsonl", type=Path, metavar="FILE", help="one object a case")
    run.set_defaults(run=_run)

    listing = commands.add_parser("list", help="list cases")
    listing.add_argument("words", nargs="*", metavar="SELECT")
    listing.set_defaults(run=_list)

    show = commands.add_parser("show", help="show one case")
    show.add_argument("case", metavar="CASE")
    show.set_defaults(run=_show)

    snapshot = commands.add_parser("snapshot", help="make a snapshot from a case or a description")
    snapshot.add_argument("source", metavar="CASE|FILE.toml")
    snapshot.add_argument("-o", "--output", type=Path, metavar="FILE", help="annotated hex on stdout if not given")
    snapshot.set_defaults(run=_snapshot)
    return parser


def _selected(words: Sequence[str]) -> list[Case]:
    cases = select_cases(load_cases(FIXTURES), words)
    if not cases:
        raise UsageError(f"no case is named by {' '.join(words)}")
    return cases


# ---- run ----


def _run(options: argparse.Namespace, command: list[str]) -> int:
    cases = _selected(options.words)
    profile = _profile(options.profile, command)
    known = NOTHING_KNOWN
    if options.known_failures:
        known = load_known_failures(options.known_failures, [case.id for case in load_cases(FIXTURES)])
    elif options.update_known_failures:
        raise UsageError("--update-known-failures goes with --known-failures FILE")
    found, judgements = [], []
    for judgement in _iter_judgements(cases, profile, max(1, options.jobs)):
        found.append(judgement)
        judgements.append(known.apply(judgement))
        if judgements[-1].verdict not in AS_EXPECTED:
            _print_judgement(judgements[-1])
    for stale in known.stale:
        print(f"stale: line {stale.line} of {options.known_failures} names no case: {stale.word}")
    _print_matrix(judgements, profile)
    if options.jsonl:
        _write_jsonl(options.jsonl, judgements, profile)
    if options.update_known_failures:
        _update(options.known_failures, found, known.stale)
        return EXIT_BROKEN_SUITE if any(each.verdict == VOID for each in found) else EXIT_AS_EXPECTED
    verdicts = {judgement.verdict for judgement in judgements}
    if VOID in verdicts:
        return EXIT_BROKEN_SUITE
    return EXIT_AS_EXPECTED if verdicts <= AS_EXPECTED and not known.stale else EXIT_UNEXPECTED


def _update(path: Path, found: Sequence[Judgement], stale: Sequence[KnownFailure]) -> None:
    before = path.read_text(encoding="utf-8")
    after = render_updated(before, found, stale)
    path.write_text(after, encoding="utf-8")
    for line in unified_diff(before.splitlines(), after.splitlines(), str(path), str(path), lineterm="", n=0):
        print(line)


def _profile(path: Path | None, command: list[str]) -> Profile:
    if path is not None:
        return load_profile(path, command)
    return bare_profile(command) if command else REFERENCE


def _iter_judgements(cases: Sequence[Case], profile: Profile, jobs: int) -> Iterator[Judgement]:
    """Judge cases in processes of their own, which take in what a program leaves behind."""
    # A fresh process each, so that no worker has children of another.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as workers:
        yield from workers.map(partial(judge_case, profile=profile), cases)


def _print_judgement(judgement: Judgement) -> None:
    case = judgement.case
    print(f"{judgement.verdict} {case.id} [{' '.join(case.clauses)}] {case.title}")
    for difference in judgement.differences:
        print(f"    {difference}")
    if judgement.command:
        print(f"    ekvconform snapshot {case.id} -o {case.snapshot_name}  # and run the program on it")


def _print_matrix(judgements: Sequence[Judgement], profile: Profile) -> None:
    counts = Counter((judgement.case.chapter, judgement.verdict) for judgement in judgements)
    shown = [verdict for verdict in (*VERDICTS, XFAIL, XPASS) if any(each == verdict for _, each in counts)]
    chapters = sorted({chapter for chapter, _ in counts})
    width = max(map(len, [*chapters, "chapter"]))
    print(f"{profile.name}: {len(judgements)} cases")
    print(f"{'chapter':<{width}}  " + "  ".join(f"{verdict:>5}" for verdict in shown))
    for chapter in chapters:
        cells = "  ".join(f"{counts[chapter, verdict] or '-':>{max(5, len(verdict))}}" for verdict in shown)
        print(f"{chapter:<{width}}  {cells}")


def _write_jsonl(path: Path, judgements: Sequence[Judgement], profile: Profile) -> None:
    """Write a header, an object a case, and a footer, so that a report that is cut is not taken for whole."""
    rows: list[dict[str, Any]] = [{"suite": "ekvconform", "program": profile.name, "cases": len(judgements)}]
    rows += [
        {
            "id": judgement.case.id,
            "clauses": list(judgement.case.clauses),
            "level": judgement.case.level,
            "verdict": judgement.verdict,
            "differences": list(judgement.differences),
            "seconds": round(judgement.finish.seconds, 3) if judgement.finish else None,
        }
        for judgement in judgements
    ]
    rows.append({"verdicts": Counter(judgement.verdict for judgement in judgements)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# ---- the others ----


def _list(options: argparse.Namespace, _: list[str]) -> int:
    for case in _selected(options.words):
        print(f"{case.id:<44} {case.level:<6} {' '.join(case.clauses):<24} {case.title}")
    return EXIT_AS_EXPECTED


def _show(options: argparse.Namespace, _: list[str]) -> int:
    (case,) = _selected([options.case])[:1]
    print((FIXTURES / case.chapter / f"{case.id}.toml").read_text(encoding="utf-8"), end="")
    return EXIT_AS_EXPECTED


def _snapshot(options: argparse.Namespace, _: list[str]) -> int:
    source = Path(options.source)
    if source.suffix == ".toml":
        import tomllib

        try:
            description = tomllib.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadDescriptionError(f"{source}: {error}") from error
        pieces = describe_snapshot(description)
        text, data = render_hex(pieces), b"".join(piece.data for piece in pieces)
    else:
        (case,) = _selected([options.source])[:1]
        text, data = case.snapshot.hex(" ").upper() + "\n", case.snapshot
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_bytes(data)
    return EXIT_AS_EXPECTED
