"""KEYMAP.jsonl: the keys of fallback segments. Implements spec chapter KMAP.

{"encoded":"<segment>","original":"<base64url>","kind":"sha-fallback"} LF
"""

import json
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from ekvdump.format.conventions import iter_bounded_lines
from ekvdump.format.outcomes import InvalidKeymap
from ekvdump.format.segments import decode_base64url, encode_base64url, refuse_constant

KEYMAP_NAME: Final = "KEYMAP.jsonl"
SHA_FALLBACK: Final = "sha-fallback"
"""The kind of a fallback segment. [KMAP-11]"""
MAX_LINE_SIZE: Final = 4 * 1024 * 1024
"""Bytes, LF included. [KMAP-5]"""
MEMBERS: Final = ("encoded", "original", "kind")
"""Of a line, in this order. [KMAP-1]"""


class KeymapLine(NamedTuple):
    """What one line says."""

    encoded: str
    original: bytes
    """The user key."""
    kind: str


def render_keymap_line(segment: str, key: bytes) -> bytes:
    """Render the line of a key that is shown under a fallback segment. [KMAP-1]"""
    original = encode_base64url(key)
    return f'{{"encoded":"{segment}","original":"{original}","kind":"{SHA_FALLBACK}"}}\n'.encode("ascii")


def iter_keymap(lines: BinaryIO, path: str = "KEYMAP.jsonl") -> Iterator[KeymapLine]:
    """Yield the lines of a KEYMAP. Raises `InvalidKeymap` at the first bad line, for good. [KMAP-9]"""
    for offset, line in iter_bounded_lines(lines, MAX_LINE_SIZE):
        # [KMAP-5]
        if len(line) > MAX_LINE_SIZE:
            raise InvalidKeymap("KMAP-5", f"a line of more than {MAX_LINE_SIZE} bytes", offset, path)
        yield decode_keymap_line(line, offset, path)


def decode_keymap_line(line: bytes, offset: int = 0, path: str = "KEYMAP.jsonl") -> KeymapLine:
    """Decode one line, which begins at `offset` in the file. Raises `InvalidKeymap`."""
    # [KMAP-6]
    try:
        members = json.loads(line.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidKeymap("KMAP-6", f"not JSON: {error}", offset, path) from error
    if not isinstance(members, dict):
        raise InvalidKeymap("KMAP-6", "not a JSON object", offset, path)
    for member in MEMBERS:
        if not isinstance(members.get(member), str):
            raise InvalidKeymap("KMAP-6", f"{member} is missing, null or no string", offset, path)
    # [KMAP-7]
    for member in ("encoded", "kind"):
        if not members[member]:
            raise InvalidKeymap("KMAP-7", f"{member} is empty", offset, path)
    # [KMAP-8]
    original = decode_base64url(members["original"])
    if original is None:
        raise InvalidKeymap("KMAP-8", "original is not base64url without padding", offset, path)
    return KeymapLine(members["encoded"], original, members["kind"])
