"""The visible records of a snapshot by type, as the first pass found them.

An index lists the records of one type in canonical order [VISI-17]: where the body of each
is, and how it begins. Whatever comes after the first pass reads indexes, as often as it
needs to, and not the entries of the snapshot, most of which are history. One record:

    size  field        value
    ----  -----------  ---------------------------------------------
       4  key size     u32_le, bytes of the user key
       8  body offset  u64_le, bytes from the start of the snapshot
       4  body size    u32_le, bytes
       -  head         the first `HEAD_SIZE` bytes of the body, or all of it
       -  user key     bytes
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ekvformat.outcomes import Fault

from ekvdump.engine.source import Source
from ekvdump.engine.spool import Spool

HEAD_SIZE: Final = 11
"""Size of the fields of an envelope, in bytes: enough of a body to judge it, and to tell its expiry. [ENVL-5]"""
FIELDS: Final = struct.Struct("<IQI")
"""The fields of fixed size."""
WINDOW_SIZE: Final = 64 * 1024
"""Bytes of an index that are read at a time, unless one record has more."""


class Record(NamedTuple):
    """The visible record of one storage key."""

    user_key: bytes
    """The storage key without the prefix of its type."""
    body_offset: int
    """Bytes from the start of the snapshot."""
    body_size: int
    """Bytes."""
    head: bytes
    """The first `HEAD_SIZE` bytes of the body, or all of it if it is shorter."""


def read_body(source: Source, record: Record, begin: int = 0) -> bytes:
    """Return the body of a record from its byte `begin` on.

    Raises `changed` if it no longer begins with the head by which it was judged. [FILE-22]
    """
    size = record.body_size - begin
    body = source.read(record.body_offset + begin, size) if size else b""
    check_head(source, record, begin, body)
    return body


def iter_body(source: Source, record: Record, begin: int, piece_size: int) -> Iterator[bytes]:
    """Yield the same in pieces of at most `piece_size` bytes, which is at least `HEAD_SIZE`. Raises the same."""
    offset, end = record.body_offset + begin, record.body_offset + record.body_size
    is_first = True
    while offset < end:
        piece = source.read(offset, min(piece_size, end - offset))
        if is_first:
            check_head(source, record, begin, piece)
        yield piece
        is_first = False
        offset += len(piece)


def check_head(source: Source, record: Record, begin: int, piece: bytes) -> None:
    """Raise `changed` if the bytes of a body from `begin` on are not those of its head. [FILE-22]"""
    if not piece.startswith(record.head[begin:]):
        detail = "the value is no longer what the first pass read"
        raise Fault("changed", "FILE-22", detail, record.body_offset, source.path)


class RecordIndex:
    """The visible records of one type. Iterate over it as often as needed, once all of them are added."""

    def __init__(self) -> None:
        self._spool = Spool()
        self.record_count = 0

    def add(self, user_key: bytes, body_offset: int, body_size: int, head: bytes) -> None:
        """Add the next record in canonical order. Raises what `Spool` raises."""
        self.add_encoded(FIELDS.pack(len(user_key), body_offset, body_size) + head + user_key)

    def add_encoded(self, record: bytes) -> None:
        """Add the next record as the index has it. Raises the same."""
        self._spool.append(record)
        self.record_count += 1

    def __iter__(self) -> Iterator[Record]:
        return self.iter_from(0, self.record_count)

    def iter_from(self, position: int, count: int, window_size: int = WINDOW_SIZE) -> Iterator[Record]:
        """Yield so many records from the one on that stands at a position, in bytes."""
        unpack, fields_size = FIELDS.unpack_from, FIELDS.size
        window, window_offset, at = b"", position, 0
        for _ in range(count):
            if at + fields_size > len(window):
                window_offset, window, at = window_offset + at, self._spool.read(window_offset + at, window_size), 0
            key_size, body_offset, body_size = unpack(window, at)
            key_at = at + fields_size + min(body_size, HEAD_SIZE)
            end = key_at + key_size
            if end > len(window):
                size = max(window_size, end - at)
                window_offset, window = window_offset + at, self._spool.read(window_offset + at, size)
                key_at, end, at = key_at - at, end - at, 0
            yield Record(window[key_at:end], body_offset, body_size, window[at + fields_size : key_at])
            at = end

    def close(self) -> None:
        """Give up the records."""
        self._spool.close()
