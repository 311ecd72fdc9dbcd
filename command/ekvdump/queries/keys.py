"""Keys that a client could have read, in canonical order, wherever they are stored.

A source is a snapshot or a dump. A user key has one type [TYPE-4]; a dump of another decoder
may have several under one, and then each is given.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol, Self

from ekvformat.keys import COLLECTIONS

STRING: Final = "string"
HLL: Final = "hll"
TYPES: Final = (STRING, HLL, *COLLECTIONS)
"""The types of keys, in the order in which those of one user key are given."""
PIECE_SIZE: Final = 256 * 1024
"""Most bytes of a value that are held at a time."""


Element = tuple[bytes, ...]
"""An element of a collection, as the arguments that a server takes for it:

    hash    name, value
    list    item
    set     member
    zset    score as it is written [RZSE-6], without quotes; member
    stream  ID, name, value, name, value, ..
"""


def no_elements() -> Iterator[Element]:
    """Yield nothing: a string or an HLL has no elements."""
    return iter(())


class Key(NamedTuple):
    """One key and its type."""

    user_key: bytes
    type: str
    """One of `TYPES`."""
    known_size: int | None
    """Bytes of the payload; None if they have to be counted."""
    expiry_ms: int | None
    """Unix ms; None without an expiry."""
    iter_pieces: Callable[[], Iterator[bytes]]
    """Yields the payload, or the blob of a collection. Raises a `Fault` if it cannot be read any more."""
    iter_elements: Callable[[], Iterator[Element]] = no_elements
    """Yields the elements of a collection. Raises a `Fault` or `Finding` if they cannot be read."""
    last_id: tuple[int, int] = (0, 0)
    """Of a stream: the ID of the newest element there ever was. [RSTM-9]"""

    @property
    def size(self) -> int:
        """Bytes of the payload, or of the blob of a collection."""
        return sum(map(len, self.iter_pieces())) if self.known_size is None else self.known_size

    @property
    def is_collection(self) -> bool:
        """True for a hash, list, set, zset or stream."""
        return self.type in COLLECTIONS

    @property
    def order(self) -> tuple[str, int]:
        """Where the key comes among all keys. [VISI-17]"""
        return canonical_order(self.user_key), TYPES.index(self.type)


class Omission(NamedTuple):
    """Keys or records that are not given."""

    name: str
    """A warning of COMP-5."""
    count: int  # type: ignore[assignment]  # hides a method of tuples that is not used here
    noun: str
    """One of them, in words; empty for what is not counted."""
    about: str
    """What is said of them, in words."""
    where: str = ""
    """In which of two sources, in words."""


class Selection(NamedTuple):
    """Which keys are wanted."""

    types: frozenset[str] = frozenset(TYPES)
    prefix: bytes = b""
    """How the user key begins."""
    matches: Callable[[bytes], bool] | None = None
    """A predicate on the user key; None for all."""

    def wants(self, user_key: bytes) -> bool:
        """Return True if keys of this name are wanted."""
        return user_key.startswith(self.prefix) and (self.matches is None or self.matches(user_key))


EVERYTHING: Final = Selection()


class KeySource(Protocol):
    """A snapshot or dump that is sound as a whole. A context manager.

    Raises a `Fault` or `Finding` if it is not, or has changed since it was opened.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def iter_keys(self, selection: Selection) -> Iterator[Key]:
        """Yield the keys that are wanted, in canonical order."""
        ...

    @property
    def is_part(self) -> bool:
        """True for the dump of a part of a store. [COMP-11]"""
        ...

    def omissions(self) -> list[Omission]:
        """Return the omissions, once all keys that are wanted have been given."""
        ...

    def check_unchanged(self) -> None:
        """Raise `changed` if the source is not what it was when it was opened."""
        ...


def canonical_order(user_key: bytes) -> str:
    """Return what keys are sorted by: their bytes as characters, and an end that is greater than each. [VISI-17]"""
    return user_key.decode("latin-1") + "\u0100"
