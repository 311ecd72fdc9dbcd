"""Redis HyperLogLogs. Implements spec chapter RHLL.

The body is an envelope, or the payload alone; the payload is the store's own sketch.
"""

from typing import Final

from ekvformat.conventions import Cursor
from ekvformat.envelope import Value, take_envelope

ENVELOPE_PREFIX: Final = b"\xff\x02"
"""Begins the envelope of an HLL: magic and kind. [ENVL-2]

Such a body alone decides the expiry of its key, even if it has none. [ENVL-11]
"""


def decode_hll_value(body: bytes, offset: int = 0, key: bytes = b"") -> Value:
    """Decode the body of a `!redis|hll|` record.

    `offset` is where it begins in the snapshot, in bytes, and `key` its storage key.
    The sketch is not interpreted. [RHLL-2] Raises `invalid-value` for an envelope that
    is cut. [ENVL-10]
    """
    cursor = Cursor(body, "invalid-value", offset, key)
    # [ENVL-3] FF 01 begins the envelope of a string and means nothing here. [ENVL-2]
    if not cursor.skip(ENVELOPE_PREFIX):
        return Value(cursor.rest(), None)
    return take_envelope(cursor)
