r"""CHECKSUMS: the seal of a dump. Implements spec chapter SUMS.

<64 hex digits of SHA-256>  <path> LF

a path with LF, CR or backslash:
\<64 hex digits of SHA-256>  <path with \n, \r, \\> LF
"""

import heapq
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple

from ekvdump.outcomes import AbsolutePath, EmptyPath, MalformedLine, NoLine, ParentPath

MAX_LINE_SIZE: Final = 8 * 1024
"""Bytes, without the LF. [SUMS-7]"""
LINE_SHAPE: Final = re.compile(rb"(\\?)([0-9A-Fa-f]{64})(?:  | \*)(.*)", re.DOTALL)
"""A line without its LF. [SUMS-7]"""
ESCAPES: Final = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
"""Byte = how it is written in an escaped path. [SUMS-2]"""
ESCAPED: Final = re.compile(rb"[\\\n\r]")
UNESCAPES: Final = {written: byte for byte, written in ESCAPES.items()}
ESCAPE: Final = re.compile(rb"\\(.?)", re.DOTALL)

RUN_LINES: Final = 32_768
"""Lines that are sorted in memory. [SUMS-6]"""
MAX_RUNS: Final = 32
"""Sorted runs that may lie in temporary files before they are merged into one. [SUMS-6]"""


class ChecksumLine(NamedTuple):
    """What one line says."""

    sha256: str
    """Lower-case hex."""
    path: bytes
    """Relative to the output folder."""


def render_checksum_line(path: bytes, sha256: str) -> bytes:
    """Render one line. [SUMS-1]"""
    # [SUMS-2]
    written = ESCAPED.sub(lambda match: ESCAPES[match[0]], path)
    mark = b"\\" if written != path else b""
    return mark + sha256.encode("ascii") + b"  " + written + b"\n"


def iter_checksums(lines: BinaryIO, path: str = "CHECKSUMS") -> Iterator[ChecksumLine]:
    """Yield the lines of a CHECKSUMS.

    Raises `MalformedLine`, `EmptyPath`, `AbsolutePath`, `ParentPath` or `NoLine`.
    """
    offset = 0
    while line := lines.readline(MAX_LINE_SIZE + 2):
        yield decode_checksum_line(line, offset, path)
        offset += len(line)
    # [SUMS-10]
    if offset == 0:
        raise NoLine("SUMS-10", "there is no line", None, path)


def decode_checksum_line(line: bytes, offset: int = 0, path: str = "CHECKSUMS") -> ChecksumLine:
    """Decode one line, which begins at `offset` in the file."""
    line = line.removesuffix(b"\n")
    # [SUMS-7]
    if len(line) > MAX_LINE_SIZE:
        raise MalformedLine("SUMS-7", f"a line of more than {MAX_LINE_SIZE} bytes", offset, path)
    match = LINE_SHAPE.fullmatch(line)
    if match is None:
        raise MalformedLine("SUMS-7", "not 64 hex digits, two separators and a path", offset, path)
    mark, digits, named = match.groups()
    if mark:
        if any(escape[0] not in UNESCAPES for escape in ESCAPE.finditer(named)):
            raise MalformedLine("SUMS-7", "an escape that is none of \\n, \\r, \\\\", offset, path)
        named = ESCAPE.sub(lambda escape: UNESCAPES[escape[0]], named)
    # [SUMS-8] [SUMS-13] [SUMS-14]
    if not named:
        raise EmptyPath("SUMS-8", "a line without a path", offset, path)
    if named.startswith(b"/"):
        raise AbsolutePath("SUMS-13", "a path from the root", offset, path)
    if b".." in named.split(b"/"):
        raise ParentPath("SUMS-14", "a path that climbs", offset, path)
    return ChecksumLine(digits.decode("ascii").lower(), named)


class SortedPaths:
    """Collects files and their hashes in any order and gives the lines in order of the paths. [SUMS-3]

    Keeps a bounded number of lines in memory; the rest lies sorted in temporary
    files that `open_unnamed` makes. [SUMS-6] Between path and hash in them stands a
    NUL, which no path holds and which sorts below every byte that one does.
    """

    def __init__(self, open_unnamed: Callable[[], BinaryIO]) -> None:
        self._open_unnamed = open_unnamed
        self._fresh: list[bytes] = []
        self._runs: list[BinaryIO] = []

    def add(self, path: bytes, sha256: str) -> None:
        """Add one file."""
        self._fresh.append(b"%b\0%b\n" % (path, sha256.encode("ascii")))
        if len(self._fresh) == RUN_LINES:
            self._spill(sorted(self._fresh))
            self._fresh.clear()

    def __iter__(self) -> Iterator[bytes]:
        for line in self._merged():
            path, sha256 = line.rsplit(b"\0", 1)
            yield render_checksum_line(path, sha256[:-1].decode("ascii"))

    def close(self) -> None:
        """Give the temporary files back."""
        for run in self._runs:
            run.close()
        self._runs.clear()

    def _merged(self) -> Iterator[bytes]:
        for run in self._runs:
            run.seek(0)
        return heapq.merge(*self._runs, sorted(self._fresh))

    def _spill(self, lines: list[bytes]) -> None:
        if len(self._runs) == MAX_RUNS:
            self._fresh.clear()
            merged = self._open_unnamed()
            merged.writelines(self._merged())
            self.close()
            self._runs = [merged]
        run = self._open_unnamed()
        run.writelines(lines)
        self._runs.append(run)
