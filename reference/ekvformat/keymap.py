"""KEYMAP.jsonl: the keys of fallback segments. Implements spec chapter KMAP.

A line [KMAP-1]:

    {"encoded":"<segment>","original":"<base64url>","kind":"sha-fallback"} LF
"""

from typing import Final

from ekvformat.segments import encode_base64url

KEYMAP_NAME: Final = "KEYMAP.jsonl"
"""The sidecar of keys. It does not exist without a line. [KMAP-4]"""
SHA_FALLBACK: Final = "sha-fallback"
"""The kind of a fallback segment. [KMAP-5]"""


def render_keymap_line(segment: str, key: bytes) -> bytes:
    """Render the line of a key that is shown under a fallback segment. [KMAP-1]"""
    original = encode_base64url(key)
    return f'{{"encoded":"{segment}","original":"{original}","kind":"{SHA_FALLBACK}"}}\n'.encode("ascii")
