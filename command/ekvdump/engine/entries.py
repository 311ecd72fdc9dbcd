"""The snapshot file: header, payload part, footer. Implements spec chapter FILE.

    [header]  payload magic  last commit  entry entry entry ...  [footer]

    offset  size  header, version 1         header, version 2
    ------  ----  ------------------------  -----------------------------
         0     8  magic `EKVTHLC1`          magic `EKVTHLC2`
         8     2  ceiling_ms  u64_be        size  u16_be, 16 to 1024
        10     8  (the field has 8 bytes)   ceiling_ms  u64_be
        18     8                            cutover_index  u64_be
        26     -                            size - 16 bytes, skipped

    offset  size  payload part
    ------  ----  -----------------------------------------------------
         0     8  magic `EKVPBBL1`
         8     8  last_commit_ts  u64_le
        16     -  entries: key size u64_le, key, value size u64_le, value

    footer: u32_be, CRC-32C of every byte before it

The file is read through windows of bounded size, whatever the sizes in it claim.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ekvdump.engine.source import FOOTER_SIZE, WINDOW_SIZE, Crc32cReader, Source
from ekvdump.format.conventions import Cursor
from ekvdump.format.outcomes import (
    BadHeader,
    BadMagic,
    FooterMismatch,
    OutOfOrder,
    TooLarge,
    Truncated,
    Unsupported,
    printable,
)

HEADER_V1_MAGIC: Final = b"EKVTHLC1"
"""Begins a version 1 header. [FILE-1]"""
HEADER_V2_MAGIC: Final = b"EKVTHLC2"
"""Begins a version 2 header. [FILE-2]"""
HEADER_FAMILY: Final = b"EKVTHLC"
"""Begins a header of any version. [FILE-4]"""
PAYLOAD_MAGIC: Final = b"EKVPBBL1"
"""Begins the payload part. [FILE-5]"""
INGEST_MAGIC: Final = b"EKVSSTI1"
"""Begins a payload part of tables, which is not read. [FILE-6]"""

HEADER_V1_FIELDS_SIZE: Final = 8
"""Bytes of ceiling_ms. [FILE-1]"""
HEADER_V2_SIZE_OFFSET: Final = 8
"""Offset of the version 2 size field. [FILE-3]"""
MIN_HEADER_V2_SIZE: Final = 16
"""Size of the two known fields. [FILE-3]"""
MAX_HEADER_V2_SIZE: Final = 1024
"""Largest valid header size. [FILE-3]"""
LONGEST_START: Final = 8 + 2 + MAX_HEADER_V2_SIZE + 8 + 8
"""Size of the largest header, the payload magic and the last commit."""

MAX_KEY_SIZE: Final = 1_048_576 + 8
"""1 MiB and a version suffix. [FILE-10]"""
MAX_VALUE_SIZE: Final = 268_435_456 + 9 + 34
"""256 MiB, a value header and what encryption adds. [FILE-11]"""
SIZE_FIELD: Final = struct.Struct("<Q")
"""u64_le, before each key and each value. [FILE-9]"""
SIZE_FIELD_SIZE: Final = 8
"""Bytes of a size field."""
VALUE_HEAD_SIZE: Final = 9 + 11
"""Size of the part of a value that an entry includes: the header of VISI-2 and the fields before a payload. [RSTR-4]"""


class Start(NamedTuple):
    """Header, payload magic and last commit."""

    header_version: int | None
    """1, 2, or None without a header."""
    last_commit_ts: int
    entries_offset: int
    """Bytes from the start of the snapshot to the first entry."""

    @property
    def has_header(self) -> bool:
        """True if the snapshot comes from a node's own directory. [FILE-17]"""
        return self.header_version is not None


class Entry(NamedTuple):
    """One entry as stored; its value stays in the file."""

    offset: int
    """Offset of its key size."""
    key: bytes
    """The encoded key."""
    value_offset: int
    value_size: int
    value_head: bytes
    """The first `VALUE_HEAD_SIZE` bytes of the encoded value, or all of it if it is shorter."""


def decode_start(source: Source) -> Start:
    """Decode header, payload magic and last commit.

    Raises `BadMagic`, `BadHeader`, `Unsupported` or `Truncated`.
    """
    cursor = Cursor(source.read(0, min(source.size, LONGEST_START)), Truncated)

    header_version: int | None = None
    if cursor.skip(HEADER_V1_MAGIC):
        header_version = 1
        # [FILE-1] The ceiling of the clock at the time of writing; a dump does not need it.
        cursor.take(HEADER_V1_FIELDS_SIZE, "ceiling_ms", "FILE-8")
    elif cursor.skip(HEADER_V2_MAGIC):
        header_version = 2
        # [FILE-2] [FILE-25] The size includes the known fields and those that a newer node adds.
        size = cursor.u16_be("header size", "FILE-8")
        # [FILE-3]
        if not MIN_HEADER_V2_SIZE <= size <= MAX_HEADER_V2_SIZE:
            raise BadHeader("FILE-3", f"header size {size} is not within 16 to 1024", HEADER_V2_SIZE_OFFSET)
        cursor.take(size, "header fields", "FILE-8")
    else:
        # [FILE-4]
        start = source.read(0, min(source.size, len(HEADER_V1_MAGIC)))
        if start.startswith(HEADER_FAMILY) and len(start) == len(HEADER_V1_MAGIC):
            raise Unsupported("FILE-4", f"header version {printable(start[-1:])} is not known", len(HEADER_FAMILY))

    known = (PAYLOAD_MAGIC, INGEST_MAGIC) if header_version else (
        PAYLOAD_MAGIC, INGEST_MAGIC, HEADER_V1_MAGIC, HEADER_V2_MAGIC
    )  # fmt: skip
    magic_offset = cursor.offset
    # [FILE-6]
    if cursor.skip(INGEST_MAGIC):
        raise Unsupported("FILE-6", "an ingest stream holds tables instead of entries", magic_offset)
    # [FILE-5]
    if not cursor.skip(PAYLOAD_MAGIC):
        left = cursor.rest()
        # [FILE-26] A prefix of a magic is a cut file; [FILE-7] anything else is not a snapshot.
        if any(len(left) < len(magic) and magic.startswith(left) for magic in known):
            raise Truncated("FILE-8", f"cut inside the magic: {len(left)} of 8 bytes are there", magic_offset)
        raise BadMagic("FILE-7", f"neither a header nor a payload magic: {printable(left[:8])}", magic_offset)
    last_commit_ts = cursor.u64_le("last commit", "FILE-8")
    return Start(header_version, last_commit_ts, cursor.offset)


def iter_entries(source: Source, start: int, end: int) -> Iterator[Entry]:
    """Yield the entries between two offsets and check their structure.

    `end` is the end of the file or the offset of an entry. Raises
    `TooLarge`, `Truncated` or `OutOfOrder`, at the lowest offset [OUTC-3]. Memory
    is limited to one window, whatever the sizes claim. [FILE-12]
    """
    read_size = SIZE_FIELD.unpack_from
    window, window_offset, window_size = b"", start, 0
    at = 0
    """Position in the window where the entry begins."""
    previous: bytes | None = None
    footer_at = end - FOOTER_SIZE
    while True:
        offset = window_offset + at
        # [FILE-15] Nothing left: there is no footer. Four bytes left: too few for a size field, so they are the footer.
        if offset >= footer_at and offset in (end, footer_at):
            return

        if window_size - at < SIZE_FIELD_SIZE:
            window = source.read(offset, min(WINDOW_SIZE, end - offset))
            window_offset, window_size, at = offset, len(window), 0
            if window_size < SIZE_FIELD_SIZE:
                raise Truncated("FILE-13", f"cut inside key size: {window_size} of 8 bytes are there", offset)
        (key_size,) = read_size(window, at)

        # Both sizes, the key and the head of the value must be in the window together. If they are, the
        # key size is within its limit, because no window is larger.
        key_at = at + SIZE_FIELD_SIZE
        value_size_at = key_at + key_size
        if value_size_at + SIZE_FIELD_SIZE + VALUE_HEAD_SIZE > window_size:
            # [FILE-10] [FILE-12] The limit first, then what is left.
            if key_size > MAX_KEY_SIZE:
                raise TooLarge("FILE-10", f"key size {key_size} is above {MAX_KEY_SIZE}", offset)
            left = end - offset - SIZE_FIELD_SIZE
            if left < key_size:
                detail = f"cut inside key: {left} of {key_size} bytes are there"
                raise Truncated("FILE-13", detail, offset + SIZE_FIELD_SIZE)
            needed = SIZE_FIELD_SIZE + key_size + SIZE_FIELD_SIZE + VALUE_HEAD_SIZE
            window = source.read(offset, min(max(WINDOW_SIZE, needed), end - offset))
            window_offset, window_size, key_at = offset, len(window), SIZE_FIELD_SIZE
            value_size_at = key_at + key_size
        key = window[key_at:value_size_at]

        # [FILE-14] The first key may be empty.
        if previous is not None and key <= previous:
            raise OutOfOrder("FILE-14", "the key is not greater than the key before", offset, None, key)
        previous = key

        value_at = value_size_at + SIZE_FIELD_SIZE
        if value_at > window_size:
            detail = f"cut inside value size: {window_size - value_size_at} of 8 bytes are there"
            raise Truncated("FILE-13", detail, window_offset + value_size_at)
        (value_size,) = read_size(window, value_size_at)
        value_offset = window_offset + value_at
        # [FILE-11] [FILE-12]
        if value_size > MAX_VALUE_SIZE:
            detail = f"value size {value_size} is above {MAX_VALUE_SIZE}"
            raise TooLarge("FILE-11", detail, value_offset - SIZE_FIELD_SIZE)
        at = value_at + value_size
        if window_offset + at > end:
            detail = f"cut inside value: {end - value_offset} of {value_size} bytes are there"
            raise Truncated("FILE-13", detail, value_offset)

        head_end = at if value_size < VALUE_HEAD_SIZE else value_at + VALUE_HEAD_SIZE
        yield Entry(offset, key, value_offset, value_size, window[value_at:head_end])


def decode_footer(source: Source, crc: Crc32cReader, end: int, *, has_header: bool) -> int | None:
    """Check the footer after the last entry, which ends at `end`; return its CRC-32C, or None without a footer.

    Raises `FooterMismatch`, or `Truncated` if a header requires a footer.
    """
    if end == source.size:
        # [FILE-17] [FILE-18]
        if has_header:
            raise Truncated("FILE-17", "a snapshot with a header ends with a footer, and this one has none", end)
        return None
    # [FILE-16]
    stored = int.from_bytes(source.read(end, FOOTER_SIZE), "big")
    found = crc.crc32c_up_to(end)
    if stored != found:
        raise FooterMismatch("FILE-16", f"the footer says {stored:08x}, the bytes before it give {found:08x}", end)
    return stored
