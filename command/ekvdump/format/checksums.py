r"""CHECKSUMS: the seal of a dump. Implements spec chapter SUMS.

    <64 hex digits of SHA-256>  <path> LF

a path with LF, CR or backslash:

    \<64 hex digits of SHA-256>  <path with \n, \r, \\> LF
"""

import re
from typing import Final, NamedTuple

from ekvdump.format.outcomes import AbsolutePath, EmptyPath, MalformedLine, ParentPath

MAX_LINE_SIZE: Final = 8 * 1024
"""Bytes, without the LF. [SUMS-7]"""
LINE_SHAPE: Final = re.compile(rb"(\\?)([0-9A-Fa-f]{64})(?:  | \*)([^\0]*)", re.DOTALL)
"""A line without its LF. [SUMS-7]"""
ESCAPES: Final = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
"""Byte = how it is written in an escaped path. [SUMS-2]"""
ESCAPED: Final = re.compile(rb"[\\\n\r]")
UNESCAPES: Final = {written: byte for byte, written in ESCAPES.items()}
ESCAPE: Final = re.compile(rb"\\(.?)", re.DOTALL)


class ChecksumLine(NamedTuple):
    """What one line says."""

    sha256: bytes
    """Lower-case hex."""
    path: bytes
    """Relative to the output folder."""


def render_checksum_line(path: bytes, sha256: bytes) -> bytes:
    """Render one line; the hash is in hex. [SUMS-1]"""
    # [SUMS-2]
    written = ESCAPED.sub(lambda match: ESCAPES[match[0]], path)
    mark = b"\\" if written != path else b""
    return mark + sha256 + b"  " + written + b"\n"


def decode_checksum_line(line: bytes, offset: int = 0, path: str = "CHECKSUMS") -> ChecksumLine:
    """Decode one line, which begins at `offset` in the file.

    Raises `MalformedLine`, `EmptyPath`, `AbsolutePath` or `ParentPath`.
    """
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
    return ChecksumLine(digits.lower(), named)
