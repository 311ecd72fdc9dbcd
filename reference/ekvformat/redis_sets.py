"""Redis sets. Implements spec chapter RSET.

record   storage key, after the prefix   body
-------  ------------------------------  ---------------
element  sized user key, the member      not looked at
packed   user key                        a message: COLL
"""

from typing import Final

from ekvformat.collections import (
    FIRST_TEXT,
    Decoded,
    Parts,
    checked_text,
    decode_meta,
    iter_packed,
    render_bytes,
    render_document,
)
from ekvformat.user_keys import ELEMENT, PACKED
from ekvformat.visibility import Record

SET_MAGIC: Final = b"\x00RS\x01"
"""Begins a packed set. [COLL-9]"""


def decode_set(parts: Parts) -> Decoded:
    """Decode the records of a set; elements are its members. Raises `invalid-value`."""
    meta = decode_meta(parts)
    # [RSET-1]
    members = set(parts.get(ELEMENT, {}))
    # [COLL-6] [COLL-7]
    if not members:
        for record in parts.get(PACKED, {}).values():
            members = decode_packed_set(record)
    return Decoded(meta, sorted(members))  # [COLL-21]


def decode_packed_set(record: Record) -> set[bytes]:
    """Decode a packed set. Raises `invalid-value`. [RSET-2]"""
    return {checked_text(field, record) for field in iter_packed(record, SET_MAGIC) if field.kind == FIRST_TEXT}


def render_set(decoded: Decoded, expiry_ms: int | None) -> bytes:
    """Render the blob of a set. [RSET-3]"""
    return render_document("members", [render_bytes(member, 4) for member in decoded.elements], expiry_ms)
