"""Two sources compared key by key: a merge in canonical order, which holds one key of each."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Final, NamedTuple

from ekvdump.queries.keys import Key, KeySource, Selection

ADDED: Final = "added"
REMOVED: Final = "removed"
VALUE: Final = "value"
"""Another payload, and maybe another expiry."""
EXPIRY: Final = "expiry"
"""The same payload, another expiry."""
KINDS: Final = (ADDED, REMOVED, VALUE, EXPIRY)


class Difference(NamedTuple):
    """What differs in one key."""

    kind: str
    """One of `KINDS`."""
    before: Key | None
    """The key in the first source."""
    after: Key | None
    """The key in the second source."""

    @property
    def key(self) -> Key:
        """The key in the second source, or in the first one if it was removed."""
        return self.after or self.before  # type: ignore[return-value]  # one of them is there


def iter_differences(first: KeySource, second: KeySource, selection: Selection) -> Iterator[Difference]:
    """Yield the differences in canonical order."""
    for before, after in _iter_pairs(first.iter_keys(selection), second.iter_keys(selection)):
        if before is None:
            yield Difference(ADDED, None, after)
        elif after is None:
            yield Difference(REMOVED, before, None)
        elif not have_same_payload(before, after):
            yield Difference(VALUE, before, after)
        elif before.expiry_ms != after.expiry_ms:
            yield Difference(EXPIRY, before, after)


def _iter_pairs(first: Iterator[Key], second: Iterator[Key]) -> Iterator[tuple[Key | None, Key | None]]:
    """Yield the keys of both; those that both have together, others with None."""
    before, after = next(first, None), next(second, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.order < after.order):
            yield before, None
            before = next(first, None)
        elif before is None or after.order < before.order:
            yield None, after
            after = next(second, None)
        else:
            yield before, after
            before, after = next(first, None), next(second, None)


def have_same_payload(one: Key, other: Key) -> bool:
    """Return True if two keys have the same payload or elements. Raises a `Fault` if one cannot be read."""
    if one.is_collection:
        pairs = zip_longest(one.iter_elements(), other.iter_elements())
        return one.last_id == other.last_id and all(element == another for element, another in pairs)
    if one.size != other.size:
        return False
    rest, rest_of_other = b"", b""
    pieces, pieces_of_other = one.iter_pieces(), other.iter_pieces()
    # Pieces of two sources need not end at the same byte.
    while True:
        rest = rest or next(pieces, b"")
        rest_of_other = rest_of_other or next(pieces_of_other, b"")
        size = min(len(rest), len(rest_of_other))
        if size == 0:
            return not rest and not rest_of_other
        if rest[:size] != rest_of_other[:size]:
            return False
        rest, rest_of_other = rest[size:], rest_of_other[size:]
