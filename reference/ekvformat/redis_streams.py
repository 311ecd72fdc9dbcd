"""Redis streams. Implements spec chapter RSTM.

The body of a meta [RSTM-1]:

    offset  size  field        value
    ------  ----  -----------  -----------------------------------------------
         0     8  length       u64_be
         8     8  last_ms      u64_be
        16     8  last_seq     u64_be
        24     8  expiry       u64_be, Unix ms; in a body of 32 or 48 bytes
        32     8  trimmed_ms   u64_be;
        40     8  trimmed_seq  u64_be  in a body of 48 bytes

The body of an element: the magic 00 52 58 45 01, and a message: id (1) text, fields (2)
repeated texts, which are names and values in turn. The element 5-0 with {a: b}:

    00 52 58 45 01  magic
    0A 03 35 2D 30  field 1, three bytes: the ID `5-0`
    12 01 61        field 2, one byte: the name `a`
    12 01 62        field 2 again: its value `b`

A stream is the one collection whose number of elements counts for something: a server
that reads the length 0 does not look for elements at all. [RSTM-3]
"""

from typing import Final, NamedTuple

from ekvformat.collections import (
    FIRST_TEXT,
    SECOND_TEXT,
    Decoded,
    Meta,
    Parts,
    checked_text,
    cursor_of,
    iter_message,
    meta_of,
    render_expiry,
    render_text,
    take_length,
    take_meta_expiry,
    unreadable,
)
from ekvformat.conventions import Cursor
from ekvformat.user_keys import ELEMENT, META, PACKED
from ekvformat.visibility import Record

STREAM_META_SIZES: Final = (24, 32, 48)
"""Sizes of the body of a stream's meta, in bytes. [RSTM-1]"""
EXPIRY_END: Final = 32
"""Where the field `expiry` of a meta ends, in bytes of the body. [COLL-4]"""
ELEMENT_MAGIC: Final = b"\x00RXE\x01"
"""Begins the body of an element. [RSTM-6]"""


class StreamElement(NamedTuple):
    """An element of a stream."""

    id: bytes
    """What a client is given: as a rule the place as `<ms>-<seq>`, but nothing makes it so. [RSTM-5]"""
    fields: list[tuple[bytes, bytes]]
    """Names and values, in the order in which they were added; a name may come again."""


def decode_stream(parts: Parts) -> Decoded:
    """Decode the records of a stream; elements are `StreamElement`s. Raises `invalid-value`."""
    meta = decode_stream_meta(parts)
    # [RSTM-7] A packed stream reads as an empty one, and beside a meta nobody reads it.
    packed = len(parts.get(PACKED, {})) if META in parts else 0
    elements = parts.get(ELEMENT, {})
    # [RSTM-3] The suffixes are in bytewise order, which is that of the places. [RSTM-4]
    shown = [record for suffix, record in elements.items() if meta.length and is_behind(suffix, meta.trimmed)]
    return Decoded(meta, [decode_element(record) for record in shown], len(elements) - len(shown) + packed)


def decode_stream_meta(parts: Parts) -> Meta:
    """Decode the meta of a stream, if there is one. Raises `invalid-value`. [RSTM-1]"""
    record = meta_of(parts)
    if record is None:
        # Without a meta the length is 0, so nothing is shown but a last line. [RSTM-3]
        # That is what XRANGE and XLEN find. [RSTM-7]
        return Meta()
    if len(record.body) not in STREAM_META_SIZES:
        raise unreadable("RSTM-1", f"a meta of {len(record.body)} bytes", record)
    cursor = cursor_of(record)
    # Fields were added at the end, over the years: older metas are shorter.
    length = take_length(cursor, record)
    last_id = take_pair(cursor)
    expiry_ms = take_meta_expiry(cursor)
    return Meta(length, expiry_ms, last_id=last_id, trimmed=take_pair(cursor) if cursor.left else None)


def take_pair(cursor: Cursor) -> tuple[int, int]:
    """Take milliseconds and a sequence number, which are compared in this order. [RSTM-2]"""
    return cursor.u64_be("milliseconds", "RSTM-1"), cursor.u64_be("sequence number", "RSTM-1")


def is_behind(suffix: bytes, trimmed: tuple[int, int] | None) -> bool:
    """Return True for a place behind what was trimmed away. [RSTM-2] [RSTM-3]"""
    return trimmed is None or take_pair(Cursor(suffix, "invalid-value")) > trimmed


def decode_element(record: Record) -> StreamElement:
    """Decode the body of an element. Raises `invalid-value`. [RSTM-6]"""
    cursor = cursor_of(record)
    if not cursor.skip(ELEMENT_MAGIC):
        raise unreadable("RSTM-6", "the body does not begin with the magic of an element", record)
    element_id = b""
    texts: list[bytes] = []
    for field in iter_message(cursor.rest(), record, record.body_offset + len(ELEMENT_MAGIC)):
        if field.kind == FIRST_TEXT:
            element_id = checked_text(field, record)  # [RSTM-5] Its own ID, not its place.
        elif field.kind == SECOND_TEXT:
            # Names and values have one number, so their order is all that tells them apart.
            texts.append(checked_text(field, record))
    # Only now: a field that cannot be read is named before a name without a value.
    if len(texts) % 2:
        raise unreadable("RSTM-6", f"{len(texts)} names and values", record)
    return StreamElement(element_id, list(zip(texts[::2], texts[1::2], strict=True)))


def render_stream(decoded: Decoded, expiry_ms: int | None) -> bytes:
    """Render the blob of a stream: lines, so that a long one can be read one by one. [RSTM-9]

    The last line is not an element. It has what XINFO shows and elements do not say.
    """
    meta = decoded.meta
    last_ms, last_seq = meta.last_id
    # No spaces here, unlike in documents: one element is one line.
    lines = [render_stream_line(element) for element in decoded.elements]
    numbers = f'"length":{meta.length},"last_ms":{last_ms},"last_seq":{last_seq}'
    lines.append(f'{{"_meta":true,{numbers},"expire_at_ms":{render_expiry(expiry_ms)}}}\n')
    return "".join(lines).encode("utf-8")


def render_stream_line(element: StreamElement) -> str:
    """Render the line of an element. [RSTM-8]

    No member `base64` here: names and values are texts, or could not be read. [COLL-14]
    """
    pairs = ",".join(f'{{"name":{render_text(name)},"value":{render_text(value)}}}' for name, value in element.fields)
    return f'{{"id":{render_text(element.id)},"fields":[{pairs}]}}\n'
