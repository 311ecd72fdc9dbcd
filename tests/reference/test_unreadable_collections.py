"""Chapter COLL and those of the types: what is wrong with a record is said with its clause, its place and its words."""

import struct

import pytest
from collection_stores import sized, text_field
from ekvformat.decode import decode
from ekvformat.outcomes import Fault
from writer import Entry, put, snapshot

KEY = sized(b"k")
PLACE = struct.pack(">QQ", 1, 0)
STREAM = put(b"!stream|meta|" + KEY, 1, struct.pack(">QQQ", 1, 1, 0))
NAN = bytes.fromhex("7FF8000000000000")


def element(message: bytes) -> list[Entry]:
    """Return a stream with one element."""
    return [STREAM, put(b"!stream|entry|" + KEY + PLACE, 1, b"\0RXE\1" + message)]


def packed_set(message: bytes) -> list[Entry]:
    return [put(b"!redis|set|k", 1, b"\0RS\1" + message)]


@pytest.mark.parametrize(
    ("entries", "key", "clause", "at", "detail"),
    [
        ([put(b"!st|meta|" + KEY, 1, bytes(7))], b"!st|meta|" + KEY, "COLL-1", 0, "a meta of 7 bytes"),
        ([put(b"!lst|meta|k", 1, bytes(7))], b"!lst|meta|k", "RLIS-1", 0, "a meta of 7 bytes"),
        ([put(b"!stream|meta|" + KEY, 1, bytes(7))], b"!stream|meta|" + KEY, "RSTM-1", 0, "a meta of 7 bytes"),
        ([put(b"!zs|meta|" + KEY, 1, struct.pack(">Q", 2**63))], b"!zs|meta|" + KEY, "COLL-2", 0,
         "length 9223372036854775808 is above 2^63 - 1"),
        ([put(b"!lst|meta|k", 1, struct.pack(">qqQ", 3, 5, 1))], b"!lst|meta|k", "RLIS-1", 8,
         "tail 5 is not head 3 + length 1"),
        ([put(b"!lst|meta|d|" + KEY + bytes(12), 1, bytes(15))], b"!lst|meta|d|" + KEY + bytes(12), "RLIS-2", 0,
         "a delta has 16 bytes, this one has 15"),
        ([put(b"!zs|mem|" + KEY + b"m", 1, bytes(7))], b"!zs|mem|" + KEY + b"m", "RZSE-1", 0,
         "a score has 8 bytes, this one has 7"),
        ([put(b"!zs|mem|" + KEY + b"m", 1, NAN)], b"!zs|mem|" + KEY + b"m", "RZSE-2", 0,
         "a score that is not a number"),
        ([put(b"!redis|hash|k", 1, b"\0RS\1")], b"!redis|hash|k", "COLL-9", 0,
         "the body does not begin with the magic of its type"),
        (packed_set(b"\x80"), b"!redis|set|k", "COLL-11", 4, "only 0 of 1 bytes of the tag are there"),
        (packed_set(b"\x0a\1a\x10"), b"!redis|set|k", "COLL-11", 7, "only 0 of 1 bytes of the varint are there"),
        (packed_set(b"\x0a"), b"!redis|set|k", "COLL-11", 4, "only 0 of 1 bytes of the size are there"),
        (packed_set(b"\x0a\5ab"), b"!redis|set|k", "COLL-11", 4, "only 2 of 5 bytes of the value are there"),
        (packed_set(b"\x11abc"), b"!redis|set|k", "COLL-11", 4, "only 3 of 8 bytes of the value are there"),
        (packed_set(b"\x15abc"), b"!redis|set|k", "COLL-11", 4, "only 3 of 4 bytes of the value are there"),
        (packed_set(b"\x02\0"), b"!redis|set|k", "COLL-11", 4, "0 is not the number of a field"),
        (packed_set(b"\x0e"), b"!redis|set|k", "COLL-11", 4, "wire type 6"),
        (packed_set(b"\x80" * 10 + b"\0"), b"!redis|set|k", "COLL-11", 4, "the tag is too large"),
        (packed_set(b"\x10" + b"\xff" * 9 + b"\2"), b"!redis|set|k", "COLL-11", 4, "the varint is too large"),
        (packed_set(b"\x0a" + b"\xff" * 9 + b"\2"), b"!redis|set|k", "COLL-11", 4, "the size is too large"),
        (packed_set(text_field(1, b"\xff")), b"!redis|set|k", "COLL-14", 4, "a text that is not UTF-8"),
        ([STREAM, put(b"!stream|entry|" + KEY + PLACE, 1, b"")], b"!stream|entry|" + KEY + PLACE, "RSTM-6", 0,
         "the body does not begin with the magic of an element"),
        (element(text_field(2, b"n")), b"!stream|entry|" + KEY + PLACE, "RSTM-6", 0, "1 names and values"),
        (element(text_field(1, b"\xff")), b"!stream|entry|" + KEY + PLACE, "COLL-14", 5, "a text that is not UTF-8"),
    ],
)  # fmt: skip
def test_coll_16_a_fault_has_its_clause_its_record_its_place_and_its_words(
    entries: list[Entry], key: bytes, clause: str, at: int, detail: str
) -> None:
    data = snapshot(entries)
    body = next(value for encoded, value in entries if encoded[:-8] == key)[9:]
    with pytest.raises(Fault) as caught:
        decode(data)
    fault = caught.value
    where = data.index(key) + len(key) + 8 + 8 + 9 + at
    assert data[where - at :].startswith(body)
    assert vars(fault) == vars(Fault("invalid-value", clause, detail, where, None, key))
