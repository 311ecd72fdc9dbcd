"""The golden cases, many to a test: what `generated_mutants.py` runs.

It collects its tests once for each mutant, and to collect a thousand takes longer than to run
those that find it.
"""

from collections.abc import Sequence
from itertools import groupby

import golden
import pytest
from command_runs import run_command
from decoders import COMMAND
from ekvconform.cases.golden_cases import Case

SIZE = 16


def batches(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases, those of a chapter together."""
    found = []
    for _, some in groupby(sorted(cases, key=lambda case: case.chapter), lambda case: case.chapter):
        chapter = list(some)
        found += [chapter[start : start + SIZE] for start in range(0, len(chapter), SIZE)]
    return found


@pytest.mark.parametrize("cases", batches(golden.CASES), ids=lambda cases: cases[0].id)
def test_as_run(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    for case in cases:
        golden.check_case(case, tmp_path_factory.mktemp("x"))


@pytest.mark.parametrize("cases", batches(golden.IN_MEMORY), ids=lambda cases: cases[0].id)
def test_as_bytes(cases: list[Case]) -> None:
    for case in cases:
        golden.check_in_memory(case)


@pytest.mark.parametrize("cases", batches(golden.IN_PROCESS), ids=lambda cases: cases[0].id)
def test_by_the_command(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    for case in cases:
        golden.check_case(case, tmp_path_factory.mktemp("x"), COMMAND, run_command)
