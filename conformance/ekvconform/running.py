"""Judges cases at once, each in a process that has no other children."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import active_children, get_context
from types import FrameType

from ekvconform.cases import Case
from ekvconform.profiles import Profile
from ekvconform.verdicts import Judgement, judge_case

_is_judging = False
_is_stopped = False
"""What a signal handler of a worker has to know and to say."""


def judge_cases(
    cases: Sequence[Case], profile: Profile, jobs: int, *, strict_reasons: bool, tell: Callable[[Judgement], None]
) -> list[Judgement]:
    """Judge cases, and `tell` of each as soon as it is; return all in their own order.

    Raises `BrokenProcessPool` where a program ends the process that watches it.
    """
    judge = partial(_judge_interruptibly, profile=profile, strict_reasons=strict_reasons)
    with workers(min(jobs, len(cases))) as pool:
        places: dict[Future[Judgement], int] = {pool.submit(judge, case): place for place, case in enumerate(cases)}
        found: dict[int, Judgement] = {}
        for future in as_completed(places):
            found[places[future]] = future.result()
            tell(future.result())
    return [found[place] for place in range(len(cases))]


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes that judge; where the caller is interrupted they are too, and what waits for them is dropped."""
    # A new process each, so that none has children of another's.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_take_interrupts)
    try:
        yield pool
    except BaseException:
        for child in active_children():
            with suppress(ProcessLookupError):
                os.kill(child.pid or 0, signal.SIGINT)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _take_interrupts() -> None:
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the program that is being judged, if any, and let none begin."""
    global _is_stopped
    _is_stopped = True
    if _is_judging:
        raise KeyboardInterrupt


def _judge_interruptibly(case: Case, profile: Profile, *, strict_reasons: bool) -> Judgement:
    global _is_judging
    if _is_stopped:
        raise KeyboardInterrupt  # a case that was handed out before the interrupt
    _is_judging = True
    try:
        return judge_case(case, profile, strict_reasons=strict_reasons)
    finally:
        _is_judging = False
