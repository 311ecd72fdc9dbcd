"""Collections by streaming: records are sorted in runs, and no collection is held as a whole. [COLL-22]"""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from collection_stores import sized, text_field
from ekvdump.engine import collection_reader, run_sorter, spool
from ekvdump.engine.run_sorter import RunSorter
from ekvdump.run import decode
from ekvformat.decode import decode as decode_in_memory
from hypothesis import given
from hypothesis import strategies as st
from in_process import read_tree
from writer import Entry, put, snapshot

USER_KEY = sized(b"k")
Layout = Callable[[int], list[Entry]]


def items(count: int) -> list[Entry]:
    meta = struct.pack(">qqQ", 0, count, count)
    elements = [put(b"!lst|itm|k" + struct.pack(">Q", n + 2**63), 1, b"item %d" % n) for n in range(count)]
    return [*elements, put(b"!lst|meta|k", 1, meta)]


def stream_elements(count: int) -> list[Entry]:
    meta = struct.pack(">QQQ", count, count, 0)
    body = b"\0RXE\1" + text_field(1, b"1-0") + text_field(2, b"name") + text_field(2, b"value")
    elements = [put(b"!stream|entry|" + USER_KEY + struct.pack(">QQ", n, 0), 1, body) for n in range(count)]
    return [*elements, put(b"!stream|meta|" + USER_KEY, 1, meta)]


def wide(prefix: bytes, body: bytes) -> Layout:
    """Return what makes the elements of a hash, a set or a zset, and a delta for each."""
    delta = prefix[: prefix.index(b"|") + 1] + b"meta|d|" + USER_KEY
    return lambda count: [
        entry
        for n in range(count)
        for entry in (
            put(prefix + USER_KEY + b"element %06d" % n, 1, body),
            put(delta + struct.pack(">QI", n, 0), 1, bytes(8)),
        )
    ]


def packed(type_: bytes, magic: bytes, more: bytes) -> Layout:
    """Return what makes a packed record whose elements are in no order."""

    def made(count: int) -> list[Entry]:
        names = [text_field(1, b"element %06d" % (n * 7919 % count)) for n in range(count)]
        fields = names if type_ == b"set" else [text_field(1, name + more) for name in names]
        return [put(b"!redis|" + type_ + b"|k", 1, magic + b"".join(fields))]

    return made


LAYOUTS: dict[str, Layout] = {
    "hash": wide(b"!hs|fld|", b"value"), "set": wide(b"!st|mem|", b""), "zset": wide(b"!zs|mem|", bytes(8)),
    "list": items, "stream": stream_elements,
    "packed hash": packed(b"hash", b"\0RH\1", text_field(2, b"value")), "packed set": packed(b"set", b"\0RS\1", b""),
    "packed zset": packed(b"zset", b"\0RZ\1", b"\x11" + bytes(8)),
}  # fmt: skip


@pytest.fixture
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all that is kept in memory small, so that few elements are many."""
    monkeypatch.setattr(run_sorter, "RUN_RECORDS", 512)
    monkeypatch.setattr(run_sorter, "MIN_WINDOW_SIZE", 512)
    monkeypatch.setattr(run_sorter, "WINDOWS_SIZE", 4096)
    monkeypatch.setattr(spool, "SPOOL_SIZE", 4096)
    monkeypatch.setattr(spool, "BATCH_SIZE", 4096)
    monkeypatch.setattr(collection_reader, "PIECE_SIZE", 4096)


def peak_of(directory: Path, entries: list[Entry]) -> int:
    """Return the most bytes that a decode had allocated at once."""
    directory.mkdir()
    (directory / "snapshot").write_bytes(snapshot(entries))
    del entries
    tracemalloc.start()
    try:
        decode(str(directory / "snapshot"), str(directory / "out"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("_small_runs")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_coll_22_memory_does_not_grow_with_the_number_of_elements(tmp_path: Path, layout: str) -> None:
    few, many = (peak_of(tmp_path / str(count), LAYOUTS[layout](count)) for count in (8_000, 14_000))
    # An element that is held takes more than a hundred bytes: its name, its value and a place in a list.
    assert many < few + 6_000 * 50


@pytest.mark.usefixtures("_small_runs")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_coll_21_spilled_runs_come_out_as_if_all_had_been_in_memory(tmp_path: Path, layout: str) -> None:
    data = snapshot(LAYOUTS[layout](2_000))
    (tmp_path / "snapshot").write_bytes(data)
    decode(str(tmp_path / "snapshot"), str(tmp_path / "out"))
    found = {name: text for name, text in read_tree(tmp_path / "out").items() if name.startswith("redis")}
    assert found == decode_in_memory(data).blobs


PIECES = st.binary(max_size=12)


@given(st.lists(st.tuples(PIECES, PIECES), max_size=40))
def test_records_are_sorted_whatever_the_size_of_a_run(records: list[tuple[bytes, bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_sorter, "RUN_RECORDS", 4)
        patch.setattr(run_sorter, "MIN_WINDOW_SIZE", 9)
        patch.setattr(run_sorter, "WINDOWS_SIZE", 9)
        patch.setattr(spool, "SPOOL_SIZE", 16)
        sorter = RunSorter()
        for key, tail in records:
            sorter.add(key, tail)
        assert list(sorter) == sorted(records)
        assert list(sorter) == sorted(records), "as often as asked"
        sorter.close()
