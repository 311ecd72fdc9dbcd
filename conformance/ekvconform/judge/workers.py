"""Judges cases at once, each in a process of its own, which a program can end without ending the run.

    this process   has no threads, so that it may fork; takes in what a watcher leaves behind
    watcher        one a case: sets the scene, runs the program, judges it, tells the judgement
    program        and all its descendants, which the watcher takes in and ends

A watcher ends when this process does, whatever ends it: it looks at a pipe that nobody
else holds the other end of. It takes no signal but the one that cannot be refused.
"""

import os
import pickle
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.limits import Limits
from ekvconform.judge.differences import Difference
from ekvconform.judge.verdicts import ESCAPED, VOID, Judgement, judge_case
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import adopt_orphans, descendants, end_descendants, remove_sandbox
from ekvconform.run.time_limit import WALL_FACTOR, StarvedError

PATIENCE_SECONDS: Final = 60.0
"""How much longer than its program a watcher may take."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WATCHER_ENDED: Final = "the process that watches it was ended or stopped"

Item = TypeVar("Item")
Result = TypeVar("Result")
Program = Callable[[Path], Profile]
"""Makes a program in a folder that is empty otherwise, and returns how it is run."""


def judge_cases(
    cases: Sequence[Case], profile: Profile, jobs: int, *, strict_reasons: bool, tell: Callable[[Judgement], None]
) -> list[Judgement]:
    """Judge cases, and `tell` of each as soon as it is; return all in their own order.

    Raises `UsageError` where a profile turns out to be broken, and `OSError`.
    """
    pairs = [(case, lambda _: profile) for case in cases]
    return judge_pairs(pairs, profile.limits, jobs, strict_reasons=strict_reasons, tell=tell)


def judge_pairs(
    pairs: Sequence[tuple[Case, Program]],
    limits: Limits,
    jobs: int,
    *,
    strict_reasons: bool,
    tell: Callable[[Judgement], None],
) -> list[Judgement]:
    """Do what `judge_cases` does, with a program for each case, which is made where the case is judged.

    `limits` are those of all programs. Raises as `judge_cases`; a program that cannot be made is VOID.
    """

    def judge(pair: tuple[Case, Program], folder: Path, stop: int) -> Judgement:
        case, program = pair
        return judge_case(case, program(folder), folder, strict_reasons=strict_reasons, stop=stop)

    def ended(pair: tuple[Case, Program]) -> Judgement:
        return Judgement(pair[0], ESCAPED, (Difference("the run", "nothing outside touched", WATCHER_ENDED),))

    def failed(pair: tuple[Case, Program], error: Exception) -> Judgement:
        words = f"{type(error).__name__}: {error}"[:500]
        return Judgement(pair[0], VOID, (Difference("the runner", "a verdict", words),))

    seconds = max((limits.but(case.limits).seconds for case, _ in pairs), default=0)
    return run_watched(judge, pairs, jobs, WALL_FACTOR * seconds + PATIENCE_SECONDS, ended, failed, tell)


@dataclass(slots=True)
class _Watcher(Generic[Item]):
    place: int
    item: Item
    pid: int
    folder: Path
    deadline: float
    told: bytearray = field(default_factory=bytearray)


def run_watched(
    work: Callable[[Item, Path, int], Result],
    items: Sequence[Item],
    jobs: int,
    seconds: float,
    ended: Callable[[Item], Result],
    failed: Callable[[Item, Exception], Result],
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Do `work` on each item in a process of its own; return all results, in order.

    `work` is given the item, a new folder, and a descriptor that is readable when it is to stop.
    `ended` gives the result of an item whose process did not tell one in time, and `failed` of one whose
    work raised an exception. `UsageError` passes on, and everything is ended. An item that was starved of
    processor time is done again when all others are done, with none beside it; a line on stderr says so.
    """
    adopt_orphans()
    base = Path(os.path.realpath(tempfile.mkdtemp(prefix="ekvconform.")))
    stop_reader, stop_writer = os.pipe()
    running: dict[int, _Watcher[Item]] = {}
    results: dict[int, Result] = {}
    pending = list(enumerate(items))[::-1]
    starved: list[tuple[int, Item]] = []
    is_second_round = False
    try:
        while pending or running or starved:
            if not pending and not running:
                print(f"starved of processor time, run again alone: {len(starved)}", file=sys.stderr)
                pending, starved, jobs = starved, [], 1
                is_second_round = True
            while pending and len(running) < jobs:
                place, item = pending.pop()
                folder = base / str(place)
                folder.mkdir()
                reader, pid = _fork(lambda item=item, folder=folder: work(item, folder, stop_reader), stop_writer)  # type: ignore[misc]
                running[reader] = _Watcher(place, item, pid, folder, time.monotonic() + seconds)
            for reader in _ready(running):
                watcher = running[reader]
                piece = b"" if time.monotonic() > watcher.deadline else os.read(reader, 1 << 20)
                watcher.told += piece
                if piece:
                    continue
                del running[reader]
                os.close(reader)
                try:
                    results[watcher.place] = _result(watcher, running, ended, failed)
                except StarvedError as error:
                    if not is_second_round:
                        starved.append((watcher.place, watcher.item))
                        continue
                    results[watcher.place] = failed(watcher.item, error)
                tell(results[watcher.place])
    finally:
        os.close(stop_writer)
        _end_all(running)
        os.close(stop_reader)
        remove_sandbox(base)
    return [results[place] for place in range(len(items))]


def _ready(running: dict[int, _Watcher[Item]]) -> list[int]:
    """Return the descriptors of watchers that have told something, or whose time is over."""
    poll = select.poll()
    for reader in running:
        poll.register(reader, select.POLLIN | select.POLLHUP)
    nearest = min(watcher.deadline for watcher in running.values())
    told = [reader for reader, _ in poll.poll(max(0, (nearest - time.monotonic()) * 1000) + 1)]
    return told or [reader for reader, watcher in running.items() if time.monotonic() > watcher.deadline]


def _fork(work: Callable[[], Any], stop_writer: int) -> tuple[int, int]:
    """Start a watcher; return the descriptor that it tells its result on, and its process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    try:
        for name in SIGNALS:
            # Not ignored: a program inherits what is ignored, and what has a handler it gets as usual.
            signal.signal(name, lambda *_: None)
        os.setpgid(0, 0)  # what a terminal or `timeout` sends to a group is for the parent
        os.close(stop_writer)
        os.close(reader)
        try:
            told = pickle.dumps((True, work()))
        except Exception as error:
            told = pickle.dumps((False, error))
        with os.fdopen(writer, "wb") as file:
            file.write(told)
    finally:
        os._exit(0)


def _result(
    watcher: _Watcher[Item],
    running: dict[int, _Watcher[Item]],
    ended: Callable[[Item], Result],
    failed: Callable[[Item, Exception], Result],
) -> Result:
    """Return what a watcher has told; if it told nothing, end what it has left. Raises `StarvedError`."""
    os.kill(watcher.pid, signal.SIGKILL)  # it is our child and not waited for, so it is there, dead or alive
    os.waitpid(watcher.pid, 0)
    try:
        good, value = pickle.loads(bytes(watcher.told))  # noqa: S301 - of our own process
    except (EOFError, pickle.UnpicklingError):
        end_descendants(spared=[each.pid for each in running.values()])
        return ended(watcher.item)
    finally:
        # What a program has made so that nobody can remove it costs no verdict; it is tried again at the end.
        with suppress(OSError):
            remove_sandbox(watcher.folder)
    if good:
        result: Result = value
        return result
    if isinstance(value, UsageError | StarvedError):
        raise value
    return failed(watcher.item, value)


def _end_all(running: dict[int, _Watcher[Item]]) -> None:
    """Let watchers end what they watch, and end those that do not."""
    deadline = time.monotonic() + 2.0
    while running and descendants(os.getpid()) and time.monotonic() < deadline:
        for watcher in running.values():
            with suppress(ChildProcessError):
                os.waitpid(watcher.pid, os.WNOHANG)
        time.sleep(0.005)
    for reader in running:
        os.close(reader)
    if running:
        end_descendants()
