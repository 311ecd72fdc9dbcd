"""Finds out which kinds of files a program reads, before the suite runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ekvconform.cases.carriers import CARRIERS, HEADER_AND_FOOTER, PROBE, RULE_OF_CARRIER, carry
from ekvconform.cases.golden_cases import Case
from ekvconform.judge.aspects import ENDING, FILES, OUTCOME, OUTSIDE
from ekvconform.judge.workers import judge_cases
from ekvconform.run.profiles import Profile

DECISIVE: Final = (OUTSIDE, ENDING, OUTCOME, FILES)
"""A program reads a carrier if nothing differs in these aspects; what it does with a value is another matter."""


@dataclass(frozen=True, slots=True)
class Carriers:
    """Which carriers a program reads."""

    read: tuple[str, ...] = ()
    """Richest first; empty if it reads none, or if nothing was asked."""
    unread: dict[str, str] = field(default_factory=dict)
    """Carrier = what happens instead."""

    @property
    def richest(self) -> str:
        """The carrier that cases come in."""
        return self.read[0] if self.read else HEADER_AND_FOOTER

    @property
    def clauses(self) -> dict[str, str]:
        """What happens with a carrier that is not read = the rule that is broken."""
        return {form: RULE_OF_CARRIER[carrier] for carrier, form in self.unread.items()}


def probe_carriers(cases: Sequence[Case], profile: Profile, jobs: int) -> Carriers:
    """Run a program on one small store in each carrier. Raises as `judge_cases`."""
    (probe,) = (case for case in cases if case.id == PROBE)
    probes = [replace(carry(probe, carrier), id=f"{PROBE}@{carrier}") for carrier in CARRIERS]
    judgements = judge_cases(probes, profile, jobs, strict_reasons=False, on_result=lambda _: None)
    read, unread = [], {}
    for carrier, judgement in zip(CARRIERS, judgements, strict=True):
        decisive = [each for each in judgement.differences if each.aspect in DECISIVE]
        if decisive:
            unread[carrier] = decisive[0].form
        elif judgement.finish is not None:
            read.append(carrier)
    return Carriers(tuple(read), unread if read else {})
