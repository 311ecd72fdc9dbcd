"""Keys as file names. Implements spec chapter SEGM.

    form      a segment of this form looks like
    --------  ------------------------------------------------------------------
    percent   unreserved bytes as they are, others as `%` and two hex digits
    fallback  32 hex digits of the SHA-256, `__`, percent form of the first 64 bytes
    binary    `b64.` and base64url without padding

The rule this file lives by: no key gets a segment from which another key could
be read. A key whose percent form looks like another form takes the fallback, and
its key goes to KEYMAP.jsonl. Segments differ in case only where keys do, so a file
system that folds case cannot hold every dump.
"""

import base64
import hashlib
import re
from typing import Final

UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"
"""Bytes that stand for themselves. `~` is not among them. [SEGM-1]"""
PERCENT_FORMS: Final = [chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in range(256)]
"""The percent form of each byte. [SEGM-1]"""
MAX_SEGMENT_SIZE: Final = 240
"""Most bytes of a segment. [SEGM-2]"""
FALLBACK_DIGITS: Final = 32
"""Hex digits of the SHA-256 in a fallback segment. [SEGM-3]"""
FALLBACK_KEY_SIZE: Final = 64
"""Most bytes of the key that a fallback segment shows. [SEGM-3]"""
FALLBACK_SHAPE: Final = re.compile(r"[0-9A-Fa-f]{32}__")
"""Begins a fallback segment, and no other one. [SEGM-6]"""
BINARY_PREFIX: Final = "b64."
"""Begins a binary form, and no other one. [SEGM-7]"""


def encode_percent(key: bytes) -> str:
    """Return the percent form, of any size. [SEGM-1]"""
    return "".join([PERCENT_FORMS[byte] for byte in key])


def encode_fallback(key: bytes) -> str:
    """Return the fallback form. [SEGM-3]"""
    digits = hashlib.sha256(key).hexdigest()[:FALLBACK_DIGITS]
    return f"{digits}__{encode_percent(key[:FALLBACK_KEY_SIZE])}"


def encode_segment(key: bytes) -> str:
    """Return the segment of a user key. [SEGM-2]"""
    # [SEGM-4] Judged first, so that a key of 1 MiB is not spelled out.
    if len(key) > MAX_SEGMENT_SIZE:
        return encode_fallback(key)
    segment = encode_percent(key)
    # [SEGM-5] Exactly 240 bytes are fine.
    if len(segment) > MAX_SEGMENT_SIZE:
        return encode_fallback(key)
    # [SEGM-6] [SEGM-7] These would be read as another form.
    if FALLBACK_SHAPE.match(segment) or segment.startswith(BINARY_PREFIX):
        return encode_fallback(key)
    return segment


def encode_binary_segment(key: bytes) -> str:
    """Return the segment of a binary key. No type uses it yet. [SEGM-8]"""
    segment = BINARY_PREFIX + encode_base64url(key)
    return segment if len(segment) <= MAX_SEGMENT_SIZE else encode_fallback(key)


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding. [SEGM-8] [KMAP-1]

    Its alphabet needs no escape, neither in a file name nor in JSON.
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def is_fallback(segment: str) -> bool:
    """Return True if the key cannot be read from the segment, so that KEYMAP has to have it. [SEGM-9]"""
    return FALLBACK_SHAPE.match(segment) is not None
