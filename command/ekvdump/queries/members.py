"""The members of an HLL, where its payload can be read as the set that the store keeps of them (chapter RHLL).

offset  size  field    value
------  ----  -------  ------------------------------------------
     0     4  magic    00 52 53 01
     4     -  members  each 0A, its size as a varint, and its bytes
"""

from collections.abc import Iterator
from typing import Final

MAGIC: Final = b"\x00RS\x01"
"""Begins the payload."""
MEMBER_TAG: Final = 0x0A
"""Begins a member: field 1 of a Protocol Buffers message, of the wire type LEN."""
MAX_VARINT_SIZE: Final = 10
"""Most bytes of a size."""


class NoMembersError(ValueError):
    """The payload is not a set of members in this form."""


def iter_members(payload: bytes) -> Iterator[bytes]:
    """Yield the members. Raises `NoMembersError`, maybe after some of them."""
    if not payload.startswith(MAGIC):
        raise NoMembersError
    at = len(MAGIC)
    while at < len(payload):
        if payload[at] != MEMBER_TAG:
            raise NoMembersError
        size, at = _varint_at(payload, at + 1)
        if at + size > len(payload):
            raise NoMembersError
        yield payload[at : at + size]
        at += size


def _varint_at(payload: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position, and where it ends."""
    number = 0
    for place in range(MAX_VARINT_SIZE):
        if at + place == len(payload):
            break
        byte = payload[at + place]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise NoMembersError
