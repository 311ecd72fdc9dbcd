r"""Lines of CHECKSUMS as paths and hashes. Implements part of spec chapter READ.

The writing half, and what a line looks like, is `ekvformat.checksums`. More is read than is
written: hex digits of both cases, the mark of binary mode, and an escaped path that needs
no escape. [READ-25]
"""

import re
from typing import Final, NamedTuple

from ekvformat.checksums import CHECKSUMS_NAME, ESCAPES

from ekvdump.verify.findings import Finding

MAX_LINE_SIZE: Final = 8 * 1024
"""Most bytes of a line, without the LF. [READ-25]"""
LINE_SHAPE: Final = re.compile(rb"(\\?)([0-9A-Fa-f]{64})(?:  | \*)([^\0]*)", re.DOTALL)
"""A line without its LF. [READ-25]"""
BYTE_OF_ESCAPE: Final = {written: byte for byte, written in ESCAPES.items()}
"""How a byte is written in an escaped path = the byte. [SUMS-2]"""
ESCAPE: Final = re.compile(rb"\\(.?)", re.DOTALL)
"""A backslash in an escaped path, and what follows it."""


class ChecksumLine(NamedTuple):
    """The contents of one line."""

    sha256: bytes
    """Lower-case hex."""
    path: bytes
    """Relative to the output directory."""


def decode_checksum_line(line: bytes, offset: int = 0, path: str = CHECKSUMS_NAME) -> ChecksumLine:
    """Decode one line, which begins at `offset` in the file.

    Raises `malformed-line`, `empty-path`, `absolute-path` or `parent-path`.
    """
    line = line.removesuffix(b"\n")
    # [READ-25]
    if len(line) > MAX_LINE_SIZE:
        raise Finding("malformed-line", "READ-25", f"a line of more than {MAX_LINE_SIZE} bytes", offset, path)
    match = LINE_SHAPE.fullmatch(line)
    if match is None:
        raise Finding("malformed-line", "READ-25", "not 64 hex digits, two separators and a path", offset, path)
    mark, digits, named = match.groups()
    if mark:
        if any(escape[0] not in BYTE_OF_ESCAPE for escape in ESCAPE.finditer(named)):
            raise Finding("malformed-line", "READ-25", "an escape that is none of \\n, \\r, \\\\", offset, path)
        named = ESCAPE.sub(lambda escape: BYTE_OF_ESCAPE[escape[0]], named)
    # [READ-26] [READ-27] [READ-28]
    if not named:
        raise Finding("empty-path", "READ-26", "a line without a path", offset, path)
    if named.startswith(b"/"):
        raise Finding("absolute-path", "READ-27", "a path from the root", offset, path)
    if b".." in named.split(b"/"):
        raise Finding("parent-path", "READ-28", "a path that climbs", offset, path)
    return ChecksumLine(digits.lower(), named)
