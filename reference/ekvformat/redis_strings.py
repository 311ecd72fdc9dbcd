"""Redis strings. Implements spec chapter RSTR.

    stored as        storage key               body
    ---------------  ------------------------  ----------------------
    prefixed string  !redis|str| and user key  envelope, or the payload
    bare string      the user key              the payload

A bare string has no layout at all: its user key is the whole storage key [RSTR-2],
and its payload is the whole body [RSTR-3].
"""

from typing import Final

from ekvformat.conventions import Cursor
from ekvformat.envelope import Value, take_envelope

ENVELOPE_PREFIX: Final = b"\xff\x01"
"""Begins the envelope of a string: magic and kind. [ENVL-1]

Such a body alone decides the expiry of its key, even if it has none. [ENVL-11]
"""


def decode_string_value(body: bytes, offset: int = 0, key: bytes = b"") -> Value:
    """Decode the body of a `!redis|str|` record.

    `offset` is where it begins in the snapshot, in bytes, and `key` its storage key.
    Raises `invalid-value` for an envelope that is cut. [ENVL-10]
    """
    cursor = Cursor(body, "invalid-value", offset, key)

    # [ENVL-3] No envelope. This is also why a legacy string that happens to begin
    # FF 01 cannot be told from one: the spec gives such bytes to the envelope
    # [ENVL-1], as live servers do.
    if not cursor.skip(ENVELOPE_PREFIX):
        return Value(cursor.rest(), None)
    return take_envelope(cursor)


def decode_bare_value(body: bytes, offset: int = 0, key: bytes = b"") -> Value:
    """Decode the body of a bare record.

    It is the payload as it stands, even if it begins FF 01: the servers that wrote
    bare strings had no envelopes. [RSTR-3]
    """
    return Value(body, None)
