"""What becomes of unreadable values with the caller's consent. Implements spec chapter SALV.

unreadable.jsonl                  {"segment":..,"storage_key":..,"offset":..,"clause":..,"kind":..} LF
unreadable/<segment>.<kind>.bin   the body, whole and unchanged
"""

from typing import Final

from ekvdump.format.segments import encode_base64url

UNREADABLE_NAME: Final = "unreadable.jsonl"
"""The sidecar that lists what could not be read. [SALV-3]"""
UNREADABLE_FOLDER: Final = "unreadable"
"""Where the bodies lie. [SALV-4]"""
STRING_KIND: Final = "string"
"""Of a prefixed or bare string. [SALV-3]"""
HLL_KIND: Final = "hll"
TTL_KIND: Final = "ttl"
KINDS: Final = (STRING_KIND, HLL_KIND, TTL_KIND)
"""All of them."""
MAX_UNREADABLE_EXAMPLES: Final = 16
"""Segments that the warning shows. [SALV-6]"""


def render_unreadable_line(segment: str, storage_key: bytes, offset: int, clause: str, kind: str) -> bytes:
    """Render a line of `unreadable.jsonl`. [SALV-3]"""
    key = encode_base64url(storage_key)
    line = f'"segment":"{segment}","storage_key":"{key}","offset":{offset},"clause":"{clause}","kind":"{kind}"'
    return f"{{{line}}}\n".encode("ascii")
