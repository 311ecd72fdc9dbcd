"""Judges cases in parallel, each in a process of its own, so that a program can kill only its own worker.

    this process   has no threads, so that it may fork; adopts what a worker leaves behind
    worker         one a case: prepares the run, runs the program, judges it, sends the result
    program        with all its descendants, which the worker adopts and kills

A worker ends when this process ends, for whatever reason: it polls a pipe whose other end
only this process has open. It reacts to no signal but SIGKILL.
"""

import functools
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

from ekvconform.cases.data_files import FIXTURES
from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.limits import Limits
from ekvconform.judge.aspects import OUTSIDE
from ekvconform.judge.differences import SCENE, Difference
from ekvconform.judge.verdicts import ESCAPED, VOID, Judgement, judge_case
from ekvconform.run.namespaces import hide
from ekvconform.run.processes import adopt_orphans, descendants, end_descendants
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import remove_sandbox
from ekvconform.run.time_limit import WALL_FACTOR, StarvedError

PATIENCE_SECONDS: Final = 60.0
"""Time that a worker may take in addition to its program."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORKER_ENDED: Final = "the worker that runs it was killed or stopped"

Item = TypeVar("Item")
Result = TypeVar("Result")
Program = Callable[[Path], Profile]
"""Makes a program in an empty directory, and returns its profile."""


def judge_cases(
    cases: Sequence[Case], profile: Profile, jobs: int, *, strict_reasons: bool, on_result: Callable[[Judgement], None]
) -> list[Judgement]:
    """Judge cases; call `on_result` for each when it is done, and return all in order.

    Raises `UsageError` if a profile turns out not to be valid, and `OSError`.
    """
    pairs = [(case, lambda _: profile) for case in cases]
    return judge_pairs(pairs, profile.limits, jobs, strict_reasons=strict_reasons, on_result=on_result)


def judge_pairs(
    pairs: Sequence[tuple[Case, Program]],
    limits: Limits,
    jobs: int,
    *,
    strict_reasons: bool,
    on_result: Callable[[Judgement], None],
) -> list[Judgement]:
    """Do what `judge_cases` does, with a program for each case, which is made in the worker.

    `limits` are those of all programs. Raises as `judge_cases`; if a program cannot be made, the verdict is VOID.
    """

    def judge(pair: tuple[Case, Program], directory: Path, stop: int) -> Judgement:
        case, program = pair
        profile = program(directory)
        with suppress(OSError):  # the report says where this is not possible
            hide(FIXTURES)
        return judge_case(case, profile, directory, strict_reasons=strict_reasons, stop=stop)

    def ended(pair: tuple[Case, Program]) -> Judgement:
        return Judgement(
            pair[0],
            ESCAPED,
            (Difference(OUTSIDE, "the run", "nothing outside touched", WORKER_ENDED, WORKER_ENDED, "SAFE-5"),),
        )

    def failed(pair: tuple[Case, Program], error: Exception) -> Judgement:
        words = f"{type(error).__name__}: {error}"[:500]
        return Judgement(pair[0], VOID, (Difference(SCENE, "the runner", "a verdict", words),))

    seconds = max((limits.but(case.limits).seconds for case, _ in pairs), default=0)
    return run_in_workers(judge, pairs, jobs, WALL_FACTOR * seconds + PATIENCE_SECONDS, ended, failed, on_result)


@dataclass(slots=True)
class _Worker(Generic[Item]):
    place: int
    item: Item
    pid: int
    directory: Path
    deadline: float
    output: bytearray = field(default_factory=bytearray)


def run_in_workers(
    work: Callable[[Item, Path, int], Result],
    items: Sequence[Item],
    jobs: int,
    seconds: float,
    ended: Callable[[Item], Result],
    failed: Callable[[Item, Exception], Result],
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Call `work` for each item in a process of its own; return all results, in order.

    `work` gets the item, a new directory, and a descriptor that becomes readable when it must stop.
    `ended` makes the result of an item whose process did not send one in time, and `failed` of one for which
    `work` raised an exception. `UsageError` is passed on, after all processes have been killed. An item that was
    starved of processor time runs again, alone, when all others are done; a line on stderr says so.
    """
    adopt_orphans()
    base = Path(os.path.realpath(tempfile.mkdtemp()))
    stop_reader, stop_writer = os.pipe()
    running: dict[int, _Worker[Item]] = {}
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
                # A program must not know from a name which case it is.
                directory = Path(tempfile.mkdtemp(dir=base))
                reader, pid = _fork(functools.partial(work, item, directory, stop_reader), stop_writer)
                running[reader] = _Worker(place, item, pid, directory, time.monotonic() + seconds)
            for reader in _ready(running):
                worker = running[reader]
                piece = b"" if time.monotonic() > worker.deadline else os.read(reader, 1 << 20)
                worker.output += piece
                if piece:
                    continue
                del running[reader]
                os.close(reader)
                try:
                    results[worker.place] = _result(worker, running, ended, failed)
                except StarvedError as error:
                    if not is_second_round:
                        starved.append((worker.place, worker.item))
                        continue
                    results[worker.place] = failed(worker.item, error)
                on_result(results[worker.place])
    finally:
        os.close(stop_writer)
        _end_all(running)
        os.close(stop_reader)
        remove_sandbox(base)
    return [results[place] for place in range(len(items))]


def _ready(running: dict[int, _Worker[Item]]) -> list[int]:
    """Return the descriptors of workers that have sent something, or that have timed out."""
    poll = select.poll()
    for reader in running:
        poll.register(reader, select.POLLIN | select.POLLHUP)
    nearest = min(worker.deadline for worker in running.values())
    sent = [reader for reader, _ in poll.poll(max(0, (nearest - time.monotonic()) * 1000) + 1)]
    return sent or [reader for reader, worker in running.items() if time.monotonic() > worker.deadline]


def _fork(work: Callable[[], Any], stop_writer: int) -> tuple[int, int]:
    """Start a worker; return the descriptor of its result, and its process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    try:
        for name in SIGNALS:
            # Not ignored: a program would inherit that; signals with a handler are reset to their default.
            signal.signal(name, lambda *_: None)
        os.setpgid(0, 0)  # signals that a terminal or `timeout` sends to the group are for the parent
        os.close(stop_writer)
        os.close(reader)
        try:
            result = pickle.dumps((True, work()))
        except Exception as error:
            result = pickle.dumps((False, error))
        with os.fdopen(writer, "wb") as file:
            file.write(result)
    finally:
        os._exit(0)


def _result(
    worker: _Worker[Item],
    running: dict[int, _Worker[Item]],
    ended: Callable[[Item], Result],
    failed: Callable[[Item, Exception], Result],
) -> Result:
    """Return the result of a worker; if it sent none, kill the processes that it has left. Raises `StarvedError`."""
    os.kill(worker.pid, signal.SIGKILL)  # a child that has not been waited for exists, dead or alive
    os.waitpid(worker.pid, 0)
    try:
        good, value = pickle.loads(bytes(worker.output))  # noqa: S301 - of our own process
    except (EOFError, pickle.UnpicklingError):
        end_descendants(spared=[each.pid for each in running.values()])
        return ended(worker.item)
    finally:
        # Files that cannot be removed do not affect the verdict; they are tried again at the end.
        with suppress(OSError):
            remove_sandbox(worker.directory)
    if good:
        result: Result = value
        return result
    if isinstance(value, UsageError | StarvedError):
        raise value
    return failed(worker.item, value)


def _end_all(running: dict[int, _Worker[Item]]) -> None:
    """Give workers time to kill their programs, then kill the workers."""
    deadline = time.monotonic() + 2.0
    while running and descendants(os.getpid()) and time.monotonic() < deadline:
        for worker in running.values():
            with suppress(ChildProcessError):
                os.waitpid(worker.pid, os.WNOHANG)
        time.sleep(0.005)
    for reader in running:
        os.close(reader)
    if running:
        end_descendants()
