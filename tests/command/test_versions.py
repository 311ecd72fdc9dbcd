"""Chapter VISI: from entries to visible records. The order is proved in test_properties.py."""

import json
import struct

import pytest
from command_runs import decode_in_memory, fault_of, refusal
from ekvdump.engine.entries import Entry as StoredEntry
from ekvdump.engine.merge_join import precedes
from ekvdump.engine.versions import OpenKeys, Record, find_header_fault, first_suffix_shown, iter_records
from ekvformat.conventions import Cursor
from ekvformat.outcomes import Fault
from hypothesis import given
from hypothesis import strategies as st
from model import canonical, segment_of
from writer import HLL, STR, TTL, Entry, delete, envelope, operational, put, snapshot, version_suffix, writers_row

VALUE_AT = 32 + 8 + 20 + 8
"""Where the value of the only entry stands, if its storage key has 12 bytes."""


def strings(entries: list[Entry], last_commit: int = 1000) -> dict[bytes, bytes]:
    files = decode_in_memory(snapshot(entries, last_commit=last_commit))[1]
    return {path.split("/")[-1].encode(): payload for path, payload in files.items()}


def entry_counts(entries: list[Entry], last_commit: int = 1000) -> dict[str, int]:
    counts = decode_in_memory(snapshot(entries, last_commit=last_commit))[0].counters.entries
    return {name: count for name, count in counts.items() if count}


# ---- entry headers ----


@pytest.mark.parametrize("size", range(8))
def test_visi_1_a_key_without_room_for_a_version_suffix_is_too_short(size: int) -> None:
    assert refusal(snapshot([(b"k" * size, bytes(9))])) == ("too-short", "VISI-1", 40, b"k" * size)


def test_visi_1_an_empty_storage_key_is_a_key() -> None:
    assert strings([put(b"", 5, b"of the empty key")]) == {b".bin": b"of the empty key"}


@given(st.integers(0, 2**64 - 1), st.binary(max_size=12))
def test_visi_1_the_suffix_is_the_inverted_commit_timestamp(commit_ts: int, storage_key: bytes) -> None:
    assert first_suffix_shown(commit_ts) == version_suffix(commit_ts)
    entry = put(storage_key, commit_ts, b"")
    assert (entry_counts([entry], commit_ts).get("future"), entry_counts([entry], 2**64 - 1).get("future")) == (
        None,
        None,
    )
    if commit_ts:
        assert entry_counts([entry], commit_ts - 1) == {"future": 1}


@pytest.mark.parametrize("size", range(9))
def test_visi_2_a_value_without_room_for_its_header_is_too_short(size: int) -> None:
    entry = (STR + b"k" + version_suffix(5), bytes(size))
    assert refusal(snapshot([entry])) == ("too-short", "VISI-2", VALUE_AT, STR + b"k")


def test_visi_2_a_body_may_be_empty() -> None:
    assert strings([put(STR + b"k", 5, b"")]) == {b"k.bin": b""}


@pytest.mark.parametrize("bit", range(3, 8))
@pytest.mark.parametrize("tombstone", [0, 1])
def test_visi_3_bits_3_to_7_are_reserved(bit: int, tombstone: int) -> None:
    data = snapshot([put(STR + b"k", 5, b"v", flags=1 << bit | tombstone)])
    assert refusal(data) == ("reserved-bits", "VISI-3", VALUE_AT, STR + b"k")


@pytest.mark.parametrize("state", [0b10, 0b11])
@pytest.mark.parametrize("tombstone", [0, 1])
def test_visi_4_encryption_states_10_and_11_are_reserved(state: int, tombstone: int) -> None:
    data = snapshot([put(STR + b"k", 5, b"v", flags=state << 1 | tombstone)])
    assert refusal(data) == ("reserved-bits", "VISI-4", VALUE_AT, STR + b"k")


@pytest.mark.parametrize("tombstone", [0, 1])
def test_visi_5_an_encrypted_entry_is_refused_a_tombstone_too(tombstone: int) -> None:
    data = snapshot([put(STR + b"k", 5, b"v", flags=0b10 | tombstone)])
    assert refusal(data) == ("encrypted", "VISI-5", VALUE_AT, STR + b"k")


@pytest.mark.parametrize(
    "hidden",
    [
        [put(STR + b"k", 9, b"new"), put(STR + b"k", 5, b"old", flags=0b10)],
        [put(STR + b"k", 2000, b"future", flags=0b10)],
        [put(b"!hs|fld|k", 5, b"v", flags=0b10)],
        [put(b"!txn|k", 5, b"v", flags=0b10)],
        [put(b"!nobody|", 5, b"v", flags=0b10)],
    ],
    ids=["history", "future", "undecoded", "internal", "unknown"],
)
def test_visi_6_headers_are_judged_whether_shown_or_not(hidden: list[Entry]) -> None:
    assert refusal(snapshot(hidden))[:2] == ("encrypted", "VISI-5")


def test_visi_6_sound_headers_are_no_fault() -> None:
    for key, value in (put(STR + b"k", 5, b"v"), delete(STR + b"k", 5)):
        assert find_header_fault(StoredEntry(0, key, 0, len(value), value[:9])) is None


def test_visi_6_headers_are_judged_in_order() -> None:
    # Bits 3 to 7 come before the encryption state, a short key before a short value.
    assert refusal(snapshot([put(STR + b"k", 5, b"v", flags=0b1010)]))[1] == "VISI-3"
    assert refusal(snapshot([(b"short", b"short")]))[1] == "VISI-1"


# ---- operational rows ----

META = ["_meta_last_commit_ts", "_meta_min_retained_ts", "_meta_pending_min_retained_ts", "_meta_applied_index"]


@pytest.mark.parametrize("name", META)
def test_visi_7_a_meta_row_of_eight_bytes_is_operational(name: str) -> None:
    assert entry_counts([operational(name.encode(), 2**64 - 1)]) == {"operational": 1}


@pytest.mark.parametrize("name", META)
@pytest.mark.parametrize("size", [7, 9])
def test_visi_10_a_meta_key_with_another_value_size_is_an_ordinary_entry(name: str, size: int) -> None:
    data = snapshot([(name.encode(), b"\0" * size)])
    if size == 7:
        assert refusal(data)[1] == "VISI-2"
    else:
        assert "operational" not in entry_counts([(name.encode(), bytes(9))])


@pytest.mark.parametrize("entry", [writers_row(), writers_row(b"||||", b"||"), writers_row(value=b"\xff" * 12)])
def test_visi_8_a_writers_row_is_operational_whatever_its_bytes(entry: Entry) -> None:
    assert entry_counts([entry]) == {"operational": 1}


@pytest.mark.parametrize(
    "entry",
    [
        writers_row(suffix=b"\0", value=bytes(12)),
        writers_row(suffix=b"\0\0\0", value=bytes(12)),
        writers_row(node=b"\0\0\0", suffix=b"\0\0\0", value=bytes(12)),
        (writers_row()[0][:24] + b"_" + writers_row()[0][25:], b"\0" * 12),
        (b"!encryption|writerz|" + writers_row()[0][20:], b"\0" * 12),
        writers_row(value=b"\0" * 11),
        writers_row(value=b"\0" * 13),
    ],
    ids=["26 bytes", "28 bytes", "bar too early", "no bar", "other name", "11 bytes", "13 bytes"],
)
def test_visi_10_a_key_that_only_resembles_a_writers_row_is_an_ordinary_entry(entry: Entry) -> None:
    assert "operational" not in entry_counts([entry], last_commit=2**64 - 1)


def test_visi_9_operational_rows_are_counted_and_skipped() -> None:
    entries = [operational(b"_meta_last_commit_ts", 7), writers_row(), put(STR + b"k", 5, b"v")]
    assert entry_counts(entries) == {"operational": 2, "string": 1}
    assert strings(entries) == {b"k.bin": b"v"}


def test_visi_9_a_key_with_a_version_suffix_is_data() -> None:
    assert strings([put(b"_meta_applied_index", 5, b"v")]) == {b"_meta_applied_index.bin": b"v"}


# ---- which version counts ----


def test_visi_11_the_newest_version_counts() -> None:
    entries = [put(STR + b"k", ts, b"at %d" % ts) for ts in (1, 300, 20)]
    assert strings(entries) == {b"k.bin": b"at 300"}
    assert entry_counts(entries) == {"history": 2, "string": 1}
    assert strings(entries, last_commit=299) == {b"k.bin": b"at 20"}


def test_visi_12_a_tombstone_deletes_whatever_came_before() -> None:
    entries = [put(STR + b"k", 1, b"alive"), delete(STR + b"k", 2)]
    assert strings(entries) == {}
    assert entry_counts(entries) == {"history": 1, "deleted": 1}
    assert strings([*entries, put(STR + b"k", 3, b"again")]) == {b"k.bin": b"again"}


@pytest.mark.parametrize(
    ("expire_at", "there"), [(0, True), (1, False), (99, False), (100, False), (101, True), (2**64 - 1, True)]
)
def test_visi_13_a_header_expiry_is_in_the_stores_clock(expire_at: int, there: bool) -> None:
    entries = [put(STR + b"k", 5, b"new", expire_at=expire_at), put(STR + b"k", 4, b"old")]
    assert strings(entries, last_commit=100) == ({b"k.bin": b"new"} if there else {})
    assert entry_counts(entries, last_commit=100) == {"history": 1, "string" if there else "expired": 1}


def test_visi_13_the_body_of_what_has_expired_is_not_judged() -> None:
    assert strings([put(STR + b"k", 5, b"\xff\x01", expire_at=7)]) == {}


def test_visi_14_a_version_above_the_last_commit_hides_nothing() -> None:
    entries = [put(STR + b"k", 101, b"future"), put(STR + b"k", 100, b"present"), delete(STR + b"x", 2000)]
    outcome, files = decode_in_memory(snapshot(entries, last_commit=100))
    assert files == {"redis/db_0/strings/k.bin": b"present"}
    assert [(warning.name, warning.count) for warning in outcome.warnings] == [("future-version", 2)]
    assert outcome.complete


def test_visi_15_versions_belong_together_wherever_they_stand() -> None:
    between = STR + b"a" + version_suffix(20) + b"b"
    entries = [put(STR + b"a", 30, b"new"), put(between, 10, b"x"), delete(STR + b"a", 10)]
    assert [key for key, _ in sorted(entries)] == [key for key, _ in entries]
    found = strings(entries)
    assert found[b"a.bin"] == b"new"
    assert len(found) == 2


# ---- canonical order ----


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


def test_visi_17_the_order_is_the_same_in_every_section() -> None:
    keys = [b"a", b"ab", b"a" + version_suffix(3), b"%" * 81, b"%" * 81 + b"x"]
    canonically = [segment_of(keys[n]) for n in (4, 3, 1, 2, 0)]
    for times in ((1, 2, 3, 4, 5), (9, 1, 8, 2, 7)):
        entries = [put(HLL + key, ts, envelope(2, b"h", 5)) for key, ts in zip(keys, times, strict=True)]
        entries += [put(TTL + key, ts, bytes(8)) for key, ts in zip(keys, reversed(times), strict=True)]
        entries += [put(key, 3, b"bare") for key in keys]
        files = decode_in_memory(snapshot(entries))[1]
        for sidecar in ("hll_ttl.jsonl", "strings_ttl.jsonl"):
            assert [json.loads(line)["key"] for line in files[f"redis/db_0/{sidecar}"].splitlines()] == canonically


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
def test_file_20_an_entry_that_is_not_any_more_what_was_judged(entry: StoredEntry) -> None:
    with pytest.raises(Fault, match=r"^changed") as caught:
        list(iter_records([entry], 2**64 - 1, lambda key: True))
    assert fault_of(caught.value) == ("changed", "FILE-20", 7)
    assert caught.value.detail


def test_visi_1_the_cursor_is_what_finds_a_cut() -> None:
    with pytest.raises(Fault, match=r"^truncated"):
        Cursor(b"", "truncated").u8("flags", "VISI-1")
