r"""Identifies moments of a run: a system call with a path in OUT is about to be executed.

A `Moment` is identified by the name of the call, its paths, and how often both have
occurred together before; never by time. A fixture describes a moment in words, which apply
to any sequence of calls:

    words                      right before
    -------------------------  ------------------------------------------------------
    before EVENT               the call that is the event
    after EVENT                the next call with a path in OUT
    after EVENT, before EVENT  the first call that is the second event, after the first
    between the first and the  the next call, after the first blob appears
    second blob

    event                      call
    -------------------------  ------------------------------------------------------
    PLACE is looked at         stat and the like
    PLACE is opened            open, with any flags, of a file or directory
    PLACE is made              mkdir
    PLACE appears              a file gets this name: rename or link to it, or an open
                               that creates it

PLACE is a path from OUT, "OUT" itself, "anything in" and a path, or "the first blob".
If tampering is not possible at a call, the next call that matches is taken.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ekvconform.cases.system_calls import LOOK, MAKE, OPEN, Call

DELETED: Final = " (deleted)"
"""Suffix of the path that the kernel shows for an unlinked file."""
NEVER_NAMED: Final = "#"
"""Prefix of the name that it shows for a file that was created without one."""
MADE_UP: Final = "(temporary)"
"""Shown in place of the name of a temporary file or directory, which may be random."""
BLOB: Final = re.compile(
    r"redis/db_[0-9]+/((strings|hll|unreadable)/[^/]+\.bin|(hashes|lists|sets|zsets)/[^/]+\.json|streams/[^/]+\.jsonl)"
)
OUT: Final = "OUT"
ANYTHING_IN: Final = "anything in "
A_BLOB: Final = "the first blob"
EVENTS: Final[dict[str, Callable[[Call], bool]]] = {
    "is looked at": lambda call: call.kind == LOOK,
    "is opened": lambda call: call.kind == OPEN,
    "is made": lambda call: call.kind == MAKE,
    "appears": lambda call: call.makes_file,
}
EVENT: Final = re.compile(rf"((?:{ANYTHING_IN})?[^ ]+|{A_BLOB}) ({'|'.join(EVENTS)})")
TEMPORARY: Final = "the temporary file"
"""In place of a path: the old name of a file that is about to be renamed."""
SNAPSHOT: Final = "the snapshot"
"""In place of a path: the file that the program reads."""
SWAP: Final = "swap"
VANISH: Final = "vanish"
REMOVE: Final = "remove"
SYMLINK: Final = "symlink"
HARD_LINK: Final = "hard-link"
FIFO: Final = "fifo"
FIFO_READER: Final = "fifo-reader"
REPLACE: Final = "replace"
OF_DIRECTORYS: Final = (SWAP, VANISH, REMOVE)
OF_FILES: Final = (SYMLINK, HARD_LINK, FIFO, FIFO_READER, REPLACE)
SCENES: Final = (*OF_DIRECTORYS, *OF_FILES)
"""Kinds of tampering that a campaign tries everywhere."""
GONE: Final = "gone"
SCENES_OF_CASES: Final = (*SCENES, GONE)
"""Kinds of tampering that a case may have."""
BETWEEN_BLOBS: Final = "between the first and the second blob"
WORDS: Final = re.compile(r"(?:after (?P<after>[^,]+))?(?:, )?(?:before (?P<before>[^,]+))?")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a program does to a path."""

    place: str
    does: str

    def is_met_by(self, call: Call, places: tuple[str, ...]) -> bool:
        """Return True if a call is the event; `places` are its paths from OUT."""
        if not places or not EVENTS[self.does](call):
            return False
        at = places[-1]
        if self.place == A_BLOB:
            return BLOB.fullmatch(at) is not None
        if self.place.startswith(ANYTHING_IN):
            return os.path.dirname(at) == self.place.removeprefix(ANYTHING_IN)
        return at == ("." if self.place == OUT else self.place)


@dataclass(frozen=True, slots=True)
class When:
    """A moment in words."""

    words: str
    after: Event | None
    before: Event | None


def decode_when(words: str) -> When:
    """Read a moment in words. Raises `ValueError`."""
    if words == BETWEEN_BLOBS:
        return When(words, Event(A_BLOB, "appears"), None)
    match = WORDS.fullmatch(words)
    if not words or match is None:
        raise ValueError(f"{words!r} is not a moment")
    return When(words, *(_event(match[name]) if match[name] else None for name in ("after", "before")))


def _event(words: str) -> Event:
    match = EVENT.fullmatch(words)
    if match is None:
        raise ValueError(f"{words!r} is not an event")
    return Event(match[1], match[2])


class Watch:
    """Waits for a moment that is given in words."""

    def __init__(self, when: When, out: str) -> None:
        self._when = when
        self._out = out
        self._is_after = when.after is None

    def has_come(self, call: Call) -> bool:
        """Return True if this call is the moment."""
        places = tuple(places_of(call, self._out))
        if self._is_after and places:
            return self._when.before is None or self._when.before.is_met_by(call, places)
        if self._when.after is not None and self._when.after.is_met_by(call, places):
            self._is_after = True
        return False


@dataclass(frozen=True, slots=True)
class Moment:
    """A call that is about to be executed, distinct from all others of the run."""

    name: str
    places: tuple[str, ...]
    """Paths from OUT, "." for itself."""
    ordinal: int
    """Number of earlier calls with the same name and paths."""
    directories: frozenset[str] = field(default=frozenset(), compare=False)
    """Those of the paths, and of their ancestors, that are directories at this moment."""
    writes: bool = field(default=False, compare=False)
    """Is the call a part of creating or writing a file or directory?"""

    def __str__(self) -> str:
        again = f", number {self.ordinal + 1}" if self.ordinal else ""
        return f"before {self.name} {' '.join(self.places)}{again}"


class Names:
    """The file names that occur in a dump of a case; all others are names of temporary files."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._known = {os.fsdecode(part) for path in paths for part in path.split(b"/")} | {"."}

    def shown(self, place: str) -> str:
        """Return a path with the names of temporary files replaced."""
        return "/".join(part if part in self._known else _made_up(part) for part in place.split("/"))


def _made_up(part: str) -> str:
    """Return the replacement of a temporary name; the marks of the kernel are kept."""
    if not part.endswith(DELETED):
        return MADE_UP
    return (NEVER_NAMED if part.startswith(NEVER_NAMED) else MADE_UP) + DELETED


class Moments:
    """Identifies the moments of a run."""

    def __init__(self, out: str, names: Names) -> None:
        self._out = out
        self._names = names
        self._seen: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def moment_of(self, call: Call) -> Moment | None:
        """Return the moment of a call, or None if it has no path in OUT."""
        below = [self._names.shown(path) for path in places_of(call, self._out)]
        if not below:
            return None
        key = call.name, tuple(below)
        self._seen[key] += 1
        return Moment(*key, self._seen[key] - 1)


def places_of(call: Call, out: str) -> list[str]:
    """Return those paths of a call that are in OUT, relative to it."""
    return [os.path.relpath(path, out) for path in call.paths if path == out or path.startswith(out + "/")]
