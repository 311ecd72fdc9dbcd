"""Sorting more than memory holds. [SUMS-6] [VERI-20]"""

import os
import random
import tracemalloc
from io import FileIO

import pytest
from ekvdump.filesystem import external_sort
from ekvdump.filesystem.external_sort import Sorter, open_temporary
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.one_of(
    st.binary(max_size=6), st.lists(st.sampled_from([b"\t", b"\n", b"\x08", b"\x0b", b"\1", b"\2"])).map(b"".join)
).map(lambda key: key.replace(b"\0", b"\1"))
NOTES = st.sampled_from([b"", b"a", b"b"])


@given(st.lists(st.tuples(KEYS, NOTES), max_size=40))
def test_records_come_in_order_of_their_keys_and_then_notes(records: list[tuple[bytes, bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_sort, "RUN_LINES", 4)
        patch.setattr(external_sort, "MAX_RUNS", 2)
        sorter = Sorter(open_temporary)
        for key, note in records:
            sorter.add(key, note)
        assert list(sorter) == sorted(records)
        assert list(sorter) == sorted(records), "as often as asked"
        sorter.close()
        assert list(sorter) == []


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 1000])
def test_sums_6_few_runs_are_open_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "RUN_LINES", 10)
    monkeypatch.setattr(external_sort, "MAX_RUNS", 3)
    dice = random.Random(count)
    keys = [b"%d" % dice.randrange(10**6) for _ in range(count)]
    sorter = Sorter(open_temporary)
    for key in keys:
        sorter.add(key, b"note")
        assert len(sorter._runs) <= 4
    assert [key for key, _ in sorter] == sorted(keys)
    sorter.close()


def test_sums_6_veri_20_memory_does_not_grow_with_the_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "RUN_LINES", 256)
    monkeypatch.setattr(external_sort, "BATCH_SIZE", 6400)
    peaks = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        sorter = Sorter(open_temporary)
        for number in range(count):
            sorter.add(b"%032d" % (number * 7919 % count), b"x" * 64)
        assert sum(1 for _ in sorter) == count
        sorter.close()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 500_000


def test_sums_6_a_run_is_written_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(external_sort, "RUN_LINES", 8)
    monkeypatch.setattr(external_sort, "BATCH_SIZE", 9)
    monkeypatch.setattr(external_sort, "write_all", lambda _, data: written.append(data.count(b"\n")))
    sorter = Sorter(open_temporary)
    for number in range(8):
        sorter.add(b"%d" % number, b"")
    sorter.close()
    assert written == [3, 3, 2]


def test_sums_6_what_is_held_is_some_megabytes() -> None:
    assert external_sort.RUN_SIZE < 16 * 1024 * 1024
    assert external_sort.BATCH_SIZE < 4 * 1024 * 1024
    assert 1 < external_sort.MAX_RUNS < 100, "so many files are open at once"


def test_veri_20_a_run_of_long_records_ends_by_its_size() -> None:
    sorter = Sorter(open_temporary)
    tracemalloc.start()
    for number in range(4000):
        sorter.add(b"%08d" % number + bytes(8000).replace(b"\0", b"x"), b"note")
    assert sum(1 for _ in sorter) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sorter.close()
    assert peak < 3 * external_sort.RUN_SIZE


def test_safe_28_a_run_that_cannot_be_written_is_an_error_at_once() -> None:
    class Full(FileIO):
        def fileno(self) -> int:
            return full

    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_sort, "RUN_LINES", 2)
        sorter = Sorter(lambda: Full(os.dup(full), "r+"))
        sorter.add(b"a", b"")
        with pytest.raises(OSError, match="No space left"):
            sorter.add(b"b", b"")
        sorter.close()
    os.close(full)
