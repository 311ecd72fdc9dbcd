"""Sorting more than memory holds. [SUMS-6] [VERI-17]"""

import random
import tempfile
import tracemalloc
from typing import BinaryIO

import pytest
from ekvdump import sorting
from ekvdump.sorting import Sorter
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.one_of(
    st.binary(max_size=6), st.lists(st.sampled_from([b"\t", b"\n", b"\x08", b"\x0b", b"\1", b"\2"])).map(b"".join)
).map(lambda key: key.replace(b"\0", b"\1"))
NOTES = st.sampled_from([b"", b"a", b"b"])


def unnamed() -> BinaryIO:
    return tempfile.TemporaryFile()


@given(st.lists(st.tuples(KEYS, NOTES), max_size=40))
def test_records_come_in_order_of_their_keys_and_then_notes(records: list[tuple[bytes, bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "RUN_LINES", 4)
        patch.setattr(sorting, "MAX_RUNS", 2)
        sorter = Sorter(unnamed)
        for key, note in records:
            sorter.add(key, note)
        assert list(sorter) == sorted(records)
        assert list(sorter) == sorted(records), "as often as asked"
        sorter.close()
        assert list(sorter) == []


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 1000])
def test_sums_6_few_runs_are_open_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_LINES", 10)
    monkeypatch.setattr(sorting, "MAX_RUNS", 3)
    dice = random.Random(count)
    keys = [b"%d" % dice.randrange(10**6) for _ in range(count)]
    sorter = Sorter(unnamed)
    for key in keys:
        sorter.add(key, b"note")
        assert len(sorter._runs) <= 4
    assert [key for key, _ in sorter] == sorted(keys)
    sorter.close()


def test_sums_6_veri_17_memory_does_not_grow_with_the_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_LINES", 256)
    peaks = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        sorter = Sorter(unnamed)
        for number in range(count):
            sorter.add(b"%032d" % (number * 7919 % count), b"x" * 64)
        assert sum(1 for _ in sorter) == count
        sorter.close()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 500_000
