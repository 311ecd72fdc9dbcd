"""Versions and open keys of the engine. [VISI]"""

import struct
from contextlib import closing

from command_runs import MemorySource, decode_in_memory
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.merge_join import precedes
from ekvdump.engine.versions import OpenKeys, Versions, find_header_fault, first_suffix_shown
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
        assert find_header_fault((0, key, 0, len(value), value[:9])) is None


def test_visi_17_a_key_comes_after_all_its_extensions() -> None:
    keys = [b"", b"a", b"a\xff\xff", b"ab", b"a\0", b"b", b"\xff", b"\xff\xff"]
    entries = [(STR + key + version_suffix(ts), struct.pack("<BQ", 0, 0)) for key in keys for ts in (1, 2**63)]
    data = snapshot(sorted(entries), last_commit=2**64 - 1)
    with closing(run_first_pass(MemorySource(data))) as found:
        order = [record.user_key for record in found.records["string"]]
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
    versions = Versions(2**64 - 1)
    for size in range(100):
        versions.classify((0, b"\xff" * (size + 8), 0, 12, bytes(9) + b"abc"))
    assert not versions.closed
    versions.close()
    assert list(versions.take_records()) == [(b"\xff" * size, (9, 3, b"abc")) for size in range(99, -1, -1)]
