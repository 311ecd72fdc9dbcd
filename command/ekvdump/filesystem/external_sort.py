"""Sorting more records than memory holds, with sorted runs in unlinked temporary files. [SUMS-6] [VERI-20]

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
import tempfile
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader, FileIO
from typing import Final

from ekvdump.filesystem.directories import write_all
from ekvdump.system_faults import temporary_fault

RUN_LINES: Final = 32_768
"""Lines that one run holds; they are sorted in memory."""
RUN_SIZE: Final = 8 * 1024 * 1024
"""Bytes of lines that one run holds, unless one line has more: keys can be long."""
MAX_RUNS: Final = 32
"""Runs in temporary files before they are merged into one."""
BATCH_SIZE: Final = 256 * 1024
"""Bytes per write, unless one line has more."""


class Sorter:
    """Collects records in any order; iterates over them by key and then by note, any number of times.

    `open_unnamed` creates an unlinked temporary file. Runs are written without a buffer, so that a
    full disk is reported by `add` and not when the file is closed.
    """

    def __init__(self, open_unnamed: Callable[[], FileIO]) -> None:
        self._open_unnamed = open_unnamed
        self._fresh: list[bytes] = []
        self._fresh_size = 0
        self._runs: list[BufferedReader] = []

    def add(self, key: bytes, note: bytes) -> None:
        """Add one record. Raises `OSError` where a run cannot be written."""
        if b"\n" in key or b"\t" in key:
            key = key.replace(b"\t", b"\t\1").replace(b"\n", b"\t\2")
        line = b"%b\0%b\n" % (key, note)
        self._fresh.append(line)
        self._fresh_size += len(line)
        if len(self._fresh) == RUN_LINES or self._fresh_size >= RUN_SIZE:
            if len(self._runs) == MAX_RUNS:
                self._merge_runs()
            self._fresh.sort()
            self._write_run(self._fresh)
            self._fresh.clear()
            self._fresh_size = 0

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
        batch = bytearray()
        for line in lines:
            batch += line
            if len(batch) >= BATCH_SIZE:
                write_all(file.fileno(), bytes(batch))
                batch.clear()
        write_all(file.fileno(), bytes(batch))

    def _rewound_runs(self) -> list[BufferedReader]:
        for run in self._runs:
            run.seek(0)
        return list(self._runs)


def open_temporary() -> FileIO:
    """Create a temporary file without a name in the system's directory for them. [VERI-21] Raises `OSError`."""
    return tempfile.TemporaryFile(buffering=0)


class TemporarySorter(Sorter):
    """A sorter with its runs in such files. Raises `disk-full` or `io-error` instead of `OSError`."""

    def __init__(self) -> None:
        super().__init__(open_temporary)

    def add(self, key: bytes, note: bytes) -> None:
        """Add one record."""
        try:
            super().add(key, note)
        except OSError as error:
            raise temporary_fault(error, "SAFE-29") from error

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from Sorter.__iter__(self)
        except OSError as error:
            raise temporary_fault(error, "SAFE-29") from error
