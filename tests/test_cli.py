"""The command `ekvdump`, run as a program."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ekvdump import __version__, cli
from harness import read_tree
from test_real import unpack
from test_tree import FULL
from writer import HEADER_V1, STR, put, snapshot

REFUSALS = {
    "an empty file": (b"", 4, "truncated [FILE-8] at offset 0"),
    "no snapshot": (b"PK\x03\x04 an archive", 4, "bad-magic [FILE-7] at offset 0"),
    "a header of tomorrow": (b"EKVTHLC9" + bytes(24), 4, "unsupported [FILE-4] at offset 7"),
    "an ingest stream": (HEADER_V1 + b"EKVSSTI1" + bytes(8), 4, "unsupported [FILE-6] at offset 16"),
    "cut inside": (FULL[:-20], 4, "truncated [FILE-13]"),
    "one bit": (FULL[:60] + bytes((FULL[60] ^ 4,)) + FULL[61:], 4, "footer-mismatch [FILE-16]"),
    "a length bomb": (FULL[:32] + b"\xff" * 8 + FULL[40:], 4, "too-large [FILE-10] at offset 32"),
    "encrypted": (snapshot([put(STR + b"k", 1, b"", flags=2)]), 4, 'key "!redis|str|k"'),
    "unreadable": (snapshot([put(STR + b"k\xff", 1, b"\xff\x01")]), 4, 'key "!redis|str|k\\xff"'),
    "no footer": (FULL[:-4], 4, "truncated [FILE-17]"),
}


def run(*arguments: str | Path, **keywords: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ekvdump", *map(str, arguments)]
    result = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", timeout=60, **keywords)
    assert "Traceback" not in result.stderr
    assert result.returncode >= 0
    return result


@pytest.fixture
def snapshot_path(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot.fsm"
    path.write_bytes(FULL)
    return path


def test_outc_6_a_complete_dump_is_0(tmp_path: Path, snapshot_path: Path) -> None:
    result = run("decode", snapshot_path, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    for words in ("string", "all", "strings: 2 written", "HLLs: 2 written", "out: complete"):
        assert words in result.stdout
    assert (tmp_path / "out" / "CHECKSUMS").exists()


def test_outc_6_a_partial_dump_is_3_and_says_what_is_not_shown(tmp_path: Path) -> None:
    result = run("decode", unpack("grown-clean", tmp_path), tmp_path / "out")
    assert result.returncode == 3
    assert "undecoded-type: 330: records of a type that this version cannot show: hash" in result.stdout
    assert "partial" in result.stdout


def test_outc_6_only_what_is_wanted_is_complete(tmp_path: Path) -> None:
    result = run("decode", "--only", "strings,hll", unpack("grown-clean", tmp_path), tmp_path / "out")
    assert result.returncode == 0
    assert "warning" not in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["decode"], ["decode", "one"], ["nope"], ["decode", "a", "b", "--only", "hashes"],
        ["decode", "a", "b", "--only", ""], ["decode", "a", "b", "--db", "x"],
        ["decode", "a", "b", "--wall-time", "yesterday"], ["decode", "a", "b", "--nope"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_outc_6_usage_is_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "usage:" in result.stderr


@pytest.mark.parametrize("what", REFUSALS)
def test_outc_6_a_refused_snapshot_is_4_and_says_what_where_and_what_to_do(tmp_path: Path, what: str) -> None:
    data, status, words = REFUSALS[what]
    (tmp_path / "snapshot").write_bytes(data)
    result = run("decode", tmp_path / "snapshot", tmp_path / "out")
    assert result.returncode == status
    assert words in result.stderr
    assert result.stdout == ""
    first, advice = result.stderr.splitlines()
    assert first.startswith("ekvdump: ")
    assert advice.startswith("ekvdump: ")


def test_outc_6_a_refused_tree_is_5(tmp_path: Path, snapshot_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path)
    result = run("decode", snapshot_path, tmp_path / "out")
    assert result.returncode == 5
    assert "unsafe-path [TREE-13]" in result.stderr
    assert str(tmp_path / "out") in result.stderr


def test_outc_6_a_full_disk_is_6(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert cli.main(["decode", str(snapshot_path), str(tmp_path / "out")]) == 6
    assert "disk-full [TREE-24]" in capsys.readouterr().err


def test_outc_6_other_io_is_7(tmp_path: Path) -> None:
    result = run("decode", tmp_path / "missing", tmp_path / "out")
    assert result.returncode == 7
    assert "io-error [FILE-22]" in result.stderr


def test_outc_6_interrupted_is_130(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(descriptor: int, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    assert cli.main(["decode", str(snapshot_path), str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "ekvdump: interrupted\n"


def test_tree_27_every_fault_is_printed(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    def stuck(path: str, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "unlink", stuck)
    assert cli.main(["decode", str(snapshot_path), str(tmp_path / "out")]) == 6
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["disk-full", "io-error"]


def test_quiet_prints_nothing_but_refusals(tmp_path: Path, snapshot_path: Path) -> None:
    result = run("decode", "--quiet", snapshot_path, tmp_path / "out")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert run("decode", "--quiet", tmp_path / "missing", tmp_path / "out2").stderr


def test_what_the_caller_gives_goes_to_the_manifest(tmp_path: Path, snapshot_path: Path) -> None:
    arguments = [
        "--db",
        "5",
        "--cluster-id",
        "c1",
        "--elastickv-version",
        "v9",
        "--wall-time",
        "2026-01-02T03:04:05Z",
    ]
    assert run("decode", "--no-sync", *arguments, snapshot_path, tmp_path / "out").returncode == 0
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())
    assert manifest["cluster_id"] == "c1"
    assert manifest["elastickv_version"] == "v9"
    assert manifest["wall_time_iso"] == "2026-01-02T03:04:05Z"
    assert manifest["adapters"]["redis"] == {"databases": [5]}
    assert manifest["source"]["fsm_path"] == str(snapshot_path)


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"ekvdump {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["decode", "--help"]], ids=" ".join)
def test_help_has_the_exit_statuses(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 0
    assert "exit status:" in result.stdout


def test_an_output_folder_that_is_no_text_is_shown_escaped(tmp_path: Path, snapshot_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/\xff\xe2\x82\xac"
    command = [os.fsencode(sys.executable), b"-m", b"ekvdump", b"decode", os.fsencode(snapshot_path), out]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = subprocess.run(command, check=False, capture_output=True, env=environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"\\u20ac: complete" in result.stdout


def test_the_module_is_the_command(tmp_path: Path, snapshot_path: Path) -> None:
    assert run("decode", snapshot_path, tmp_path / "out").returncode == 0
    before = read_tree(tmp_path / "out")
    assert run("decode", snapshot_path, tmp_path / "out").returncode == 5
    assert read_tree(tmp_path / "out") == before
