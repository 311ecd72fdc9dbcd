"""Joining two sections of a snapshot by key, in one pass over each. [VISI-17]"""

from collections.abc import Iterator

from ekvdump.engine.versions import Record


def precedes(key: bytes, other: bytes) -> bool:
    """Return True if `key` comes before `other` in canonical order. [VISI-17]

    Keys are compared bytewise, but a key comes after all its extensions, as if its end were above every byte.
    """
    if other.startswith(key):
        return False  # `other` is `key` or an extension of it
    return key.startswith(other) or key < other


class MergeJoin:
    """Looks up keys in the records of one section; the keys must be given in canonical order."""

    def __init__(self, records: Iterator[Record], prefix: bytes) -> None:
        self._records = records
        self._prefix_size = len(prefix)
        self._head: Record | None = None
        self._key = b""
        self._next()

    def _next(self) -> None:
        self._head = next(self._records, None)
        if self._head is not None:
            self._key = self._head.storage_key[self._prefix_size :]

    def find(self, user_key: bytes) -> Record | None:
        """Return the record of a user key, or None if the section has none."""
        while self._head is not None and precedes(self._key, user_key):
            self._next()
        return self._head if self._head is not None and self._key == user_key else None
