"""Lines of KEYMAP.jsonl as keys. Implements part of spec chapter READ.

The writing half, and what a line looks like, is `ekvformat.keymap`.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from ekvformat.keymap import KEYMAP_NAME
from ekvformat.manifest import decode_json, is_text

from ekvdump.verify.findings import Finding
from ekvdump.verify.lines import iter_bounded_lines
from ekvdump.verify.segments import decode_base64url

MAX_LINE_SIZE: Final = 4 * 1024 * 1024
"""Most bytes of a line, LF included. [READ-6]"""
MEMBERS: Final = ("encoded", "original", "kind")
"""Names of the members of a line. [KMAP-1]"""


class KeymapLine(NamedTuple):
    """The contents of one line."""

    encoded: str
    original: bytes
    """The user key."""
    kind: str


def iter_keymap(lines: BinaryIO, path: str = KEYMAP_NAME) -> Iterator[KeymapLine]:
    """Yield the lines of a KEYMAP. Raises `invalid-keymap` at the first bad line, for good. [READ-10]

    Of several lines for one segment all are given; to look up a key, take the last. [READ-11]
    """
    for offset, line in iter_bounded_lines(lines, MAX_LINE_SIZE):
        # [READ-6]
        if len(line) > MAX_LINE_SIZE:
            raise Finding("invalid-keymap", "READ-6", f"a line of more than {MAX_LINE_SIZE} bytes", offset, path)
        yield decode_keymap_line(line, offset, path)


def decode_keymap_line(line: bytes, offset: int = 0, path: str = KEYMAP_NAME) -> KeymapLine:
    """Decode one line, which begins at `offset` in the file. Raises `invalid-keymap`."""
    # [READ-7]
    try:
        members = decode_json(line)
    except ValueError as error:
        raise Finding("invalid-keymap", "READ-7", f"not JSON: {error}", offset, path) from error
    if not isinstance(members, dict):
        raise Finding("invalid-keymap", "READ-7", "not a JSON object", offset, path)
    for member in MEMBERS:
        if not is_text(members.get(member)):
            raise Finding("invalid-keymap", "READ-7", f"{member} is missing, null or no string", offset, path)
    # [READ-8]
    for member in ("encoded", "kind"):
        if not members[member]:
            raise Finding("invalid-keymap", "READ-8", f"{member} is empty", offset, path)
    # [READ-9]
    original = decode_base64url(members["original"])
    if original is None:
        raise Finding("invalid-keymap", "READ-9", "original is not base64url without padding", offset, path)
    return KeymapLine(members["encoded"], original, members["kind"])
