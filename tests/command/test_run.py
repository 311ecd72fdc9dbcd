"""One run: what it is given, how far it says that it has come, and what it leaves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_runs import WALL_TIME
from ekvdump.cli.advice import advice_for
from ekvdump.engine.first_pass import FirstPass, run_first_pass
from ekvdump.engine.outputs import JOINING
from ekvdump.engine.refusals import FITS, FITS_NOT
from ekvdump.engine.source import READING, SnapshotFile, Source
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvdump.inspection import inspect
from ekvdump.run import WRITING, Run, decode
from ekvdump.verify.verification import Verification
from ekvformat.decode import Options
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from in_process import read_tree
from sessions import Meddler
from writer import STR, TTL, expiry, footer, put, snapshot

ENTRIES = [put(STR + b"a", 1, b"one"), put(STR + b"b", 1, b"two"), put(TTL + b"b", 1, expiry(5))]
DATA = snapshot(ENTRIES)
UNREADABLE = snapshot([put(STR + b"a", 1, b"one"), put(STR + b"b", 1, b"\xff\x01")])


def test_one_call_takes_all_that_a_run_is_given(tmp_path: Path) -> None:
    path, out = tmp_path / "0000000000000009.fsm", tmp_path / "out"
    path.write_bytes(DATA)
    stages: list[tuple[str, int, int]] = []
    provenance = Provenance("elsewhere.fsm", wall_time=WALL_TIME, cluster_id="c1", elastickv_version="1.2")
    outcome = decode(str(path), str(out), Options(database=3), provenance, lambda *reported: stages.append(reported))
    assert outcome.complete
    manifest = json.loads((out / "MANIFEST.json").read_text())
    assert manifest["source"] == {"fsm_path": "elsewhere.fsm", "fsm_crc32c": DATA[-4:].hex()}
    assert (manifest["wall_time_iso"], manifest["cluster_id"], manifest["elastickv_version"]) == (
        WALL_TIME,
        "c1",
        "1.2",
    )
    assert (manifest["snapshot_index"], manifest["outcome"]["database"]) == (9, 3)
    assert (out / "redis/db_3/strings/a.bin").read_bytes() == b"one"
    assert [each for each in stages if each[0] == WRITING] == [(WRITING, 1, 2), (WRITING, 2, 2)]
    assert list(dict.fromkeys(stage for stage, _, _ in stages)) == [READING, WRITING, JOINING]


def test_without_more_the_source_is_the_path_that_was_given(tmp_path: Path) -> None:
    path, out = tmp_path / "snapshot.fsm", tmp_path / "out"
    path.write_bytes(DATA)
    assert decode(str(path), str(out)).complete
    manifest = json.loads((out / "MANIFEST.json").read_text())
    assert manifest["source"]["fsm_path"] == str(path)
    assert "snapshot_index" not in manifest


def test_a_run_says_what_lies_in_the_output_directory(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(DATA)
    run = Run(str(tmp_path / "good"), str(tmp_path / "one"))
    assert (run.out_state, run.sealed_outcome) == ("untouched", None)
    outcome = run.run()
    assert (run.out_state, run.sealed_outcome) == ("sealed", outcome)
    (tmp_path / "bad").write_bytes(UNREADABLE)
    run = Run(str(tmp_path / "bad"), str(tmp_path / "two"))
    with pytest.raises(Fault, match=r"\[invalid-value, "):
        run.run()
    assert (run.out_state, run.sealed_outcome) == ("unfinished", None)
    assert not {"MANIFEST.json", "CHECKSUMS"} & set(read_tree(tmp_path / "two"))
    run = Run(str(tmp_path / "missing"), str(tmp_path / "three"))
    with pytest.raises(Fault):
        run.run()
    assert run.out_state == "untouched"


def test_safe_24_a_run_says_when_it_gives_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad").write_bytes(UNREADABLE)
    run = Run(str(tmp_path / "bad"), str(tmp_path / "out"))
    reported: list[bool] = []

    def noted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object) -> object:
            reported.append(run.is_ending)
            return real(*words)

        return call

    monkeypatch.setattr(TreeWriter, "write", noted(TreeWriter.write))
    monkeypatch.setattr(TreeWriter, "rollback", noted(TreeWriter.rollback))
    with pytest.raises(Fault, match=r"\[invalid-value, "):
        run.run()
    assert reported == [False, True]


def test_a_run_that_fails_while_it_seals_has_no_sealed_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Fault("changed", "FILE-22", "another", None, None)

    (tmp_path / "snapshot").write_bytes(DATA)
    run = Run(str(tmp_path / "snapshot"), str(tmp_path / "out"))
    monkeypatch.setattr(TreeWriter, "seal", fail)
    with pytest.raises(Fault, match=r"\[changed, "):
        run.run()
    assert (run.out_state, run.sealed_outcome) == ("unfinished", None)


def test_file_22_a_value_that_is_not_what_was_judged_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if size, inode and time say that nothing happened."""
    path = tmp_path / "snapshot.fsm"
    path.write_bytes(DATA)
    body = DATA.index(STR + b"b") + len(STR + b"b") + 8 + 8 + 9
    judged: list[FirstPass] = []

    def judge_first(source: Source) -> FirstPass:
        judged.append(run_first_pass(source))
        return judged[0]

    def read_tampered(self: SnapshotFile, start: int, size: int) -> bytes:
        data = read(self, start, size)
        return b"?" + data[1:] if judged and start == body else data

    read = SnapshotFile.read
    monkeypatch.setattr(SnapshotFile, "read", read_tampered)
    monkeypatch.setattr("ekvdump.run.run_first_pass", judge_first)
    run = Run(str(path), str(tmp_path / "out"))
    with pytest.raises(Fault, match=r"\[changed, ") as caught:
        run.run()
    assert (caught.value.clause, caught.value.path, caught.value.offset) == ("FILE-22", str(path), body)
    assert caught.value.detail == "the value is no longer what the first pass read"


# ---- a path that no system takes ----


@pytest.mark.parametrize(
    ("name", "shown", "words"),
    [
        ("a\0b", "a\\x00b", "a path cannot contain NUL"),
        ("a\ud800b", "a\\ud800b", "a path cannot contain this character"),
    ],
    ids=["NUL", "surrogate"],
)
def test_safe_29_file_24_a_path_that_no_system_takes_is_a_fault(
    tmp_path: Path, name: str, shown: str, words: str
) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(DATA)
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("SAFE-29", lambda: decode(str(path), f"{tmp_path}/{name}")),
        ("SAFE-29", lambda: Verification(f"{tmp_path}/{name}", print).run()),
        ("FILE-24", lambda: decode(f"{tmp_path}/{name}", str(tmp_path / "out"))),
        ("FILE-24", lambda: inspect(f"{tmp_path}/{name}")),
    ]
    for clause, attempt in attempts:
        with pytest.raises(Fault) as caught:
            attempt()
        fault = caught.value
        assert (fault.name, fault.clause, fault.path) == ("io-error", clause, f"{tmp_path}/{shown}")
        assert words in str(fault)
    assert not (tmp_path / "out").exists()


def test_mani_5_words_of_a_caller_that_no_system_writes_do_not_end_a_run_midway(tmp_path: Path) -> None:
    path, out = tmp_path / "snapshot", tmp_path / "out"
    path.write_bytes(DATA)
    assert decode(str(path), str(out), provenance=Provenance("a\ud800", cluster_id="\udfff")).complete
    manifest = json.loads((out / "MANIFEST.json").read_text())
    assert (manifest["source"]["fsm_path"], manifest["cluster_id"]) == ("a\\ud800", "\\udfff")


# ---- what else can be said of a snapshot that is refused ----


def fault_of_file(path: Path, data: bytes) -> Fault:
    path.write_bytes(data)
    with pytest.raises(Fault) as caught:
        decode(str(path), str(path.parent / "out"))
    fault = caught.value
    found = inspect(str(path)).fault
    assert found is not None
    assert found.args == fault.args
    return fault


def test_a_fault_of_structure_says_whether_the_file_is_as_it_was_written(tmp_path: Path) -> None:
    cut = DATA[:-30]
    fault = fault_of_file(tmp_path / "s", cut)
    assert (fault.name, fault.clause, fault.detail.partition("; ")[2]) == ("truncated", "FILE-15", FITS_NOT)
    assert "copy it again" in advice_for(fault)
    fault = fault_of_file(tmp_path / "s", cut + footer(cut))
    assert (fault.name, fault.clause, fault.detail.partition("; ")[2]) == ("truncated", "FILE-15", FITS)
    assert "A copy would be the same" in advice_for(fault)
    assert fault_of_file(tmp_path / "s", DATA[:9]).detail.endswith(FITS_NOT)


def test_other_faults_say_nothing_of_the_footer(tmp_path: Path) -> None:
    """Nor do those of what is no snapshot, or nothing at all."""
    for data in (
        b"",
        b"EKV",
        b"EKVP",
        b"1234567890",
        DATA[:-1] + b"?",
        DATA[:-4],
        snapshot([put(STR + b"k", 1, b"", flags=0b1000)]),
    ):
        assert "last four bytes" not in fault_of_file(tmp_path / "s", data).detail


@pytest.mark.parametrize("data", [DATA[:-30], DATA[:-1] + b"?", snapshot([put(STR + b"k", 1, b"", flags=0b1000)])])
def test_file_22_a_snapshot_that_is_still_being_written_is_not_called_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    for act in (lambda path: decode(path, str(tmp_path / "out")), inspect):
        path = tmp_path / "snapshot"
        path.write_bytes(data)
        with monkeypatch.context() as patch:
            Meddler(patch, 1, "grown", path)
            with pytest.raises(Fault) as caught:
                act(str(path))
        assert (caught.value.name, caught.value.clause, caught.value.path) == ("changed", "FILE-22", str(path))
    assert not (tmp_path / "out").exists()
