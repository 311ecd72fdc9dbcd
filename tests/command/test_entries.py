"""Chapter FILE: the snapshot file."""

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from command_runs import MemorySource, decode_bytes, decode_in_memory, fault_of, refusal
from ekvdump.engine import first_pass
from ekvdump.engine.entries import VALUE_HEAD_SIZE, decode_start, iter_entries
from ekvdump.engine.source import WINDOW_SIZE, ProgressSource, SnapshotFile
from ekvdump.run import decode
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import identity_of
from in_process import read_tree
from real import REAL_SHAPED
from sessions import Meddler
from writer import HEADER_V1, STR, Entry, envelope, footer, header_v2, payload_start, put, snapshot

MAX_KEY = 1_048_584
ONE = [put(STR + b"a", 5, b"hi")]


def shown(data: bytes) -> dict[str, bytes]:
    return decode_in_memory(data)[1]


def sealed(before: bytes) -> bytes:
    return before + footer(before)


def entries_of(data: bytes) -> list[tuple[bytes, int]]:
    source = MemorySource(data)
    start = decode_start(source)
    return [(key, size) for _, key, _, size, _ in iter_entries(source, start.entries_offset, source.size)]


@pytest.mark.parametrize("window", [20, 64, 1000])
def test_file_23_the_window_does_not_change_what_is_read(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = entries_of(REAL_SHAPED)
    monkeypatch.setattr("ekvdump.engine.entries.WINDOW_SIZE", window)
    assert entries_of(REAL_SHAPED) == whole
    assert shown(REAL_SHAPED) == decode_in_memory(REAL_SHAPED)[1]


def test_file_14_nothing_is_read_for_a_size_that_cannot_be(tmp_path: Path) -> None:
    for claim in (MAX_KEY, MAX_KEY + 1, 2**63, 2**64 - 1):
        source = MemorySource(payload_start(9) + struct.pack("<Q", claim))
        with pytest.raises(Fault):
            list(iter_entries(source, 16, source.size))
        assert source.most_at_once <= 24
    with pytest.raises(Fault) as caught:
        decode_bytes(payload_start(9) + struct.pack("<Q", 2**63), tmp_path)
    assert fault_of(caught.value) == ("too-large", "FILE-12", 16)


# ---- footer ----


@pytest.mark.parametrize("window", [64, 100, 256 * 1024])
def test_file_18_the_footer_is_judged_whatever_the_window(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekvdump.engine.entries.WINDOW_SIZE", window)
    entries = [*ONE, put(STR + b"long", 5, bytes(range(256)) * 4), put(STR + b"z", 5, b"x" * 300)]
    data = snapshot(entries)
    assert len(shown(data)) == 3
    assert refusal(data[:-1] + bytes((data[-1] ^ 1,)))[1] == "FILE-18"


@pytest.mark.parametrize("header", [HEADER_V1, header_v2(b"x")])
def test_file_19_every_cut_of_a_real_shaped_snapshot_is_a_typed_refusal(header: bytes) -> None:
    data = sealed(header + REAL_SHAPED[16:-4])
    assert shown(data) == shown(REAL_SHAPED)
    for size in range(len(data)):
        name, clause, offset, _ = refusal(data[:size])
        # Four bytes left of a longer field look like a footer, and a wrong one.
        assert (name, clause) in (
            ("truncated", "FILE-9"),
            ("truncated", "FILE-15"),
            ("truncated", "FILE-19"),
            ("footer-mismatch", "FILE-18"),
        )
        assert offset is not None
        assert offset <= size


# ---- reading ----


@pytest.mark.parametrize("window", range(8, 100))
def test_file_23_each_entry_comes_with_the_head_of_its_value_wherever_windows_end(
    monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("ekvdump.engine.entries.WINDOW_SIZE", window)
    data = snapshot([put(STR + bytes((size,)), 5, bytes(range(size)), expire_at=2**64 - 1) for size in range(40)])
    source = MemorySource(data)
    found = list(iter_entries(source, decode_start(source).entries_offset, source.size))
    assert len(found) == 40
    for _, _, offset, size, head in found:
        assert head == data[offset : offset + min(size, VALUE_HEAD_SIZE)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"EKVTHLC1" + bytes(3), "only 3 of 8 bytes of the ceiling_ms are there"),
        (b"EKVTHLC2\0", "only 1 of 2 bytes of the header size are there"),
        (b"EKVTHLC2" + struct.pack(">H", 20) + bytes(4), "only 4 of 20 bytes of the header fields are there"),
        (b"EKVPBBL1" + bytes(5), "only 5 of 8 bytes of the last commit are there"),
        (b"EKVTHLC3" + bytes(9), "the version of the header is not known"),
        (b"123456789", "neither a header nor a payload magic: b'12345678'"),
        (payload_start(1) + struct.pack("<Q", 9) + bytes(12), "only 3 of 8 bytes of the value size are there"),
        (payload_start(1) + struct.pack("<Q9xQ", 9, 30) + bytes(12), "only 12 of 30 bytes of the value are there"),
    ],
)
def test_file_15_what_is_cut_is_reported_in_words(data: bytes, words: str) -> None:
    with pytest.raises(Fault) as caught:
        decode_in_memory(data)
    assert caught.value.detail == words


def test_file_21_a_fault_at_the_end_comes_before_the_first_output(tmp_path: Path) -> None:
    entries: list[Entry] = [*ONE, (b"zzz", bytes(9))]
    for data in (snapshot(entries), snapshot(ONE) + b"x", snapshot(ONE)[:-1] + b"\0"):
        with pytest.raises(Fault):
            decode_bytes(data, tmp_path)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["cut", "touched", "replaced", "removed", "grown"])
@pytest.mark.parametrize("at", [1, 4])
def test_file_22_a_snapshot_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, at: int
) -> None:
    # An inode that is freed may be given out again at once; one that is held is not.
    snapshot_path = tmp_path / "snapshot"
    Meddler(monkeypatch, at, what, snapshot_path)
    with pytest.raises(Fault, match=r"\[changed, ") as caught:
        decode_bytes(snapshot(ONE), tmp_path)
    assert caught.value.clause == "FILE-22"
    assert caught.value.detail
    assert caught.value.path == str(snapshot_path)
    left = read_tree(tmp_path / "out")
    assert "MANIFEST.json" not in left
    assert "CHECKSUMS" not in left


class Rewriter:
    """Rewrites bytes of the snapshot after the first pass, so that size, inode and time stay as they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, offset: int, data: bytes) -> None:
        self._path, self._offset, self._data = path, offset, data
        monkeypatch.setattr("ekvdump.run.run_first_pass", self._rewritten)

    def _rewritten(self, *arguments: Any) -> first_pass.FirstPass:
        found = first_pass.run_first_pass(*arguments)
        status = self._path.stat()
        with self._path.open("r+b") as file:
            file.seek(self._offset)
            file.write(self._data)
        os.utime(self._path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return found


@pytest.mark.parametrize("hole", [(32, 8), (40, 20), (60, 8), (68, 1), (69, 8), (60, 40)])
@pytest.mark.parametrize("filler", [b"\0", b"\1", b"\xff"])
def test_file_22_nothing_that_was_judged_is_taken_for_granted_after_the_first_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hole: tuple[int, int], filler: bytes
) -> None:
    Rewriter(monkeypatch, tmp_path / "snapshot", hole[0], filler * hole[1])
    try:
        decode_bytes(snapshot([put(STR + b"a", 5, b"hi"), put(STR + b"b", 5, b"ho")]), tmp_path)
    except Fault as fault:
        assert (fault.name, fault.clause) == ("changed", "FILE-22")


def test_what_is_read_is_reported_as_progress() -> None:
    reported: list[tuple[str, int, int]] = []
    source = MemorySource(b"0123456789")
    watched = ProgressSource(source, lambda stage, done, total: reported.append((stage, done, total)))
    assert watched.size == 10
    assert watched.read(2, 3) == b"234"
    assert reported == [("bytes", 5, 10)]


def test_file_23_what_lies_between_is_read_in_windows() -> None:
    source = MemorySource(snapshot([put(STR + b"a", 5, bytes(3_000_000)), put(STR + b"b", 5, b"")]))
    first_pass.run_first_pass(source)
    assert source.most_at_once <= WINDOW_SIZE


def test_file_23_memory_is_twice_the_largest_value(tmp_path: Path) -> None:
    size = 4_000_000
    data = snapshot([put(STR + b"%d" % n, 1, envelope(1, bytes(size))) for n in range(4)])
    (tmp_path / "snapshot").write_bytes(data)
    del data
    tracemalloc.start()
    decode(str(tmp_path / "snapshot"), str(tmp_path / "out"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * size + 2_000_000


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "snapshot").write_bytes(snapshot([]))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with SnapshotFile(str(tmp_path / "snapshot")):
            pass
        with pytest.raises(Fault, match=r"\[io-error, "):
            SnapshotFile(str(tmp_path / "fifo"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_22_a_file_on_another_device_is_another_file() -> None:
    one = os.stat("/proc/self/stat")
    assert identity_of(one) == (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns)


def test_file_22_a_short_read_goes_on_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 3), offset))
    outcome = decode_bytes(snapshot(ONE), tmp_path)
    assert outcome.complete
    assert read_tree(tmp_path / "out")["redis/db_0/strings/a.bin"] == b"hi"


def test_file_24_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing"):
        with pytest.raises(Fault, match=r"\[io-error, ") as caught:
            SnapshotFile(str(path))
        assert fault_of(caught.value) == ("io-error", "FILE-24", None)
        assert caught.value.path == str(path)
    assert caught.value.detail == "cannot open the snapshot: No such file or directory"


def test_file_24_a_file_that_cannot_be_closed_was_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"0123456789")
    with SnapshotFile(str(tmp_path / "s")) as file:
        os.close(file._fd)


def test_what_is_asked_for_is_read_also_where_the_system_gives_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").write_bytes(b"0123456789")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 2), offset))
    with SnapshotFile(str(tmp_path / "s")) as file:
        assert file.read(3, 5) == b"34567"
        monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, (size + 1) // 2, offset))
        assert file.read(3, 5) == b"34567"
        with pytest.raises(Fault, match=r"\[changed, ") as caught:
            file.read(3, 8)
    assert fault_of(caught.value) == ("changed", "FILE-22", 3)


def test_file_24_an_error_of_reading_has_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, size: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        decode_bytes(snapshot(ONE), tmp_path)
    assert fault_of(caught.value) == ("io-error", "FILE-24", 0)
    assert caught.value.path == str(tmp_path / "snapshot")
