"""Versions and open keys of the engine. [VISI]"""

import struct

import pytest
from command_runs import decode_in_memory, fault_of
from ekvdump.engine.entries import Entry as StoredEntry
from ekvdump.engine.merge_join import precedes
from ekvdump.engine.versions import OpenKeys, Record, find_header_fault, first_suffix_shown, iter_records
from ekvformat.outcomes import Fault
from hypothesis import given
from hypothesis import strategies as st
from model import canonical
from writer import STR, Entry, delete, put, snapshot, version_suffix


def entry_counts(entries: list[Entry], last_commit: int) -> dict[str, int]:
    counts = decode_in_memory(snapshot(entries, last_commit=last_commit))[0].counters.entries
    return {name: count for name, count in counts.items() if count}


@given(st.integers(0, 2**64 - 1), st.binary(max_size=12))
def test_visi_1_the_suffix_is_the_inverted_commit_timestamp(commit_ts: int, storage_key: bytes) -> None:
    assert first_suffix_shown(commit_ts) == version_suffix(commit_ts)
    entry = put(storage_key, commit_ts, b"")
    assert "future" not in entry_counts([entry], commit_ts)
    assert "future" not in entry_counts([entry], 2**64 - 1)
    if commit_ts:
        assert entry_counts([entry], commit_ts - 1) == {"future": 1}


def test_visi_6_sound_headers_are_no_fault() -> None:
    for key, value in (put(STR + b"k", 5, b"v"), delete(STR + b"k", 5)):
        assert find_header_fault(StoredEntry(0, key, 0, len(value), value[:9])) is None


def test_visi_17_a_key_comes_after_all_its_extensions() -> None:
    keys = [b"", b"a", b"a\xff\xff", b"ab", b"a\0", b"b", b"\xff", b"\xff\xff"]
    entries = [(STR + key + version_suffix(ts), struct.pack("<BQ", 0, 0)) for key in keys for ts in (1, 2**63)]
    records = iter_records(
        [StoredEntry(0, key, 0, len(value), value) for key, value in sorted(entries)], 2**64 - 1, lambda key: True
    )
    order = [record.storage_key[len(STR) :] for record in records]
    assert order == [b"a\0", b"ab", b"a\xff\xff", b"a", b"b", b"\xff\xff", b"\xff", b""]
    assert order == sorted(keys, key=canonical)


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_visi_17_precedes_is_that_order(key: bytes, other: bytes) -> None:
    assert precedes(key, other) == (canonical(key) < canonical(other))


def test_visi_21_an_open_key_is_a_size_and_not_a_copy() -> None:
    open_keys = OpenKeys()
    for size in range(1, 200):
        open_keys.advance(b"\xff" * (size + 8))
        open_keys.open(size, None)
    assert open_keys.current == b"\xff" * 207
    assert open_keys._sizes == list(range(1, 200))


def test_visi_21_a_chain_of_prefixes_leaves_one_by_one() -> None:
    entries = [StoredEntry(0, b"\xff" * (size + 8), 0, 9, bytes(9)) for size in range(100)]
    records = list(iter_records(entries, 2**64 - 1, lambda key: True))
    assert [len(record.storage_key) for record in records] == list(range(99, -1, -1))
    assert records[0] == Record(b"\xff" * 99, 9, 0)


@pytest.mark.parametrize(
    "entry", [StoredEntry(7, b"1234567", 0, 9, bytes(9)), StoredEntry(7, b"12345678", 0, 8, bytes(8))]
)
def test_file_22_an_entry_that_is_not_any_more_what_was_judged(entry: StoredEntry) -> None:
    with pytest.raises(Fault, match=r"\[changed, ") as caught:
        list(iter_records([entry], 2**64 - 1, lambda key: True))
    assert fault_of(caught.value) == ("changed", "FILE-22", 7)
    assert caught.value.detail
