"""The cursor kit. Implements spec chapter CONV.

Every decoder of a value reads through a `Cursor`. Only the cursor can find
that bytes are missing, so no decoder touches an index and no other exception
than a typed fault can escape from one.

    name     size  meaning                        [CONV-5]
    -------  ----  ------------------------------
    u8          1  unsigned
    u16_be      2  unsigned, big-endian
    u64_be      8  unsigned, big-endian
    u64_le      8  unsigned, little-endian
"""

from collections.abc import Iterator
from typing import BinaryIO

from ekvdump.format.outcomes import SnapshotFault


class Cursor:
    """Takes fields one after the other from bytes that stand at `offset` in the snapshot.

    A field that is cut raises `fault`, with the clause of the field and the
    offset where it begins.
    """

    def __init__(self, data: bytes, fault: type[SnapshotFault], offset: int = 0, key: bytes | None = None) -> None:
        self._data = data
        self._fault = fault
        self._origin = offset
        self._key = key
        self._position = 0

    @property
    def offset(self) -> int:
        """Where in the snapshot the next field begins, in bytes."""
        return self._origin + self._position

    def take(self, size: int, field: str, clause: str) -> bytes:
        """Take `size` bytes."""
        taken = self._data[self._position : self._position + size]
        if len(taken) < size:
            detail = f"cut inside {field}: {len(taken)} of {size} bytes are there"
            raise self._fault(clause, detail, self.offset, None, self._key)
        self._position += size
        return taken

    def skip(self, prefix: bytes) -> bool:
        """Take `prefix` if it comes next, and say whether it did."""
        if not self._data.startswith(prefix, self._position):
            return False
        self._position += len(prefix)
        return True

    def u8(self, field: str, clause: str) -> int:
        """Take one byte as a number."""
        return self.take(1, field, clause)[0]

    def u16_be(self, field: str, clause: str) -> int:
        """Take two bytes, big-endian."""
        return int.from_bytes(self.take(2, field, clause), "big")

    def u64_be(self, field: str, clause: str) -> int:
        """Take eight bytes, big-endian."""
        return int.from_bytes(self.take(8, field, clause), "big")

    def u64_le(self, field: str, clause: str) -> int:
        """Take eight bytes, little-endian."""
        return int.from_bytes(self.take(8, field, clause), "little")

    def rest(self) -> bytes:
        """Take what is left; it may be empty."""
        taken = self._data[self._position :]
        self._position = len(self._data)
        return taken


def iter_bounded_lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each line, LF included.

    Of a line of more than `limit` bytes only the first `limit` + 1 are given, so that
    whoever reads it finds it too long; the rest is passed over.
    """
    offset = 0
    while line := file.readline(limit + 1):
        yield offset, line
        offset += len(line)
        while len(line) > limit and not line.endswith(b"\n"):
            line = file.readline(limit + 1)
            offset += len(line)
