"""What a path to a dump, or a name in it, may lead to: the same on both decoders."""

from collections.abc import Sequence
from pathlib import Path

import folding
import pytest
from programs import PROGRAMS, Program, decoded
from writer import HLL, STR, put

TWO_CASES = [put(STR + b"Key", 1, b"one"), put(STR + b"kEY", 1, b"two"), put(STR + b"other", 1, b"three")]
NO_CLASH = [put(STR + b"Key", 1, b"one"), put(HLL + b"key", 1, b"two"), put(STR + b"b64.K", 1, b"three")]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("words", [(), ("--into-existing",)], ids=["a new dump", "into existing"])
def test_safe_9_two_keys_that_are_one_file_are_refused(
    program: Program, words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folding.install(monkeypatch)
    status, err = decoded(program, TWO_CASES, tmp_path, *words)
    assert status == 5
    assert "[unsafe-path, SAFE-9]" in err
    assert "redis/db_0/strings/kEY.bin" in err
    assert not [name for name in ("MANIFEST.json", "CHECKSUMS") if (tmp_path / "out" / name).exists()]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_safe_9_names_that_do_not_clash_are_shown(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folding.install(monkeypatch)
    status, err = decoded(program, NO_CLASH, tmp_path)
    assert (status, (tmp_path / "out" / "CHECKSUMS").is_file()) == (0, True), err


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_safe_9_both_are_shown_where_case_counts(program: Program, tmp_path: Path) -> None:
    assert decoded(program, TWO_CASES, tmp_path)[0] == 0
    strings = tmp_path / "out" / "redis" / "db_0" / "strings"
    assert {path.name: path.read_bytes() for path in strings.iterdir()} == {
        "Key.bin": b"one", "kEY.bin": b"two", "other.bin": b"three"
    }  # fmt: skip


STORE = [put(STR + b"k", 1, b"v")]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("out", ["link/.", "link/./", "link/../real", "real/."])
def test_safe_5_a_link_that_leads_to_out_is_followed(program: Program, out: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    status, err = decoded(program, STORE, tmp_path, out=out)
    assert status == 0, err
    assert (tmp_path / "real" / "redis/db_0/strings/k.bin").read_bytes() == b"v"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("out", ["link", "link/", "link//"])
def test_safe_5_out_itself_is_not_followed(program: Program, out: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    status, err = decoded(program, STORE, tmp_path, out=out)
    assert status == 5
    assert f": {tmp_path}/link: " in err.replace("'", "")
    assert "[unsafe-path, SAFE-11]" in err
    assert not list((tmp_path / "real").iterdir())
