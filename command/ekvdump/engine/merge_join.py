"""Joining the records of two types by user key, in one pass over each. [VISI-17]"""

from collections.abc import Iterable

from ekvdump.engine.record_index import Record


def precedes(key: bytes, other: bytes) -> bool:
    """Return True if `key` comes before `other` in canonical order. [VISI-17]

    Keys are compared bytewise, but a key comes after all its extensions, as if its end were above every byte.
    """
    if other.startswith(key):
        return False  # `other` is `key` or an extension of it
    return key.startswith(other) or key < other


class MergeJoin:
    """Looks up user keys in the records of one type; the keys must be given in canonical order."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = iter(records)
        self._next = next(self._records, None)

    def find(self, user_key: bytes) -> Record | None:
        """Return the record of a user key, or None if it has none of this type."""
        record = self._next
        while record is not None and record.user_key != user_key and precedes(record.user_key, user_key):
            record = self._next = next(self._records, None)
        return record if record is not None and record.user_key == user_key else None
