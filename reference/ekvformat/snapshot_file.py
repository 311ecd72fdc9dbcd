"""The snapshot file. Implements spec chapter FILE.

    [header]  payload magic  last commit  entry entry entry ...  [footer]

Header, version 1 [FILE-1] and version 2 [FILE-2]:

    offset  size  field          offset  size  field
    ------  ----  -------------  ------  ----  --------------------------------
         0     8  `EKVTHLC1`          0     8  `EKVTHLC2`
         8     8  ceiling_ms          8     2  size, u16_be, 16 to 1024
                                     10     8  ceiling_ms
                                     18     8  cutover_index
                                     26     -  extension, size - 16 bytes

Payload part [FILE-6], entries [FILE-11] and footer [FILE-17]:

    size        field           value
    ----------  --------------  ------------------------------------------------
             8  payload magic   `EKVPBBL1`
             8  last_commit_ts  u64_le

             8  key size        u64_le, at most 1 048 584
      key size  key             the encoded key
             8  value size      u64_le, at most 268 435 499
    value size  value           the encoded value

             4  crc32c          u32_be, CRC-32C of every byte before it

The faults of this chapter come in the order of the file, so the one at the lowest
offset is met first. [OUTC-4]
"""

import os
import re
import stat
from typing import Final, NamedTuple

import google_crc32c

from ekvformat.conventions import Cursor
from ekvformat.outcomes import Fault

MAGIC_SIZE: Final = 8
"""Size of every magic, in bytes."""
HEADER_V1_MAGIC: Final = b"EKVTHLC1"
"""Begins a version 1 header. [FILE-1]"""
HEADER_V2_MAGIC: Final = b"EKVTHLC2"
"""Begins a version 2 header. [FILE-2]"""
HEADER_FAMILY: Final = b"EKVTHLC"
"""Begins a header of any version; the version is the byte behind it. [FILE-5]"""
PAYLOAD_MAGIC: Final = b"EKVPBBL1"
"""Begins the payload part. [FILE-6]"""
INGEST_MAGIC: Final = b"EKVSSTI1"
"""Begins a payload part of tables, which is not read. [FILE-7]"""
PAYLOAD_MAGICS: Final = (PAYLOAD_MAGIC, INGEST_MAGIC)
"""What may stand behind a header. A second header may not. [FILE-8] [FILE-10]"""
START_MAGICS: Final = (HEADER_V1_MAGIC, HEADER_V2_MAGIC, *PAYLOAD_MAGICS)
"""What may stand at the start of a snapshot. [FILE-10]"""

HEADER_V1_FIELDS_SIZE: Final = 8
"""Size of ceiling_ms, in bytes. [FILE-1]"""
MIN_HEADER_V2_SIZE: Final = 16
"""Size of the two known fields, in bytes. [FILE-4]"""
MAX_HEADER_V2_SIZE: Final = 1024
"""Largest size of a version 2 header, in bytes. [FILE-4]"""
MAX_KEY_SIZE: Final = 1_048_576 + 8
"""1 MiB and a version suffix, in bytes. [FILE-12]"""
MAX_VALUE_SIZE: Final = 268_435_456 + 9 + 34
"""256 MiB, a value header, and what encryption adds, in bytes. [FILE-13]"""
FOOTER_SIZE: Final = 4
"""Size of a CRC-32C, in bytes. [FILE-17]"""
SNAPSHOT_NAME: Final = re.compile(r"([0-9a-f]{16})\.fsm")
"""A name that a node gives to a snapshot. [FILE-25]"""


class Entry(NamedTuple):
    """One entry as stored, and where it is in the snapshot."""

    key: bytes
    """The encoded key: storage key and version suffix."""
    key_offset: int
    """In bytes; the key size stands eight bytes before."""
    value: bytes
    """The encoded value: value header and body."""
    value_offset: int
    """In bytes."""


class SnapshotFile(NamedTuple):
    """A snapshot whose structure and footer are sound."""

    last_commit_ts: int
    """The commit timestamp up to which the snapshot is complete. [FILE-6]"""
    entries: list[Entry]
    """In the order of the file, which is that of their encoded keys. [FILE-16]"""
    crc32c: int | None
    """What the footer holds; None without a footer."""


def decode_snapshot_file(data: bytes) -> SnapshotFile:
    """Decode the structure of a whole snapshot.

    Raises a fault of this chapter, from FILE-1 to FILE-19.
    """
    cursor = Cursor(data, "truncated")
    has_header = take_header(cursor)
    last_commit_ts = take_payload_start(cursor, PAYLOAD_MAGICS if has_header else START_MAGICS)
    entries = take_entries(cursor)
    crc32c = take_footer(cursor, data, has_header)
    return SnapshotFile(last_commit_ts, entries, crc32c)


def take_header(cursor: Cursor) -> bool:
    """Take the header. Return True if there is one.

    A node writes one into every file of its own; a backup may have none.
    """
    # [FILE-1] The ceiling of the node's clock when it wrote; a dump has no use for it.
    if cursor.skip(HEADER_V1_MAGIC):
        cursor.take(HEADER_V1_FIELDS_SIZE, "ceiling_ms", "FILE-9")
        return True

    # [FILE-2] [FILE-3] The size counts the two known fields and whatever a newer
    # node adds behind them. All of it is skipped, so it is one field. [FILE-9]
    if cursor.skip(HEADER_V2_MAGIC):
        size_offset = cursor.offset
        size = cursor.u16_be("header size", "FILE-9")
        # [FILE-4] Judged before anything of that size is taken.
        if not MIN_HEADER_V2_SIZE <= size <= MAX_HEADER_V2_SIZE:
            raise Fault("bad-header", "FILE-4", f"header size {size} is not within 16 to 1024", size_offset)
        cursor.take(size, "header fields", "FILE-9")
        return True

    # [FILE-5] A header all the same, but of a version that is not known yet. Fewer than
    # eight bytes may be a magic that is cut, which is judged below. [FILE-10]
    start = cursor.peek(MAGIC_SIZE)
    if start.startswith(HEADER_FAMILY) and len(start) == MAGIC_SIZE:
        raise Fault("unsupported", "FILE-5", "the version of the header is not known", len(HEADER_FAMILY))
    return False


def take_payload_start(cursor: Cursor, magics: tuple[bytes, ...]) -> int:
    """Take payload magic and last commit; return the last commit.

    `magics` are those that may stand here.
    """
    offset = cursor.offset
    start = cursor.peek(MAGIC_SIZE)
    # [FILE-10] Too few bytes that may still become a magic are one that is cut.
    # No byte at all begins every magic.
    if len(start) < MAGIC_SIZE and any(magic.startswith(start) for magic in magics):
        cursor.take(MAGIC_SIZE, "magic", "FILE-9")
    # [FILE-7] A known kind of file, so "unsupported" says more than "bad magic".
    if cursor.skip(INGEST_MAGIC):
        raise Fault("unsupported", "FILE-7", "an ingest stream holds tables instead of entries", offset)
    # [FILE-8] Anything else, a second header behind the first one included.
    if not cursor.skip(PAYLOAD_MAGIC):
        raise Fault("bad-magic", "FILE-8", f"neither a header nor a payload magic: {start!r}", offset)
    # [FILE-6]
    return cursor.u64_le("last commit", "FILE-9")


def take_entries(cursor: Cursor) -> list[Entry]:
    """Take all entries, up to the footer or the end.

    Raises the fault at the lowest offset. [OUTC-4]
    """
    entries: list[Entry] = []
    previous_key: bytes | None = None
    # [FILE-11] [FILE-17] Nothing else marks the end: where an entry would begin, no
    # byte left means no footer, and four bytes left are one.
    while cursor.left not in (0, FOOTER_SIZE):
        entry_offset = cursor.offset
        key, key_offset = take_sized(cursor, "key", MAX_KEY_SIZE, "FILE-12")
        # [FILE-16] Judged before the value: the entry's own offset is the lower one.
        # The first entry has none before it, and its key may be empty.
        if previous_key is not None and key <= previous_key:
            detail = "the key is not greater than the key before"
            raise Fault("out-of-order", "FILE-16", detail, entry_offset, None, key)
        value, value_offset = take_sized(cursor, "value", MAX_VALUE_SIZE, "FILE-13")
        entries.append(Entry(key, key_offset, value, value_offset))
        previous_key = key
    return entries


def take_sized(cursor: Cursor, field: str, limit: int, clause: str) -> tuple[bytes, int]:
    """Take a size and a field of that size; return the field and its offset.

    `clause` is the clause of the limit.
    """
    size_offset = cursor.offset
    # [FILE-15] An entry that is not whole is cut in one of its four fields.
    size = cursor.u64_le(f"{field} size", "FILE-15")
    # [FILE-12] [FILE-13] [FILE-14] The limit first, and only then what is left.
    if size > limit:
        raise Fault("too-large", clause, f"{field} size {size} is above {limit}", size_offset)
    return cursor.take(size, field, "FILE-15"), cursor.offset - size


def take_footer(cursor: Cursor, data: bytes, has_header: bool) -> int | None:
    """Take the footer; return the CRC-32C it holds, or None if there is none.

    It is judged when all entries are taken: a fault of structure says more about a
    damaged file than that its bytes are not those that were written. [OUTC-3]
    """
    offset = cursor.offset
    if cursor.left == 0:
        # [FILE-19] A node writes header and footer together, so with this rule every
        # cut of such a file is found. [FILE-20] Without a header it is a warning.
        if has_header:
            raise Fault("truncated", "FILE-19", "a snapshot with a header has a footer, this one has none", offset)
        return None
    # [FILE-18] Every byte before it, the header included.
    stored = cursor.u32_be("footer", "FILE-15")
    found = int(google_crc32c.value(data[:offset]))
    if stored != found:
        detail = f"the footer says {stored:08x}, the bytes before it give {found:08x}"
        raise Fault("footer-mismatch", "FILE-18", detail, offset)
    return stored


def decode_snapshot_name(path: str) -> int | None:
    """Return the applied index that a file name gives, or None. [FILE-25]

    `0000000000002710.fsm` is index 10000.
    """
    match = SNAPSHOT_NAME.fullmatch(os.path.basename(path))
    # Sixteen hexadecimal digits, although many of them look like decimal ones.
    return int(match[1], 16) if match else None


Identity = tuple[int, int, int, int]
"""What a file keeps as long as it is left alone: device, inode, size, modification time. [FILE-22]"""


def read_snapshot(path: str) -> tuple[bytes, Identity]:
    """Read a whole snapshot; return its bytes, and what tells later that it is still the same.

    Raises `io-error` where it cannot be read [FILE-24]. (A command reads it in
    windows instead. [FILE-23])
    """
    try:
        # [FILE-24] A FIFO without a writer would block a plain open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Fault("io-error", "FILE-24", "the snapshot is not a regular file", None, path)
            return file.read(), identity_of(status)
    except (OSError, ValueError) as error:
        raise Fault("io-error", "FILE-24", f"cannot read the snapshot: {error}", None, path) from error


def check_unchanged(path: str, identity: Identity) -> None:
    """Raise `changed` if the snapshot is not what it was. [FILE-22]"""
    try:
        # By its path: a file that was put in the place of the one that was read is another file.
        unchanged = identity_of(os.stat(path)) == identity
    except OSError:
        unchanged = False
    if not unchanged:
        raise Fault("changed", "FILE-22", "the snapshot changed while it was decoded", None, path)


def identity_of(status: os.stat_result) -> Identity:
    """Return what a file keeps as long as it is left alone. [FILE-22]

    Size and time alone would not tell a file from another one in its place.
    """
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
