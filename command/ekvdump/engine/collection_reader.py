"""Collections of a snapshot: judged, and rendered piece by piece. Implements spec chapters COLL and RHAS to RSTM.

A collection is judged before a byte of it is written [SAFE-4]; then its records are read
again. What is held of it meanwhile is one element, a window of the index and of the
snapshot, and of a packed record whose elements have to be sorted [COLL-21] one run.

Metas, deltas and elements are decoded by `ekvformat`, so that their faults are the same;
what is here is the reading of many of them.
"""

import struct
from collections.abc import Callable, Iterator
from math import isnan
from typing import Final

from ekvformat import keys
from ekvformat.collections import (
    ESCAPES,
    FIRST_TEXT,
    FORMAT_VERSION,
    MORE_BYTES,
    SECOND_DOUBLE,
    SECOND_TEXT,
    SIZED,
    Field,
    Meta,
    checked_text,
    decode_meta,
    is_utf8,
    iter_message,
    render_expiry,
    take_field,
    take_tag,
    take_varint,
    unreadable,
)
from ekvformat.conventions import Cursor
from ekvformat.decode import COLLECTION_SECTIONS, malformed_ttl
from ekvformat.outcomes import Fault
from ekvformat.redis_hashes import HASH_MAGIC
from ekvformat.redis_lists import DELTA_SIZE, decode_list_meta, number_of
from ekvformat.redis_sets import SET_MAGIC
from ekvformat.redis_streams import ELEMENT_MAGIC, StreamElement, decode_stream_meta, is_behind
from ekvformat.redis_streams import decode_element as decode_stream_element
from ekvformat.redis_ttls import TTL_VALUE_SIZE, decode_ttl_value
from ekvformat.redis_zsets import ZSET_MAGIC, checked_score, render_score
from ekvformat.redis_zsets import decode_element as decode_zset_element
from ekvformat.segments import encode_base64url
from ekvformat.user_keys import CLAIM, DELTA, ELEMENT, INDEX, META, PACKED
from ekvformat.visibility import Record as WholeRecord

from ekvdump.engine.collection_index import RANK_OF, Group, storage_key_of
from ekvdump.engine.record_index import HEAD_SIZE, Record, read_body
from ekvdump.engine.run_sorter import RunSorter
from ekvdump.engine.source import Source

MAGICS: Final = {keys.HASH: HASH_MAGIC, keys.SET: SET_MAGIC, keys.ZSET: ZSET_MAGIC}
"""Type = what begins its packed records. [COLL-9]"""
META_DECODERS: Final = {keys.LIST: decode_list_meta, keys.STREAM: decode_stream_meta}
"""Type = what decodes its meta, if that is not the meta of COLL-1."""
JUDGED: Final = (META, DELTA, ELEMENT, PACKED)
"""Kinds of records that can have faults, in the order in which they are judged. [COLL-17]"""
LIST_NAMES: Final = {keys.HASH: "fields", keys.LIST: "items", keys.SET: "members", keys.ZSET: "members"}
"""Type = the name of the list of elements in its document. [COLL-18]"""
PIECE_SIZE: Final = 64 * 1024
"""Bytes of a blob that are collected before they are given, unless one element has more."""
LONGEST_TAG: Final = 20
"""Bytes of the tag of a field and of a varint behind it, at most. [COLL-10]"""
PLACE: Final = struct.Struct(">Q")
"""Begins the tail of an element of a packed record: its number among the others."""
VALUE_PLACE: Final = struct.Struct(">QI")
"""In the tail of an element of a packed hash: offset and size of its value."""
SCORE: Final = struct.Struct(">d")
LITTLE_SCORE: Final = struct.Struct("<d")
ID_TAG: Final = 0x0A
TEXT_TAG: Final = 0x12
"""Tags of the fields of a stream's element: its ID, and a name or a value. [RSTM-6]"""
ESCAPE_TABLE: Final = str.maketrans(ESCAPES)
"""[COLL-20]"""

Elements = Iterator[tuple[bytes, bytes]]
"""Names and values, numbers and items, members and the bits of their scores, or places and bodies, in output order."""


class Collection:
    """A collection that can be read. `close` it."""

    def __init__(self, source: Source, group: Group, row: Record | None) -> None:
        """Judge all records of the type that the user key has; `row` is its TTL record.

        Raises `invalid-value` as COLL-17 says; a malformed TTL record is none of its concern.
        """
        self.user_key = group.user_key
        self.type = group.type or ""
        self._source = source
        self._group = group
        self._sorter: RunSorter | None = None
        """The elements of a packed record. [COLL-21]"""
        self.unread_count = 0
        """Records that no client reads. [COMP-12]"""
        self.element_count = 0
        meta_record = group.first(META)
        self.meta = self._decode_meta(meta_record)
        self.decides_alone = has_expiry_field(self.type, meta_record)
        """Whether its own meta says when it ends. [COLL-4]"""
        self._window = range(0)
        if self.type == keys.LIST:
            self._window = self._add_deltas()
        self._judge_elements()
        self.expiry_ms = self._decide_expiry(row)
        """Unix ms; None if it has none."""

    def _decode_meta(self, record: Record | None) -> Meta:
        if record is None:
            return Meta()
        return META_DECODERS.get(self.type, decode_meta)({META: {b"": self._whole(META, record)}})

    def _decide_expiry(self, row: Record | None) -> int | None:
        if self.decides_alone:
            return self.meta.expiry_ms  # [COLL-4]
        # [COLL-5] A malformed one is refused when its own turn comes. [OUTC-5]
        return decode_ttl_value(row.head) if row is not None and row.body_size == TTL_VALUE_SIZE else None

    # ---- records ----

    def _whole(self, kind: str, record: Record) -> WholeRecord:
        """Return a record with its whole body, for the rules of `ekvformat`."""
        storage_key = storage_key_of(RANK_OF[self.type, kind], self.user_key, record.user_key)
        return WholeRecord(storage_key, self._body(record), record.body_offset)

    def _body(self, record: Record) -> bytes:
        return record.head if record.body_size <= HEAD_SIZE else read_body(self._source, record)

    # ---- judging ----

    def _add_deltas(self) -> range:
        """Return the window of a list. Raises `invalid-value`. [RLIS-2] [RLIS-3]"""
        head, length = self.meta.head, self.meta.length
        for record in self._group.iter_kind(DELTA):
            if record.body_size != DELTA_SIZE:
                detail = f"a delta has {DELTA_SIZE} bytes, this one has {record.body_size}"
                raise unreadable("RLIS-2", detail, self._whole(DELTA, record))
            cursor = Cursor(self._body(record), "invalid-value", record.body_offset)
            head += cursor.i64_be("head_delta", "RLIS-2")
            length += cursor.i64_be("length_delta", "RLIS-2")
        return range(head, head + max(0, length))

    def _judge_elements(self) -> None:
        """Count the elements; raise the fault of the first that cannot be read. [COLL-17]"""
        if self.type == keys.LIST:
            self.element_count = sum(1 for _ in self._iter_shown())
            self.unread_count = self._group.count(ELEMENT) - self.element_count + self._group.count(CLAIM)  # [RLIS-6]
        elif self.type == keys.STREAM:
            for record in self._iter_shown():
                self._decode_stream_element(record)
                self.element_count += 1
            packed_count = self._group.count(PACKED) if self._group.count(META) else 0  # [RSTM-7]
            self.unread_count = self._group.count(ELEMENT) - self.element_count + packed_count  # [RSTM-4]
        else:
            self.unread_count = self._group.count(INDEX)  # [RZSE-4]
            self.element_count = self._group.count(ELEMENT)
            # [COLL-6]
            if self.element_count:
                if self.type == keys.ZSET:
                    for record in self._group.iter_kind(ELEMENT):
                        if not is_score(record.head, record.body_size):
                            decode_zset_element(self._whole(ELEMENT, record))
            elif packed := self._group.first(PACKED):
                self._sort_packed(packed)

    def _iter_shown(self) -> Iterator[Record]:
        """Yield the elements of a list in its window, or of a stream behind what was trimmed. [RLIS-5] [RSTM-3]"""
        if self.type == keys.LIST:
            window = self._window
            for record in self._group.iter_kind(ELEMENT) if window else ():
                if number_of(record.user_key) in window:
                    yield record
        elif self.meta.length:
            trimmed = self.meta.trimmed
            for record in self._group.iter_kind(ELEMENT):
                if is_behind(record.user_key, trimmed):
                    yield record

    def _sort_packed(self, record: Record) -> None:
        """Judge a packed record, and sort its elements. Raises `invalid-value`."""
        storage_key = storage_key_of(RANK_OF[self.type, PACKED], self.user_key, b"")
        empty = WholeRecord(storage_key, b"", record.body_offset)
        """Says where faults are; the body is read in pieces."""
        self._sorter = sorter = RunSorter()
        try:
            for number, field in enumerate(iter_packed(self._source, record, empty, MAGICS[self.type])):
                sorter.add(*unpack_element(self.type, field, empty, number))
            previous: bytes | None = None
            for name, _ in sorter:
                self.element_count += name != previous
                previous = name
        except BaseException:
            sorter.close()
            raise

    # ---- rendering ----

    def iter_elements(self) -> Elements:
        """Yield the elements in output order: see `Elements`. Raises `changed`."""
        if self._sorter is not None:
            yield from self._iter_packed_elements(self._sorter)
        elif self.type in (keys.LIST, keys.STREAM):
            for record in self._iter_shown():
                yield record.user_key, self._body(record)
        else:
            for record in self._group.iter_kind(ELEMENT):
                yield record.user_key, b"" if self.type == keys.SET else self._body(record)

    def _iter_packed_elements(self, sorter: RunSorter) -> Elements:
        last: tuple[bytes, bytes] | None = None
        for name, tail in sorter:
            # [COLL-15] The last of equal ones counts; tails begin with their places.
            if last is not None and last[0] != name:
                yield last[0], self._packed_value(last[1])
            last = name, tail
        if last is not None:
            yield last[0], self._packed_value(last[1])

    def _packed_value(self, tail: bytes) -> bytes:
        if self.type == keys.HASH:
            return self._source.read(*VALUE_PLACE.unpack_from(tail, PLACE.size))
        return tail[PLACE.size :]  # bits of a score, or nothing

    def iter_pieces(self) -> Iterator[bytes]:
        """Yield the blob. [COLL-18] [RSTM-9] Raises `changed`."""
        return self._iter_lines_of_stream() if self.type == keys.STREAM else self._iter_document()

    def _iter_document(self) -> Iterator[bytes]:
        render = RENDERERS[self.type]
        begin = f'{{\n  "format_version": {FORMAT_VERSION},\n  "{LIST_NAMES[self.type]}": ['
        pieces = [begin]
        size = 0
        separator = "\n    "
        for name, value in self.iter_elements():
            text = render(name, value)
            pieces += (separator, text)
            separator = ",\n    "
            size += len(text)
            if size >= PIECE_SIZE:
                yield "".join(pieces).encode()
                pieces.clear()
                size = 0
        end = "]" if separator == "\n    " else "\n  ]"
        pieces.append(f'{end},\n  "expire_at_ms": {render_expiry(self.expiry_ms)}\n}}')
        yield "".join(pieces).encode()

    def _iter_lines_of_stream(self) -> Iterator[bytes]:
        pieces: list[str] = []
        size = 0
        for element in self.iter_stream_elements():
            pairs = ",".join(
                f'{{"name":{render_text(name)},"value":{render_text(value)}}}' for name, value in element.fields
            )
            line = f'{{"id":{render_text(element.id)},"fields":[{pairs}]}}\n'
            pieces.append(line)
            size += len(line)
            if size >= PIECE_SIZE:
                yield "".join(pieces).encode()
                pieces.clear()
                size = 0
        last_ms, last_seq = self.meta.last_id
        numbers = f'"length":{self.meta.length},"last_ms":{last_ms},"last_seq":{last_seq}'
        pieces.append(f'{{"_meta":true,{numbers},"expire_at_ms":{render_expiry(self.expiry_ms)}}}\n')
        yield "".join(pieces).encode()

    def iter_stream_elements(self) -> Iterator[StreamElement]:
        """Yield the elements of a stream. Raises `changed`."""
        for record in self._iter_shown():
            try:
                element = self._decode_stream_element(record)
            except Fault as fault:
                raise self._changed(record) from fault
            yield element

    def _decode_stream_element(self, record: Record) -> StreamElement:
        return decode_plain_element(self._body(record)) or decode_stream_element(self._whole(ELEMENT, record))

    def _changed(self, record: Record) -> Fault:
        detail = "the value is no longer what it was when it was judged"
        return Fault("changed", "FILE-22", detail, record.body_offset, self._source.path)

    def close(self) -> None:
        """Give up what was sorted."""
        if self._sorter is not None:
            self._sorter.close()


def has_expiry_field(type_: str, meta: Record | None) -> bool:
    """Return True for a meta whose body is large enough for the field `expiry`. [COLL-4] [RTTL-4]"""
    return meta is not None and meta.body_size >= COLLECTION_SECTIONS[type_].expiry_end


def check_ttl(group: Group) -> None:
    """Raise `invalid-value` for a collection that a malformed TTL record decides about. [SALV-11]"""
    if not has_expiry_field(group.type or "", group.first(META)):
        # The first record in the order of COLL-17, which is never a claim.
        kind, record = next((kind, record) for kind in JUDGED if (record := group.first(kind)))
        storage_key = storage_key_of(RANK_OF[group.type or "", kind], group.user_key, record.user_key)
        raise malformed_ttl(WholeRecord(storage_key, b"", record.body_offset))


def record_at_fault(group: Group, fault: Fault) -> Record:
    """Return the record of a collection that a fault names by its storage key."""
    for kind in JUDGED:
        for record in group.iter_kind(kind):
            if storage_key_of(RANK_OF[group.type or "", kind], group.user_key, record.user_key) == fault.key:
                return record
    raise AssertionError("a fault of no record of this collection")


# ---- elements at a glance: what is wrong with others, `ekvformat` says ----


def is_score(head: bytes, body_size: int) -> bool:
    """Return True for the body of a zset's element that can be read. [RZSE-1] [RZSE-2]"""
    return body_size == SCORE.size and not isnan(SCORE.unpack(head)[0])


def decode_plain_element(body: bytes) -> StreamElement | None:
    """Decode the body of a stream's element, if it is as servers write it, else return None. [RSTM-6]

    It has the ID first, then nothing but names and values, all of them below 2^14 bytes.
    """
    if not body.startswith(ELEMENT_MAGIC):
        return None
    texts: list[bytes] = []
    tag, at, end = ID_TAG, len(ELEMENT_MAGIC), len(body)
    while at + 2 <= end:
        size = body[at + 1]
        if body[at] != tag:
            return None
        at += 2
        # [COLL-10] A size of two bytes, of which the second is the last.
        if size >= MORE_BYTES:
            if at == end or body[at] >= MORE_BYTES:
                return None
            size += (body[at] - 1) * MORE_BYTES
            at += 1
        text = body[at : at + size]
        if not (text.isascii() or is_utf8(text)):
            return None
        texts.append(text)
        tag = TEXT_TAG
        at += size
    if at != end or len(texts) % 2 == 0:
        return None
    return StreamElement(texts[0], list(zip(texts[1::2], texts[2::2], strict=True)))


# ---- packed records ----


def iter_packed(source: Source, record: Record, place: WholeRecord, magic: bytes) -> Iterator[Field]:
    """Yield the fields of a packed record that hold elements, and hold no more than one of them.

    `place` says where faults are. Raises `invalid-value`. [COLL-9] [COLL-10]
    """
    if not record.body_size:
        return
    if record.body_size < len(magic) or source.read(record.body_offset, len(magic)) != magic:
        raise unreadable("COLL-9", "the body does not begin with the magic of its type", place)
    offset, end = record.body_offset + len(magic), record.body_offset + record.body_size
    while offset < end:
        try:
            field, size = take_packed_field(source, place.storage_key, offset, end)
        except Fault as fault:
            # [COLL-11] Whatever is wrong with a field, its tag says where.
            raise fault.at(offset) from fault
        offset = field.value_offset + size
        if field.kind == FIRST_TEXT:
            yield field._replace(value=source.read(field.value_offset, size))


def take_packed_field(source: Source, storage_key: bytes, offset: int, end: int) -> tuple[Field, int]:
    """Take the field at an offset, without its value; return its size too. Raises `invalid-value`. [COLL-10]"""
    head = source.read(offset, min(LONGEST_TAG, end - offset))
    cursor = Cursor(head, "invalid-value", offset, storage_key)
    number, wire_type = take_tag(cursor)
    if wire_type != SIZED:
        # All of it is in the head.
        value_offset = cursor.offset
        whole = Cursor(head, "invalid-value", offset, storage_key)
        return take_field(whole)._replace(value_offset=value_offset), whole.offset - value_offset
    size = take_varint(cursor, "size")
    if size > end - cursor.offset:
        raise cursor.fault("COLL-11", f"only {end - cursor.offset} of {size} bytes of the value are there")
    return Field((number, wire_type), b"", offset, cursor.offset), size


def unpack_element(type_: str, packed: Field, place: WholeRecord, number: int) -> tuple[bytes, bytes]:
    """Return the name of an element of a packed record, and the tail by which it is sorted. Raises `invalid-value`.

    A tail begins with the number of the element, so that of equal names the last one comes last. [COLL-15]
    """
    if type_ == keys.SET:
        return checked_text(packed, place), PLACE.pack(number)
    name, score = b"", 0.0
    value_offset = value_size = 0
    for field in iter_message(packed.value, place, packed.value_offset):
        # [COLL-13]
        if field.kind == FIRST_TEXT:
            name = checked_text(field, place)
        elif type_ == keys.HASH and field.kind == SECOND_TEXT:
            value_offset, value_size = field.value_offset, len(checked_text(field, place))
        elif type_ == keys.ZSET and field.kind == SECOND_DOUBLE:
            score = checked_score(LITTLE_SCORE.unpack(field.value)[0], place, field.offset)
    if type_ == keys.HASH:
        return name, PLACE.pack(number) + VALUE_PLACE.pack(value_offset, value_size)
    return name, PLACE.pack(number) + SCORE.pack(score)


# ---- output ----


def render_text(data: bytes) -> str:
    """Render UTF-8 as a JSON string. [COLL-20]"""
    return f'"{data.decode("utf-8").translate(ESCAPE_TABLE)}"'


def render_bytes(data: bytes, indent: int) -> str:
    """Render bytes, which stand at this indent. [COLL-19]"""
    try:
        return render_text(data)
    except UnicodeDecodeError:
        space = " " * indent
        return f'{{\n{space}  "base64": "{encode_base64url(data)}"\n{space}}}'


def render_field(name: bytes, value: bytes) -> str:
    """Render a field of a hash. [RHAS-3]"""
    return f'{{\n      "name": {render_bytes(name, 6)},\n      "value": {render_bytes(value, 6)}\n    }}'


def render_item(_: bytes, item: bytes) -> str:
    """Render an item of a list. [RLIS-7]"""
    return render_bytes(item, 4)


def render_member(member: bytes, _: bytes) -> str:
    """Render a member of a set. [RSET-3]"""
    return render_bytes(member, 4)


def render_scored_member(member: bytes, score: bytes) -> str:
    """Render a member of a zset. [RZSE-5]"""
    rendered = render_score(SCORE.unpack(score)[0])
    return f'{{\n      "member": {render_bytes(member, 6)},\n      "score": {rendered}\n    }}'


RENDERERS: Final[dict[str, Callable[[bytes, bytes], str]]] = {
    keys.HASH: render_field, keys.LIST: render_item, keys.SET: render_member, keys.ZSET: render_scored_member,
}  # fmt: skip
"""Type = what renders one of its elements."""
