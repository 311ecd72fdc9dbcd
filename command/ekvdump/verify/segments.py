"""File names as keys. Implements part of spec chapter READ.

The writing half, and what the three forms look like, is `ekvformat.segments`.
"""

import base64
import re
from typing import Final

from ekvformat.segments import BINARY_PREFIX, MAX_SEGMENT_SIZE, is_fallback

from ekvdump.verify.findings import Finding

BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
"""The alphabet of base64url. [READ-3]"""
PERCENT_SHAPE: Final = re.compile(r"(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})*")
"""What a percent form may contain. [READ-4]"""
ESCAPED_BYTE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
"""One byte of a percent form that does not stand for itself. [READ-4]"""


def needs_keymap(segment: str) -> bool:
    """Return True for a fallback segment, whose key is only in KEYMAP. [READ-2]"""
    # [READ-5] What is too long to be a segment is not a fallback segment either, however it begins.
    return size_of(segment) <= MAX_SEGMENT_SIZE and is_fallback(segment)


def size_of(segment: str) -> int:
    """Return the bytes of a segment; a byte of a file name that is not UTF-8 counts as one."""
    return len(segment.encode("utf-8", "replace"))


def decode_segment(segment: str) -> bytes:
    """Return the user key of a segment. [READ-5]

    Raises `invalid-segment`, or `needs-keymap` for a fallback segment.
    """
    # [READ-1]
    if (size := size_of(segment)) > MAX_SEGMENT_SIZE:
        raise Finding("invalid-segment", "READ-1", f"{size} bytes, more than {MAX_SEGMENT_SIZE}", None, segment)
    # [READ-2]
    if needs_keymap(segment):
        raise Finding("needs-keymap", "READ-2", "a fallback segment does not hold its key", None, segment)
    # [READ-3]
    if segment.startswith(BINARY_PREFIX):
        key = decode_base64url(segment[len(BINARY_PREFIX) :])
        if key is None:
            raise Finding("invalid-segment", "READ-3", "not base64url without padding", None, segment)
        return key
    # [READ-4]
    if not PERCENT_SHAPE.fullmatch(segment):
        raise Finding("invalid-segment", "READ-4", "a reserved byte, or a broken escape", None, segment)
    return ESCAPED_BYTE.sub(lambda match: bytes((int(match[1], 16),)), segment.encode("ascii"))


def decode_base64url(text: str) -> bytes | None:
    """Return the bytes, or None if the text is not base64url without padding. [READ-3] [READ-9]"""
    # One left-over character holds six bits: less than a byte.
    if not BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
