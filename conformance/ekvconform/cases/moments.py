r"""Moments of a run: a call of the program that names something in OUT is about to happen.

A `Moment` is told by the call's name, its places and how often both have come together
before; never by time. In a fixture a moment stands in words, and is found in whatever
calls a program makes:

    words                      right before
    -------------------------  ------------------------------------------------------
    before EVENT               the call that is the event
    after EVENT                the next call that names something in OUT
    after EVENT, before EVENT  the first call that is the second event, after the first
    between the first and the  the next call, after the first blob appears
    second blob

    event                      call
    -------------------------  ------------------------------------------------------
    PLACE is looked at         stat and the like
    PLACE is opened            open, for whatever; of a file or folder
    PLACE is made              mkdir
    PLACE appears              a file gets its name: rename or link to it, or an open
                               that creates it

PLACE is a path from OUT, "OUT" itself, "anything in" and a path, or "the first blob".
Where nothing can be rearranged at a moment, it is looked for further on.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ekvconform.cases.system_calls import LOOK, MAKE, OPEN, Call

DELETED: Final = " (deleted)"
"""What the kernel says behind the name of a file that has none any more."""
NEVER_NAMED: Final = "#"
"""What it calls a file, with a number, that never had one."""
MADE_UP: Final = "(temporary)"
"""How the name of a file or folder is shown that a program makes up, perhaps anew for each run."""
BLOB: Final = re.compile(r"redis/db_[0-9]+/(strings|hll|unreadable)/[^/]+\.bin")
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
"""In the place of a path: the other name of a file that is about to be renamed."""
SNAPSHOT: Final = "the snapshot"
"""The same: what the program reads."""
SWAP: Final = "swap"
VANISH: Final = "vanish"
REMOVE: Final = "remove"
SYMLINK: Final = "symlink"
HARD_LINK: Final = "hard-link"
FIFO: Final = "fifo"
FIFO_READER: Final = "fifo-reader"
REPLACE: Final = "replace"
OF_FOLDERS: Final = (SWAP, VANISH, REMOVE)
OF_FILES: Final = (SYMLINK, HARD_LINK, FIFO, FIFO_READER, REPLACE)
SCENES: Final = (*OF_FOLDERS, *OF_FILES)
"""What somebody else may do at a moment."""
BETWEEN_BLOBS: Final = "between the first and the second blob"
WORDS: Final = re.compile(r"(?:after (?P<after>[^,]+))?(?:, )?(?:before (?P<before>[^,]+))?")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a program does to a place."""

    place: str
    does: str

    def is_met_by(self, call: Call, places: tuple[str, ...]) -> bool:
        """Tell whether a call is the event; `places` are its paths from OUT."""
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
        raise ValueError(f"{words!r} is no moment")
    return When(words, *(_event(match[name]) if match[name] else None for name in ("after", "before")))


def _event(words: str) -> Event:
    match = EVENT.fullmatch(words)
    if match is None:
        raise ValueError(f"{words!r} is no event")
    return Event(match[1], match[2])


class Watch:
    """Waits for a moment in words."""

    def __init__(self, when: When, out: str) -> None:
        self._when = when
        self._out = out
        self._is_after = when.after is None

    def has_come(self, call: Call) -> bool:
        """Tell whether the moment is now, right before a call."""
        places = tuple(places_of(call, self._out))
        if self._is_after and places:
            return self._when.before is None or self._when.before.is_met_by(call, places)
        if self._when.after is not None and self._when.after.is_met_by(call, places):
            self._is_after = True
        return False


@dataclass(frozen=True, slots=True)
class Moment:
    """A call that is about to happen, told apart from all others of the run."""

    name: str
    places: tuple[str, ...]
    """Paths from OUT, "." for itself."""
    ordinal: int
    """How often the same call of the same places came before."""
    folders: frozenset[str] = field(default=frozenset(), compare=False)
    """Those of the places, and of the folders on the way to them, that are folders then."""
    writes: bool = field(default=False, compare=False)
    """Does it belong to the making of a file or folder?"""

    def __str__(self) -> str:
        again = f", number {self.ordinal + 1}" if self.ordinal else ""
        return f"before {self.name} {' '.join(self.places)}{again}"


class Names:
    """The names that a dump of a case has; whatever else a program calls something is made up."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._known = {os.fsdecode(part) for path in paths for part in path.split(b"/")} | {"."}

    def shown(self, place: str) -> str:
        """Return a place without names that may differ from run to run."""
        return "/".join(part if part in self._known else _made_up(part) for part in place.split("/"))


def _made_up(part: str) -> str:
    """Return what a name that is made up is shown as; what the kernel says of a file without a name is kept."""
    if not part.endswith(DELETED):
        return MADE_UP
    return (NEVER_NAMED if part.startswith(NEVER_NAMED) else MADE_UP) + DELETED


class Moments:
    """Tells the moments of a run."""

    def __init__(self, out: str, names: Names) -> None:
        self._out = out
        self._names = names
        self._seen: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def moment_of(self, call: Call) -> Moment | None:
        """Return the moment of a call, or None if it names nothing in OUT."""
        below = [self._names.shown(path) for path in places_of(call, self._out)]
        if not below:
            return None
        key = call.name, tuple(below)
        self._seen[key] += 1
        return Moment(*key, self._seen[key] - 1)


def places_of(call: Call, out: str) -> list[str]:
    """Return the paths from OUT, "." for itself, of those files of a call that lie there."""
    return [os.path.relpath(path, out) for path in call.paths if path == out or path.startswith(out + "/")]
