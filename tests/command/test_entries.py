"""Chapter FILE: the snapshot file."""

import os
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from command_runs import MemorySource, decode_bytes, decode_in_memory, fault_of, refusal
from ekvdump.engine import first_pass
from ekvdump.engine.entries import VALUE_HEAD_SIZE, decode_start, iter_entries
from ekvdump.engine.source import WINDOW_SIZE, ProgressSource, SnapshotFile
from ekvdump.engine.versions import Record
from ekvdump.run import decode
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import decode_snapshot_name, identity_of
from in_process import read_tree
from real import REAL_SHAPED
from sessions import Meddler
from writer import (
    HEADER_V1,
    STR,
    Entry,
    encoded_entry,
    envelope,
    footer,
    header_v2,
    operational,
    payload_start,
    put,
    snapshot,
)

MAX_KEY = 1_048_584
MAX_VALUE = 268_435_499
MAGICS = (b"EKVTHLC1", b"EKVTHLC2", b"EKVPBBL1", b"EKVSSTI1")
ONE = [put(STR + b"a", 5, b"hi")]
SHOWN = {"redis/db_0/strings/a.bin": b"hi"}


def shown(data: bytes) -> dict[str, bytes]:
    return decode_in_memory(data)[1]


def warnings(data: bytes) -> list[str]:
    return [warning.name for warning in decode_in_memory(data)[0].warnings]


def sealed(before: bytes) -> bytes:
    return before + footer(before)


def entries_of(data: bytes) -> list[tuple[bytes, int]]:
    source = MemorySource(data)
    start = decode_start(source)
    return [(entry.key, entry.value_size) for entry in iter_entries(source, start.entries_offset, source.size)]


# ---- header ----


def test_file_1_a_version_1_header_stands_before_the_payload_part() -> None:
    assert shown(snapshot(ONE, header=HEADER_V1)) == SHOWN
    assert warnings(snapshot(ONE, header=HEADER_V1)) == []


@pytest.mark.parametrize("extension", [b"", b"\0", b"EKVPBBL1", bytes(1008)])
def test_file_2_file_25_a_version_2_header_says_its_size_and_the_rest_of_it_is_skipped(extension: bytes) -> None:
    assert shown(snapshot(ONE, header=header_v2(extension))) == SHOWN


@pytest.mark.parametrize("size", [0, 15, 1025, 0xFFFF])
def test_file_3_a_version_2_size_out_of_bounds_is_refused(size: int) -> None:
    data = snapshot(ONE, header=header_v2(bytes(1009), size=size))
    assert refusal(data) == ("bad-header", "FILE-3", 8, None)


@pytest.mark.parametrize("version", [b"0", b"3", b"\0", b"\xff"])
def test_file_4_a_header_of_another_version_is_unsupported(version: bytes) -> None:
    data = snapshot(ONE, header=b"EKVTHLC" + version + bytes(8))
    assert refusal(data) == ("unsupported", "FILE-4", 7, None)


# ---- payload part ----


def test_file_5_the_payload_part_gives_the_last_commit() -> None:
    start = decode_start(MemorySource(payload_start(0x0102030405060708)))
    assert start == (None, 0x0102030405060708, 16)


@pytest.mark.parametrize("header", [b"", HEADER_V1, header_v2(b"more")])
def test_file_6_an_ingest_stream_is_unsupported(header: bytes) -> None:
    assert refusal(header + b"EKVSSTI1" + bytes(16)) == ("unsupported", "FILE-6", len(header), None)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"X", 0),
        (b"EKVX", 0),
        (b"EKVPBBL2" + bytes(8), 0),
        (b"EKVPBBL", -1),
        (HEADER_V1 + b"EKVPBBLX" + bytes(8), 16),
        (HEADER_V1 + HEADER_V1 + payload_start(1), 16),
        (HEADER_V1 + b"EKVT", 16),
        (header_v2() + b"Z", 26),
    ],
)
def test_file_7_any_other_magic_is_refused(data: bytes, offset: int) -> None:
    if offset < 0:
        assert refusal(data)[0] == "truncated", "a proper prefix of a magic is cut, not wrong [FILE-26]"
    else:
        assert refusal(data) == ("bad-magic", "FILE-7", offset, None)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        *((start, 0) for start in sorted({magic[:size] for magic in MAGICS for size in range(8)})),
        (HEADER_V1[:8], 8),
        (HEADER_V1[:15], 8),
        (HEADER_V1, 16),
        (HEADER_V1 + b"EKVPBBL", 16),
        (header_v2()[:8], 8),
        (header_v2()[:9], 8),
        (header_v2()[:10], 10),
        (header_v2()[:25], 10),
        (header_v2(), 26),
        (b"EKVPBBL1", 8),
        (b"EKVPBBL1" + bytes(7), 8),
        (HEADER_V1 + b"EKVPBBL1" + bytes(7), 24),
    ],
)
def test_file_8_file_26_a_start_that_is_cut_is_truncated_at_the_field(data: bytes, offset: int) -> None:
    assert refusal(data) == ("truncated", "FILE-8", offset, None)


# ---- entries ----


def test_file_9_entries_follow_one_another() -> None:
    data = snapshot([(b"a" * 8, b"v" * 9), (b"b" * 300, b""), (b"", b"x")], with_footer=False, header=b"")
    assert entries_of(data) == [(b"", 1), (b"a" * 8, 9), (b"b" * 300, 0)]


@pytest.mark.parametrize("window", [20, 64, 1000])
def test_file_21_the_window_does_not_change_what_is_read(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = entries_of(REAL_SHAPED)
    monkeypatch.setattr("ekvdump.engine.entries.WINDOW_SIZE", window)
    assert entries_of(REAL_SHAPED) == whole
    assert shown(REAL_SHAPED) == decode_in_memory(REAL_SHAPED)[1]


def sized(key_size: int, value_size: int, there: bytes = b"") -> bytes:
    """A snapshot whose one entry claims sizes; the value size stands behind the whole key."""
    key = bytes(key_size) if key_size <= MAX_KEY else b""
    return payload_start(9) + struct.pack("<Q", key_size) + key + struct.pack("<Q", value_size) + there


@pytest.mark.parametrize(("key_size", "refused"), [(MAX_KEY, False), (MAX_KEY + 1, True), (2**63, True)])
def test_file_10_the_limit_of_a_key(key_size: int, refused: bool) -> None:
    data = sized(key_size, 9, bytes(9))
    if refused:
        assert refusal(data) == ("too-large", "FILE-10", 16, None)
    else:
        assert decode_in_memory(data)[0].counters.entries["future"] == 1


@pytest.mark.parametrize("value_size", [MAX_VALUE, MAX_VALUE + 1, 2**64 - 1])
def test_file_11_the_limit_of_a_value(value_size: int) -> None:
    # At the limit the bytes are missed instead: the limit comes first. [FILE-12]
    at_limit = ("truncated", "FILE-13", 40, None)
    above = ("too-large", "FILE-11", 32, None)
    assert refusal(sized(8, value_size)) == (at_limit if value_size == MAX_VALUE else above)


def test_file_12_nothing_is_read_for_a_size_that_cannot_be(tmp_path: Path) -> None:
    for claim in (MAX_KEY, MAX_KEY + 1, 2**63, 2**64 - 1):
        source = MemorySource(payload_start(9) + struct.pack("<Q", claim))
        with pytest.raises(Fault):
            list(iter_entries(source, 16, source.size))
        assert source.most_at_once <= 24
    with pytest.raises(Fault) as caught:
        decode_bytes(payload_start(9) + struct.pack("<Q", 2**63), tmp_path)
    assert fault_of(caught.value) == ("too-large", "FILE-10", 16)


@pytest.mark.parametrize(
    ("left", "offset"),
    [(1, 16), (3, 16), (5, 16), (7, 16), (8, 24), (17, 24), (18, 34), (25, 34), (26, 42), (36, 42)],
)
def test_file_13_an_entry_that_is_cut_is_truncated_at_the_field(left: int, offset: int) -> None:
    whole = encoded_entry((b"k" * 10, bytes(11)))
    assert len(whole) == 37
    assert refusal(payload_start(9) + whole[:left]) == ("truncated", "FILE-13", offset, None)


def test_file_13_with_a_footer_behind_it_a_cut_entry_is_still_truncated() -> None:
    whole = encoded_entry((b"k" * 10, bytes(11)))
    assert refusal(sealed(HEADER_V1 + payload_start(9) + whole[:-9])) == ("truncated", "FILE-13", 58, None)


@pytest.mark.parametrize("second", [b"b" * 8, b"a" * 9, b"b" * 7])
def test_file_14_keys_ascend_strictly(second: bytes) -> None:
    first = b"b" * 8
    data = payload_start(9) + encoded_entry((first, bytes(9))) + encoded_entry((second, bytes(9)))
    assert refusal(data) == ("out-of-order", "FILE-14", 16 + 8 + 8 + 8 + 9, second)


def test_file_14_order_is_bytewise_and_a_prefix_comes_first() -> None:
    keys = [b"\x7f" * 8, b"\x7f" * 8 + b"\0", b"\x80" * 8, b"\xff" * 9]
    data = payload_start(9) + b"".join(encoded_entry((key, bytes(9))) for key in keys)
    assert [key for key, _ in entries_of(data)] == keys


# ---- footer ----


def test_file_15_exactly_four_bytes_left_are_a_footer() -> None:
    bare = snapshot(ONE, header=b"", with_footer=False)
    assert shown(bare) == SHOWN
    assert shown(sealed(bare)) == SHOWN
    assert refusal(bare + bytes(4)) == ("footer-mismatch", "FILE-16", len(bare), None)
    assert refusal(bare + bytes(3)) == ("truncated", "FILE-13", len(bare), None)


@pytest.mark.parametrize("header", [b"", HEADER_V1, header_v2(b"extension")])
def test_file_16_a_footer_covers_every_byte_before_it(header: bytes) -> None:
    data = snapshot(ONE, header=header)
    assert google_crc32c.value(b"123456789") == 0xE306_9283, "the check value of CRC-32C"
    assert shown(data) == SHOWN
    for place in (len(data) - 5, len(data) - 1, *((9,) if header else ())):
        damaged = bytearray(data)
        damaged[place] ^= 1
        name, clause, offset, _ = refusal(bytes(damaged))
        if header and place == 9 and len(header) > 16:
            assert (name, clause) == ("bad-magic", "FILE-7"), "the size field moved the payload part"
        else:
            assert (name, clause, offset) == ("footer-mismatch", "FILE-16", len(data) - 4)


@pytest.mark.parametrize("window", [64, 100, 256 * 1024])
def test_file_16_the_footer_is_judged_whatever_the_window(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekvdump.engine.entries.WINDOW_SIZE", window)
    entries = [*ONE, put(STR + b"long", 5, bytes(range(256)) * 4), put(STR + b"z", 5, b"x" * 300)]
    data = snapshot(entries)
    assert len(shown(data)) == 3
    assert refusal(data[:-1] + bytes((data[-1] ^ 1,)))[1] == "FILE-16"


@pytest.mark.parametrize("header", [HEADER_V1, header_v2()])
def test_file_17_a_header_demands_a_footer(header: bytes) -> None:
    data = snapshot(ONE, header=header, with_footer=False)
    assert refusal(data) == ("truncated", "FILE-17", len(data), None)


def test_file_18_a_bare_payload_part_is_decoded_with_a_warning() -> None:
    data = snapshot(ONE, header=b"", with_footer=False)
    assert shown(data) == SHOWN
    assert warnings(data) == ["no-footer"]
    assert warnings(snapshot(ONE, header=b"")) == []


@pytest.mark.parametrize("header", [HEADER_V1, header_v2(b"x")])
def test_file_17_every_cut_of_a_real_shaped_snapshot_is_a_typed_refusal(header: bytes) -> None:
    data = sealed(header + REAL_SHAPED[16:-4])
    assert shown(data) == shown(REAL_SHAPED)
    for size in range(len(data)):
        name, clause, offset, _ = refusal(data[:size])
        # Four bytes left of a longer field look like a footer, and a wrong one.
        assert (name, clause) in (
            ("truncated", "FILE-8"),
            ("truncated", "FILE-13"),
            ("truncated", "FILE-17"),
            ("footer-mismatch", "FILE-16"),
        )
        assert offset is not None
        assert offset <= size


# ---- reading ----


@pytest.mark.parametrize("window", range(8, 100))
def test_file_21_each_entry_comes_with_the_head_of_its_value_wherever_windows_end(
    monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("ekvdump.engine.entries.WINDOW_SIZE", window)
    data = snapshot([put(STR + bytes((size,)), 5, bytes(range(size)), expire_at=2**64 - 1) for size in range(40)])
    source = MemorySource(data)
    found = list(iter_entries(source, decode_start(source).entries_offset, source.size))
    assert len(found) == 40
    for entry in found:
        head = data[entry.value_offset : entry.value_offset + min(entry.value_size, VALUE_HEAD_SIZE)]
        assert entry.value_head == head


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"EKVTHLC1" + bytes(3), "ceiling_ms is cut: 3 of 8 bytes are there"),
        (b"EKVTHLC2\0", "header size is cut: 1 of 2 bytes are there"),
        (b"EKVTHLC2" + struct.pack(">H", 20) + bytes(4), "header fields is cut: 4 of 20 bytes are there"),
        (b"EKVPBBL1" + bytes(5), "last commit is cut: 5 of 8 bytes are there"),
        (b"EKVTHLC3" + bytes(9), "the version of the header is not known"),
        (b"123456789", "neither a header nor a payload magic: b'12345678'"),
        (payload_start(1) + struct.pack("<Q", 9) + bytes(12), "cut inside value size: 3 of 8 bytes are there"),
        (payload_start(1) + struct.pack("<Q9xQ", 9, 30) + bytes(12), "cut inside value: 12 of 30 bytes are there"),
    ],
)
def test_file_13_what_is_cut_is_reported_in_words(data: bytes, words: str) -> None:
    with pytest.raises(Fault) as caught:
        decode_in_memory(data)
    assert caught.value.detail == words


def test_file_19_a_fault_at_the_end_comes_before_the_first_output(tmp_path: Path) -> None:
    entries: list[Entry] = [*ONE, (b"zzz", bytes(9))]
    for data in (snapshot(entries), snapshot(ONE) + b"x", snapshot(ONE)[:-1] + b"\0"):
        with pytest.raises(Fault):
            decode_bytes(data, tmp_path)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["cut", "touched", "replaced", "removed", "grown"])
@pytest.mark.parametrize("at", [1, 4])
def test_file_20_a_snapshot_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, at: int
) -> None:
    # An inode that is freed may be given out again at once; one that is held is not.
    snapshot_path = tmp_path / "snapshot"
    Meddler(monkeypatch, at, what, snapshot_path)
    with pytest.raises(Fault, match=r"^changed") as caught:
        decode_bytes(snapshot(ONE), tmp_path)
    assert caught.value.clause == "FILE-20"
    assert caught.value.detail
    assert caught.value.path == str(snapshot_path)
    left = read_tree(tmp_path / "out")
    assert "MANIFEST.json" not in left
    assert "CHECKSUMS" not in left


class Rewriter:
    """Rewrites bytes of the snapshot when the second pass begins, so that size, inode and time stay as they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, offset: int, data: bytes) -> None:
        self._path, self._offset, self._data = path, offset, data
        monkeypatch.setattr("ekvdump.engine.outputs.iter_section", self._rewritten)

    def _rewritten(self, *arguments: Any) -> Iterator[Record]:
        status = self._path.stat()
        with self._path.open("r+b") as file:
            file.seek(self._offset)
            file.write(self._data)
        os.utime(self._path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return first_pass.iter_section(*arguments)


@pytest.mark.parametrize("hole", [(32, 8), (40, 20), (60, 8), (68, 1), (69, 8), (60, 40)])
@pytest.mark.parametrize("filler", [b"\0", b"\1", b"\xff"])
def test_file_20_nothing_that_was_judged_is_taken_for_granted_in_the_second_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hole: tuple[int, int], filler: bytes
) -> None:
    Rewriter(monkeypatch, tmp_path / "snapshot", hole[0], filler * hole[1])
    try:
        decode_bytes(snapshot([put(STR + b"a", 5, b"hi"), put(STR + b"b", 5, b"ho")]), tmp_path)
    except Fault as fault:
        assert (fault.name, fault.clause) == ("changed", "FILE-20")


def test_what_is_read_is_reported_to_who_watches() -> None:
    reported: list[tuple[str, int, int]] = []
    source = MemorySource(b"0123456789")
    watched = ProgressSource(source, lambda stage, done, total: reported.append((stage, done, total)))
    assert watched.size == 10
    assert watched.read(2, 3) == b"234"
    assert reported == [("bytes", 5, 10)]


def test_file_21_what_lies_between_is_read_in_windows() -> None:
    source = MemorySource(snapshot([put(STR + b"a", 5, bytes(3_000_000)), put(STR + b"b", 5, b"")]))
    first_pass.run_first_pass(source)
    assert source.most_at_once <= WINDOW_SIZE


def test_file_21_memory_is_twice_the_largest_value(tmp_path: Path) -> None:
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
        with pytest.raises(Fault, match=r"^io-error"):
            SnapshotFile(str(tmp_path / "fifo"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_20_a_file_on_another_device_is_another_file() -> None:
    one = os.stat("/proc/self/stat")
    assert identity_of(one) == (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns)


def test_file_20_a_short_read_goes_on_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 3), offset))
    outcome = decode_bytes(snapshot(ONE), tmp_path)
    assert outcome.complete
    assert read_tree(tmp_path / "out")["redis/db_0/strings/a.bin"] == b"hi"


def test_file_22_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing"):
        with pytest.raises(Fault, match=r"^io-error") as caught:
            SnapshotFile(str(path))
        assert fault_of(caught.value) == ("io-error", "FILE-22", None)
        assert caught.value.path == str(path)
    assert caught.value.detail == "cannot open the snapshot: No such file or directory"
    with pytest.raises(Fault, match=r"^io-error") as caught:
        SnapshotFile("a\0b")
    assert caught.value.detail == "cannot open the snapshot: embedded null byte"


def test_file_22_a_file_that_cannot_be_closed_was_read_all_the_same(tmp_path: Path) -> None:
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
        with pytest.raises(Fault, match=r"^changed") as caught:
            file.read(3, 8)
    assert fault_of(caught.value) == ("changed", "FILE-20", 3)


def test_file_22_an_error_of_reading_has_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, size: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(Fault, match=r"^io-error") as caught:
        decode_bytes(snapshot(ONE), tmp_path)
    assert fault_of(caught.value) == ("io-error", "FILE-22", 0)
    assert caught.value.path == str(tmp_path / "snapshot")


# ---- name ----


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("0000000000002710.fsm", 10_000),
        ("/somewhere/00000000000009d0.fsm", 0x9D0),
        ("ffffffffffffffff.fsm", 2**64 - 1),
        ("0000000000000000.fsm", 0),
        ("00000000000009D0.fsm", None),
        ("9d0.fsm", None),
        ("00000000000009d0.fsm.xz", None),
        ("x00000000000009d0.fsm", None),
        ("00000000000009d0xfsm", None),
        ("00000000000009d0.fsm\n", None),
        ("snapshot", None),
    ],
)
def test_file_23_the_name_gives_the_applied_index_in_hex(name: str, index: int | None) -> None:
    assert decode_snapshot_name(name) == index


@pytest.mark.parametrize(
    ("name", "row", "given"),
    [(f"{4:016x}.fsm", 5, True), (f"{5:016x}.fsm", 5, False), (f"{16:016x}.fsm", 11, False), ("other", 5, False)],
)
def test_file_24_a_name_behind_the_files_own_index_is_a_warning(
    tmp_path: Path, name: str, row: int, given: bool
) -> None:
    outcome = decode_bytes(snapshot([*ONE, operational(b"_meta_applied_index", row)]), tmp_path, name=name)
    assert [warning.name for warning in outcome.warnings] == (["index-behind"] if given else [])
    if given:
        assert outcome.warnings[0].detail == "the applied index in the file's name is below the one in the file"
