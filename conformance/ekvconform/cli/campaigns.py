"""Disturbs a program at each moment of a run: `ekvconform step` and `faults`."""

import argparse
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import COMPLETE, DECODE, PARTIAL, Case
from ekvconform.cases.loading import load_cases
from ekvconform.cli.arguments import FAILING, STEPPED
from ekvconform.cli.selection import (
    EXIT_AS_EXPECTED,
    EXIT_BROKEN_SUITE,
    EXIT_UNEXPECTED,
    ids_of,
    one_case,
    profile_of,
)
from ekvconform.judge.aspects import ENDING, OUTCOME, OUTSIDE
from ekvconform.judge.carrier_probes import Carriers
from ekvconform.judge.known_failures import (
    NOTHING_KNOWN,
    Form,
    KnownFailures,
    form_of,
    load_known_failures,
)
from ekvconform.judge.suite_run import find_carriers, run_suite
from ekvconform.judge.verdicts import PASS, VOID, Judgement
from ekvconform.report.records import AS_EXPECTED
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import require_working_canaries

UNFIT: Final = (OUTSIDE, ENDING, OUTCOME)
"""A campaign does not start from a case that differs in one of these without tampering."""
MAX_TRIED: Final = 20
"""Cases that a campaign tries, until the program passes one undisturbed."""


def step(options: argparse.Namespace) -> int:
    """Tamper with the tree at each moment of a run."""
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


def faults(options: argparse.Namespace) -> int:
    """Make each call that writes fail, or kill the program at it."""
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
    profile = profile_of(options)
    _require_working_canaries()
    every = load_cases()
    known = NOTHING_KNOWN
    if options.known_failures:
        known = load_known_failures(options.known_failures, ids_of(every))
    carriers = find_carriers(every, profile, options.jobs)
    verdicts: set[str] = set()
    for case in [one_case(case_id) for case_id in options.cases or default]:
        if not _suits_a_campaign(case):
            raise UsageError(f"{case.id} does not complete, is too large, or has tampering of its own: choose another")
        verdicts |= _disturb(case, profile, carriers, known, do)
    if not verdicts and not options.cases:
        # None of the default cases: then the smallest of those that write most kinds of files.
        others = [case for case in every if _suits_a_campaign(case) and profile.lacks(case) is None]
        for case in sorted(others, key=lambda case: (-len(case.expected.tree), case.weight))[:MAX_TRIED]:
            if verdicts := _disturb(case, profile, carriers, known, do):
                break
    if not verdicts:
        raise UsageError("no case could be run")
    if VOID in verdicts:
        return EXIT_BROKEN_SUITE
    return EXIT_AS_EXPECTED if verdicts == {PASS} else EXIT_UNEXPECTED


def _suits_a_campaign(case: Case) -> bool:
    completes = case.expected.outcome in (COMPLETE, PARTIAL) and case.scene.verb == DECODE
    return completes and case.scene.during is None and not case.is_big and not case.expected.large


def _disturb(case: Case, profile: Profile, carriers: Carriers, known: KnownFailures, do: Campaign) -> set[str]:
    """Run a campaign on a case, if the program completes it undisturbed; return the verdicts.

    With a list of known failures it must not differ in any other way then.
    """
    if lack := profile.lacks(case):
        print(f"{case.id}: not run: {lack}")
        return set()
    (judgement,) = run_suite([case], profile, 1, carriers=carriers, is_whole=False).judgements
    if judgement.verdict == VOID or any(each.aspect in UNFIT for each in judgement.differences):
        print(f"{case.id}: not run: undisturbed it is {judgement.verdict}: {judgement.differences[0]}")
        return set()
    if known is not NOTHING_KNOWN and (words := _unlisted(known, judgement)):
        print(f"{case.id}: not run: undisturbed it differs in a way that {known.path} does not list: {words}")
        return set()
    if judgement.differences:
        words = "; ".join(dict.fromkeys(each.form for each in judgement.differences))
        print(f"{case.id}: differs undisturbed, and is not reported again: {words}")
    forms = frozenset(map(form_of, judgement.differences))
    return do(judgement.case, replace(profile, limits=profile.limits.but(case.limits)), forms)


def _unlisted(known: KnownFailures, judgement: Judgement) -> str:
    """Return how a case differs in a way that is not listed, or nothing."""
    applied = known.apply([judgement], is_whole=False)
    (seen,) = applied.judgements
    differences = [*(() if seen.verdict in AS_EXPECTED else seen.differences), *applied.unlisted(judgement)]
    return str(differences[0]) if differences else ""


def _require_working_canaries() -> None:
    """Check that touching a canary is detected, before relying on it."""
    with tempfile.TemporaryDirectory(prefix="ekvconform.") as directory:
        count = require_working_canaries(Path(directory))
    print(f"canaries: {count} ways of touching them, all detected")
