"""Chapter SUMS: CHECKSUMS."""

import os
import subprocess
from pathlib import Path

import pytest
from ekvformat.checksums import render_checksum_line, sha256_of
from hypothesis import given
from in_process import read_tree
from reference_runs import write_dump
from store_strategies import ODD_PATHS
from stores import REAL_SHAPED

SHA = b"0123456789abcdef" * 4


@given(ODD_PATHS)
def test_sums_2_every_line_is_one_line_and_marked_if_something_is_escaped(path: bytes) -> None:
    line = render_checksum_line(path, SHA)
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert line.startswith(b"\\") == any(byte in path for byte in b"\n\r\\")


@pytest.mark.parametrize("name", [b"plain", b"a b", b"back\\slash", b"line\nfeed", b"re\rturn", b"\\\n\r\\n", b"\xff"])
def test_sums_2_sha256sum_writes_the_same_lines(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"data")
    line = subprocess.run(["sha256sum", name], cwd=tmp_path, check=True, capture_output=True).stdout
    assert line == render_checksum_line(name, sha256_of(b"data"))


def test_sums_4_sha256sum_checks_a_dump(tmp_path: Path) -> None:
    write_dump(REAL_SHAPED, tmp_path / "out")
    check = ["sha256sum", "--check", "--strict", "CHECKSUMS"]
    result = subprocess.run(check, cwd=tmp_path / "out", check=True, capture_output=True, text=True)
    assert result.stdout.count(": OK\n") == len(read_tree(tmp_path / "out")) - 1
    (tmp_path / "out/redis/db_0/strings/k.bin").write_bytes(b"other")
    assert subprocess.run(check, cwd=tmp_path / "out", check=False, capture_output=True).returncode == 1
