"""Runs cases against a program, in the richest kind of file that it reads."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ekvconform.cases.carriers import CARRIERS, carried_cases
from ekvconform.cases.golden_cases import Case
from ekvconform.judge.carrier_probes import Carriers, probe_carriers
from ekvconform.judge.verdicts import Judgement
from ekvconform.judge.workers import judge_cases
from ekvconform.run.profiles import Profile

ANY: Final = "any"
"""The richest carrier that the program reads."""
CHOICES: Final = (ANY, *CARRIERS)


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """What came of the cases."""

    judgements: list[Judgement]
    carriers: Carriers
    left_out: int = 0
    """Cases that did not run because the run stopped early."""


class _EnoughError(Exception):
    """Raised to stop a run."""


def find_carriers(every: Sequence[Case], profile: Profile, jobs: int, carrier: str = ANY) -> Carriers:
    """Return the carriers that a program reads, or the one that is wanted. Raises as `judge_cases`."""
    return probe_carriers(every, profile, jobs) if carrier == ANY else Carriers((carrier,))


def run_suite(
    cases: Sequence[Case],
    profile: Profile,
    jobs: int,
    *,
    carriers: Carriers,
    is_whole: bool = True,
    strict_reasons: bool = False,
    on_result: Callable[[Judgement], None] = lambda _: None,
    is_enough: Callable[[Judgement], bool] = lambda _: False,
) -> SuiteRun:
    """Judge cases in their order; stop as soon as `is_enough` says so. Raises as `judge_cases`.

    `is_whole` says whether these are all cases of the suite.
    """
    carried = carried_cases(cases, carriers.read, is_whole=is_whole)
    found: dict[str, Judgement] = {}

    def keep(judgement: Judgement) -> None:
        found[judgement.case.id] = judgement
        on_result(judgement)
        if is_enough(judgement):
            raise _EnoughError

    with suppress(_EnoughError):
        judge_cases(carried, profile, jobs, strict_reasons=strict_reasons, on_result=keep)
    judgements = [found[case.id] for case in carried if case.id in found]
    return SuiteRun(judgements, carriers, len(carried) - len(judgements))
