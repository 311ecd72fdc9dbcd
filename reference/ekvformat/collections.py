"""What collections share: metas, packed records, JSON. Implements spec chapter COLL.

The body of the meta of a hash, a set or a zset [COLL-1]:

    offset  size  field   value
    ------  ----  ------  --------------------------------------------
         0     8  length  u64_be
         8     8  expiry  u64_be, Unix ms; only in a body of 16 bytes

The body of a packed record: nothing, or a magic and a Protocol Buffers message [COLL-9]:

    type  magic        field 1, repeated
    ----  -----------  -----------------------------------------
    hash  00 52 48 01  message: name (1) text, value (2) text
    set   00 52 53 01  text: the member
    zset  00 52 5A 01  message: member (1) text, score (2) double

The message of the set of `a` and `b`, byte by byte [COLL-10]:

    0A     tag: field 1, wire type 2, which is a size and as many bytes
    01     size 1
    61     the member `a`
    0A     tag: field 1 again, so the field is repeated
    01 62  size 1, the member `b`

Two rules this file lives by. Elements are what is there, whatever a meta says of their
number. [COLL-3] And nothing of a collection is shown if one of its records cannot be
read: a list without one of its items would be a list that no client ever saw. [COLL-16]
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ekvformat.conventions import Cursor
from ekvformat.envelope import MAX_EXPIRY_MS
from ekvformat.outcomes import Fault
from ekvformat.segments import encode_base64url
from ekvformat.user_keys import META
from ekvformat.visibility import Record

Parts = dict[str, dict[bytes, Record]]
"""The records of one collection: kind = suffix = record, in bytewise order of the suffixes. [COLL-17]"""

META_SIZES: Final = (8, 16)
"""Sizes of the body of the meta of a hash, a set or a zset, in bytes. [COLL-1]"""
MAX_LENGTH: Final = 2**63 - 1
"""Greatest `length` of a meta. [COLL-2]"""
FORMAT_VERSION: Final = 1
"""Readers of a dump ask for it before they look at anything else.

`format_version` of a document. [COLL-18]"""

VARINT: Final = 0
"""Wire type: a varint. [COLL-10]"""
EIGHT_BYTES: Final = 1
"""Wire type: a double, or a number of fixed size. [COLL-10]"""
SIZED: Final = 2
"""Wire type: a size and as many bytes. [COLL-10]"""
FOUR_BYTES: Final = 5
"""Wire type that no message here has, but a later server may add. [COLL-12]"""

FIRST_TEXT: Final = (1, SIZED)
"""Number and wire type of a text, or of an inner message. [COLL-12]"""
SECOND_TEXT: Final = (2, SIZED)
"""The value of a field of a hash, and the names and values of a stream's element."""
SECOND_DOUBLE: Final = (2, EIGHT_BYTES)
"""The score of a member of a zset."""
MAX_FIELD_NUMBER: Final = 2**29 - 1
"""Greatest number of a field. [COLL-10]"""
MAX_VARINT_SIZE: Final = 10
"""Most bytes of a varint. [COLL-10]"""
MORE_BYTES: Final = 0b1000_0000
"""Bit of a byte of a varint: another byte follows. [COLL-10]"""


class Meta(NamedTuple):
    """What a meta says. The defaults are what a collection without a meta has."""

    length: int = 0
    """Elements when the meta was written; of a hash, a set or a zset it plays no part. [COLL-3]"""
    expiry_ms: int | None = None
    """Unix ms; None for none. Whether it counts is asked of `has_expiry_field`. [COLL-4]"""
    head: int = 0
    """Of a list: the number at which its window begins, before the deltas. [RLIS-3]"""
    last_id: tuple[int, int] = (0, 0)
    """Of a stream: the ID of the newest element. [RSTM-9]"""
    trimmed: tuple[int, int] | None = None
    """Of a stream: the newest ID that was trimmed away; None without the field. [RSTM-3]"""


class Decoded(NamedTuple):
    """What the records of a collection say."""

    meta: Meta
    """Of a collection without one, its defaults."""
    elements: list[Any]
    """What an element is, the chapter of the type says; in the order of the output."""
    unread: int = 0
    """Records that no client reads. [COMP-12]"""


def unreadable(clause: str, detail: str, record: Record, offset: int | None = None) -> Fault:
    """Return the fault of a record; without an `offset`, it is that of its body. [COLL-16]

    The storage key says which record it is: a collection has many.
    """
    offset = record.body_offset if offset is None else offset
    return Fault("invalid-value", clause, detail, offset, None, record.storage_key)


# ---- meta ----


def meta_of(parts: Parts) -> Record | None:
    """Return the meta of a collection, of which there is at most one."""
    return next(iter(parts.get(META, {}).values()), None)


def cursor_of(record: Record) -> Cursor:
    """Return a cursor over the body of a record, whose faults have offsets in the snapshot."""
    return Cursor(record.body, "invalid-value", record.body_offset, record.storage_key)


def decode_meta(parts: Parts) -> Meta:
    """Decode the meta of a hash, a set or a zset, if there is one. Raises `invalid-value`. [COLL-1]

    A body of 8 bytes is that of an older server, which had no field for the expiry.
    """
    record = meta_of(parts)
    if record is None:
        # Elements alone make a collection too, and a client reads them. [TYPE-4]
        return Meta()
    if len(record.body) not in META_SIZES:
        raise unreadable("COLL-1", f"a meta of {len(record.body)} bytes", record)
    cursor = cursor_of(record)
    return Meta(take_length(cursor, record), take_meta_expiry(cursor))


def take_length(cursor: Cursor, record: Record) -> int:
    """Take the field `length`. Raises `invalid-value`. [COLL-2]

    It is judged even where it plays no part: a server refuses to read such a meta.
    """
    offset = cursor.offset
    length = cursor.u64_be("length", "COLL-1")
    if length > MAX_LENGTH:
        raise unreadable("COLL-2", f"length {length} is above 2^63 - 1", record, offset)
    return length


def take_meta_expiry(cursor: Cursor) -> int | None:
    """Take the field `expiry`, if there is anything left; None for none. [COLL-4]"""
    if not cursor.left:
        return None
    # 0 is no expiry here: only a TTL record can say 1970. [COLL-5] A number that a signed
    # one has no room for counts as the greatest that it has room for, as in an envelope.
    return min(cursor.u64_be("expiry", "COLL-1"), MAX_EXPIRY_MS) or None


# ---- packed records ----


class Field(NamedTuple):
    """One field of a message. [COLL-10]"""

    kind: tuple[int, int]
    """Its number and its wire type. A field of another kind than the message has is ignored. [COLL-12]"""
    value: bytes
    """The value of the wire types 1, 2 and 5; empty for a varint, which no message here has."""
    offset: int
    """Where its tag is in the snapshot, in bytes."""
    value_offset: int
    """Where its value is, in bytes: an inner message begins there. [COLL-11]"""


def iter_packed(record: Record, magic: bytes) -> Iterator[Field]:
    """Yield the fields of a packed record's message. Raises `invalid-value`.

    The three types differ in their magic alone, so a set is not taken for a hash. What the
    fields say, the chapter of the type knows.
    """
    # [COLL-9] Nothing at all is a collection without elements.
    if not record.body:
        return
    cursor = cursor_of(record)
    if not cursor.skip(magic):
        raise unreadable("COLL-9", "the body does not begin with the magic of its type", record)
    yield from iter_message(cursor.rest(), record, record.body_offset + len(magic))


def iter_message(message: bytes, record: Record, offset: int) -> Iterator[Field]:
    """Yield the fields of a message, which begins at this offset of the snapshot. Raises `invalid-value`.

    One after another, so that of several faults the first one is named: whoever takes
    the fields looks at each before the next one is read. [COLL-17]
    """
    cursor = Cursor(message, "invalid-value", offset, record.storage_key)
    while cursor.left:
        tag_offset = cursor.offset
        try:
            field = take_field(cursor)
        except Fault as fault:
            # [COLL-11] Whatever is wrong with a field, its tag says where.
            raise fault.at(tag_offset) from fault
        yield field


def take_field(cursor: Cursor) -> Field:
    """Take a tag and a value. Raises `invalid-value` for a field that is cut or cannot be. [COLL-11]

    Fields that no chapter knows are taken too: only their sizes matter, to find the next
    field, and then they are ignored. [COLL-12]
    """
    offset = cursor.offset
    number, wire_type = take_tag(cursor)
    value, value_offset = b"", cursor.offset
    if wire_type == VARINT:
        take_varint(cursor, "varint")
    elif wire_type == EIGHT_BYTES:
        value = cursor.take(8, "value", "COLL-11")
    elif wire_type == SIZED:
        size = take_varint(cursor, "size")
        value_offset = cursor.offset
        value = cursor.take(size, "value", "COLL-11")
    elif wire_type == FOUR_BYTES:
        value = cursor.take(4, "value", "COLL-11")
    else:
        raise cursor.fault("COLL-11", f"wire type {wire_type}")
    return Field((number, wire_type), value, offset, value_offset)


def take_tag(cursor: Cursor) -> tuple[int, int]:
    """Take a tag; return the number of the field and its wire type. Raises `invalid-value`. [COLL-10]

    The tag 0A is 0000_1010: wire type 010, which is 2, and field 00001, which is 1.
    """
    tag = take_varint(cursor, "tag")
    # The lowest three bits are the wire type. [COLL-10]
    number, wire_type = tag >> 3, tag & 0b111
    if not 1 <= number <= MAX_FIELD_NUMBER:
        raise cursor.fault("COLL-11", f"{number} is not the number of a field")
    return number, wire_type


def take_varint(cursor: Cursor, name: str) -> int:
    """Take a varint: seven bits of the number in each byte, the lowest ones first. [COLL-10]

    AC 02 is 1_0101100 and 0_0000010. Without the bits that say whether another byte
    follows, and the first byte last, that is 0000010_0101100, or 300.
    """
    number = 0
    for place in range(MAX_VARINT_SIZE):
        byte = cursor.u8(name, "COLL-11")
        number |= (byte & ~MORE_BYTES) << 7 * place
        if byte < MORE_BYTES:
            break
    # Ten bytes have room for 70 bits, and the tenth may say that an eleventh follows. A
    # reader that drops the bits above would take a huge size for a small one.
    if byte >= MORE_BYTES or number >= 2**64:
        raise cursor.fault("COLL-11", f"the {name} is too large")
    return number


def checked_text(field: Field, record: Record) -> bytes:
    """Return the value of a field that has to be UTF-8. Raises `invalid-value`. [COLL-14]

    Texts that are superseded, because their field comes again, are judged as well. [COLL-13]
    """
    if not is_utf8(field.value):
        raise unreadable("COLL-14", "a text that is not UTF-8", record, field.offset)
    return field.value


def is_utf8(data: bytes) -> bool:
    """Return True for UTF-8. Python's own decoder is as strict as the spec. [COLL-14]"""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# ---- output ----

ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r",
} | {
    chr(code): f"\\u{code:04x}" for code in (*range(8), 0x0B, *range(0x0E, 0x20), *b"<>&", 0x2028, 0x2029)
}  # fmt: skip
"""Character = how a string has it. [COLL-20]

`<`, `>` and `&` would not have to be escaped in JSON. The production decoder does it, as
does the library of its language by default, and no reader sees a difference.
"""


def render_text(text: bytes) -> str:
    """Render UTF-8 as a JSON string: as it is, but for the characters of `ESCAPES`. [COLL-20]"""
    return '"' + "".join(ESCAPES.get(character, character) for character in text.decode("utf-8")) + '"'


def render_bytes(data: bytes, indent: int) -> str:
    """Render bytes, which stand at this indent. [COLL-19]

    The bytes 63 61 66 C3 A9 become "café", and 63 61 66 E9, which is no UTF-8, an object:
    a name, a value or an item may be any bytes, and a reader has to see which it was.
    """
    # All of them or none: no reader has to guess where a string changes.
    if is_utf8(data):
        return render_text(data)
    return render_object([("base64", f'"{encode_base64url(data)}"')], indent)


def render_object(members: list[tuple[str, str]], indent: int) -> str:
    """Render an object whose closing brace stands at this indent. [COLL-18]

    Members are rendered already, so that each chapter says how: {"score": 1e+21} is no
    number that a JSON library would write so.
    """
    inner = ",\n".join(f'{" " * (indent + 2)}"{name}": {value}' for name, value in members)
    return f"{{\n{inner}\n{' ' * indent}}}"


def render_document(name: str, elements: list[str], expiry_ms: int | None) -> bytes:
    """Render the blob of a collection; its elements are rendered at the indent 4. [COLL-18]

    `name` is what the chapter of the type calls the list: items, fields or members.
    """
    items = ",\n".join(f"    {element}" for element in elements)
    members = [
        ("format_version", str(FORMAT_VERSION)),
        (name, f"[\n{items}\n  ]" if elements else "[]"),  # [COLL-8]
        ("expire_at_ms", render_expiry(expiry_ms)),
    ]
    return render_object(members, 0).encode("utf-8")


def render_expiry(expiry_ms: int | None) -> str:
    """Render `expire_at_ms`, which is always there: null says that there is none. [COLL-18] [RSTM-9]"""
    return "null" if expiry_ms is None else str(expiry_ms)
