"""Redis strings. Implements spec chapter RSTR.

A stored string has one of two layouts, told apart by its first two bytes.

Envelope [RSTR-2]:

    offset  size  field    value
    ------  ----  -------  ------------------------------------------
         0     1  magic    FF
         1     1  version  01
         2     1  flags    bit 0 HAS_EXPIRY; bits 1-7 carry no meaning
         3     8  expiry   u64_be, Unix ms; only if HAS_EXPIRY
     3, 11     -  payload  the user's bytes, up to the end of the value

Legacy [RSTR-11]: everything else. The whole value is the payload.

A bare string has neither prefix nor layout: its key is the storage key
[RSTR-12], its body the payload. [RSTR-17]
"""

from typing import Final, NamedTuple

from ekvdump.format.conventions import Cursor
from ekvdump.format.outcomes import InvalidValue

ENVELOPE_PREFIX: Final = b"\xff\x01"
"""Magic and version of a string envelope. [RSTR-2]"""
HAS_EXPIRY: Final = 0b0000_0001
"""Flag bit: eight bytes of expiry follow the flags. [RSTR-4]"""
MAX_EXPIRY_MS: Final = 2**63 - 1
"""The greatest expiry; what is above counts as this. [RSTR-6]"""


class Value(NamedTuple):
    """A decoded string or HLL."""

    payload: bytes
    """The user's bytes."""
    expiry_ms: int | None
    """Unix ms; None if the value itself carries none. 0 is an expiry: the epoch."""


def decode_string_value(body: bytes, offset: int = 0, key: bytes = b"") -> Value:
    """Decode the body of a `!redis|str|` record that stands at `offset` in the snapshot.

    Raises `InvalidValue` [RSTR-9]. Whether the value is an envelope, and so decides the
    expiry of its key alone [RSTR-10], is told by `ENVELOPE_PREFIX`.
    """
    cursor = Cursor(body, InvalidValue, offset, key)

    # [RSTR-11] No magic, no header. This is also why a legacy string that
    # happens to begin FF 01 cannot be told from an envelope: the spec gives
    # such bytes to the envelope [RSTR-2], and so do we.
    if not cursor.skip(ENVELOPE_PREFIX):
        return Value(cursor.rest(), None)
    return take_envelope(cursor, "RSTR-3", "RSTR-4")


def decode_bare_value(body: bytes, offset: int, key: bytes) -> Value:
    """Decode the body of a bare record: it is the payload as it stands. [RSTR-17]"""
    return Value(body, None)


def take_envelope(cursor: Cursor, flags_clause: str, expiry_clause: str) -> Value:
    """Take what follows the prefix of an envelope; strings and HLLs share it. [RSTR-3] [RHLL-3]"""
    # The flags byte is not optional, even for an empty payload.
    flags = cursor.u8("flags", flags_clause)

    # [RSTR-4] [RHLL-4] Absence is None, never 0: 0 is a real expiry (1970). [RSTR-7] [RHLL-7]
    # [RSTR-5] [RHLL-5] The other bits are not looked at.
    expiry_ms = None
    if flags & HAS_EXPIRY:
        # [RSTR-6] [RHLL-6]
        expiry_ms = min(cursor.u64_be("expiry", expiry_clause), MAX_EXPIRY_MS)

    # [RSTR-8] [RHLL-8] The payload has no size of its own; it is what is left.
    return Value(cursor.rest(), expiry_ms)
