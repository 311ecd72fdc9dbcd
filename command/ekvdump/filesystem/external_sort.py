"""Sorting more records than memory holds, with sorted runs in unlinked temporary files. [SUMS-6] [VERI-17]

A record is a key (any bytes but NUL) and a note (bytes without NUL and LF). In a run
it is a line, key NUL note LF, so that the order of lines is the order of keys:

    byte of the key   in a line
    ---------------   ---------
    09 (TAB)          09 01
    0A (LF)           09 02
    any other         itself

The replacements sort where TAB and LF do, and NUL sorts below all.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader, FileIO
from itertools import islice
from typing import Final

from ekvdump.filesystem.directories import write_all

RUN_LINES: Final = 32_768
"""Lines that one run holds; they are sorted in memory."""
MAX_RUNS: Final = 32
"""Runs in temporary files before they are merged into one."""
BATCH_LINES: Final = 4096
"""Lines per write."""


class Sorter:
    """Collects records in any order; iterates over them by key and then by note, any number of times.

    `open_unnamed` creates an unlinked temporary file. Runs are written without a buffer, so that a
    full disk is reported by `add` and not when the file is closed.
    """

    def __init__(self, open_unnamed: Callable[[], FileIO]) -> None:
        self._open_unnamed = open_unnamed
        self._fresh: list[bytes] = []
        self._runs: list[BufferedReader] = []

    def add(self, key: bytes, note: bytes) -> None:
        """Add one record. Raises `OSError` where a run cannot be written."""
        if b"\n" in key or b"\t" in key:
            key = key.replace(b"\t", b"\t\1").replace(b"\n", b"\t\2")
        self._fresh.append(b"%b\0%b\n" % (key, note))
        if len(self._fresh) == RUN_LINES:
            if len(self._runs) == MAX_RUNS:
                self._merge_runs()
            self._fresh.sort()
            self._write_run(self._fresh)
            self._fresh.clear()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for line in heapq.merge(*self._rewound_runs(), sorted(self._fresh)):
            key, _, note = line.partition(b"\0")
            if b"\t" in key:
                key = key.replace(b"\t\2", b"\n").replace(b"\t\1", b"\t")
            yield key, note[:-1]

    def close(self) -> None:
        """Close the temporary files."""
        for run in self._runs:
            run.close()
        self._runs.clear()
        self._fresh.clear()

    def _merge_runs(self) -> None:
        merged = self._runs
        self._write_run(heapq.merge(*self._rewound_runs()))
        self._runs = self._runs[-1:]
        for run in merged[:MAX_RUNS]:
            run.close()

    def _write_run(self, lines: Iterable[bytes]) -> None:
        file = self._open_unnamed()
        self._runs.append(BufferedReader(file))
        left = iter(lines)
        while batch := b"".join(islice(left, BATCH_LINES)):
            write_all(file.fileno(), batch)

    def _rewound_runs(self) -> list[BufferedReader]:
        for run in self._runs:
            run.seek(0)
        return list(self._runs)
