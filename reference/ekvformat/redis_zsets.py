"""Redis zsets, which are sorted sets. Implements spec chapter RZSE.

record   storage key, after the prefix   body
-------  ------------------------------  -----------------------------------------
element  sized user key, the member      its score: u64_be, the bits of a binary64
index    sized user key, score, member   not looked at
packed   user key                        a message: COLL

A score is a binary64 of IEEE 754: a sign bit, eleven bits of exponent and 52 of fraction.
In an element the byte with the sign comes first, and in a packed record last, because
Protocol Buffers store numbers of fixed size so. The zset {a: 1} in a packed record:

    00 52 5A 01                 magic
    0A 0C                       field 1, twelve bytes: a message inside
    0A 01 61                    its field 1, one byte: the member `a`
    11 00 00 00 00 00 00 F0 3F  its field 2, eight bytes: the score 1
"""

import math
import struct
from decimal import Decimal
from typing import Final

from ekvformat.collections import (
    FIRST_TEXT,
    SECOND_DOUBLE,
    Decoded,
    Parts,
    checked_text,
    decode_meta,
    iter_message,
    iter_packed,
    render_bytes,
    render_document,
    render_object,
    unreadable,
)
from ekvformat.user_keys import ELEMENT, INDEX, PACKED
from ekvformat.visibility import Record

ZSET_MAGIC: Final = b"\x00RZ\x01"
"""Begins a packed zset. [COLL-9]"""
SCORE_SIZE: Final = 8
"""Size of the body of an element, in bytes. [RZSE-1]"""
LEAST_PLAIN_EXPONENT: Final = -6
"""Scores from this power of ten on are written without an exponent. [RZSE-6]"""
LEAST_LARGE_EXPONENT: Final = 21
"""Scores from this power of ten on are written with one again. [RZSE-6]"""


def decode_zset(parts: Parts) -> Decoded:
    """Decode the records of a zset; elements are pairs of member and score. Raises `invalid-value`."""
    meta = decode_meta(parts)
    members = {member: decode_element(record) for member, record in parts.get(ELEMENT, {}).items()}
    # [COLL-6] [COLL-7] From records of their own, or from a packed one, and never from both.
    # A server that finds one member in a record of its own does not look at packed ones.
    if not members:
        for record in parts.get(PACKED, {}).values():
            members = decode_packed_zset(record)
    # [RZSE-5] In the order of the members [COLL-21]. [RZSE-4] The index says nothing new.
    return Decoded(meta, sorted(members.items()), len(parts.get(INDEX, {})))


def decode_element(record: Record) -> float:
    """Decode the body of an element. Raises `invalid-value`. [RZSE-1]"""
    if len(record.body) != SCORE_SIZE:
        raise unreadable("RZSE-1", f"a score has {SCORE_SIZE} bytes, this one has {len(record.body)}", record)
    return checked_score(struct.unpack(">d", record.body)[0], record)


def checked_score(score: float, record: Record, offset: int | None = None) -> float:
    """Return a score that is a number. Raises `invalid-value`, without an `offset` at that of the body. [RZSE-2]

    JSON has no word for NaN, and a zset cannot be in the order of a score that is neither
    below nor above another. Both infinities are sound: a client can add members with them.
    """
    if math.isnan(score):
        raise unreadable("RZSE-2", "a score that is not a number", record, offset)
    return score


def decode_packed_zset(record: Record) -> dict[bytes, float]:
    """Decode a packed zset; return its members with their scores. Raises `invalid-value`. [RZSE-3]

    Of a member that comes twice the last score counts, as if it had been added twice. [COLL-15]
    """
    members: dict[bytes, float] = {}
    for packed in iter_packed(record, ZSET_MAGIC):
        if packed.kind == FIRST_TEXT:
            # A member without a score has 0. [COLL-13]
            member, score = b"", 0.0
            for field in iter_message(packed.value, record, packed.value_offset):
                # [COLL-13] The last one counts, but all of them are judged.
                if field.kind == FIRST_TEXT:
                    member = checked_text(field, record)
                elif field.kind == SECOND_DOUBLE:
                    score = checked_score(struct.unpack("<d", field.value)[0], record, field.offset)
            members[member] = score  # [COLL-15]
    return members


def render_zset(decoded: Decoded, expiry_ms: int | None) -> bytes:
    """Render the blob of a zset. [RZSE-5]

    By member and not by score, as all collections: two dumps can be compared line by line.
    """
    items = [
        render_object([("member", render_bytes(member, 6)), ("score", render_score(score))], 4)
        for member, score in decoded.elements
    ]
    return render_document("members", items, expiry_ms)


def render_score(score: float) -> str:
    """Render a score. [RZSE-6]

    1000.1 stays `1000.1`, 1e20 becomes `100000000000000000000`, 1e21 `1e+21`, and -0.0 `-0`.
    """
    if math.isinf(score):
        # A string, since JSON has no number for it.
        return '"+inf"' if score > 0 else '"-inf"'
    # The fewest digits that are read back as the same number are what Python shows of it.
    # As a decimal it has no exponent of its own yet: 100.0 is one digit, 1E+2.
    number = Decimal(repr(score)).normalize()
    exponent = number.adjusted()
    if not score or LEAST_PLAIN_EXPONENT <= exponent < LEAST_LARGE_EXPONENT:
        return f"{number:f}"
    # One digit before the point, as many as there are behind it, and no zeros at the end.
    sign, digits, _ = number.as_tuple()
    first, others = str(digits[0]), "".join(map(str, digits[1:]))
    return f"{'-' * sign}{first}{'.' * bool(others)}{others}e{exponent:+d}"
