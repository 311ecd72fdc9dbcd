"""Tampers with the tree at each moment of a run: `ekvconform step`.

A moment is a system call of the program with a path in OUT, before it is executed. It is
identified by the name of the call, its path, and how often both have occurred together;
never by time. First a run is recorded; then there is one run for each moment and each kind
of tampering (`tampering`):

    verdict       meaning
    ------------  ----------------------------------------------------------------------
    PASS          nothing outside was touched, and the program ended with one of its exit
                  statuses, whether it completed the dump or refused
    ESCAPED       something outside was created, changed or truncated
    FAIL          bytes that were put there by tampering were sealed as the dump's own
    CRASH, HANG,  as for a case
    LIMIT
    VOID          the moment did not come, there was nothing to tamper with, or the program
                  did something unobservable
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.moments import OF_FILES, REMOVE, SWAP, VANISH, Moment, Moments, Names, places_of
from ekvconform.cases.system_calls import FLUSH, Call
from ekvconform.judge.verdicts import ESCAPED, FAIL, PASS, VOID, bad_ending, command_of, first_line
from ekvconform.judge.workers import PATIENCE_SECONDS, WORKER_ENDED, run_in_workers
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import Sandbox, make_sandbox
from ekvconform.run.seccomp import GO_ON, Answer, hold_program
from ekvconform.run.tampering import OTHER_BYTES, Rearrangement
from ekvconform.run.time_limit import WALL_FACTOR


@dataclass(frozen=True, slots=True)
class Step:
    """One run: what is done to the tree, where, and when."""

    moment: Moment
    scene: str
    place: str
    """From OUT."""

    def __str__(self) -> str:
        return f"{self.scene} at {self.place}, {self.moment}"


@dataclass(frozen=True, slots=True)
class Stepped:
    """The verdict on a step."""

    step: Step
    verdict: str
    words: str


def _record(case: Case, profile: Profile, directory: Path, stop: int) -> list[Moment]:
    """Run a program; return its moments in order."""
    box = make_sandbox(directory, case.scene)
    command = command_of(profile, case.scene, box, box.arrange(case.scene))
    names = Names(case.paths)
    moments = Moments(box.real_out, names)
    found: list[Moment] = []

    def decide(call: Call) -> Answer:
        moment = moments.moment_of(call)
        if moment is None and call.kind == FLUSH:
            moment = Moment(call.name, (), 0)  # a flush of a file system, or of a directory outside OUT
        if moment:
            found.append(replace(moment, directories=_directories(call, box, names), writes=call.writes))
        return GO_ON

    held = hold_program(command, box, profile.limits, decide, stop)
    if ending := bad_ending(held.finish, profile):
        raise UsageError(f"{case.id} fails without any tampering: {ending[1]}")
    status = held.finish.exit_status
    if status not in profile.exits[case.expected.outcome]:
        message = first_line(held.finish.stderr)
        raise UsageError(f"{case.id} ends with {status} without any tampering: {message}")
    return found


def _directories(call: Call, box: Sandbox, names: Names) -> frozenset[str]:
    """Return those paths of a call, and ancestors of them, that are directories now."""
    found = set()
    for path in places_of(call, box.real_out):
        for each in (Path(path), *Path(path).parents):
            at = box.out / each
            if at.is_dir() and not at.is_symlink():
                found.add(names.shown(str(each)))
    return frozenset(found)


def record_moments(case: Case, profile: Profile) -> list[Moment]:
    """Record the moments of a run, in a process of its own. Raises `UsageError` and `OSError`.

    A flush of a whole file system counts too, as a moment without a path.
    """

    def work(case: Case, directory: Path, stop: int) -> list[Moment]:
        return _record(case, profile, directory, stop)

    def nothing(case: Case, error: Exception | None = None) -> list[Moment]:
        raise UsageError(f"{case.id} cannot be recorded: {error or WORKER_ENDED}")

    seconds = WALL_FACTOR * profile.limits.seconds + PATIENCE_SECONDS
    (moments,) = run_in_workers(work, [case], 1, seconds, nothing, nothing)
    if not any(moment.places for moment in moments):
        raise UsageError(f"{case.id}: the program made no call with a path in OUT; is the command right?")
    return moments


def iter_steps(moments: Sequence[Moment]) -> Iterator[Step]:
    """Yield all steps: each kind of tampering, at each moment and path where it can have an effect."""
    for moment in moments:
        for directory in sorted(moment.directories):
            yield Step(moment, SWAP, directory)
        for place in dict.fromkeys(moment.places):
            above = os.path.dirname(place) or "."
            if place != "." and above in moment.directories:
                yield Step(moment, VANISH, above)
                yield Step(moment, REMOVE, above)
            if place not in moment.directories and (place == "." or above in moment.directories):
                for scene in OF_FILES:
                    yield Step(moment, scene, place)


def run_steps(
    case: Case, profile: Profile, steps: Sequence[Step], jobs: int, on_result: Callable[[Stepped], None]
) -> list[Stepped]:
    """Run and judge each step in a process of its own. Raises `OSError`."""

    def work(step: Step, directory: Path, stop: int) -> Stepped:
        return _do(step, case, profile, directory, stop)

    def ended(step: Step) -> Stepped:
        return Stepped(step, ESCAPED, WORKER_ENDED)

    def failed(step: Step, error: Exception) -> Stepped:
        return Stepped(step, VOID, f"{type(error).__name__}: {error}")

    seconds = WALL_FACTOR * profile.limits.seconds + PATIENCE_SECONDS
    return run_in_workers(work, steps, jobs, seconds, ended, failed, on_result)


def _do(step: Step, case: Case, profile: Profile, directory: Path, stop: int) -> Stepped:
    scene, names = case.scene, Names(case.paths)
    box = make_sandbox(directory, scene)
    command = command_of(profile, scene, box, box.arrange(scene))
    rearrangement = Rearrangement(box, step.scene, scene.hard_link_count)
    moments, met = Moments(box.real_out, names), False

    def decide(call: Call) -> Answer:
        nonlocal met
        if not met and moments.moment_of(call) == step.moment:
            met = True
            rearrangement.do(_place(step, call, box, names))
        return GO_ON

    held = hold_program(command, box, profile.limits, decide, stop)
    if changed := rearrangement.touched():
        return Stepped(step, ESCAPED, f"touched: {', '.join(changed)} [SAFE-5]")
    if paths := _sealed_tampered_files(case, box):
        return Stepped(step, FAIL, f"sealed bytes of another process: {', '.join(paths)} [SAFE-10]")
    if held.unseen:
        return Stepped(step, VOID, f"not observable: {held.unseen[0]}")
    if not met:
        return Stepped(step, VOID, "the moment did not come")
    if not rearrangement.is_done:
        return Stepped(step, VOID, "there was nothing to tamper with")
    if ending := bad_ending(held.finish, profile):
        verdict, difference = ending
        return Stepped(step, verdict, f"{difference} [{difference.clause}]")
    return Stepped(step, PASS, f"exit status {held.finish.exit_status}")


def _place(step: Step, call: Call, box: Sandbox, names: Names) -> Path:
    """Return the path of a step in this run; the name of a temporary file is taken from the call."""
    for path in places_of(call, box.real_out):
        parts = path.split("/")
        for depth in range(len(parts), 0, -1):
            if names.shown("/".join(parts[:depth])) == step.place:
                return box.out / "/".join(parts[:depth])
    return box.out / step.place


def _sealed_tampered_files(case: Case, box: Sandbox) -> list[str]:
    """Return the files of the dump whose line in CHECKSUMS has the hash of the tampered bytes.

    A file that was there before the run is sealed as it is. [INTO-5]
    """
    sealed = box.out / "CHECKSUMS"
    if not sealed.is_file() or sealed.is_symlink():
        return []
    lines = sealed.read_bytes().splitlines()
    sha256 = hashlib.sha256(OTHER_BYTES).hexdigest().encode()
    own = sorted(path for path in case.expected.tree if case.scene.out + b"/" + path not in case.scene.planted)
    return [os.fsdecode(path) for path in own if sha256 + b"  " + path in lines]
