"""Chapter CONV: the cursor, and the promises that hold for every input."""

import time

import pytest
from ekvformat.conventions import Cursor
from ekvformat.decode import decode
from ekvformat.outcomes import Fault
from hypothesis import given
from hypothesis import strategies as st
from reference_runs import all_files, fault_of
from stores import REAL_SHAPED
from writer import STR, envelope, put, snapshot


def test_conv_7_fields_are_read_by_size_and_byte_order() -> None:
    cursor = Cursor(bytes(range(1, 28)), "truncated")
    assert cursor.u8("a", "CONV-7") == 1
    assert cursor.u16_be("b", "CONV-7") == 0x0203
    assert cursor.u64_be("c", "CONV-7") == 0x04050607_08090A0B
    assert cursor.u64_le("d", "CONV-7") == 0x13121110_0F0E0D0C
    assert cursor.offset == 19
    assert cursor.take(0, "nothing", "CONV-7") == b""
    assert cursor.rest() == bytes(range(20, 28))
    assert cursor.rest() == b""


def test_conv_8_offsets_count_from_the_start_of_the_snapshot() -> None:
    cursor = Cursor(b"abc", "truncated", origin=100, key=b"k")
    cursor.take(2, "first", "CONV-8")
    with pytest.raises(Fault, match=r"\[truncated, ") as caught:
        cursor.u64_be("second", "ENVL-5")
    assert fault_of(caught.value) == ("truncated", "ENVL-5", 102)
    assert caught.value.key == b"k"
    assert caught.value.detail == "only 1 of 8 bytes of the second are there"
    assert cursor.rest() == b"c"


def test_conv_8_a_cut_names_the_field() -> None:
    cursor = Cursor(b"", "truncated")
    for read in (cursor.u8, cursor.u16_be, cursor.u32_be, cursor.u64_be, cursor.u64_le):
        with pytest.raises(Fault, match=r"\[truncated, ") as caught:
            read("the field", "CONV-8")
        assert caught.value.detail.startswith("only 0 of ")


def test_conv_7_a_prefix_is_taken_only_if_it_is_whole() -> None:
    cursor = Cursor(b"\xff\x01x", "truncated")
    assert not cursor.skip(b"\xff\x02")
    assert not Cursor(b"\xff", "truncated").skip(b"\xff\x01")
    assert cursor.skip(b"\xff\x01")
    assert cursor.rest() == b"x"


def test_conv_8_only_the_cursor_finds_that_bytes_are_missing() -> None:
    assert Cursor(b"", "truncated").rest() == b""
    with pytest.raises(Fault, match=r"only 3 of 8 bytes of the suffix"):
        Cursor(b"abc", "too-short").take_all_but(8, "suffix", "VISI-1")


def test_conv_2_no_clock_is_asked_whether_an_expiry_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_clock() -> float:
        raise AssertionError("a clock was consulted")

    monkeypatch.setattr(time, "time", no_clock)
    files = all_files(decode(snapshot([put(STR + b"k", 1, envelope(1, b"v", 1))])))
    assert files["redis/db_0/strings_ttl.jsonl"] == b'{"key":"k","expire_at_ms":1}\n'


def test_conv_3_every_entry_is_counted_once() -> None:
    entries = decode(REAL_SHAPED).summary.counters.entries
    assert entries == {
        "operational": 2, "future": 0, "history": 1, "deleted": 9, "expired": 0, "internal": 8, "unknown": 0,
        "undecoded": 0, "string": 2, "bare": 1, "hll": 1, "ttl": 3,
        "hash": 0, "list": 0, "set": 0, "zset": 0, "stream": 0,
    }  # fmt: skip
    assert sum(entries.values()) == 27


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_conv_10_keys_and_payloads_are_any_bytes(key: bytes, payload: bytes) -> None:
    dump = decode(snapshot([put(STR + key, 1, envelope(1, payload))]))
    assert list(dump.blobs.values()) == [payload]


# Damaged snapshots are in tests/machines/test_corruption.py; these bytes were never one.
@given(st.sampled_from([b"", b"EKVTHLC1", b"EKVTHLC2\x00\x10", b"EKVPBBL1", b"EKVSSTI1"]), st.binary(max_size=200))
def test_conv_9_any_bytes_are_decoded_or_refused_with_a_fault_that_says_where(start: bytes, rest: bytes) -> None:
    try:
        decode(start + rest)
    except Fault as fault:
        assert fault.exit_status == 4
        assert fault.clause
        assert fault.offset is not None
        assert 0 <= fault.offset <= len(start + rest)
