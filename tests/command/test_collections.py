"""Collections by streaming: records are sorted in runs, and no collection is held as a whole. [COLL-22]"""

import math
import struct
import tracemalloc
from pathlib import Path

import pytest
from collection_stores import text_field
from command_runs import decode_in_memory as decode_by_command
from ekvdump.engine import collection_index, collection_reader, run_sorter, spool
from ekvdump.engine.collection_reader import Collection, decode_plain_element, is_score
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.record_index import HEAD_SIZE
from ekvdump.engine.run_sorter import RunSorter
from ekvdump.engine.source import SnapshotFile
from ekvdump.run import decode
from ekvformat.decode import NO_OPTIONS
from ekvformat.decode import decode as decode_in_memory
from ekvformat.outcomes import Fault
from ekvformat.redis_streams import StreamElement, decode_element
from ekvformat.visibility import Record
from hypothesis import example, given
from hypothesis import strategies as st
from in_process import read_tree
from large_collections import LAYOUTS
from writer import Entry, put, snapshot


@pytest.fixture
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all that is kept in memory small, so that few elements are many."""
    monkeypatch.setattr(collection_index, "KEPT_SIZE", 4096)
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


TEXTS = st.text(max_size=200).map(str.encode)
TAGGED_TEXTS = st.builds(text_field, st.sampled_from([1, 2, 2, 2, 3]), TEXTS | st.binary(max_size=20))
ELEMENT_BODIES = st.builds(
    lambda parts: b"\0RXE\1" + b"".join(parts), st.lists(TAGGED_TEXTS | st.binary(max_size=3), max_size=6)
)


def by_reference(body: bytes) -> StreamElement | None:
    """Decode the body of an element; return None if it cannot be read."""
    try:
        return decode_element(Record(b"k", body, 0))
    except Fault as fault:
        assert fault.name == "invalid-value"
        return None


@given(ELEMENT_BODIES | st.binary(max_size=12))
@example(b"\0RXE\1\x0a\x83\0abc")
@example(b"\0RXE\1\x0a\x80\x80\0")
@example(b"\0RXE\1\x0a\x83\x80" + b"a" * 16_387)
@example(b"\0RXE\1\x0a\x80")
@example(b"\0RXE\1\x0a\1")
def test_rstm_6_what_is_decoded_at_a_glance_is_what_the_reference_decodes(body: bytes) -> None:
    found = decode_plain_element(body)
    assert found is None or found == by_reference(body)


@given(TEXTS, st.lists(st.tuples(TEXTS, TEXTS)))
@example(b"1-0", [(b"n" * 127, b"v" * 128), (b"", b"v" * (2**14 - 1))])
def test_rstm_6_elements_as_servers_write_them_are_decoded_at_a_glance(
    id_: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    texts = [text_field(1, id_), *(text_field(2, text) for pair in fields for text in pair)]
    assert decode_plain_element(b"\0RXE\1" + b"".join(texts)) == StreamElement(id_, fields)


@pytest.mark.parametrize(
    ("body", "is_sound"),
    [(bytes(8), True), (struct.pack(">d", math.inf), True), (struct.pack(">d", math.nan), False),
     (bytes(7), False), (bytes(9), False)],
)  # fmt: skip
def test_rzse_1_a_score_is_judged_at_a_glance(body: bytes, is_sound: bool) -> None:
    assert is_score(body[:HEAD_SIZE], len(body)) is is_sound


@pytest.mark.parametrize(
    ("message", "detail"),
    [(b"\x0a", "only 0 of 1 bytes of the size are there"), (b"\x0a\5ab", "only 2 of 5 bytes of the value are there"),
     (b"\x0a" + b"\xff" * 9 + b"\2", "the size is too large")],
)  # fmt: skip
def test_coll_11_a_cut_field_of_a_packed_record_is_described_as_by_the_reference(message: bytes, detail: str) -> None:
    data = snapshot([put(b"!redis|set|k", 1, b"\0RS\1" + message)])
    with pytest.raises(Fault) as by_command:
        decode_by_command(data, NO_OPTIONS)
    with pytest.raises(Fault) as by_reference:
        decode_in_memory(data)
    assert vars(by_command.value) == vars(by_reference.value)
    assert by_command.value.detail == detail


def test_file_22_an_element_that_is_no_longer_what_was_judged_is_refused(tmp_path: Path) -> None:
    entries = LAYOUTS["stream"](2)
    data = snapshot(entries)
    (tmp_path / "snapshot").write_bytes(data)
    with SnapshotFile(str(tmp_path / "snapshot")) as source:
        first_pass = run_first_pass(source)
        (group,) = first_pass.collections.iter_groups()
        collection = Collection(source, group, None)
        # The tag of the last field of the second element, behind the head by which a body is known again.
        at = data.index(b"\x12\5value", data.index(b"value") + 5)
        (tmp_path / "snapshot").write_bytes(data[:at] + b"\x16" + data[at + 1 :])
        with pytest.raises(Fault) as caught:
            list(collection.iter_pieces())
        collection.close()
        first_pass.close()
    body_at = data.rindex(b"\0RXE\1")
    assert (caught.value.name, caught.value.clause, caught.value.offset) == ("changed", "FILE-22", body_at)
    assert caught.value.path == str(tmp_path / "snapshot")


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
