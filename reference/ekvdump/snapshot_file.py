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

This is the one module that reads a snapshot. It does so by position, through
windows of bounded size: a file that is cut while we read must give a fault, not
a signal, so nothing is mapped into memory.
"""

import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, Self

import google_crc32c

from ekvdump.conventions import Cursor, Source
from ekvdump.outcomes import (
    BadHeader,
    BadMagic,
    Changed,
    FooterMismatch,
    IoError,
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
"""Where the version 2 size field stands. [FILE-3]"""
MIN_HEADER_V2_SIZE: Final = 16
"""The two known fields. [FILE-3]"""
MAX_HEADER_V2_SIZE: Final = 1024
"""More is no header. [FILE-3]"""
LONGEST_START: Final = 8 + 2 + MAX_HEADER_V2_SIZE + 8 + 8
"""Bytes that hold every possible header, payload magic and last commit."""

MAX_KEY_SIZE: Final = 1_048_576 + 8
"""1 MiB and a version suffix. [FILE-10]"""
MAX_VALUE_SIZE: Final = 268_435_456 + 9 + 34
"""256 MiB, a value header and what encryption adds. [FILE-11]"""
SIZE_FIELD: Final = struct.Struct("<Q")
"""u64_le, before each key and each value. [FILE-9]"""
SIZE_FIELD_SIZE: Final = 8
"""Bytes of a size field."""
FOOTER_SIZE: Final = 4
"""u32_be. [FILE-15]"""
VALUE_HEAD_SIZE: Final = 9 + 11
"""Bytes of a value that an entry carries along: the header of VISI-2, and what stands before a payload. [RSTR-4]"""

READ_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
"""How a snapshot is opened; a platform may lack some of these."""
WINDOW_SIZE = 256 * 1024
"""Bytes that are read at once. [FILE-21]"""

SNAPSHOT_NAME: Final = re.compile(r"([0-9a-f]{16})\.fsm")
"""The name that a node gives to a snapshot. [FILE-23]"""


class Start(NamedTuple):
    """What stands before the first entry."""

    header_version: int | None
    """1, 2, or None without a header."""
    last_commit_ts: int
    entries_offset: int
    """Bytes from the start of the snapshot to the first entry."""

    @property
    def has_header(self) -> bool:
        """Whether the snapshot comes from a node's own folder. [FILE-17]"""
        return self.header_version is not None


class Entry(NamedTuple):
    """One entry as stored; the value itself stays in the file."""

    offset: int
    """Where its key size stands."""
    key: bytes
    """The encoded key."""
    value_offset: int
    value_size: int
    value_head: bytes
    """The first `VALUE_HEAD_SIZE` bytes of the encoded value, or all of it if it is shorter."""


class SnapshotFile:
    """An open snapshot. A context manager.

    Raises `IoError` for what cannot be opened or is not a regular file [FILE-22], and
    `Changed` where the file is not what it was when it was opened [FILE-20].
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            # [FILE-22] A FIFO without a writer would block a plain open.
            self._fd = os.open(path, READ_FLAGS)
            status = os.fstat(self._fd)
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise IoError("FILE-22", f"cannot open the snapshot: {words}", None, path) from error
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise IoError("FILE-22", "the snapshot is not a regular file", None, path)
        self.size = status.st_size
        self._identity = _identity(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # nothing was written through it
            os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on."""
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                # One call returns at most 2 GiB, and may return less than asked for.
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    raise Changed("FILE-20", "the snapshot became shorter while it was read", offset, self.path)
                data += more
        except OSError as error:
            raise IoError("FILE-22", f"cannot read the snapshot: {error.strerror}", offset, self.path) from error
        return data

    def check_unchanged(self) -> None:
        """Refuse if the file is not what it was at the start. [FILE-20]"""
        try:
            # By the path and not by the handle: a file put in the place of the open one is another file.
            unchanged = _identity(os.stat(self.path)) == self._identity
        except OSError:
            unchanged = False
        if not unchanged:
            raise Changed("FILE-20", "size, inode or modification time changed while it was read", None, self.path)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what a file keeps as long as nobody touches it. [FILE-20]"""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Crc32cReader:
    """Reads a snapshot forward and takes the CRC-32C of every byte it passes. [FILE-16]

    The bytes of the footer, if there are four left for one, are not part of it;
    whether they are a footer is known only at the end.
    """

    def __init__(self, source: Source) -> None:
        self.size = source.size
        self._source = source
        self._crc = 0
        self._passed = 0

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on, which is never behind an earlier read's offset."""
        self._pass_to(offset)
        data = self._source.read(offset, size)
        fresh = data[self._passed - offset : max(0, self.size - FOOTER_SIZE - offset)]
        self._crc = google_crc32c.extend(self._crc, fresh)
        self._passed += len(fresh)
        return data

    def crc32c_up_to(self, end: int) -> int:
        """Return the CRC-32C of the bytes before `end`, the end of the file or of what precedes a footer."""
        self._pass_to(end)
        return self._crc

    def _pass_to(self, offset: int) -> None:
        while self._passed < offset:
            data = self._source.read(self._passed, min(WINDOW_SIZE, offset - self._passed))
            self._crc = google_crc32c.extend(self._crc, data)
            self._passed += len(data)


def decode_start(source: Source) -> Start:
    """Decode header, payload magic and last commit.

    Raises `BadMagic`, `BadHeader`, `Unsupported` or `Truncated`.
    """
    cursor = Cursor(source.read(0, min(source.size, LONGEST_START)), Truncated)

    header_version: int | None = None
    if cursor.skip(HEADER_V1_MAGIC):
        header_version = 1
        # [FILE-1] The ceiling of the clock at the time of writing; a dump has no use for it.
        cursor.take(HEADER_V1_FIELDS_SIZE, "ceiling_ms", "FILE-8")
    elif cursor.skip(HEADER_V2_MAGIC):
        header_version = 2
        # [FILE-2] [FILE-25] The size counts the known fields and whatever a newer node adds.
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
        # [FILE-26] What is cut may still become a magic; [FILE-7] anything else never will.
        if any(len(left) < len(magic) and magic.startswith(left) for magic in known):
            raise Truncated("FILE-8", f"cut inside the magic: {len(left)} of 8 bytes are there", magic_offset)
        raise BadMagic("FILE-7", f"neither a header nor a payload magic: {printable(left[:8])}", magic_offset)
    last_commit_ts = cursor.u64_le("last commit", "FILE-8")
    return Start(header_version, last_commit_ts, cursor.offset)


def iter_entries(source: Source, start: int, end: int) -> Iterator[Entry]:
    """Yield the entries between two offsets, judging structure on the way.

    `end` is the end of the file, or an offset where an entry begins. Raises
    `TooLarge`, `Truncated` or `OutOfOrder`, at the lowest offset [OUTC-3]. No more
    than a window is held, whatever the sizes claim. [FILE-12]
    """
    read_size = SIZE_FIELD.unpack_from
    window, window_offset, window_size = b"", start, 0
    at = 0
    """Where in the window the entry begins."""
    previous: bytes | None = None
    footer_at = end - FOOTER_SIZE
    while True:
        offset = window_offset + at
        # [FILE-15] Nothing left: no footer. Four bytes left: too few for a size, so they are the footer.
        if offset >= footer_at and offset in (end, footer_at):
            return

        if window_size - at < SIZE_FIELD_SIZE:
            window = source.read(offset, min(WINDOW_SIZE, end - offset))
            window_offset, window_size, at = offset, len(window), 0
            if window_size < SIZE_FIELD_SIZE:
                raise Truncated("FILE-13", f"cut inside key size: {window_size} of 8 bytes are there", offset)
        (key_size,) = read_size(window, at)

        # Both sizes, the key and the head of the value are looked at together, so they have to be in the
        # window together. Where they are, the key size keeps its limit: no window has more.
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

        # [FILE-14] The first entry has none before it, and its key may be empty.
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
    """Judge the footer behind the last entry, which ends at `end`; return its CRC-32C, or None without one.

    Raises `FooterMismatch`, or `Truncated` where a header demands a footer.
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


def decode_snapshot_name(path: str) -> int | None:
    """Return the applied index that a file name gives, or None if it gives none. [FILE-23]"""
    match = SNAPSHOT_NAME.fullmatch(os.path.basename(path))
    return int(match[1], 16) if match else None
