"""Finds, measures and ends the processes that a program has started. Linux only.

This process is a child subreaper (PR_SET_CHILD_SUBREAPER): descendants of the program whose
parent has ended become its children. So all of them can be found and killed, even if they
left the process group. It must not have other children.
"""

import ctypes
import errno
import os
import re
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36
END_SECONDS: Final = 10.0
"""Time that killed processes may take to disappear."""
PR_CAPBSET_DROP: Final = 24


def adopt_orphans() -> None:
    """Make this process a child subreaper. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def drop_capabilities() -> None:
    """Drop all capabilities of programs that are started from now on. Raises `OSError` if that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
            if os.geteuid() == 0:
                raise OSError(ctypes.get_errno(), "the program cannot be run without privileges")
            return


def end_descendants(program: int | None = None, spared: Collection[int] = ()) -> tuple[int, int]:
    """End all descendants of this process, but those spared and theirs.

    Returns the exit code of `program` (negative for a signal), and how many others there were. Orphans come
    to this process, so whatever descends from it was started by the program. Raises `OSError` for what does not end.
    """
    ended: set[int] = set()
    code = 0
    deadline = time.monotonic() + END_SECONDS
    while True:
        if not spared:
            try:
                while (waited := os.waitpid(-1, os.WNOHANG))[0]:
                    if waited[0] == program:
                        code = os.waitstatus_to_exitcode(waited[1])
            except ChildProcessError:
                return code, len(ended - {program})  # no children, so no descendants
        kept = {each for pid in spared for each in (pid, *descendants(pid))}
        alive = [pid for pid in descendants(os.getpid()) if pid not in kept]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(alive)
        if spared:
            # One at a time: what is spared is another process's to wait for.
            rest = [pid for pid in _children(os.getpid()) if pid not in kept]
            for pid in rest:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if not alive and not rest:
                return code, len(ended)
        if time.monotonic() > deadline:
            raise OSError(f"processes that do not end: {sorted(set(alive))}")
        if alive:
            time.sleep(0.001)


def _processes() -> dict[int, tuple[int, bool]]:
    """Return process = its parent, and whether anything of it still runs."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of a program stands in brackets and may hold anything.
                state, parent = file.read().rsplit(b")", 1)[1].split()[:2]
                # A process whose first thread has ended looks dead, and its others may go on.
                runs = state != b"Z" or len(os.listdir(f"/proc/{name}/task")) > 1
                found[int(name)] = (int(parent), runs)
    return found


def _children(pid: int) -> list[int]:
    return [child for child, (parent, _) in _processes().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process of which anything still runs."""
    processes = _processes()
    children: dict[int, list[int]] = {}
    for child, (parent, _) in processes.items():
        children.setdefault(parent, []).append(child)
    found, pending = [], [pid]
    while pending:
        for child in children.get(pending.pop(), []):
            pending.append(child)
            if processes[child][1]:
                found.append(child)
    return found


PROPORTIONAL: Final = re.compile(rb"^Pss_(?:Anon|Shmem):\s+([0-9]+) kB", re.MULTILINE)


def proportional_memory(pid: int) -> int:
    """Return the bytes that a process holds for itself, each page counted to all that share it in equal parts."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        return sum(map(int, PROPORTIONAL.findall(file.read()))) * 1024
    return 0


MEMORY: Final = re.compile(rb"^Rss(?:Anon|Shmem):\s+([0-9]+) kB", re.MULTILINE)


def private_memory(pid: int) -> int:
    """Return the bytes that a process holds for itself; pages of mapped files do not count."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # the first may have ended, and then says nothing
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/status", "rb") as file:
                if sizes := MEMORY.findall(file.read()):
                    return sum(map(int, sizes)) * 1024
    return 0
