"""Fields, and the cutting of bytes into them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

SHOWN_SIZE: Final = 60
"""Most bytes of a field that its words show."""


class Field(NamedTuple):
    """One field."""

    offset: int
    """Bytes from the start of the snapshot."""
    data: bytes
    """Its bytes, or the first of them."""
    size: int
    """Bytes."""
    words: str
    """Name, value and meaning."""
    clause: str
    """The clause that it comes from; empty if there is none."""


ESCAPES: Final = {
    0x22: '\\"', 0x5C: "\\\\", 0x07: "\\a", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r",
}  # fmt: skip
"""Byte = how `redis-cli` shows it, if that is neither the character nor `\\xHH`."""
SHOWN_BYTES: Final = tuple(
    ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in range(256)
)


def printable(data: bytes, limit: int = 200) -> str:
    r"""Return bytes as `redis-cli` shows them: printable ASCII as it is, the rest escaped, in double quotes."""
    shown = "".join(SHOWN_BYTES[byte] for byte in data[:limit])
    return f'"{shown}"' + (f" and {len(data) - limit} bytes more" if len(data) > limit else "")


def time_of(ms: int) -> str:
    """Return a Unix time in ms for people; empty if it is outside the calendar."""
    try:
        return f", {datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec='milliseconds')}"
    except (OverflowError, OSError, ValueError):
        return ""


class Pieces:
    """Cuts consecutive fields from bytes that begin at an offset; the last one may be shorter than it should be."""

    def __init__(self, data: bytes, offset: int, size: int) -> None:
        self.data, self.offset, self.end = data, offset, offset + size

    def cut(self, size: int, words: str, clause: str) -> Iterator[Field]:
        """Yield the next field, if there is anything of it."""
        there = min(size, self.end - self.offset)
        if there > 0 or size == 0:
            data, self.data = self.data[:there], self.data[there:]
            yield Field(self.offset, data, there, words + (" (cut)" if there < size else ""), clause)
            self.offset += there

    def rest(self, words: str, clause: str) -> Iterator[Field]:
        """Yield all that is left as one field, if there is anything."""
        if self.end > self.offset:
            yield from self.cut(self.end - self.offset, words, clause)


def with_content(name: str, data: bytes, size: int) -> str:
    """Return the name of a field and, if it is short, what it holds."""
    if not size:
        return f"{name}: empty"
    return name if size > len(data) else f"{name} {printable(data[:size], SHOWN_SIZE)}"
