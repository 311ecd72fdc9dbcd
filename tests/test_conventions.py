"""Chapter CONV: the cursor kit, and the promises that hold for every input."""

import io
import random
import time
from pathlib import Path

import pytest
from ekvdump.verify.lines import iter_bounded_lines
from ekvformat.conventions import Cursor
from ekvformat.outcomes import Fault
from harness import decode_bytes, decode_in_memory, fault_of
from hypothesis import given
from hypothesis import strategies as st
from writer import HLL, STR, TTL, delete, envelope, expiry, live_set, operational, put, snapshot, writers_row

REAL_SHAPED = snapshot(
    [
        *live_set(b"k", 10, envelope(1, b"new", 1_800_000_000_000), 1_800_000_000_000),
        *live_set(b"legacy", 12, b"old", 1_800_000_000_001),
        put(STR + b"k", 5, envelope(1, b"older")),
        put(HLL + b"h", 11, envelope(2, b"HYLL")),
        put(TTL + b"gone", 9, expiry(7)),
        put(b"bare", 3, b"\xff\x01"),
        delete(b"bare2", 4),
        operational(b"_meta_applied_index", 3),
        writers_row(),
    ],
    last_commit=20,
)


def test_conv_5_fields_are_read_by_size_and_byte_order() -> None:
    cursor = Cursor(bytes(range(1, 28)), "truncated")
    assert cursor.u8("a", "CONV-5") == 1
    assert cursor.u16_be("b", "CONV-5") == 0x0203
    assert cursor.u64_be("c", "CONV-5") == 0x04050607_08090A0B
    assert cursor.u64_le("d", "CONV-5") == 0x13121110_0F0E0D0C
    assert cursor.offset == 19
    assert cursor.take(0, "nothing", "CONV-5") == b""
    assert cursor.rest() == bytes(range(20, 28))
    assert cursor.rest() == b""


def test_conv_6_offsets_count_from_the_start_of_the_snapshot() -> None:
    cursor = Cursor(b"abc", "truncated", origin=100, key=b"k")
    cursor.take(2, "first", "CONV-6")
    with pytest.raises(Fault, match=r"^truncated") as caught:
        cursor.u64_be("second", "RSTR-4")
    assert fault_of(caught.value) == ("truncated", "RSTR-4", 102)
    assert caught.value.key == b"k"
    assert caught.value.detail == "second is cut: 1 of 8 bytes are there"
    assert cursor.rest() == b"c"


def test_conv_6_a_cut_names_the_field() -> None:
    cursor = Cursor(b"", "truncated")
    for read in (cursor.u8, cursor.u16_be, cursor.u64_be, cursor.u64_le):
        with pytest.raises(Fault, match=r"^truncated") as caught:
            read("the field", "CONV-6")
        assert caught.value.detail.startswith("the field is cut: 0 of ")


class ReadsOf(io.BytesIO):
    """A stream that is asked for `size` bytes at a time and no other number."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size == self._size
        return super().readline(size)


def test_conv_8_of_a_long_line_only_the_beginning_is_given() -> None:
    data = b"abc\n" + b"d" * 20 + b"\n" + b"e\n\n" + b"f" * 11
    assert list(iter_bounded_lines(ReadsOf(data, 5), 4)) == [
        (0, b"abc\n"), (4, b"ddddd"), (25, b"e\n"), (27, b"\n"), (28, b"fffff"),
    ]  # fmt: skip
    assert list(iter_bounded_lines(ReadsOf(b"abcd", 5), 4)) == [(0, b"abcd")]
    assert list(iter_bounded_lines(ReadsOf(b"abcd\nx", 5), 4)) == [(0, b"abcd\n"), (5, b"x")]


def test_conv_5_a_prefix_is_taken_only_if_it_is_whole() -> None:
    cursor = Cursor(b"\xff\x01x", "truncated")
    assert not cursor.skip(b"\xff\x02")
    assert not Cursor(b"\xff", "truncated").skip(b"\xff\x01")
    assert cursor.skip(b"\xff\x01")
    assert cursor.rest() == b"x"


def test_conv_2_an_expiry_that_has_passed_is_shown_and_no_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_clock() -> float:
        raise AssertionError("a clock was consulted")

    monkeypatch.setattr(time, "time", no_clock)
    data = snapshot([put(STR + b"k", 1, envelope(1, b"v", 1))])
    _, files = decode_in_memory(data)
    assert files["redis/db_0/strings/k.bin"] == b"v"
    assert files["redis/db_0/strings_ttl.jsonl"] == b'{"key":"k","expire_at_ms":1}\n'


def test_conv_3_every_entry_is_counted_once() -> None:
    outcome, _ = decode_in_memory(REAL_SHAPED)
    counters = outcome.counters
    assert counters.entries == {
        "operational": 2, "future": 0, "history": 1, "deleted": 9, "expired": 0, "internal": 8, "unknown": 0,
        "undecoded": 0, "string": 2, "bare": 1, "hll": 1, "ttl": 3,
    }  # fmt: skip
    assert sum(counters.entries.values()) == 27


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_conv_9_keys_and_payloads_are_any_bytes(key: bytes, payload: bytes) -> None:
    _, files = decode_in_memory(snapshot([put(STR + key, 1, envelope(1, payload))]))
    (blob,) = (path for path in files if path.endswith(".bin"))
    assert files[blob] == payload


# ---- any bytes lead to a dump or to a typed refusal [CONV-8] ----


def judge(data: bytes) -> None:
    """Decode; a refusal must be typed and complete. Any other exception fails the test."""
    try:
        decode_in_memory(data)
    except Fault as fault:
        assert fault.exit_status == 4
        assert fault.clause
        assert fault.offset is not None
        assert 0 <= fault.offset <= len(data)


@given(st.sampled_from([b"", b"EKVTHLC1", b"EKVTHLC2\x00\x10", b"EKVPBBL1", b"EKVSSTI1"]), st.binary(max_size=200))
def test_conv_8_any_bytes(start: bytes, rest: bytes) -> None:
    judge(start + rest)


@pytest.mark.parametrize("seed", range(4))
def test_conv_8_any_damage_to_a_real_shaped_snapshot(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(500):
        data = bytearray(REAL_SHAPED if dice.random() < 0.5 else REAL_SHAPED[16:-4])
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(data))
            damage = dice.randrange(4)
            if damage == 0:
                data[place] ^= 1 << dice.randrange(8)
            elif damage == 1:
                del data[place : place + dice.randrange(1, 40)]
            elif damage == 2:
                other = dice.randrange(len(data))
                data[place:place] = data[other : other + dice.randrange(1, 40)]
            else:
                data[place : place + 8] = dice.choice([b"\xff" * 8, bytes(8), b"\x01" + bytes(7), b"\x00\x00\x10" * 3])
            if not data:
                break
        judge(bytes(data))


def test_conv_8_a_refusal_has_fault_clause_offset_and_no_output(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"^truncated") as caught:
        decode_bytes(REAL_SHAPED[:-1], tmp_path)
    assert caught.value.clause
    assert not (tmp_path / "out").exists()
