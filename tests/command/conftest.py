"""What tests of the command are given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ekvdump.filesystem import directories
from planting import Canary


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    guard = Canary(tmp_path / "canary")
    yield guard
    guard.check()


@pytest.fixture
def named_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write each blob under its temporary name, as on a file system that has no files without a name."""
    monkeypatch.setattr(directories, "HAS_UNNAMED", False)
