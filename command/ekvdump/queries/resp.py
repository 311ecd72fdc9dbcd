"""Keys as commands of the Redis protocol (RESP), for `redis-cli --pipe`.

    key     commands
    ------  ----------------------------------------------------------------------------
    string  SET key payload, with PXAT and its expiry if it has one
    HLL     DEL key, PFADD key members.., and PEXPIREAT key if it has an expiry

With `nx` a key that the server has is left as it is: SET has NX, and the members of an HLL
are added to a key of another name, which is renamed by RENAMENX and removed if it still is
there. That name is `ekvdump:restoring:` and the SHA-256 of the key.

A server holds one value under a key, so of a key with a string and an HLL the string is sent, as a
client of the live server sees it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

from ekvdump.queries.keys import HLL, Key, KeySource, Selection
from ekvdump.queries.members import NoMembersError, iter_members

MEMBERS_AT_ONCE: Final = 1000
"""Most members that one PFADD adds."""
TEMPORARY_PREFIX: Final = b"ekvdump:restoring:"
"""Begins the name that an HLL has until RENAMENX gives it its own."""
LEAST_EXPIRY_MS: Final = 1
"""Least expiry that a server takes; it has passed like those below it."""

Fate = tuple[str, str]
"""What becomes of a key: what it is, and what is done with it, in words."""
STRINGS: Final[Fate] = ("string", "sent")
HLLS: Final[Fate] = ("HLL", "sent")
EXPIRED: Final[Fate] = ("key", "skipped, because the expiry has passed")
BEHIND_STRINGS: Final[Fate] = ("HLL", "skipped, because a string has the same key")
NO_SETS: Final[Fate] = ("HLL", "skipped, because it is not stored as a set of members")
NOT_SENT: Final = (BEHIND_STRINGS, NO_SETS)
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
        string_key: bytes | None = None
        for key in self._source.iter_keys(self._selection):
            if key.type == HLL and key.user_key == string_key:
                self.counts[BEHIND_STRINGS] += 1
                continue
            string_key = key.user_key
            if self._now_ms is not None and key.expiry_ms is not None and key.expiry_ms <= self._now_ms:
                self.counts[EXPIRED] += 1
            elif key.type == HLL:
                yield from self._iter_hll(key)
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
        name = TEMPORARY_PREFIX + hashlib.sha256(key.user_key).hexdigest().encode() if self._nx else key.user_key
        yield command(b"DEL", name)
        members: list[bytes] = []
        for member in iter_members(payload):
            members.append(member)
            if len(members) == MEMBERS_AT_ONCE:
                yield command(b"PFADD", name, *members)
                members.clear()
        yield command(b"PFADD", name, *members)
        if key.expiry_ms is not None:
            yield command(b"PEXPIREAT", name, expiry_of(key.expiry_ms))
        if self._nx:
            yield command(b"RENAMENX", name, key.user_key)
            yield command(b"DEL", name)


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
