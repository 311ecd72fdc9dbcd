"""What tests of the command are given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from planting import Canary


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    guard = Canary(tmp_path / "canary")
    yield guard
    guard.check()
