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

from ekvdump.format.conventions import Cursor
from ekvdump.format.outcomes import InvalidValue
from ekvdump.format.redis_strings import Value, take_envelope

ENVELOPE_PREFIX: Final = b"\xff\x02"
"""Magic and version of an HLL envelope. [RHLL-2]"""


def decode_hll_value(body: bytes, offset: int = 0, key: bytes = b"") -> Value:
    """Decode the body of a `!redis|hll|` record that stands at `offset` in the snapshot.

    Raises `InvalidValue` [RHLL-9]. The payload is opaque. [RHLL-8]
    """
    cursor = Cursor(body, InvalidValue, offset, key)
    # [RHLL-11]
    if not cursor.skip(ENVELOPE_PREFIX):
        return Value(cursor.rest(), None)
    return take_envelope(cursor, "RHLL-3", "RHLL-4")
