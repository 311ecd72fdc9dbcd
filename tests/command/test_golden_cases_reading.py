"""The golden cases that read a dump, and their twins, on the command in process; only the command does that."""

from pathlib import Path

import golden
import pytest
from command_runs import run_command
from decoders import COMMAND
from ekvconform.cases.golden_cases import DECODE, Case

READING_TWINS = [case for case in golden.TWINS if case.scene.verb != DECODE]


@pytest.mark.parametrize("case", golden.READING, ids=lambda case: case.id)
def test_reading(case: Case, tmp_path: Path) -> None:
    golden.check_case(case, tmp_path, COMMAND, run_command)


@pytest.mark.parametrize("case", READING_TWINS, ids=lambda case: case.id)
def test_a_case_has_one_defect_for_its_repaired_twin_is_accepted(case: Case, tmp_path: Path) -> None:
    golden.check_twin(case, tmp_path, COMMAND, run_command)
