"""The reference passes the golden cases, in this process: what changes its code in memory is judged by them too.

`test_in_memory` takes what comes of a snapshot without a file system, and `test_golden_case`
what `ekvconform` would.
"""

from pathlib import Path

import golden
import pytest
from ekvconform.cases.golden_cases import DECODE, Case

TWINS_THAT_DECODE = [case for case in golden.TWINS if case.scene.verb == DECODE]


@pytest.mark.parametrize("case", golden.CASES, ids=lambda case: case.id)
def test_golden_case(case: Case, tmp_path: Path) -> None:
    golden.check_case(case, tmp_path)


@pytest.mark.parametrize("case", TWINS_THAT_DECODE, ids=lambda case: case.id)
def test_a_case_has_one_defect_for_its_repaired_twin_is_accepted(case: Case, tmp_path: Path) -> None:
    golden.check_twin(case, tmp_path)


@pytest.mark.parametrize("case", golden.IN_MEMORY, ids=lambda case: case.id)
def test_in_memory(case: Case) -> None:
    golden.check_in_memory(case)


def test_there_are_many_of_each() -> None:
    assert len(golden.CASES) > 500
    assert len(golden.READING) > 150
    assert len(TWINS_THAT_DECODE) > 300
    assert len(golden.AT_PLACES) > 190
    assert 30 < len(golden.ELSEWHERE) < 100
    assert len(golden.IN_MEMORY) > 200
