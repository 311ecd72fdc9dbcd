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
    LIMIT
    VOID          the moment did not come, or the program did what cannot be seen
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ekvconform.cases import Case, Scene
from ekvconform.holding import GO_ON, Answer, Call, hold_program
from ekvconform.profiles import Profile
from ekvconform.running import PATIENCE_SECONDS, WATCHER_ENDED, run_watched
from ekvconform.sandbox import Look, Sandbox, look, make_sandbox
from ekvconform.usage import UsageError
from ekvconform.verdicts import CRASH, ESCAPED, HANG, LIMIT, PANIC, PASS, VOID, command_of, first_line, ranges

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
        self._out = os.path.join(os.path.realpath(box.out.parent), box.out.name)
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
            found.append(moment)
        return GO_ON

    hold_program(command, box, profile.limits, decide, stop)
    return found


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
    """Yield all steps: each scene at each moment, at each place that it can be about."""
    for moment in moments:
        for place in dict.fromkeys(moment.places):
            parts = [] if place == "." else place.split("/")
            for depth in range(len(parts) + 1):
                yield Step(moment, SWAP, "/".join(parts[:depth]) or ".")
            if parts:
                yield Step(moment, VANISH, "/".join(parts[:-1]) or ".")
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
    moments, met = _Moments(box), False

    def decide(call: Call) -> Answer:
        nonlocal met
        if not met and moments.moment_of(call) == step.moment:
            met = True
            _rearrange(step, call, box)
        return GO_ON

    held = hold_program(command, box, profile.limits, decide, stop)
    finish = held.finish
    after = _look_outside(box)
    changed = sorted(path for path in after.keys() | before.keys() if before.get(path) != after.get(path))
    if changed:
        return Stepped(step, ESCAPED, f"touched: {', '.join(changed)}")
    if held.unseen:
        return Stepped(step, VOID, f"not seen: {held.unseen[0]}")
    if not met:
        return Stepped(step, VOID, "the moment did not come")
    if finish.over_limit:
        return Stepped(step, LIMIT, finish.over_limit)
    if finish.hung:
        return Stepped(step, HANG, f"not done after {profile.limits.seconds:g} s")
    if finish.signal is not None or PANIC.search(finish.stderr):
        return Stepped(step, CRASH, first_line(finish.stderr))
    if finish.exit_status not in profile.documented:
        return Stepped(step, CRASH, f"exit status {finish.exit_status}, not {ranges(profile.documented)}")
    return Stepped(step, PASS, f"exit status {finish.exit_status}")


def _look_outside(box: Sandbox) -> Look:
    """Look at all but OUT, TMPDIR and what was moved aside; how many names a canary has is for the scenes to change."""
    without = (b"tmp", b"aside", os.fsencode(os.path.relpath(box.out, box.root)))
    return {path: seen._replace(links=0, times=(seen.times[0], 0)) for path, seen in look(box.root, without).items()}


def _rearrange(step: Step, call: Call, box: Sandbox) -> None:
    """Do to the tree what a scene says. What is not there, or is no folder, stays as it is."""
    place = box.out if step.place == "." else box.out / _actual(step.place, call, box)
    aside = box.root / "aside" / "moved"
    is_folder = place.is_dir() and not place.is_symlink()
    if step.scene == VANISH:
        if is_folder:
            place.rename(aside)
        return
    if step.scene == SWAP:
        if is_folder:
            place.rename(aside)
            place.symlink_to(box.root / "canary" / "folder")
        return
    if is_folder or not place.parent.is_dir():
        return
    if os.path.lexists(place):
        place.rename(aside)
    if step.scene == SYMLINK:
        place.symlink_to(box.root / "canary" / "file")
    elif step.scene == HARD_LINK:
        os.link(box.root / "canary" / "file", place)
    else:
        os.mkfifo(place)


def _actual(place: str, call: Call, box: Sandbox) -> str:
    """Return the name that a place has in this run."""
    out = os.path.join(os.path.realpath(box.out.parent), box.out.name)
    for path in call.paths:
        below = os.path.relpath(path, out)
        parts = below.split("/")
        for depth in range(len(parts), 0, -1):
            if VARYING.sub("#", "/".join(parts[:depth])) == place:
                return "/".join(parts[:depth])
    return place
