"""Keys as file names. Implements spec chapter SEGM.

form      a segment of this form looks like
--------  ---------------------------------------------------------------
percent   unreserved bytes as they are, `%` and two hex digits for others
fallback  32 hex digits of SHA-256, `__`, percent form of 64 bytes
binary    `b64.` and base64url without padding
"""

import base64
import hashlib
import re
from typing import Final, NoReturn

from ekvdump.format.outcomes import InvalidSegment, NeedsKeymap

UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")
"""Bytes that stand for themselves. [SEGM-1]"""
PERCENT_FORM: Final = [chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in range(256)]
"""Byte = its percent form. [SEGM-1]"""
MAX_SEGMENT_SIZE: Final = 240
"""Bytes. [SEGM-2]"""
FALLBACK_HASH_DIGITS: Final = 32
"""Of the SHA-256. [SEGM-3]"""
FALLBACK_KEY_SIZE: Final = 64
"""Bytes of the key that a fallback segment shows. [SEGM-3]"""
FALLBACK_SHAPE: Final = re.compile(r"[0-9A-Fa-f]{32}__")
"""Begins a fallback segment, and nothing else. [SEGM-6] [SEGM-11]"""
BINARY_PREFIX: Final = "b64."
"""Begins a binary form. [SEGM-7] [SEGM-8] [SEGM-12]"""
BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
"""The alphabet of base64url. [SEGM-12]"""
PERCENT_SHAPE: Final = re.compile(r"(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})*")
"""What a percent form may hold. [SEGM-13]"""
ESCAPED_BYTE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


def encode_percent(key: bytes) -> str:
    """Return the percent form, of any size. [SEGM-1]"""
    return "".join(map(PERCENT_FORM.__getitem__, key))


def encode_fallback(key: bytes) -> str:
    """Return the fallback form. [SEGM-3]"""
    digits = hashlib.sha256(key).hexdigest()[:FALLBACK_HASH_DIGITS]
    return f"{digits}__{encode_percent(key[:FALLBACK_KEY_SIZE])}"


def encode_segment(key: bytes) -> str:
    """Return the segment of a user key. [SEGM-2]"""
    # [SEGM-4] Judged first, so that a key of 1 MiB is never spelled out.
    if len(key) > MAX_SEGMENT_SIZE:
        return encode_fallback(key)
    segment = encode_percent(key)
    # [SEGM-5] [SEGM-6] [SEGM-7]
    if len(segment) > MAX_SEGMENT_SIZE or FALLBACK_SHAPE.match(segment) or segment.startswith(BINARY_PREFIX):
        return encode_fallback(key)
    return segment


def encode_binary_segment(key: bytes) -> str:
    """Return the segment of a binary key. [SEGM-8]"""
    segment = BINARY_PREFIX + encode_base64url(key)
    return segment if len(segment) <= MAX_SEGMENT_SIZE else encode_fallback(key)


def is_fallback(segment: str) -> bool:
    """Say whether the key can be read from the segment only with KEYMAP. [SEGM-9]"""
    # [SEGM-14] What is too long to be a segment is no fallback form either, however it begins.
    return size_of(segment) <= MAX_SEGMENT_SIZE and FALLBACK_SHAPE.match(segment) is not None


def size_of(segment: str) -> int:
    """Return the bytes of a segment; a byte of a file name that is no UTF-8 counts as one."""
    return len(segment.encode("utf-8", "replace"))


def decode_segment(segment: str) -> bytes:
    """Return the user key of a segment. [SEGM-14]

    Raises `InvalidSegment`, or `NeedsKeymap` for a fallback segment.
    """
    # [SEGM-10]
    if (size := size_of(segment)) > MAX_SEGMENT_SIZE:
        raise InvalidSegment("SEGM-10", f"{size} bytes, more than {MAX_SEGMENT_SIZE}", None, segment)
    # [SEGM-11]
    if is_fallback(segment):
        raise NeedsKeymap("SEGM-11", "a fallback segment does not hold its key", None, segment)
    # [SEGM-12]
    if segment.startswith(BINARY_PREFIX):
        key = decode_base64url(segment[len(BINARY_PREFIX) :])
        if key is None:
            raise InvalidSegment("SEGM-12", "not base64url without padding", None, segment)
        return key
    # [SEGM-13]
    if not PERCENT_SHAPE.fullmatch(segment):
        raise InvalidSegment("SEGM-13", "a reserved byte, or a broken escape", None, segment)
    return ESCAPED_BYTE.sub(lambda match: bytes((int(match[1], 16),)), segment.encode("ascii"))


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding. [SEGM-8] [KMAP-1]"""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes | None:
    """Return the bytes, or None if the text is not base64url without padding. [SEGM-12] [KMAP-8]"""
    # One left-over character holds six bits: less than a byte.
    if not BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def refuse_constant(word: str) -> NoReturn:
    """Refuse `NaN` and the infinities, which Python takes for JSON. [KMAP-6] [MANI-11]"""
    raise ValueError(f"{word} is no JSON")
