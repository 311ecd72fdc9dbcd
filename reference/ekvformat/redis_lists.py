"""Redis lists. Implements spec chapter RLIS.

The body of a meta [RLIS-1], and of a delta [RLIS-2]:

    offset  size  field   value                   offset  size  field         value
    ------  ----  ------  ---------------------   ------  ----  ------------  ------
         0     8  head    i64_be                       0     8  head_delta    i64_be
         8     8  tail    i64_be                       8     8  length_delta  i64_be
        16     8  length  u64_be
        24     8  expiry  u64_be, Unix ms; only in a body of 32 bytes

Items have numbers. A list shows those in its window, which the meta places and each
delta moves; pops leave claims behind, and sometimes items.

An example. Items 0, 1 and 2 were pushed: head 0, length 3. Two pops on the left wrote
a delta each, of head_delta 1 and length_delta -1. So the window begins at 2 and has one
number, and item 2 is the list, even if items 0 and 1 are still in the store.
"""

from typing import Final

from ekvformat.collections import (
    Decoded,
    Meta,
    Parts,
    cursor_of,
    meta_of,
    render_bytes,
    render_document,
    take_length,
    take_meta_expiry,
    unreadable,
)
from ekvformat.user_keys import CLAIM, DELTA, ELEMENT, LIST_META_SIZES

# The sizes of a meta are in `user_keys`: there they tell a meta from a delta. [TYPE-3]
DELTA_SIZE: Final = 16
"""Size of the body of a delta, in bytes. [RLIS-2]"""
FIRST_NUMBER: Final = -(2**63)
"""Number of the item whose suffix is eight bytes 00. [RLIS-4]"""


def decode_list(parts: Parts) -> Decoded:
    """Decode the records of a list; elements are its items. Raises `invalid-value`."""
    meta = decode_list_meta(parts)

    # [RLIS-3] Python's numbers do not overflow, and a range of negative size is empty.
    head, length = meta.head, meta.length
    for record in parts.get(DELTA, {}).values():
        if len(record.body) != DELTA_SIZE:
            raise unreadable("RLIS-2", f"a delta has {DELTA_SIZE} bytes, this one has {len(record.body)}", record)
        cursor = cursor_of(record)
        head += cursor.i64_be("head_delta", "RLIS-2")
        length += cursor.i64_be("length_delta", "RLIS-2")
    window = range(head, head + length)

    # [RLIS-5] The suffixes are in bytewise order, which is that of the numbers.
    elements = parts.get(ELEMENT, {})
    items = [record.body for suffix, record in elements.items() if number_of(suffix) in window]
    # [RLIS-6]
    return Decoded(meta, items, len(elements) - len(items) + len(parts.get(CLAIM, {})))


def decode_list_meta(parts: Parts) -> Meta:
    """Decode the meta of a list, if there is one. Raises `invalid-value`. [RLIS-1]"""
    record = meta_of(parts)
    if record is None:
        return Meta()
    if len(record.body) not in LIST_META_SIZES:
        raise unreadable("RLIS-1", f"a meta of {len(record.body)} bytes", record)
    cursor = cursor_of(record)
    head = cursor.i64_be("head", "RLIS-1")
    tail_offset = cursor.offset
    tail = cursor.i64_be("tail", "RLIS-1")
    length = take_length(cursor, record)
    if tail != head + length:
        raise unreadable("RLIS-1", f"tail {tail} is not head {head} + length {length}", record, tail_offset)
    return Meta(length, take_meta_expiry(cursor), head=head)


def number_of(suffix: bytes) -> int:
    """Return the number of an item. [RLIS-4]

    80 00 00 00 00 00 00 00 is 0, and 7F FF FF FF FF FF FF FF is -1: a push on the left of
    a new list begins below zero.
    """
    # To invert the highest bit of a signed number is to move the whole range.
    return int.from_bytes(suffix, "big") + FIRST_NUMBER


def render_list(decoded: Decoded, expiry_ms: int | None) -> bytes:
    """Render the blob of a list. [RLIS-7]"""
    return render_document("items", [render_bytes(item, 4) for item in decoded.elements], expiry_ms)
