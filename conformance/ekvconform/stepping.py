"""Rearranges the tree at each moment of a run: `ekvconform step`.

A moment is a call of the program that names something in OUT, before it happens, told by
its name, its place and how often both have come together before; never by time. First a run
is recorded; then there is one run for each moment and for each thing that somebody else
could do to the tree at it:

    scene         what happens at the moment
    ------------  ----------------------------------------------------------------------
    swap          a folder on the way to the place is moved aside, and a symlink to a
                  folder outside takes its place
    vanish        the folder of the place is moved aside
    symlink       a symlink to a file outside appears at the place; what lies there is
                  moved aside
    hard-link     the same, a hard link
    fifo          the same, a FIFO

    verdict       meaning
    ------------  ----------------------------------------------------------------------
    PASS          nothing outside was touched, and the program ended with a status that
                  it has, whether it took the tree or refused it
    ESCAPED       something outside was created, changed or cut
    CRASH, HANG,  as for a case
    LIMIT, FAIL
    VOID          the moment did not come, there was nothing to rearrange, or the program
                  did what cannot be seen
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ekvconform.cases import Case, Scene
from ekvconform.holding import GO_ON, Answer, Call, hold_program
from ekvconform.profiles import Profile
from ekvconform.running import PATIENCE_SECONDS, WATCHER_ENDED, run_watched
from ekvconform.sandbox import Look, Sandbox, make_sandbox, touched
from ekvconform.usage import UsageError
from ekvconform.verdicts import ESCAPED, PASS, VOID, bad_ending, command_of

SWAP: Final = "swap"
VANISH: Final = "vanish"
SYMLINK: Final = "symlink"
HARD_LINK: Final = "hard-link"
FIFO: Final = "fifo"
SCENES: Final = (SWAP, VANISH, SYMLINK, HARD_LINK, FIFO)
VARYING: Final = re.compile(r"[0-9]{3,}")
"""What a program makes up anew for each run, in the name of a temporary file."""
MAX_CALLS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Moment:
    """A call that is about to happen."""

    name: str
    places: tuple[str, ...]
    """Paths from OUT, "." for itself."""
    ordinal: int
    """How often the same call of the same places came before."""
    folders: frozenset[str] = field(default=frozenset(), compare=False)
    """Those of the places, and of the folders on the way to them, that are folders then."""

    def __str__(self) -> str:
        again = f", number {self.ordinal + 1}" if self.ordinal else ""
        return f"before {self.name} {' '.join(self.places)}{again}"


@dataclass(frozen=True, slots=True)
class Step:
    """One run: what happens, where, and when."""

    moment: Moment
    scene: str
    place: str
    """From OUT."""

    def __str__(self) -> str:
        return f"{self.scene} at {self.place}, {self.moment}"


@dataclass(frozen=True, slots=True)
class Stepped:
    """What came of a step."""

    step: Step
    verdict: str
    words: str


class _Moments:
    """Tells the moments of a run."""

    def __init__(self, box: Sandbox) -> None:
        self._out = box.real_out
        self._seen: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def moment_of(self, call: Call) -> Moment | None:
        """Return the moment of a call, or None if it names nothing in OUT."""
        below = [os.path.relpath(path, self._out) for path in call.paths if self._is_inside(path)]
        if not below:
            return None
        key = call.name, tuple(VARYING.sub("#", path) for path in below)
        self._seen[key] += 1
        return Moment(*key, self._seen[key] - 1)

    def _is_inside(self, path: str) -> bool:
        return path == self._out or path.startswith(self._out + "/")


def record(case: Case, profile: Profile, folder: Path, stop: int | None) -> list[Moment]:
    """Run a program, and return its moments in order."""
    box = make_sandbox(folder, case.scene)
    command = command_of(profile, case.scene, box, box.arrange(case.scene))
    moments = _Moments(box)
    found: list[Moment] = []

    def decide(call: Call) -> Answer:
        if len(found) < MAX_CALLS and (moment := moments.moment_of(call)):
            found.append(replace(moment, folders=_folders(call, box)))
        return GO_ON

    hold_program(command, box, profile.limits, decide, stop)
    return found


def _folders(call: Call, box: Sandbox) -> frozenset[str]:
    """Return what is a folder now of the places of a call, and of what lies on the way to them."""
    found = set()
    for path in call.paths:
        place = Path(path)
        for each in (place, *place.parents):
            if str(each).startswith(box.real_out) and each.is_dir() and not each.is_symlink():
                found.add(VARYING.sub("#", os.path.relpath(each, box.real_out)))
    return frozenset(found)


def record_moments(case: Case, profile: Profile) -> list[Moment]:
    """Run a program in a process of its own, and return its moments. Raises `UsageError` and `OSError`."""

    def work(case: Case, folder: Path, stop: int) -> list[Moment]:
        return record(case, profile, folder, stop)

    def nothing(case: Case, error: Exception | None = None) -> list[Moment]:
        raise UsageError(f"{case.id} cannot be recorded: {error or WATCHER_ENDED}")

    (moments,) = run_watched(work, [case], 1, profile.limits.seconds + PATIENCE_SECONDS, nothing, nothing)
    if not moments:
        raise UsageError(f"{case.id}: the program never named OUT; is the command right?")
    return moments


def iter_steps(moments: Sequence[Moment]) -> Iterator[Step]:
    """Yield all steps: each scene at each moment, at each place where it changes something."""
    for moment in moments:
        for folder in sorted(moment.folders):
            yield Step(moment, SWAP, folder)
        for place in dict.fromkeys(moment.places):
            above = os.path.dirname(place) or "."
            if place != "." and above in moment.folders:
                yield Step(moment, VANISH, above)
                if place not in moment.folders:
                    for scene in (SYMLINK, HARD_LINK, FIFO):
                        yield Step(moment, scene, place)


def run_steps(
    case: Case, profile: Profile, steps: Sequence[Step], jobs: int, tell: Callable[[Stepped], None]
) -> list[Stepped]:
    """Do each step in a run of its own, and judge it. Raises `OSError`."""

    def work(step: Step, folder: Path, stop: int) -> Stepped:
        return _do(step, case.scene, profile, folder, stop)

    def ended(step: Step) -> Stepped:
        return Stepped(step, ESCAPED, WATCHER_ENDED)

    def failed(step: Step, error: Exception) -> Stepped:
        return Stepped(step, VOID, f"{type(error).__name__}: {error}")

    return run_watched(work, steps, jobs, profile.limits.seconds + PATIENCE_SECONDS, ended, failed, tell)


def _do(step: Step, scene: Scene, profile: Profile, folder: Path, stop: int) -> Stepped:
    box = make_sandbox(folder, scene)
    (box.root / "aside").mkdir()
    command = command_of(profile, scene, box, box.arrange(scene))
    before = _look_outside(box)
    moments, met, done = _Moments(box), False, False

    def decide(call: Call) -> Answer:
        nonlocal met, done
        if not met and moments.moment_of(call) == step.moment:
            met = True
            done = _rearrange(step, call, box)
        return GO_ON

    held = hold_program(command, box, profile.limits, decide, stop)
    if changed := touched(before, _look_outside(box), scene):
        return Stepped(step, ESCAPED, f"touched: {', '.join(changed)}")
    if held.unseen:
        return Stepped(step, VOID, f"not seen: {held.unseen[0]}")
    if not met:
        return Stepped(step, VOID, "the moment did not come")
    if not done:
        return Stepped(step, VOID, "there was nothing to rearrange")
    if ending := bad_ending(held.finish, profile):
        verdict, difference = ending
        return Stepped(step, verdict, str(difference))
    return Stepped(step, PASS, f"exit status {held.finish.exit_status}")


def _look_outside(box: Sandbox) -> Look:
    """Look at all but OUT, TMPDIR and what was moved aside; how many names a canary has is for the scenes to change."""
    return {path: seen._replace(links=0, times=(seen.times[0], 0)) for path, seen in box.look_outside(b"aside").items()}


def _rearrange(step: Step, call: Call, box: Sandbox) -> bool:
    """Do to the tree what a scene says; return whether there was anything to do it to."""
    place = box.out if step.place == "." else box.out / _actual(step.place, call, box)
    aside = box.root / "aside" / "moved"
    is_folder = place.is_dir() and not place.is_symlink()
    if is_folder != (step.scene in (VANISH, SWAP)) or not place.parent.is_dir():
        return False
    if os.path.lexists(place):
        place.rename(aside)
    if step.scene == SWAP:
        place.symlink_to(box.root / "canary" / "folder")
    elif step.scene == SYMLINK:
        place.symlink_to(box.root / "canary" / "file")
    elif step.scene == HARD_LINK:
        os.link(box.root / "canary" / "file", place)
    elif step.scene == FIFO:
        os.mkfifo(place)
    return True


def _actual(place: str, call: Call, box: Sandbox) -> str:
    """Return the name that a place has in this run."""
    for path in call.paths:
        parts = os.path.relpath(path, box.real_out).split("/")
        for depth in range(len(parts), 0, -1):
            if VARYING.sub("#", "/".join(parts[:depth])) == place:
                return "/".join(parts[:depth])
    return place
