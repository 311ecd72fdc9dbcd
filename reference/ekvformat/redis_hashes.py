"""Redis hashes. Implements spec chapter RHAS.

record   storage key, after the prefix     body
-------  --------------------------------  ---------------
element  sized user key, name of a field   its value
packed   user key                          a message: COLL

The message of a packed hash has the field 1 once for each field of the hash, and in it
another message: the name is field 1 and the value is field 2. The hash {a: b}:

    00 52 48 01  magic
    0A 06        field 1, six bytes: a message inside
    0A 01 61     its field 1, one byte: the name `a`
    12 01 62     its field 2, one byte: the value `b`

In records of their own names and values may be any bytes. In a packed record they are
texts: older servers stored nothing else there. [COLL-14]
"""

from typing import Final

from ekvformat.collections import (
    FIRST_TEXT,
    SECOND_TEXT,
    Decoded,
    Parts,
    checked_text,
    decode_meta,
    iter_message,
    iter_packed,
    render_bytes,
    render_document,
    render_object,
)
from ekvformat.user_keys import ELEMENT, PACKED
from ekvformat.visibility import Record

HASH_MAGIC: Final = b"\x00RH\x01"
"""Begins a packed hash. [COLL-9]"""


def decode_hash(parts: Parts) -> Decoded:
    """Decode the records of a hash; elements are pairs of name and value. Raises `invalid-value`."""
    meta = decode_meta(parts)
    # [RHAS-1] No value is unreadable.
    fields = {name: record.body for name, record in parts.get(ELEMENT, {}).items()}
    # [COLL-6] [COLL-7]
    if not fields:
        for record in parts.get(PACKED, {}).values():
            fields = decode_packed_hash(record)
    return Decoded(meta, sorted(fields.items()))  # [COLL-21]


def decode_packed_hash(record: Record) -> dict[bytes, bytes]:
    """Decode a packed hash. Raises `invalid-value`. [RHAS-2]"""
    fields: dict[bytes, bytes] = {}
    for packed in iter_packed(record, HASH_MAGIC):
        if packed.kind == FIRST_TEXT:
            # A field of a hash need not have both. [COLL-13]
            name = value = b""
            for field in iter_message(packed.value, record, packed.value_offset):
                # [COLL-13] The last one counts.
                if field.kind == FIRST_TEXT:
                    name = checked_text(field, record)
                elif field.kind == SECOND_TEXT:
                    value = checked_text(field, record)
            fields[name] = value  # [COLL-15]
    return fields


def render_hash(decoded: Decoded, expiry_ms: int | None) -> bytes:
    """Render the blob of a hash. [RHAS-3]"""
    items = [
        render_object([("name", render_bytes(name, 6)), ("value", render_bytes(value, 6))], 4)
        for name, value in decoded.elements
    ]
    return render_document("fields", items, expiry_ms)
