"""Sorting more records than memory holds: sorted runs, which are merged when they are read.

A record is a key and a tail, both any bytes. Records come out by key and then by tail. Runs
are in a `Spool`: in memory while they are few, else in a temporary file without a name.

    size  field      value
    ----  ---------  -------------
       4  key size   u32_le, bytes
       4  tail size  u32_le, bytes
       -  key        bytes
       -  tail       bytes
"""

import heapq
import struct
from collections.abc import Iterator
from typing import Final

from ekvdump.engine.spool import Spool

RUN_RECORDS = 32_768
"""Records of one run, which is sorted in memory."""
RUN_SIZE = 4 * 1024 * 1024
"""Bytes of one run, unless one record has more."""
MAX_WINDOW_SIZE: Final = 64 * 1024
MIN_WINDOW_SIZE: Final = 4 * 1024
WINDOWS_SIZE: Final = 4 * 1024 * 1024
"""Bytes that the windows of all runs together take while they are merged, if there are not very many runs."""
SIZES: Final = struct.Struct("<II")
SIZES_SIZE: Final = 8


class RunSorter:
    """Collects records in any order; iterates over them in sorted order, any number of times.

    Raises what `Spool` raises.
    """

    def __init__(self) -> None:
        self._spool = Spool()
        self._fresh: list[tuple[bytes, bytes]] = []
        self._fresh_size = 0
        self._spooled_size = 0
        self._runs: list[tuple[int, int]] = []
        """Where each run begins and ends in the spool, in bytes."""
        self.record_count = 0

    def add(self, key: bytes, tail: bytes) -> None:
        """Add a record."""
        self._fresh.append((key, tail))
        self._fresh_size += len(key) + len(tail)
        self.record_count += 1
        if len(self._fresh) >= RUN_RECORDS or self._fresh_size >= RUN_SIZE:
            self._write_run()

    def _write_run(self) -> None:
        self._fresh.sort()
        begin = self._spooled_size
        for key, tail in self._fresh:
            data = SIZES.pack(len(key), len(tail)) + key + tail
            self._spool.append(data)
            self._spooled_size += len(data)
        self._runs.append((begin, self._spooled_size))
        self._fresh.clear()
        self._fresh_size = 0

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        self._fresh.sort()
        if not self._runs:
            return iter(self._fresh)
        window_size = max(MIN_WINDOW_SIZE, min(MAX_WINDOW_SIZE, WINDOWS_SIZE // len(self._runs)))
        runs = [self._iter_run(begin, end, window_size) for begin, end in self._runs]
        return heapq.merge(*runs, self._fresh)

    def _iter_run(self, begin: int, end: int, window_size: int) -> Iterator[tuple[bytes, bytes]]:
        window, at = b"", 0
        while begin < end:
            if at + SIZES_SIZE > len(window):
                window, at = self._spool.read(begin, min(window_size, end - begin)), 0
            key_size, tail_size = SIZES.unpack_from(window, at)
            size = SIZES_SIZE + key_size + tail_size
            if at + size > len(window):
                window, at = self._spool.read(begin, min(max(window_size, size), end - begin)), 0
            key_at = at + SIZES_SIZE
            tail_at = key_at + key_size
            at += size
            begin += size
            yield window[key_at:tail_at], window[tail_at:at]

    def close(self) -> None:
        """Give up the records."""
        self._fresh.clear()
        self._spool.close()
