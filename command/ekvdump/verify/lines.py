"""Lines of bounded size, from files that anyone may have written. [READ-6] [READ-25] [READ-34]"""

from collections.abc import Iterator
from typing import BinaryIO


def iter_bounded_lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each line, LF included.

    Of a line of more than `limit` bytes only the first `limit` + 1 are given, so that
    the caller finds it too long; the rest is skipped.
    """
    offset = 0
    while line := file.readline(limit + 1):
        yield offset, line
        offset += len(line)
        while len(line) > limit and not line.endswith(b"\n"):
            line = file.readline(limit + 1)
            offset += len(line)
