"""Sorting more than memory holds, by runs in files without a name. [SUMS-6] [VERI-17]

A record is a key (any bytes but NUL) and a note (bytes without NUL and LF). In a
run it is a line, key NUL note LF, so that the order of lines is the order of keys:

    byte of the key   in a line
    ---------------   ---------
    09 (TAB)          09 01
    0A (LF)           09 02
    any other         itself

Both take the place of TAB and LF in the order of bytes, and NUL stands below all.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

RUN_LINES: Final = 32_768
"""Lines that are sorted in memory."""
MAX_RUNS: Final = 32
"""Sorted runs that may lie in temporary files before they are merged into one."""


class Sorter:
    """Takes records in any order and gives them in order, by key and then by note, as often as asked.

    `open_unnamed` makes a temporary file without a name.
    """

    def __init__(self, open_unnamed: Callable[[], BinaryIO]) -> None:
        self._open_unnamed = open_unnamed
        self._fresh: list[bytes] = []
        self._runs: list[BinaryIO] = []

    def add(self, key: bytes, note: bytes) -> None:
        """Take one record."""
        if b"\n" in key or b"\t" in key:
            key = key.replace(b"\t", b"\t\1").replace(b"\n", b"\t\2")
        self._fresh.append(b"%b\0%b\n" % (key, note))
        if len(self._fresh) == RUN_LINES:
            self._spill(sorted(self._fresh))
            self._fresh.clear()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for line in self._merged():
            key, _, note = line.partition(b"\0")
            if b"\t" in key:
                key = key.replace(b"\t\2", b"\n").replace(b"\t\1", b"\t")
            yield key, note[:-1]

    def close(self) -> None:
        """Give the temporary files back."""
        for run in self._runs:
            run.close()
        self._runs.clear()
        self._fresh.clear()

    def _merged(self) -> Iterator[bytes]:
        for run in self._runs:
            run.seek(0)
        return heapq.merge(*self._runs, sorted(self._fresh))

    def _spill(self, lines: list[bytes]) -> None:
        if len(self._runs) == MAX_RUNS:
            merged = self._open_unnamed()
            merged.writelines(heapq.merge(*(self._rewound(run) for run in self._runs)))
            for run in self._runs:
                run.close()
            self._runs = [merged]
        run = self._open_unnamed()
        run.writelines(lines)
        self._runs.append(run)

    @staticmethod
    def _rewound(run: BinaryIO) -> BinaryIO:
        run.seek(0)
        return run
