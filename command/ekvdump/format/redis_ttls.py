"""TTL rows and expiry sidecars. Implements spec chapter RTTL.

offset  size  field   value
------  ----  ------  ------------------
     0     8  expiry  u64_be, Unix ms
"""

from typing import Final

from ekvdump.format.outcomes import InvalidValue
from ekvdump.format.redis_strings import MAX_EXPIRY_MS

STRINGS_TTL_NAME: Final = "strings_ttl.jsonl"
"""The sidecar of strings. [RTTL-11]"""
HLL_TTL_NAME: Final = "hll_ttl.jsonl"
"""The sidecar of HLLs. [RTTL-11]"""
TTL_VALUE_SIZE: Final = 8
"""u64_be. [RTTL-1]"""
MAX_ORPHAN_EXAMPLES: Final = 8
"""Segments of orphans that the warning shows. [RTTL-15]"""


def decode_ttl_value(body: bytes, offset: int = 0, key: bytes = b"") -> int:
    """Decode the body of a `!redis|ttl|` record: its expiry in Unix ms.

    Raises `InvalidValue`. [RTTL-1]
    """
    # [RTTL-1] Too long is as wrong as too short.
    if len(body) != TTL_VALUE_SIZE:
        raise InvalidValue("RTTL-1", f"a TTL row has {TTL_VALUE_SIZE} bytes, this one {len(body)}", offset, None, key)
    # [RTTL-2] [RTTL-3]
    return min(int.from_bytes(body, "big"), MAX_EXPIRY_MS)


def render_expiry_row(segment: str, expiry_ms: int) -> bytes:
    """Render a row of `strings_ttl.jsonl` or `hll_ttl.jsonl`. [RTTL-12]

    A segment has no character that JSON escapes.
    """
    return f'{{"key":"{segment}","expire_at_ms":{expiry_ms}}}\n'.encode("ascii")
