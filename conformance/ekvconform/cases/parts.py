"""Takes a snapshot apart, and puts it together again; imports no decoder."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ekvconform.cases.contents import iter_whole_entries, payload_offset
from ekvconform.cases.snapshots import Piece, render_bytes
from ekvconform.cases.writer import Entry, encoded_entry, footer

FOOTER_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """A snapshot, taken apart."""

    header: bytes
    start: bytes
    """Payload magic and last commit."""
    entries: tuple[Entry, ...]
    rest: bytes
    """What follows the last whole entry, without the footer."""
    has_footer: bool

    @property
    def is_sound(self) -> bool:
        """Predicate: is every entry whole and in its place?"""
        keys = [key for key, _ in self.entries]
        return not self.rest and keys == sorted(set(keys))

    def joined(self) -> bytes:
        """Return the file."""
        data = self.header + self.start + b"".join(map(encoded_entry, self.entries)) + self.rest
        return data + footer(data) if self.has_footer else data


def take_apart(snapshot: bytes) -> Parts | None:
    """Take a snapshot apart, as far as its entries are whole; None without a payload part."""
    start = payload_offset(snapshot)
    if start is None or len(snapshot) < start + 16:
        return None
    end = start + 16
    entries = []
    for offset, entry in iter_whole_entries(snapshot, end):
        end = offset
        entries.append(entry)
    rest = snapshot[end:]
    has_footer = len(rest) >= FOOTER_SIZE and footer(snapshot[:-FOOTER_SIZE]) == snapshot[-FOOTER_SIZE:]
    if has_footer:
        rest = rest[:-FOOTER_SIZE]
    return Parts(snapshot[:start], snapshot[start : start + 16], tuple(entries), rest, has_footer)


def iter_pieces(parts: Parts) -> Iterator[Piece]:
    """Yield the pieces of a snapshot, each with a note."""
    if parts.header:
        yield Piece(parts.header, "header")
    yield Piece(parts.start[:8], "payload magic `EKVPBBL1`")
    yield Piece(parts.start[8:], f"last commit {int.from_bytes(parts.start[8:], 'little')}")
    for key, value in parts.entries:
        for name, data in (("key", key), ("value", value)):
            yield Piece(len(data).to_bytes(8, "little"), f"{name} size {len(data)}")
            if data:
                yield Piece(data, f"{name} `{render_bytes(data[:80])}`")
    if parts.rest:
        yield Piece(parts.rest, "what is not a whole entry")
    if parts.has_footer:
        yield Piece(parts.joined()[-FOOTER_SIZE:], "footer: CRC-32C of the bytes before")
