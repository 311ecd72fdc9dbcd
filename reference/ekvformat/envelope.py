"""The envelope of strings and HLLs. Implements spec chapter ENVL.

The body of a string or HLL has one of two layouts, told apart by its first two bytes.

Envelope:

    offset  size  field    value
    ------  ----  -------  ------------------------------------------
         0     1  magic    FF
         1     1  kind     01 string [ENVL-1], 02 HLL [ENVL-2]
         2     1  flags    bit 0 HAS_EXPIRY; bits 1-7 carry no meaning
         3     8  expiry   u64_be, Unix ms; only if HAS_EXPIRY
     3, 11     -  payload  the user's bytes, up to the end of the body

Legacy [ENVL-3]: everything else. The whole body is the payload.
"""

from typing import Final, NamedTuple

from ekvformat.conventions import Cursor

HAS_EXPIRY: Final = 0b0000_0001
"""Flag bit: eight bytes of expiry follow the flags. [ENVL-5]"""
MAX_EXPIRY_MS: Final = 2**63 - 1
"""Greatest expiry; a stored one above counts as this. [ENVL-7]"""


class Value(NamedTuple):
    """What the body of a string or HLL says."""

    payload: bytes
    """The user's bytes."""
    expiry_ms: int | None
    """Unix ms; None if the body has none. 0 is an expiry: the epoch. [ENVL-8]"""


def take_envelope(cursor: Cursor) -> Value:
    """Take what follows magic and kind of an envelope.

    Raises `invalid-value` for an envelope that is cut. [ENVL-10]
    """
    # [ENVL-4] The flags byte is not optional, even for an empty payload.
    flags = cursor.u8("flags", "ENVL-4")

    # [ENVL-5] Absence is None, never 0: 0 is a real expiry. [ENVL-8] The other flag
    # bits are ignored. [ENVL-6]
    expiry_ms = None
    if flags & HAS_EXPIRY:
        stored_ms = cursor.u64_be("expiry", "ENVL-5")
        # [ENVL-7]
        expiry_ms = min(stored_ms, MAX_EXPIRY_MS)

    # [ENVL-9] The payload has no size of its own; it is what is left.
    return Value(cursor.rest(), expiry_ms)
