"""Keys as commands of the Redis protocol (RESP), for `redis-cli --pipe`.

    key         commands
    ----------  ------------------------------------------------------------------------
    string      SET key payload, with PXAT and its expiry if it has one
    HLL         DEL key, PFADD key members.., and PEXPIREAT key if it has an expiry
    collection  the same with HSET, RPUSH, SADD, ZADD or XADD; XSETID for the last ID

With `nx` a key that the server has is left as it is: SET has NX, and elements are added to a
key of another name, which is renamed by RENAMENX and removed if it still is there. That name
is `ekvdump:restoring:` and the SHA-256 of the key.

A server keeps no hash, list, set or zset without elements; a stream without elements is one
to which an element was added and from which it was deleted. XADD takes no element without
fields, and no ID that is not greater than the one before.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from ekvformat.keys import HASH, LIST, SET, STREAM, ZSET

from ekvdump.queries.keys import HLL, Element, Key, KeySource, Selection
from ekvdump.queries.members import NoMembersError, iter_members

WORDS_AT_ONCE: Final = 1000
BYTES_AT_ONCE: Final = 1024 * 1024
"""Words and bytes from which on a command has enough elements."""
COMMANDS: Final = {HASH: b"HSET", LIST: b"RPUSH", SET: b"SADD", ZSET: b"ZADD"}
"""Type = the command that adds elements."""
LEAST_ID: Final = (0, 1)
"""Least ID that XADD takes."""
ID: Final = re.compile(rb"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})")
"""The ID of an element as a server writes it."""
TEMPORARY_PREFIX: Final = b"ekvdump:restoring:"
"""Begins the name that an HLL has until RENAMENX gives it its own."""
LEAST_EXPIRY_MS: Final = 1
"""Least expiry that a server takes; it has passed like those below it."""

Fate = tuple[str, str]
"""What becomes of a key: what it is, and what is done with it, in words."""
STRINGS: Final[Fate] = ("string", "sent")
HLLS: Final[Fate] = ("HLL", "sent")
EXPIRED: Final[Fate] = ("key", "skipped, because the expiry has passed")
BEHIND_OTHERS: Final[Fate] = ("key", "skipped, because a key of another type has the same name")
NO_SETS: Final[Fate] = ("HLL", "skipped, because it is not stored as a set of members")
EMPTY: Final[Fate] = ("collection", "skipped, because a server keeps none without elements")
NO_XADD: Final[Fate] = ("stream", "skipped, because it has elements that XADD does not take")
NOT_SENT: Final = (BEHIND_OTHERS, NO_SETS, NO_XADD)
"""What makes the answer a partial one."""


class Restore:
    """The commands for the keys of one source, and counts of what was sent and what was not."""

    def __init__(self, source: KeySource, selection: Selection, *, nx: bool, now_ms: int | None) -> None:
        """`now_ms` is the time, in Unix ms, at which an expiry has passed; with None all keys are sent."""
        self._source = source
        self._selection = selection
        self._nx = nx
        self._now_ms = now_ms
        self.counts: Counter[Fate] = Counter()

    def iter_commands(self) -> Iterator[bytes]:
        """Yield the commands in pieces. Raises a `Fault` if a payload cannot be read."""
        sent_key: bytes | None = None
        for key in self._source.iter_keys(self._selection):
            # Only the dump of another decoder has two types under one key.
            if key.user_key == sent_key:
                self.counts[BEHIND_OTHERS] += 1
                continue
            sent_key = key.user_key
            if self._now_ms is not None and key.expiry_ms is not None and key.expiry_ms <= self._now_ms:
                self.counts[EXPIRED] += 1
            elif key.type == HLL:
                yield from self._iter_hll(key)
            elif key.type == STREAM:
                yield from self._iter_stream(key)
            elif key.is_collection:
                yield from self._iter_collection(key)
            else:
                self.counts[STRINGS] += 1
                yield from self._iter_string(key)

    def _iter_string(self, key: Key) -> Iterator[bytes]:
        options = [] if key.expiry_ms is None else [b"PXAT", expiry_of(key.expiry_ms)]
        options += [b"NX"] if self._nx else []
        yield b"*%d\r\n$3\r\nSET\r\n" % (3 + len(options)) + bulk(key.user_key) + b"$%d\r\n" % key.size
        yield from key.iter_pieces()
        yield b"\r\n" + b"".join(map(bulk, options))

    def _iter_hll(self, key: Key) -> Iterator[bytes]:
        # The store keeps at most a few thousand members of an HLL, and all of them are needed to know that they are.
        payload = b"".join(key.iter_pieces())
        try:
            for _ in iter_members(payload):
                pass
        except NoMembersError:
            self.counts[NO_SETS] += 1
            return
        self.counts[HLLS] += 1
        yield from self._iter_built(key, b"PFADD", ((member,) for member in iter_members(payload)), may_be_empty=True)

    def _iter_collection(self, key: Key) -> Iterator[bytes]:
        elements = key.iter_elements()
        first = next(elements, None)
        if first is None:
            self.counts[EMPTY] += 1
            return
        self.counts[key.type, "sent"] += 1
        yield from self._iter_built(key, COMMANDS[key.type], chain((first,), elements))

    def _iter_built(
        self, key: Key, name_of_command: bytes, elements: Iterable[Element], *, may_be_empty: bool = False
    ) -> Iterator[bytes]:
        """Yield what builds a key from its elements, many at a time."""
        name = self._name_of(key)
        yield command(b"DEL", name)
        words: list[bytes] = []
        size = 0
        is_sent = not may_be_empty
        for element in elements:
            words += element
            size += sum(map(len, element))
            if len(words) >= WORDS_AT_ONCE or size >= BYTES_AT_ONCE:
                yield command(name_of_command, name, *words)
                words.clear()
                size, is_sent = 0, True
        if words or not is_sent:
            yield command(name_of_command, name, *words)
        yield from self._iter_end(key, name)

    def _iter_stream(self, key: Key) -> Iterator[bytes]:
        last_id = (0, 0)
        for element in key.iter_elements():
            element_id = id_of(element[0])
            if element_id is None or element_id <= last_id or len(element) == 1:
                self.counts[NO_XADD] += 1
                return
            last_id = element_id
        self.counts[key.type, "sent"] += 1
        name = self._name_of(key)
        yield command(b"DEL", name)
        if last_id == (0, 0):
            newest = b"%d-%d" % max(key.last_id, LEAST_ID)
            yield command(b"XADD", name, newest, b"", b"")
            yield command(b"XDEL", name, newest)
        else:
            for element in key.iter_elements():
                yield command(b"XADD", name, *element)
            if key.last_id > last_id:
                yield command(b"XSETID", name, b"%d-%d" % key.last_id)
        yield from self._iter_end(key, name)

    def _name_of(self, key: Key) -> bytes:
        """Return the name under which a key is built."""
        return TEMPORARY_PREFIX + hashlib.sha256(key.user_key).hexdigest().encode() if self._nx else key.user_key

    def _iter_end(self, key: Key, name: bytes) -> Iterator[bytes]:
        if key.expiry_ms is not None:
            yield command(b"PEXPIREAT", name, expiry_of(key.expiry_ms))
        if self._nx:
            yield command(b"RENAMENX", name, key.user_key)
            yield command(b"DEL", name)


def id_of(text: bytes) -> tuple[int, int] | None:
    """Return the ID of an element of a stream, or None for what a server would not write."""
    match = ID.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def select(database: int) -> bytes:
    """Return the command that chooses a database."""
    return command(b"SELECT", b"%d" % database)


def command(*words: bytes) -> bytes:
    """Return a command."""
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def bulk(word: bytes) -> bytes:
    """Return a word of a command."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def expiry_of(expiry_ms: int) -> bytes:
    """Return an expiry as a server takes it."""
    return b"%d" % max(expiry_ms, LEAST_EXPIRY_MS)
