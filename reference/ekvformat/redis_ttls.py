"""TTL records and expiry sidecars. Implements spec chapter RTTL.

A TTL record [RTTL-1]:

    offset  size  field   value
    ------  ----  ------  ----------------
         0     8  expiry  u64_be, Unix ms

A line of a sidecar [RTTL-14]:

    {"key":"<segment>","expire_at_ms":<decimal>} LF

Which record a TTL record decides about is a question of all tables together, and
answered in `decode`.
"""

from typing import Final

from ekvformat.conventions import Cursor
from ekvformat.envelope import MAX_EXPIRY_MS
from ekvformat.outcomes import Fault

STRINGS_TTL_NAME: Final = "strings_ttl.jsonl"
"""The sidecar of strings. [RTTL-13]"""
HLL_TTL_NAME: Final = "hll_ttl.jsonl"
"""The sidecar of HLLs. [RTTL-13]"""
TTL_VALUE_SIZE: Final = 8
"""Size of the value of a TTL record, in bytes. [RTTL-1]"""
MAX_ORPHAN_EXAMPLES: Final = 8
"""Most segments of orphans that the warning shows. [RTTL-11]"""


def decode_ttl_value(body: bytes, offset: int = 0, key: bytes = b"") -> int:
    """Decode the body of a `!redis|ttl|` record; return its expiry in Unix ms.

    `offset` is where it stands in the snapshot, in bytes, and `key` its storage key.
    Raises `invalid-value`. [RTTL-1]
    """
    cursor = Cursor(body, "invalid-value", offset, key)
    # [RTTL-1] Too long is as wrong as too short, and both at the same place.
    stored_ms = cursor.u64_be("expiry", "RTTL-1")
    if cursor.left:
        detail = f"a TTL record has {TTL_VALUE_SIZE} bytes, this one has {len(body)}"
        raise Fault("invalid-value", "RTTL-1", detail, offset, None, key)
    # [RTTL-2] [RTTL-3]
    return min(stored_ms, MAX_EXPIRY_MS)


def render_expiry_line(segment: str, expiry_ms: int) -> bytes:
    """Render a line of `strings_ttl.jsonl` or `hll_ttl.jsonl`. [RTTL-14]

    No character of a segment has to be escaped in JSON. [SEGM-1]
    """
    return f'{{"key":"{segment}","expire_at_ms":{expiry_ms}}}\n'.encode("ascii")
