"""The command `ekvconform`."""

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
from typing import Final

from ekvconform.cases.clauses import load_clauses
from ekvconform.cases.data_files import FIXTURES
from ekvconform.cases.errors import UsageError
from ekvconform.cases.export import render_case
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
from ekvconform.cases.snapshots import BadDescriptionError, describe_snapshot, render_hex, write_snapshot
from ekvconform.cases.suite import load_suite
from ekvconform.judge.known_failures import NOTHING_KNOWN, load_known_failures, render_updated
from ekvconform.judge.verdicts import PASS, VOID, command_of, first_line
from ekvconform.judge.workers import SIGNALS, judge_cases
from ekvconform.report.records import Report, iter_jsonl, load_report, make_report, words_of
from ekvconform.run.profiles import Profile, bare_profile, load_profile
from ekvconform.run.sandbox import environment, make_sandbox, require_alive

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
    "or a profile with --profile"
)
PROFILE_NAME: Final = "ekvconform.toml"
KNOWN_NAME: Final = "ekvconform-known-failures.txt"
STEPPED: Final = ("tree-every-kind-of-file", "tree-other-database-stays")
"""Cases that are stepped through: a new dump with all kinds of files, and one beside another."""
FAILING: Final = (*STEPPED, "rstr-large-value")
"""Cases under which calls fail: one with a file of many pages too."""
KNOWN_HEAD: Final = """\
# Known failures: case-id  VERDICT  # reason, link
# A listed case that passes, or fails otherwise, makes the run red; `ekvconform show CASE` says what it is about.
"""
EPILOG: Final = """\
examples:
  ekvconform run --smoke -- ./decoder {snapshot} {out}  a few cases; {db} is the database index
  ekvconform init -- ./decoder {snapshot} {out} {db}    work out a profile, and what is known to fail
  ekvconform run --profile ekvconform.toml --known-failures ekvconform-known-failures.txt
  ekvconform run --profile ekvconform.toml rstr-7       one clause (also an id glob, a chapter, a level)
  ekvconform show visi-deleted
  ekvconform step -- ./decoder {snapshot} {out}         rearrange the tree at each moment of a run
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
            raise UsageError(f"{options.command} takes no program behind --")
        if command == []:
            raise UsageError("there is no program behind --")
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
        # What is run is judged elsewhere; this is about files that the caller named, and about what is printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_UNEXPECTED
        print(f"ekvconform: {error}", file=sys.stderr)
        return EXIT_USAGE
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Take every request to end as Ctrl-C, once, so that nothing stays running and no sandbox stays behind."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


Run = Callable[[argparse.Namespace], int]


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ekvconform", description="Judge any decoder program by the fixtures of the format.",
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
    run.add_argument("--name", help="of the program, for reports")
    run.add_argument(
        "--smoke", action="store_true", help=f"only {len(SMOKE)} cases, in a few seconds: the first thing to try"
    )
    run.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="cases at once")
    run.add_argument(
        "--strict-reasons", action="store_true", help="a refusal that the profile maps no text of is WRONG_REASON"
    )
    run.add_argument("--known-failures", type=Path, metavar="FILE", help="case-id  VERDICT  # reason, one a line")
    run.add_argument("--update-known-failures", action="store_true", help="rewrite that file, and print the change")
    run.add_argument("--quiet", action="store_true", help="print what is not as expected, and one line")
    run.add_argument("--jsonl", type=Path, metavar="FILE", help="one object a case (report.schema.json)")
    run.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML")
    run.add_argument("--markdown", type=Path, metavar="FILE", help="a summary for CI; added to what the file holds")
    run.add_argument("--html", type=Path, metavar="FILE", help="one page: matrix, filter, each failure")
    run.add_argument("--badge", type=Path, metavar="FILE", help="JSON of a badge")
    run.add_argument("--annotations", action="store_true", help="print the error lines of a GitHub workflow")

    words = "probe a program; write a commented profile and a list of known failures"
    init = add("init", _init, words, usage="-- CMD ... {snapshot} {out} {db}")
    init.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where to write both (default here)")
    init.add_argument("--name", help="of the program, for reports")
    init.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="cases at once")
    init.add_argument("--force", action="store_true", help="write over files that are there")

    words = "rearrange the tree at each moment of a run, and see that nothing outside is touched"
    step = add("step", _step, words, usage=f"[CASE ...] {PROGRAM}")
    _add_campaign(step, STEPPED)

    words = "let each call that writes fail or be the last, and see what is left and what is said of it"
    faults = add("faults", _faults, words, usage=f"[CASE ...] {PROGRAM}")
    _add_campaign(faults, FAILING)

    listing = add("list", _list, "list cases")
    _add_selection(listing)

    show = add("show", _show, "show one case: its fixture, and the clauses that it stands for")
    show.add_argument("case", metavar="CASE")

    repro = add("repro", _repro, "set the scene of one case, keep it, and print the command", usage=f"CASE {PROGRAM}")
    repro.add_argument("case", metavar="CASE")
    _add_program(repro)
    repro.add_argument("--folder", type=Path, metavar="DIR", help="a new folder to set it in (default a temporary one)")

    snapshot = add("snapshot", _snapshot, "make a snapshot from a case or a description")
    snapshot.add_argument("source", metavar="CASE|FILE.toml")
    snapshot.add_argument("-o", "--output", type=Path, metavar="FILE", help="annotated hex on stdout if not given")
    snapshot.add_argument("--twin", action="store_true", help="the case's repaired twin")

    combine = add("combine", _combine, "put the JSONL reports of several programs into one HTML page")
    combine.add_argument("reports", nargs="+", type=Path, metavar="REPORT.jsonl")
    combine.add_argument("--html", type=Path, required=True, metavar="FILE")

    exporting = add("export", _export, "write all cases as plain files, for a loop in any language")
    exporting.add_argument("folder", type=Path, metavar="DIR", help="new or empty")
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SELECT",
        help="id glob, clause, chapter, level, or `big`; all but the big ones if none",
    )


def _add_campaign(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"cases that make a dump; default {' '.join(default)}")
    _add_program(parser)
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="runs at once")


def _add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", type=Path, metavar="FILE", help="what is known of the program (TOML)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _selected(words: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    for word in words:
        if not select_cases(cases, [word]):
            raise UsageError(f"no case is named by {word}{_hint(word, cases)}")
    return select_cases(cases, words)


def _hint(word: str, cases: Sequence[Case]) -> str:
    if os.sep in word or "{" in word:
        return ": a program stands behind --"
    close = get_close_matches(word, [case.id for case in cases], 3)
    return f": did you mean {', '.join(close)}?" if close else "; `ekvconform list` names all"


def _one(case_id: str) -> Case:
    cases = load_cases()
    for case in cases:
        if case.id == case_id:
            return case
    raise UsageError(f"there is no case {case_id}{_hint(case_id, cases)}")


def _profile(options: argparse.Namespace) -> Profile:
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
    profile = replace(profile, name=options.name or profile.name)
    known = NOTHING_KNOWN
    if options.known_failures:
        if options.update_known_failures and not options.known_failures.exists():
            options.known_failures.write_text(KNOWN_HEAD, encoding="utf-8")
        known = load_known_failures(options.known_failures, [case.id for case in every])
    elif options.update_known_failures:
        raise UsageError("--update-known-failures goes with --known-failures FILE")
    if all(profile.lacks(case) for case in cases):
        raise UsageError(f"none of these {len(cases)} cases can be run with this profile: {profile.lacks(cases[0])}")
    for path in (options.jsonl, options.junit, options.markdown, options.html, options.badge):
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise UsageError(f"{path}: no report can be written there")
    with progress_of(len(cases)) as tell:
        found = judge_cases(
            cases,
            profile,
            options.jobs,
            strict_reasons=options.strict_reasons,
            tell=lambda judgement: tell(judgement.verdict),
        )
    stale = [f"line {each.line} of {options.known_failures} names no case: {each.word}" for each in known.stale]
    judgements = [known.apply(judgement) for judgement in found]
    report = make_report(judgements, profile, suite, len(every), stale, _words_of_program(options))
    print_report(report, quiet=options.quiet)
    _write_reports(options, report)
    if options.update_known_failures:
        before = options.known_failures.read_text(encoding="utf-8")
        _rewrite(options.known_failures, before, render_updated(before, found, known.stale))
    if any(judgement.verdict == VOID for judgement in found):
        return EXIT_BROKEN_SUITE
    return EXIT_AS_EXPECTED if report.footer["as_expected"] or options.update_known_failures else EXIT_UNEXPECTED


def _words_of_program(options: argparse.Namespace) -> list[str]:
    profile = ["--profile", str(options.profile)] if options.profile else []
    return [*profile, *(["--", *options.program] if options.program else [])]


def _write_reports(options: argparse.Namespace, report: Report) -> None:
    from ekvconform.report import formats

    if options.jsonl:
        options.jsonl.write_text("".join(iter_jsonl(report)), encoding="utf-8")
    if options.junit:
        options.junit.write_text(formats.render_junit(report), encoding="utf-8")
    if options.markdown:
        # A step summary of CI may hold what other steps said.
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


# ---- init ----


def _init(options: argparse.Namespace) -> int:
    from ekvconform.campaigns.profile_inference import PROBES, probe_cases, render_profile, work_out
    from ekvconform.report.terminal import print_report, progress_of

    if not options.program:
        raise UsageError("init needs a program: ekvconform init -- CMD .. {snapshot} {out} {db}")
    if not options.folder.is_dir():
        raise UsageError(f"{options.folder} is no folder")
    profile_path, known_path = options.folder / PROFILE_NAME, options.folder / KNOWN_NAME
    for path in (profile_path, known_path):
        if path.exists() and not options.force:
            raise UsageError(f"{path} is there; --force writes over it")
    options.profile = None
    bare = _profile(options)
    cases = load_cases()
    probed = [case for case in cases if case.id in PROBES and bare.lacks(case) is None]
    probes = probe_cases(probed, bare, options.jobs)
    if not any(each.sealed for each in probes):
        said = first_line("\n".join(each.line for each in probes))
        raise UsageError(f"it made no dump of anything; is the command right? It said: {said}")
    worked_out = work_out(probes)
    name = options.name or Path(options.program[0]).name
    profile_path.write_text(render_profile(options.program, worked_out, name), encoding="utf-8")
    profile = load_profile(profile_path, options.program).located()
    known_path.write_text(KNOWN_HEAD, encoding="utf-8")
    with progress_of(len(cases)) as tell:
        found = judge_cases(
            cases, profile, options.jobs, strict_reasons=False, tell=lambda judgement: tell(judgement.verdict)
        )
    known_path.write_text(render_updated(KNOWN_HEAD, found, ()), encoding="utf-8")
    known = load_known_failures(known_path, [case.id for case in cases])
    command = ["--profile", str(profile_path)]
    print_report(make_report([known.apply(each) for each in found], profile, load_suite(), len(cases), (), command))
    print(f"wrote {profile_path}: look it through")
    print(f"wrote {known_path}: {len(known.by_case)} cases, each without a reason yet")
    again = ["ekvconform", "run", "--profile", str(profile_path), "--known-failures", str(known_path)]
    print(f"next: {shlex.join(again)}")
    return EXIT_BROKEN_SUITE if any(each.verdict == VOID for each in found) else EXIT_AS_EXPECTED


# ---- step and faults ----


def _step(options: argparse.Namespace) -> int:
    from ekvconform.campaigns.races import iter_steps, record_moments, run_steps
    from ekvconform.report.terminal import print_steps, progress_of

    def step_through(case: Case, profile: Profile) -> set[str]:
        moments = record_moments(case, profile)
        steps = list(iter_steps(moments))
        with progress_of(len(steps)) as tell:
            found = run_steps(case, profile, steps, options.jobs, lambda stepped: tell(stepped.verdict))
        print_steps(f"{profile.name}, {case.id}", moments, found)
        return {stepped.verdict for stepped in found}

    return _campaign(options, STEPPED, step_through)


def _faults(options: argparse.Namespace) -> int:
    from ekvconform.campaigns.faults import iter_trials, judge_flush, run_trials
    from ekvconform.campaigns.races import record_moments
    from ekvconform.report.terminal import print_trials, progress_of

    def let_fail(case: Case, profile: Profile) -> set[str]:
        moments = record_moments(case, profile)
        trials = list(iter_trials(case, moments))
        with progress_of(len(trials)) as tell:
            found = run_trials(case, profile, trials, options.jobs, lambda tried: tell(tried.verdict))
        found.append(judge_flush(moments))
        print_trials(f"{profile.name}, {case.id}", found)
        return {tried.verdict for tried in found}

    return _campaign(options, FAILING, let_fail)


def _campaign(options: argparse.Namespace, default: Sequence[str], do: Callable[[Case, Profile], set[str]]) -> int:
    """Do something to each case; it says which verdicts there were."""
    profile = _profile(options)
    _require_alive()
    verdicts: set[str] = set()
    for case in [_one(case_id) for case_id in options.cases or default]:
        if case.expected.outcome not in (COMPLETE, PARTIAL) or case.scene.during:
            raise UsageError(f"{case.id} is refused, verified or not run alone: take one that makes a dump")
        if case.is_big or case.expected.large:
            raise UsageError(f"{case.id} has files that are too large to be compared again and again")
        if lack := profile.lacks(case):
            print(f"{case.id}: not run: {lack}")
        else:
            verdicts |= do(case, replace(profile, limits=profile.limits.but(case.limits)))
    if not verdicts:
        raise UsageError("no case could be run")
    if VOID in verdicts:
        return EXIT_BROKEN_SUITE
    return EXIT_AS_EXPECTED if verdicts == {PASS} else EXIT_UNEXPECTED


def _require_alive() -> None:
    """Prove that a touched canary is seen, before what is not seen is believed."""
    with tempfile.TemporaryDirectory(prefix="ekvconform.") as folder:
        count = require_alive(Path(folder))
    print(f"canaries: {count} ways of touching them on purpose, and all are seen")


# ---- the others ----


def _list(options: argparse.Namespace) -> int:
    for case in _selected(options.words, load_cases()):
        print(f"{case.id:<44} {case.level:<6} {' '.join(case.clauses):<24} {case.title}")
    return EXIT_AS_EXPECTED


def _show(options: argparse.Namespace) -> int:
    case = _one(options.case)
    clauses = load_clauses()
    for name in case.clauses:
        if name in clauses:
            print(f"# {name} · {clauses[name].level} · {clauses[name].text}")
    path = FIXTURES / CASES_NAME / case.chapter / f"{case.id}.toml"
    if path.is_file():
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print(f"# One of {FIXTURES / PLACES_NAME}, as the bundle has it:")
        print(json.dumps(render_case(case), indent=1))
    return EXIT_AS_EXPECTED


def _repro(options: argparse.Namespace) -> int:
    case, profile = _one(options.case), _profile(options)
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
    expected = " or ".join(words_of(each) for each in case.allowed)
    if during := case.scene.during:
        print(f"# Somebody else comes in {during.when.words}: {during.scene} at {during.place}. That is yours to do.")
    print(f"# {case.id}: {case.title}. Expected: {expected}; `ekvconform show {case.id}` says the rest.")
    print(f"# The scene lies in {root} and stays there; it is good for one run.")
    print(f"cd {shlex.quote(str(root / 'work'))} && umask 022 && env -i {shlex.join([*variables, *command])}")
    return EXIT_AS_EXPECTED


def _snapshot(options: argparse.Namespace) -> int:
    source = Path(options.source)
    if source.suffix == ".toml":
        if options.twin:
            raise UsageError("--twin is of a case")
        try:
            description = tomllib.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadDescriptionError(f"{source}: {error}") from error
        pieces = describe_snapshot(description)
        text, data = render_hex(pieces), b"".join(piece.data for piece in pieces)
    else:
        case = _one(options.source)
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
    from ekvconform.cases.export import export

    cases = load_cases()
    count = export(cases, load_suite(), options.folder)
    print(f"wrote {count} files of {len(cases)} cases into {options.folder}")
    return EXIT_AS_EXPECTED
