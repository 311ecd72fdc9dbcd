"""The snapshot file: header, payload part, footer. Implements spec chapter FILE.

    [header]  payload magic  last commit  entry entry entry ...  [footer]

What stands before the first entry is taken as `ekvformat.snapshot_file` takes it, whose
byte tables are not repeated here. The entries are read through windows of bounded size,
whatever the sizes in them claim, and one after another at the speed of a loop over
millions of them; this is why `iter_entries` does not use a cursor.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ekvformat import snapshot_file
from ekvformat.conventions import Cursor
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import (
    FOOTER_SIZE,
    HEADER_V1_MAGIC,
    HEADER_V2_MAGIC,
    MAGIC_SIZE,
    MAX_HEADER_V2_SIZE,
    MAX_KEY_SIZE,
    MAX_VALUE_SIZE,
    PAYLOAD_MAGICS,
    START_MAGICS,
    take_header,
    take_payload_start,
)
from ekvformat.visibility import VALUE_HEADER_SIZE

from ekvdump.engine.source import WINDOW_SIZE, Crc32cReader, Source

HEADER_VERSIONS: Final = {HEADER_V1_MAGIC: 1, HEADER_V2_MAGIC: 2}
"""Magic of a header = its version."""
LONGEST_START: Final = MAGIC_SIZE + 2 + MAX_HEADER_V2_SIZE + MAGIC_SIZE + 8
"""Size of the largest header, the payload magic and the last commit, in bytes."""
SIZE_FIELD: Final = struct.Struct("<Q")
"""u64_le, before each key and each value. [FILE-11]"""
SIZE_FIELD_SIZE: Final = 8
"""Bytes of a size field."""
VALUE_HEAD_SIZE: Final = VALUE_HEADER_SIZE + 11
"""Size of the part of a value that an entry includes: the header of VISI-2 and the fields before a payload. [ENVL-5]"""


class Start(NamedTuple):
    """Header, payload magic and last commit."""

    header_version: int | None
    """1, 2, or None without a header."""
    last_commit_ts: int
    entries_offset: int
    """Bytes from the start of the snapshot to the first entry."""

    @property
    def has_header(self) -> bool:
        """True if the snapshot comes from a node's own directory. [FILE-19]"""
        return self.header_version is not None


Entry = tuple[int, bytes, int, int, bytes]
"""One entry as stored; its value stays in the file. Millions of them are made, so their fields have no names:

    offset        of its key size
    key           the encoded key
    value_offset
    value_size
    value_head    the first `VALUE_HEAD_SIZE` bytes of the encoded value, or all of it if it is shorter
"""


def as_in_memory(entry: Entry) -> snapshot_file.Entry:
    """Return an entry for the rules of `ekvformat`; of its value only the head is there."""
    offset, key, value_offset, _, value_head = entry
    return snapshot_file.Entry(key, offset + SIZE_FIELD_SIZE, value_head, value_offset)


def decode_start(source: Source) -> Start:
    """Decode header, payload magic and last commit.

    Raises `bad-magic`, `bad-header`, `unsupported` or `truncated`.
    """
    data = source.read(0, min(source.size, LONGEST_START))
    cursor = Cursor(data, "truncated")
    header_version = HEADER_VERSIONS[data[:MAGIC_SIZE]] if take_header(cursor) else None
    last_commit_ts = take_payload_start(cursor, START_MAGICS if header_version is None else PAYLOAD_MAGICS)
    return Start(header_version, last_commit_ts, cursor.offset)


def iter_entries(source: Source, start: int, end: int) -> Iterator[Entry]:
    """Yield the entries between two offsets and check their structure.

    `end` is the end of the file or the offset of an entry. Raises
    `too-large`, `truncated` or `out-of-order`, at the lowest offset [OUTC-4]. Memory
    is limited to one window, whatever the sizes claim. [FILE-14]
    """
    read_size = SIZE_FIELD.unpack_from
    window, window_offset, window_size = b"", start, 0
    at = 0
    """Position in the window where the entry begins."""
    previous: bytes | None = None
    footer_at = end - FOOTER_SIZE
    while True:
        offset = window_offset + at
        # [FILE-17] Nothing left: there is no footer. Four bytes left: too few for a size field, so they are the footer.
        if offset >= footer_at and offset in (end, footer_at):
            return

        if window_size - at < SIZE_FIELD_SIZE:
            window = source.read(offset, min(WINDOW_SIZE, end - offset))
            window_offset, window_size, at = offset, len(window), 0
            if window_size < SIZE_FIELD_SIZE:
                raise Fault("truncated", "FILE-15", f"only {window_size} of 8 bytes of the key size are there", offset)
        (key_size,) = read_size(window, at)

        # Both sizes, the key and the head of the value must be in the window together. If they are, the
        # key size is within its limit, because no window is larger.
        key_at = at + SIZE_FIELD_SIZE
        value_size_at = key_at + key_size
        if value_size_at + SIZE_FIELD_SIZE + VALUE_HEAD_SIZE > window_size:
            # [FILE-12] [FILE-14] The limit first, then what is left.
            if key_size > MAX_KEY_SIZE:
                raise Fault("too-large", "FILE-12", f"key size {key_size} is above {MAX_KEY_SIZE}", offset)
            left = end - offset - SIZE_FIELD_SIZE
            if left < key_size:
                detail = f"only {left} of {key_size} bytes of the key are there"
                raise Fault("truncated", "FILE-15", detail, offset + SIZE_FIELD_SIZE)
            needed = SIZE_FIELD_SIZE + key_size + SIZE_FIELD_SIZE + VALUE_HEAD_SIZE
            window = source.read(offset, min(max(WINDOW_SIZE, needed), end - offset))
            window_offset, window_size, key_at = offset, len(window), SIZE_FIELD_SIZE
            value_size_at = key_at + key_size
        key = window[key_at:value_size_at]

        # [FILE-16] The first key may be empty.
        if previous is not None and key <= previous:
            raise Fault("out-of-order", "FILE-16", "the key is not greater than the key before", offset, None, key)
        previous = key

        value_at = value_size_at + SIZE_FIELD_SIZE
        if value_at > window_size:
            detail = f"only {window_size - value_size_at} of 8 bytes of the value size are there"
            raise Fault("truncated", "FILE-15", detail, window_offset + value_size_at)
        (value_size,) = read_size(window, value_size_at)
        value_offset = window_offset + value_at
        # [FILE-13] [FILE-14]
        if value_size > MAX_VALUE_SIZE:
            detail = f"value size {value_size} is above {MAX_VALUE_SIZE}"
            raise Fault("too-large", "FILE-13", detail, value_offset - SIZE_FIELD_SIZE)
        at = value_at + value_size
        if window_offset + at > end:
            detail = f"only {end - value_offset} of {value_size} bytes of the value are there"
            raise Fault("truncated", "FILE-15", detail, value_offset)

        head_end = at if value_size < VALUE_HEAD_SIZE else value_at + VALUE_HEAD_SIZE
        yield offset, key, value_offset, value_size, window[value_at:head_end]


def decode_footer(source: Source, crc: Crc32cReader, end: int, *, has_header: bool) -> int | None:
    """Check the footer after the last entry, which ends at `end`; return its CRC-32C, or None without a footer.

    Raises `footer-mismatch`, or `truncated` if a header requires a footer.
    """
    if end == source.size:
        # [FILE-19] [FILE-20]
        if has_header:
            raise Fault(
                "truncated", "FILE-19", "a snapshot with a header ends with a footer, and this one has none", end
            )
        return None
    # [FILE-18]
    stored = int.from_bytes(source.read(end, FOOTER_SIZE), "big")
    found = crc.crc32c_up_to(end)
    if stored != found:
        raise Fault(
            "footer-mismatch", "FILE-18", f"the footer says {stored:08x}, the bytes before it give {found:08x}", end
        )
    return stored
