"""The command without directory handles: what is in the tree leads it nowhere. Its races are SAFE-7's."""

from pathlib import Path

import golden
import pytest
from command_runs import run_command
from ekvconform.cases.golden_cases import Case


@pytest.mark.parametrize("case", golden.AT_PLACES, ids=lambda case: case.id)
def test_by_path(case: Case, tmp_path: Path) -> None:
    golden.check_case(case, tmp_path, golden.BY_PATH, run_command)
