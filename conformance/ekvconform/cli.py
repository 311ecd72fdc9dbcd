"""Implements the command `ekvconform`."""

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches, unified_diff
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from ekvconform.cases.carriers import CARRIERS, HEADER_AND_FOOTER, ONE_A_CHAPTER, carry
from ekvconform.cases.clauses import load_clauses
from ekvconform.cases.data_files import FIXTURES
from ekvconform.cases.errors import UsageError
from ekvconform.cases.export import iter_lines, render_case
from ekvconform.cases.golden_cases import (
    CASES_NAME,
    COMPLETE,
    DECODE,
    PARTIAL,
    PLACES_NAME,
    SMOKE,
    BrokenCaseError,
    Case,
    load_cases,
    select_cases,
)
from ekvconform.cases.snapshots import BadDescriptionError, describe_snapshot, render_bytes, render_hex, write_snapshot
from ekvconform.cases.suite import load_suite
from ekvconform.judge.aspects import ENDING, OUTCOME, OUTSIDE
from ekvconform.judge.carrier_probes import Carriers
from ekvconform.judge.known_failures import (
    NOTHING_KNOWN,
    Form,
    KnownFailures,
    form_of,
    load_known_failures,
    render_updated,
)
from ekvconform.judge.suite_run import ANY, CHOICES, find_carriers, run_suite
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, VOID, Judgement, command_of, first_line
from ekvconform.judge.workers import SIGNALS
from ekvconform.report.records import (
    AS_EXPECTED,
    Report,
    counted,
    describe_expected,
    iter_jsonl,
    load_report,
    make_report,
)
from ekvconform.run.profiles import Profile, bare_profile, load_profile
from ekvconform.run.sandbox import environment, make_sandbox, require_working_canaries

EXIT_AS_EXPECTED: Final = 0
EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_BROKEN_SUITE: Final = 3
EXIT_INTERRUPTED: Final = 130

PROGRAM: Final = "[-- CMD ... {snapshot} {out} {db}]"
EXTRA: Final = ("jinja2", "jsonschema", "junitparser", "rich")
"""What the extra `conform` brings; imported where it is needed."""
NO_PROGRAM: Final = (
    "no program to judge: name one, as in `ekvconform {command} -- ./my-decoder {{snapshot}} {{out}}`, "
    "or a profile with --profile; `ekvconform init -- ..` writes ./ekvconform.toml, which is used without being named"
)
PROFILE_NAME: Final = "ekvconform.toml"
KNOWN_NAME: Final = "ekvconform-known-failures.txt"
STEPPED: Final = ("tree-every-kind-of-file", "tree-other-database-stays")
"""Default cases of `step`: a new dump with all kinds of files, and one beside another dump."""
FAILING: Final = (*STEPPED, "rstr-large-value")
"""Default cases of `faults`; one has a file of many pages."""
UNFIT: Final = (OUTSIDE, ENDING, OUTCOME)
"""A case that differs in one of these undisturbed is no start for a campaign."""
MAX_TRIED: Final = 20
"""Cases that a campaign tries, until the program passes one undisturbed."""
KNOWN_HEAD: Final = """\
# Known failures: case-id  VERDICT  # reason, link
# A listed case with another verdict makes the run fail; `ekvconform show CASE` prints the case.
"""
EPILOG: Final = """\
examples:
  ekvconform run --smoke -- ./decoder {snapshot} {out}  a few cases; {db} is the database index
  ekvconform init -- ./decoder {snapshot} {out} {db}    infer a profile and known failures
  ekvconform run                                        ./ekvconform.toml and the list beside it
  ekvconform run --profile ekvconform.toml rstr-7       one clause (also an id glob, a chapter, a level)
  ekvconform show visi-deleted                          a case with its clauses; RSTR-7: a clause with its cases
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] | None = None
    if "--" in words:
        place = words.index("--")
        words, command = words[:place], words[place + 1 :]
    before = {name: signal.signal(name, _interrupt) for name in SIGNALS}
    try:
        options = _parser().parse_args(words)
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


Run = Callable[[argparse.Namespace], int]


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ekvconform", description="Judge any decoder program by the golden cases of the format.",
        epilog=EPILOG, formatter_class=formatter, allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Run, words: str, *, usage: str | None = None) -> argparse.ArgumentParser:
        lines = EPILOG.splitlines(keepends=True)
        own = [line for line in lines if f"ekvconform {name} " in line or "ekvconform " not in line]
        command = commands.add_parser(
            name, help=words, description=words, usage=usage and f"ekvconform {name} [options] {usage}",
            epilog="".join(own), formatter_class=formatter, allow_abbrev=False,
        )  # fmt: skip
        command.set_defaults(run=run, takes_command=usage is not None)
        return command

    run = add("run", _run, "run cases against a program", usage=f"[SELECT ...] {PROGRAM}")
    _add_selection(run)
    _add_program(run)
    run.add_argument("--name", help="name of the program, for reports")
    run.add_argument("--smoke", action="store_true", help=f"run only {len(SMOKE)} cases, in a few seconds")
    run.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of cases to run in parallel"
    )
    run.add_argument("--strict-reasons", action="store_true", help="an unmapped message of a refusal is WRONG_REASON")
    run.add_argument("--known-failures", type=Path, metavar="FILE", help="case-id  VERDICT  # reason, one a line")
    run.add_argument("--update-known-failures", action="store_true", help="rewrite this file and print the changes")
    words = (
        "kind of file that cases come in, unless they are about it (default any: the richest that the program reads)"
    )
    run.add_argument("--carrier", choices=CHOICES, default=ANY, help=words)
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

    words = "run a program on some cases; write a commented profile and a list of known failures"
    init = add("init", _init, words, usage="-- CMD ... {snapshot} {out} {db}")
    init.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="directory to write both to (default .)"
    )
    words = "command line that verifies a dump, in one word: './decoder verify {out}'"
    init.add_argument("--verify", metavar="'CMD {out}'", help=words)
    init.add_argument("--name", help="name of the program, for reports")
    init.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of cases to run in parallel"
    )
    init.add_argument("--force", action="store_true", help="overwrite existing files")

    words = "tamper with the tree at each moment of a run, and check that nothing outside is touched"
    step = add("step", _step, words, usage=f"[CASE ...] {PROGRAM}")
    _add_campaign(step, STEPPED)

    words = "make each call that writes fail, or kill the program at it, and check the tree and the messages"
    faults = add("faults", _faults, words, usage=f"[CASE ...] {PROGRAM}")
    _add_campaign(faults, FAILING)

    listing = add("list", _list, "list cases")
    _add_selection(listing)

    show = add("show", _show, "print one case with its clauses, or one clause with its cases")
    show.add_argument("case", metavar="CASE|CLAUSE")

    repro = add("repro", _repro, "prepare the run of one case, keep it, and print the command", usage=f"CASE {PROGRAM}")
    repro.add_argument("case", metavar="CASE")
    _add_program(repro)
    _add_carrier(repro)
    repro.add_argument("--folder", type=Path, metavar="DIR", help="a new directory for it (default a temporary one)")

    snapshot = add("snapshot", _snapshot, "write the snapshot of a case or a description")
    snapshot.add_argument("source", metavar="CASE|FILE.toml")
    snapshot.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: annotated hex on stdout")
    _add_carrier(snapshot)
    snapshot.add_argument("--twin", action="store_true", help="that of the repaired twin of the case")

    comparing = add(
        "compare", _compare, "say what a new report has fixed and broken; exit status 1 if anything is broken"
    )
    comparing.add_argument("old", type=Path, metavar="OLD.jsonl")
    comparing.add_argument("new", type=Path, metavar="NEW.jsonl")

    combine = add("combine", _combine, "render JSONL reports of several programs as one HTML page")
    combine.add_argument("reports", nargs="+", type=Path, metavar="REPORT.jsonl")
    combine.add_argument("--html", type=Path, required=True, metavar="FILE")

    exporting = add("export", _export, "write all cases as JSON lines, for a test loop in any language")
    exporting.add_argument("file", type=Path, metavar="FILE", help="one object a case (case.schema.json)")
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SELECT",
        help="id glob, clause, chapter, level, or `big`; default all but big cases",
    )


def _add_campaign(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"cases that complete; default {' '.join(default)}")
    _add_program(parser)
    parser.add_argument("--number", type=_positive, metavar="N", help="repeat only the run of this number")
    parser.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of runs in parallel"
    )


def _add_carrier(parser: argparse.ArgumentParser) -> None:
    words = "kind of file that the case comes in, unless it is about it (default: as the fixture shows it)"
    parser.add_argument("--carrier", choices=CARRIERS, default=HEADER_AND_FOOTER, help=words)


def _add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", type=Path, metavar="FILE", help="description of the program (TOML)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _selected(words: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    for word in words:
        if not select_cases(cases, [word]):
            raise UsageError(f"no case matches {word}{_hint(word, cases)}")
    return select_cases(cases, words)


def _hint(word: str, cases: Sequence[Case]) -> str:
    if os.sep in word or "{" in word:
        return ": a program must follow --"
    close = get_close_matches(word, [case.id for case in cases], 3)
    return f": did you mean {', '.join(close)}?" if close else "; `ekvconform list` lists all"


def _one(case_id: str) -> Case:
    cases = load_cases()
    for case in cases:
        if case.id == case_id:
            return case
    raise UsageError(f"case {case_id} does not exist{_hint(case_id, cases)}")


def _profile(options: argparse.Namespace) -> Profile:
    if options.profile is None and not options.program and Path(PROFILE_NAME).is_file():
        options.profile = Path(PROFILE_NAME)
        known = options.profile.with_name(KNOWN_NAME)
        if getattr(options, "known_failures", known) is None and known.is_file():
            options.known_failures = known
    if options.profile is not None:
        return load_profile(options.profile, options.program).located()
    if options.program:
        return bare_profile(options.program).located()
    raise UsageError(NO_PROGRAM.format(command=options.command))


# ---- run ----


def _run(options: argparse.Namespace) -> int:
    from ekvconform.report.terminal import print_report, progress_of

    profile = _profile(options)
    suite, every = load_suite(), load_cases()
    cases = _selected(options.words, every)
    if options.smoke:
        cases = [case for case in cases if case.id in SMOKE]
        if not cases:
            raise UsageError("no smoke case is selected")
    if options.failed:
        failed = {row["id"].partition("@")[0] for row in load_report(options.failed).unexpected}
        cases = [case for case in cases if case.id in failed]
        if not cases:
            raise UsageError(f"{options.failed}: no case failed")
    total = sum(not case.is_big for case in every)
    is_whole = sum(not case.is_big for case in cases) == total
    profile = replace(profile, name=options.name or profile.name)
    known = NOTHING_KNOWN
    if options.known_failures:
        if options.update_known_failures and not is_whole:
            raise UsageError("--update-known-failures needs a run of all cases: leave out the selection")
        if options.update_known_failures and not options.known_failures.exists():
            options.known_failures.write_text(KNOWN_HEAD, encoding="utf-8")
        known = load_known_failures(options.known_failures, _ids_of(every))
    elif options.update_known_failures:
        raise UsageError("--update-known-failures needs --known-failures FILE")
    if all(profile.lacks(case) for case in cases):
        raise UsageError(f"none of these {len(cases)} cases can be run with this profile: {profile.lacks(cases[0])}")
    for path in (options.jsonl, options.junit, options.markdown, options.html, options.badge):
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise UsageError(f"{path}: a report cannot be written there")
    carriers = find_carriers(every, profile, options.jobs, options.carrier)
    with progress_of(len(cases)) as advance:
        run = run_suite(
            cases,
            profile,
            options.jobs,
            carriers=carriers,
            is_whole=is_whole,
            strict_reasons=options.strict_reasons,
            on_result=lambda judgement: advance(judgement.verdict),
            is_enough=lambda judgement: options.fail_fast and _is_unexpected(known, judgement),
        )
    found = run.judgements
    applied = known.apply(found, is_whole=is_whole and not run.left_out)
    report = make_report(found, applied, profile, suite, total, carriers, _program_arguments(options))
    print_report(report, quiet=options.quiet, first=options.first)
    if run.left_out:
        print(f"stopped at the first unexpected verdict: {counted(run.left_out, 'case')} did not run")
    _write_reports(options, report)
    if options.update_known_failures:
        before = options.known_failures.read_text(encoding="utf-8")
        _rewrite(options.known_failures, before, render_updated(before, found))
    if any(judgement.verdict == VOID for judgement in found):
        return EXIT_BROKEN_SUITE
    ran = sum(judgement.verdict != UNSUPPORTED for judgement in found)
    if ran < options.min_ran:
        print(f"only {counted(ran, 'case')} ran, fewer than --min-ran {options.min_ran}")
        return EXIT_UNEXPECTED
    return EXIT_AS_EXPECTED if report.footer["as_expected"] or options.update_known_failures else EXIT_UNEXPECTED


def _is_unexpected(known: KnownFailures, judgement: Judgement) -> bool:
    applied = known.apply([judgement], is_whole=False)
    return applied.judgements[0].verdict not in AS_EXPECTED or bool(applied.unlisted(judgement))


def _ids_of(cases: Sequence[Case]) -> list[str]:
    """Return the ids that a list of known failures may name."""
    others = [f"{case_id}@{carrier}" for case_id in ONE_A_CHAPTER for carrier in CARRIERS]
    return [case.id for case in cases] + others


def _program_arguments(options: argparse.Namespace) -> list[str]:
    profile = ["--profile", str(options.profile)] if options.profile else []
    return [*profile, *(["--", *options.program] if options.program else [])]


def _write_reports(options: argparse.Namespace, report: Report) -> None:
    from ekvconform.report import formats

    if options.jsonl:
        options.jsonl.write_text("".join(iter_jsonl(report)), encoding="utf-8")
    if options.junit:
        options.junit.write_text(formats.render_junit(report), encoding="utf-8")
    if options.markdown:
        # Other steps may have written to a step summary of CI.
        with options.markdown.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(formats.render_markdown(report))
    if options.html:
        _write_page(options.html, [report])
    if options.badge:
        options.badge.write_text(formats.render_badge(report), encoding="utf-8")
    if options.annotations:
        for line in formats.iter_annotations(report):
            print(line.encode("utf-8", "backslashreplace").decode())


def _write_page(path: Path, reports: Sequence[Report]) -> None:
    from ekvconform.report.html import render_page

    path.write_text(render_page(reports), encoding="utf-8", errors="backslashreplace")


def _rewrite(path: Path, before: str, after: str) -> None:
    path.write_text(after, encoding="utf-8")
    for line in unified_diff(before.splitlines(), after.splitlines(), str(path), str(path), lineterm="", n=0):
        print(line)


def _combine(options: argparse.Namespace) -> int:
    reports = [load_report(path) for path in options.reports]
    _write_page(options.html, reports)
    print(f"wrote {options.html}: {', '.join(f'{report.program} ({len(report.rows)} cases)' for report in reports)}")
    return EXIT_AS_EXPECTED


def _compare(options: argparse.Namespace) -> int:
    from ekvconform.report.terminal import print_comparison

    old, new = load_report(options.old), load_report(options.new)
    return EXIT_UNEXPECTED if print_comparison(old, new) else EXIT_AS_EXPECTED


# ---- init ----


def _init(options: argparse.Namespace) -> int:
    from ekvconform.campaigns.profile_inference import (
        CONVENTION,
        PROBES,
        infer_profile,
        option_probes,
        probe_cases,
        render_profile,
    )
    from ekvconform.report.terminal import print_report, progress_of

    if not options.program:
        raise UsageError("init needs a program: ekvconform init -- CMD .. {snapshot} {out} {db}")
    if not options.folder.is_dir():
        raise UsageError(f"{options.folder} is not a directory")
    profile_path, known_path = options.folder / PROFILE_NAME, options.folder / KNOWN_NAME
    for path in (profile_path, known_path):
        if path.exists() and not options.force:
            raise UsageError(f"{path} exists; --force overwrites it")
    verify = shlex.split(options.verify or "")
    bare = bare_profile(options.program, verify, CONVENTION if "{options}" in options.program else {}).located()
    cases = load_cases()
    carriers = find_carriers(cases, bare, options.jobs)
    probed = [case for case in cases if case.id in PROBES] + option_probes(cases)
    probed = [carry(case, carriers.richest) for case in probed if bare.lacks(case) is None]
    probes = probe_cases(probed, bare, options.jobs)
    if not any(each.sealed or each.dumped for each in probes):
        message = first_line("\n".join(each.line for each in probes))
        raise UsageError(f"the program did not make any dump; is the command right? Its message: {message}")
    inferred = infer_profile(probes)
    name = options.name or Path(options.program[0]).name
    profile_path.write_text(render_profile(options.program, verify, inferred, name), encoding="utf-8")
    profile = load_profile(profile_path, options.program).located()
    known_path.write_text(KNOWN_HEAD, encoding="utf-8")
    chosen = select_cases(cases, [])
    with progress_of(len(chosen)) as advance:
        found = run_suite(
            chosen, profile, options.jobs, carriers=carriers, on_result=lambda judgement: advance(judgement.verdict)
        ).judgements
    known_path.write_text(render_updated(KNOWN_HEAD, found), encoding="utf-8")
    known = load_known_failures(known_path, _ids_of(cases))
    command = ["--profile", str(profile_path)]
    applied = known.apply(found, is_whole=True)
    print_report(make_report(found, applied, profile, load_suite(), len(chosen), carriers, command))
    if not inferred.seals:
        print(
            "no run wrote both MANIFEST.json and CHECKSUMS: the profile says `without = ['seal']`; chapters MANI, SUMS"
        )
    print(f"wrote {profile_path}: please review it")
    print(f"wrote {known_path}: {counted(known.line_count, 'line')}, still without reasons")
    again = ["ekvconform", "run", "--profile", str(profile_path), "--known-failures", str(known_path)]
    print(f"next: {shlex.join(again)}")
    return EXIT_BROKEN_SUITE if any(each.verdict == VOID for each in found) else EXIT_AS_EXPECTED


# ---- step and faults ----


def _step(options: argparse.Namespace) -> int:
    from ekvconform.campaigns.races import iter_steps, record_moments, run_steps
    from ekvconform.report.terminal import print_steps, progress_of

    def step_through(case: Case, profile: Profile, _known: frozenset[Form]) -> set[str]:
        moments = record_moments(case, profile)
        steps = _numbered(options, list(iter_steps(moments)))
        with progress_of(len(steps)) as advance:
            each = run_steps(case, profile, [*steps.values()], options.jobs, lambda stepped: advance(stepped.verdict))
        found = dict(zip(steps, each, strict=True))
        print_steps(f"{profile.name}, {case.id}", moments, found, _again(options, case))
        return {stepped.verdict for stepped in found.values()}

    return _campaign(options, STEPPED, step_through)


def _faults(options: argparse.Namespace) -> int:
    from ekvconform.campaigns.faults import iter_trials, judge_flush, run_trials
    from ekvconform.campaigns.races import record_moments
    from ekvconform.report.terminal import print_trials, progress_of

    def let_fail(case: Case, profile: Profile, known: frozenset[Form]) -> set[str]:
        moments = record_moments(case, profile)
        trials = _numbered(options, list(iter_trials(case, moments)))
        with progress_of(len(trials)) as advance:
            each = run_trials(
                case, profile, [*trials.values()], options.jobs, lambda tried: advance(tried.verdict), known
            )
        found = dict(zip(trials, each, strict=True))
        if options.number is None:
            found[0] = judge_flush(moments)
        print_trials(f"{profile.name}, {case.id}", found, _again(options, case))
        return {tried.verdict for tried in found.values()}

    return _campaign(options, FAILING, let_fail)


Campaign = Callable[[Case, Profile, frozenset[Form]], set[str]]
"""Runs a case many times; gets what differs in a run without any disturbance, and returns the verdicts."""
Numbered = TypeVar("Numbered")


def _numbered(options: argparse.Namespace, runs: Sequence[Numbered]) -> dict[int, Numbered]:
    """Return the runs of a campaign by their numbers, all or the one that is wanted."""
    every = dict(enumerate(runs, 1))
    if options.number is None:
        return every
    if options.number not in every:
        raise UsageError(f"--number {options.number}: there are {len(every)} runs")
    return {options.number: every[options.number]}


def _again(options: argparse.Namespace, case: Case) -> tuple[str, str]:
    """Return the command that repeats a run of a campaign, before and behind its number."""
    profile = [f"--profile={options.profile}"] if options.profile else []
    program = f" {shlex.join(['--', *options.program])}" if options.program else ""
    return shlex.join(["ekvconform", options.command, case.id, *profile]), program


def _campaign(options: argparse.Namespace, default: Sequence[str], do: Campaign) -> int:
    """Run a campaign on each case that the program completes undisturbed."""
    profile = _profile(options)
    _require_working_canaries()
    every = load_cases()
    carriers = find_carriers(every, profile, options.jobs)
    verdicts: set[str] = set()
    for case in [_one(case_id) for case_id in options.cases or default]:
        if not _suits_a_campaign(case):
            raise UsageError(f"{case.id} does not complete, is too large, or has tampering of its own: choose another")
        verdicts |= _disturb(case, profile, carriers, do)
    if not verdicts and not options.cases:
        # None of the default cases: then the smallest of those that write most kinds of files.
        others = [case for case in every if _suits_a_campaign(case) and profile.lacks(case) is None]
        for case in sorted(others, key=lambda case: (-len(case.expected.tree), case.weight))[:MAX_TRIED]:
            if verdicts := _disturb(case, profile, carriers, do):
                break
    if not verdicts:
        raise UsageError("no case could be run")
    if VOID in verdicts:
        return EXIT_BROKEN_SUITE
    return EXIT_AS_EXPECTED if verdicts == {PASS} else EXIT_UNEXPECTED


def _suits_a_campaign(case: Case) -> bool:
    completes = case.expected.outcome in (COMPLETE, PARTIAL) and case.scene.verb == DECODE
    return completes and case.scene.during is None and not case.is_big and not case.expected.large


def _disturb(case: Case, profile: Profile, carriers: Carriers, do: Campaign) -> set[str]:
    """Run a campaign on a case, if the program completes it undisturbed; return the verdicts."""
    if lack := profile.lacks(case):
        print(f"{case.id}: not run: {lack}")
        return set()
    (judgement,) = run_suite([case], profile, 1, carriers=carriers, is_whole=False).judgements
    if judgement.verdict == VOID or any(each.aspect in UNFIT for each in judgement.differences):
        print(f"{case.id}: not run: undisturbed it is {judgement.verdict}: {judgement.differences[0]}")
        return set()
    if judgement.differences:
        known = "; ".join(dict.fromkeys(each.form for each in judgement.differences))
        print(f"{case.id}: differs undisturbed, and is not reported again: {known}")
    forms = frozenset(map(form_of, judgement.differences))
    return do(judgement.case, replace(profile, limits=profile.limits.but(case.limits)), forms)


def _require_working_canaries() -> None:
    """Check that touching a canary is detected, before relying on it."""
    with tempfile.TemporaryDirectory(prefix="ekvconform.") as folder:
        count = require_working_canaries(Path(folder))
    print(f"canaries: {count} ways of touching them, all detected")


# ---- the others ----


def _list(options: argparse.Namespace) -> int:
    for case in _selected(options.words, load_cases()):
        print(f"{case.id:<44} {case.level:<6} {' '.join(case.clauses):<24} {case.title}")
    return EXIT_AS_EXPECTED


def _show(options: argparse.Namespace) -> int:
    clauses = load_clauses()
    if clause := clauses.get(options.case.upper()):
        print(f"{clause.id} · {clause.level} · {clause.text}")
        for case in load_cases():
            if clause.id in case.clauses:
                print(f"{case.id:<44} {case.title}")
        return EXIT_AS_EXPECTED
    case = _one(options.case)
    for name in case.clauses:
        if name in clauses:
            print(f"# {name} · {clauses[name].level} · {clauses[name].text}")
    path = FIXTURES / CASES_NAME / case.chapter / f"{case.id}.toml"
    if path.is_file():
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print(f"# Made from {FIXTURES / PLACES_NAME}; as exported, but with contents as text:")
        print(json.dumps(render_case(case, render_bytes), indent=1))
    return EXIT_AS_EXPECTED


def _repro(options: argparse.Namespace) -> int:
    case, profile = carry(_one(options.case), options.carrier), _profile(options)
    if lack := profile.lacks(case):
        raise UsageError(f"{case.id} is UNSUPPORTED: {lack}")
    if options.folder is None:
        root = Path(tempfile.mkdtemp(prefix=f"ekvconform.{case.id}."))
    else:
        root = options.folder.resolve()
        root.mkdir()
    box = make_sandbox(root, case.scene)
    command = command_of(profile, case.scene, box, box.arrange(case.scene))
    variables = [f"{name}={value}" for name, value in environment(box).items()]
    expected = " or ".join(describe_expected(each) for each in case.allowed)
    if during := case.scene.during:
        print(f"# Tampering, to be done by hand: {during.when.words}, {during.scene} at {during.place}.")
    print(f"# {case.id}: {case.title}. Expected: {expected}; `ekvconform show {case.id}` prints the case.")
    print(f"# It is prepared in {root}, for one run, and is not removed.")
    print(f"cd {shlex.quote(str(root / 'work'))} && umask 022 && env -i {shlex.join([*variables, *command])}")
    return EXIT_AS_EXPECTED


def _snapshot(options: argparse.Namespace) -> int:
    source = Path(options.source)
    if source.suffix == ".toml":
        if options.twin:
            raise UsageError("--twin needs a case")
        try:
            description = tomllib.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadDescriptionError(f"{source}: {error}") from error
        pieces = describe_snapshot(description)
        text, data = render_hex(pieces), b"".join(piece.data for piece in pieces)
    else:
        case = carry(_one(options.source), options.carrier)
        scene = case.twin if options.twin else case.scene
        if scene is not None and scene.described is not None:
            if options.output is None:
                raise UsageError(f"the snapshot of {case.id} is too long to be shown: -o FILE writes it")
            with options.output.open("wb") as file:
                write_snapshot(scene.described, file)
            return EXIT_AS_EXPECTED
        if scene is None or scene.snapshot is None or scene.verb != DECODE:
            raise UsageError(f"{case.id} has no {'repaired ' if options.twin else ''}snapshot")
        text = case.annotated if scene is case.scene else scene.snapshot.hex(" ").upper() + "\n"
        data = scene.snapshot
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_bytes(data)
    return EXIT_AS_EXPECTED


def _export(options: argparse.Namespace) -> int:
    suite, cases = load_suite(), load_cases()
    options.file.write_text("".join(iter_lines(cases)), encoding="utf-8")
    print(f"wrote {options.file}: {len(cases)} cases of suite {suite.version}")
    return EXIT_AS_EXPECTED
