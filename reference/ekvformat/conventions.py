"""Conventions. Implements spec chapter CONV: the cursor.

    name     size  meaning                          [CONV-7]
    -------  ----  -------------------------------
    u8          1  unsigned integer
    u16_be      2  unsigned integer, big-endian
    u32_be      4  unsigned integer, big-endian
    u64_be      8  unsigned integer, big-endian
    u64_le      8  unsigned integer, little-endian
    i64_be      8  signed integer, big-endian

The rule this file lives by: only the cursor finds that bytes are missing. The
chapters take fields from it and never index into bytes, so whatever the bytes
are, a chapter ends with a value or with a typed fault. [CONV-9]

A field that is cut is named by the place where it begins, not by the end of the
bytes: that is where a reader of the file has to look.
"""

from ekvformat.outcomes import Fault


class Cursor:
    """Takes one field after another from `data`.

    `fault` is the name of the fault that a field has which is cut: `truncated` in
    the structure of a snapshot, `too-short` in the headers of an entry,
    `invalid-value` in a value. `origin` is the offset of `data` in the snapshot, in
    bytes, and `key` the storage key concerned, if there is one: both are repeated in
    every fault. [OUTC-1]
    """

    def __init__(self, data: bytes, fault: str, origin: int = 0, key: bytes | None = None) -> None:
        self._data = data
        self._fault = fault
        self._origin = origin
        self._key = key
        self._position = 0

    @property
    def offset(self) -> int:
        """Offset in the snapshot of the next field, in bytes. [CONV-8]"""
        return self._origin + self._position

    @property
    def left(self) -> int:
        """Size of what has not been taken yet, in bytes."""
        return len(self._data) - self._position

    def fault(self, clause: str, detail: str) -> Fault:
        """Return the cursor's fault, with the offset of the next field."""
        return Fault(self._fault, clause, detail, self.offset, None, self._key)

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as are left, without taking them.

        For magics: what is there decides which layout follows.
        """
        return self._data[self._position : self._position + size]

    def take(self, size: int, field: str, clause: str) -> bytes:
        """Take a field of `size` bytes.

        Raises the cursor's fault, with `clause` and the offset of the field, where
        fewer bytes are left.
        """
        if self.left < size:
            raise self.fault(clause, f"only {self.left} of {size} bytes of the {field} are there")
        taken = self.peek(size)
        self._position += size
        return taken

    def take_all_but(self, size: int, field: str, clause: str) -> bytes:
        """Take everything before the last `size` bytes, which are `field` and stay."""
        if self.left < size:
            self.take(size, field, clause)  # the field is what is cut, so this raises
        return self.take(self.left - size, field, clause)

    def skip(self, prefix: bytes) -> bool:
        """Take `prefix` if it comes next. Return True if it did."""
        found = self.peek(len(prefix)) == prefix
        self._position += len(prefix) if found else 0
        return found

    def rest(self) -> bytes:
        """Take everything that is left. It may be empty, so nothing can be missing."""
        return self.take(self.left, "rest", "")

    def u8(self, field: str, clause: str) -> int:
        """Take one byte."""
        return int.from_bytes(self.take(1, field, clause), "big")

    def u16_be(self, field: str, clause: str) -> int:
        """Take two bytes, big-endian."""
        return int.from_bytes(self.take(2, field, clause), "big")

    def u32_be(self, field: str, clause: str) -> int:
        """Take four bytes, big-endian."""
        return int.from_bytes(self.take(4, field, clause), "big")

    def u64_be(self, field: str, clause: str) -> int:
        """Take eight bytes, big-endian."""
        return int.from_bytes(self.take(8, field, clause), "big")

    def u64_le(self, field: str, clause: str) -> int:
        """Take eight bytes, little-endian."""
        return int.from_bytes(self.take(8, field, clause), "little")

    def i64_be(self, field: str, clause: str) -> int:
        """Take eight bytes, big-endian, in two's complement."""
        return int.from_bytes(self.take(8, field, clause), "big", signed=True)
