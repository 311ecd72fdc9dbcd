"""Large snapshots are written from a few words, and what a program uses is held against the case's limits."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from decoders import COMMAND
from ekvconform.cases.golden_cases import BrokenCaseError, Case, load_case
from ekvconform.cases.limits import Limits
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.cases.snapshots import BadDescriptionError, describe_snapshot, write_snapshot
from ekvconform.judge.tree_comparison import differences_of_large
from ekvconform.judge.verdicts import Judgement
from ekvconform.judge.workers import judge_cases
from ekvconform.run.profiles import make_profile

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CASES = {case.id: case for case in load_cases()}
BIG = [case for case in CASES.values() if case.is_big]


def test_big_cases_are_run_only_if_they_are_named() -> None:
    assert len(BIG) >= 7
    every = list(CASES.values())
    assert not [case for case in select_cases(every, []) if case.is_big]
    assert not [case for case in select_cases(every, ["*", "rttl", "must", "VISI-21"]) if case.is_big]
    assert select_cases(every, ["big"]) == BIG
    assert select_cases(every, ["visi-million-versions"]) == [CASES["visi-million-versions"]]


def test_no_big_snapshot_is_held() -> None:
    for case in CASES.values():
        assert (case.scene.snapshot is None) or not case.generated
        assert (case.scene.described is not None) == (case.generated is not None)
    assert all(case.limits for case in BIG)


def written(description: dict[str, object]) -> bytes:
    file = io.BytesIO()
    write_snapshot(description, file)
    return file.getvalue()


@pytest.mark.parametrize("case_id", ["conv-two-thousand-keys", "envl-large-value", "rttl-thousand-orphans"])
def test_what_is_written_entry_by_entry_is_what_is_described(case_id: str) -> None:
    described = CASES[case_id].scene.described
    assert described is not None
    assert written(described) == b"".join(piece.data for piece in describe_snapshot(described))


@pytest.mark.parametrize(
    ("entry", "keys"),
    [
        ({"key": "k{n}", "ts": 1, "times": 3}, [b"k000000", b"k000001", b"k000002"]),
        ({"key": "k{n}", "ts": 1, "times": 2, "from": 999_999}, [b"k0999999", b"k1000000"]),
        ({"key": "k{x}", "ts": 1, "times": 3, "from": 1}, [b"kxxx", b"kxx", b"kx"]),
        ({"key": "k", "ts": 7, "versions": 3}, [b"k", b"k", b"k"]),
    ],
)
def test_numbers_in_an_entry(entry: dict[str, object], keys: list[bytes]) -> None:
    data = written({"header": "none", "footer": False, "entries": [entry]})[16:]
    found, suffixes = [], []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(data[8:size])
        suffixes.append(data[size : 8 + size])
        data = data[8 + size :]
        data = data[8 + int.from_bytes(data[:8], "little") :]
    assert found == keys
    if "versions" in entry:
        assert [2**64 - 1 - int.from_bytes(suffix, "big") for suffix in suffixes] == [7, 6, 5]


@pytest.mark.parametrize(
    "words",
    [
        {"cut": 1},
        {"append": "x"},
        {"footer": "\\x00"},
        {"entries": [{"key": "k", "times": "3"}]},
        {"entries": [{"key": "k{n}{x}", "ts": 1, "body": "", "times": 3}]},
    ],
)
def test_what_cannot_be_written_entry_by_entry_is_refused(words: dict[str, object]) -> None:
    with pytest.raises(BadDescriptionError):
        written({"entries": [], **words})


@pytest.mark.parametrize(
    ("data", "right"),
    [(b"ab" * 5 + b"c", True), (b"ab" * 5 + b"d", False), (b"ab" * 5, False), (b"ab" * 5 + b"cc", False), (b"", False)],
)
def test_a_large_file_is_compared_in_pieces(
    data: bytes, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ekvconform.judge.tree_comparison.BLOCK_SIZE", 4)
    (tmp_path / "x").write_bytes(data)
    found = list(differences_of_large("x", bytes(tmp_path / "x"), ((b"ab", 5), (b"c", 1))))
    assert (not found) == right


# ---- limits ----

USES = """
import os, sys, time
way = sys.argv[1]
if way == "memory":
    held = bytearray(300 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
elif way == "files":
    os.mkdir(sys.argv[2])
    with open(sys.argv[2] + "/x", "wb") as file:
        file.truncate(30 * 1024 * 1024)
time.sleep(0.5 if way != "time" else 30)
sys.exit(4)
"""


def judge(case: Case, way: str) -> Judgement:
    profile = make_profile({"command": [sys.executable, "-I", "-S", "-c", USES, way, "{out}", "{snapshot}"]}).located()
    (found,) = judge_cases([case], profile, 1, strict_reasons=False, on_result=lambda _: None)
    return found


@pytest.mark.parametrize(
    ("way", "limits", "verdict"),
    [
        ("memory", {}, "FAIL"),
        ("memory", {"memory_mib": 200}, "LIMIT"),
        ("files", {}, "FAIL"),
        ("files", {"files_mib": 20}, "LIMIT"),
        ("time", {"seconds": 0.5}, "HANG"),
        ("nothing", {"seconds": 20, "memory_mib": 100, "files_mib": 1}, "FAIL"),
    ],
)
def test_a_case_says_what_a_program_may_use(way: str, limits: dict[str, float], verdict: str) -> None:
    assert judge(replace(CASES["rstr-envelope"], limits=limits), way).verdict == verdict


def test_a_claim_of_256_mib_may_not_be_believed() -> None:
    for case_id in ("file-value-size-bomb", "file-value-size-at-limit", "file-key-size-bomb"):
        assert judge(CASES[case_id], "memory").verdict == "LIMIT", case_id


def test_a_case_with_other_limits_is_broken(tmp_path: Path) -> None:
    text = (FIXTURES / "cases" / "file" / "file-value-size-bomb.toml").read_text()
    for words in ("memory_mib = 0", "memory_mib = true", "memory_gib = 1"):
        (tmp_path / "file-value-size-bomb.toml").write_text(text.replace("memory_mib = 200", words))
        with pytest.raises(BrokenCaseError):
            load_case(tmp_path / "file-value-size-bomb.toml")
    assert Limits().but({"seconds": 3}) == Limits(seconds=3)


def test_the_reference_keeps_keys_of_a_mib() -> None:
    (found,) = judge_cases([CASES["kmap-keys-of-a-mib"]], COMMAND, 1, strict_reasons=True, on_result=lambda _: None)
    assert found.verdict == "PASS"
