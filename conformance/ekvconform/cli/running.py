"""Runs the suite: `ekvconform run`, `init`, `compare` and `combine`."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Final

from ekvconform.cases.carriers import carry
from ekvconform.cases.data_files import FIXTURES
from ekvconform.cases.errors import UsageError
from ekvconform.cases.loading import SMOKE, load_cases, select_cases
from ekvconform.cases.suite import load_suite
from ekvconform.cases.variation import varied_cases
from ekvconform.cli.selection import (
    EXIT_AS_EXPECTED,
    EXIT_BROKEN_SUITE,
    EXIT_UNEXPECTED,
    KNOWN_NAME,
    PROFILE_NAME,
    ids_of,
    profile_of,
    program_arguments,
    selected_cases,
)
from ekvconform.judge.known_failures import (
    NOTHING_KNOWN,
    KnownFailures,
    load_known_failures,
    render_updated,
)
from ekvconform.judge.suite_run import find_carriers, run_suite
from ekvconform.judge.verdicts import UNSUPPORTED, VOID, Judgement, first_line
from ekvconform.report.records import (
    AS_EXPECTED,
    Report,
    counted,
    iter_jsonl,
    load_report,
    make_report,
)
from ekvconform.run.namespaces import can_hide
from ekvconform.run.profiles import bare_profile, load_profile

KNOWN_HEAD: Final = """\
# Known failures: case-id  VERDICT  # reason, link
# A listed case with another verdict makes the run fail; `ekvconform show CASE` prints the case.
"""


def run(options: argparse.Namespace) -> int:
    """Run cases against a program, and report."""
    from ekvconform.report.terminal import print_report, progress_of

    profile = profile_of(options)
    suite, every = load_suite(), load_cases()
    cases = selected_cases(options.words, every)
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
        known = load_known_failures(options.known_failures, ids_of(every))
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
            varied_cases(cases, options.vary),
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
    command = program_arguments(options)
    is_hidden = can_hide(FIXTURES)
    report = make_report(found, applied, profile, suite, total, carriers, command, options.vary, is_hidden=is_hidden)
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


def combine(options: argparse.Namespace) -> int:
    """Render reports of several programs as one page."""
    reports = [load_report(path) for path in options.reports]
    _write_page(options.html, reports)
    print(f"wrote {options.html}: {', '.join(f'{report.program} ({len(report.rows)} cases)' for report in reports)}")
    return EXIT_AS_EXPECTED


def compare(options: argparse.Namespace) -> int:
    """Print the differences between two reports of a program."""
    from ekvconform.report.terminal import print_comparison

    old, new = load_report(options.old), load_report(options.new)
    return EXIT_UNEXPECTED if print_comparison(old, new) else EXIT_AS_EXPECTED


def init(options: argparse.Namespace) -> int:
    """Infer a profile and a list of known failures."""
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
    if not options.directory.is_dir():
        raise UsageError(f"{options.directory} is not a directory")
    profile_path, known_path = options.directory / PROFILE_NAME, options.directory / KNOWN_NAME
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
    known = load_known_failures(known_path, ids_of(cases))
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
