"""HyperLogLogs. Implements spec chapter RHLL.

Envelope [RHLL-2]:

    offset  size  field    value
    ------  ----  -------  ------------------------------------------
         0     1  magic    FF
         1     1  version  02
         2     1  flags    bit 0 HAS_EXPIRY; bits 1-7 carry no meaning
         3     8  expiry   u64_be, Unix ms; only if HAS_EXPIRY
     3, 11     -  payload  the sketch, up to the end of the value

Legacy [RHLL-11]: everything else. The whole value is the payload.
"""

from typing import Final

from ekvformat.conventions import Cursor
from ekvformat.redis_strings import Value, take_envelope

ENVELOPE_PREFIX: Final = b"\xff\x02"
"""Begins an HLL envelope: magic and version. [RHLL-2]

Such a value alone decides the expiry of its key, even if it has none. [RHLL-10]
"""


def decode_hll_value(body: bytes, offset: int = 0, key: bytes = b"") -> Value:
    """Decode the body of a `!redis|hll|` record.

    `offset` is where it stands in the snapshot, in bytes, and `key` its storage key.
    The sketch is not interpreted. [RHLL-8] Raises `invalid-value` for an envelope
    that is cut. [RHLL-9]
    """
    cursor = Cursor(body, "invalid-value", offset, key)
    # [RHLL-11] FF 01 is a string's prefix and means nothing here. [RHLL-2]
    if not cursor.skip(ENVELOPE_PREFIX):
        return Value(cursor.rest(), None)
    return take_envelope(cursor, "RHLL-3", "RHLL-4")
