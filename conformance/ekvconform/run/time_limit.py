"""A limit of time that a busy machine does not change.

A program times out where it

- has used its limit in processor time, or
- has been idle for as long: it used no processor time, and nothing of it was ready to run.

A program that is ready to run and is not given a processor is *starved*, not timed out. Behind
both stands a wall clock of `WALL_FACTOR` times the limit; what meets that first has shown nothing.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

WALL_FACTOR: Final = 10
"""How many times its limit a program may take by the wall clock, however little of it the program was given."""
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
READY: Final = (b"R", b"D")
"""States of a thread that runs, waits for a processor, or waits for a disk."""


class StarvedError(Exception):
    """A program was given too little processor time to say whether it times out."""


class TimeLimit:
    """Watches one program and its descendants; times are in seconds of a monotonic clock."""

    def __init__(self, seconds: float, begin: float) -> None:
        self._seconds = seconds
        self._begin = begin
        self._used = 0.0
        self._last_progress = begin

    def note_progress(self, now: float) -> None:
        """Note that the program has come further, as when it is held at a system call and let go on."""
        self._last_progress = now

    def is_reached(self, processes: Callable[[], Iterable[int]], now: float) -> bool:
        """Return True if the program, which is all that `processes` returns, has timed out.

        Raises `StarvedError`.
        """
        if now - self._begin <= self._seconds:
            return False  # whatever it has used is less
        used, is_ready = 0.0, False
        for pid in processes():
            used += processor_seconds(pid)
            is_ready = is_ready or has_ready_thread(pid)
        if used > self._used or is_ready:
            self._used = max(used, self._used)
            self._last_progress = now
        if self._used > self._seconds or now - self._last_progress > self._seconds:
            return True
        if now - self._begin > WALL_FACTOR * self._seconds:
            raise StarvedError(f"{self._used:.1f} s of processor time in {now - self._begin:.0f} s")
        return False


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and of the children it has waited for; 0 if it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        # The name of the program is in brackets and may hold anything.
        fields = file.read().rsplit(b")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS_PER_SECOND
    return 0.0


def has_ready_thread(pid: int) -> bool:
    """Return True if a thread of a process runs, or would run if it were given a processor or its disk."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                if file.read().rsplit(b")", 1)[1].split()[0] in READY:
                    return True
    return False
