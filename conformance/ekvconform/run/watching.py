"""Sees every name that appears in or disappears from some directories while a program runs (inotify). Linux only.

A look before and after a run does not see a file that was made and removed again. Only names are
watched: what is done to files that are there before and after, the two looks see.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import Final

IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
NAMES: Final = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
IN_Q_OVERFLOW: Final = 0x4000
IN_ONLYDIR: Final = 0x0100_0000
IN_DONT_FOLLOW: Final = 0x0200_0000
EVENT: Final = struct.Struct("iIII")
"""Watch, mask, cookie, size of the name."""
TOO_MANY: Final = b"more names than can be watched"


class Watch:
    """Directories that are watched from now on."""

    def __init__(self, directories: Iterable[bytes]) -> None:
        """Begin to watch. Raises `OSError` if that is not possible."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._directories: dict[int, bytes] = {}
        self._descriptor = self._called(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        for directory in directories:
            mask = NAMES | IN_ONLYDIR | IN_DONT_FOLLOW
            watch = self._called(self._libc.inotify_add_watch(self._descriptor, directory, mask))
            self._directories[watch] = directory

    def _called(self, result: int) -> int:
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"directories cannot be watched: {os.strerror(error)}")
        return result

    def ended(self) -> list[bytes]:
        """Return the paths of all names that appeared or disappeared, each once, and stop watching."""
        found: dict[bytes, None] = {}
        try:
            while True:
                for watch, mask, name in _events(os.read(self._descriptor, 1 << 16)):
                    is_complete = not mask & IN_Q_OVERFLOW
                    found[os.path.join(self._directories[watch], name) if is_complete else TOO_MANY] = None
        except BlockingIOError:
            return list(found)
        finally:
            os.close(self._descriptor)


def _events(data: bytes) -> Iterable[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(data):
        watch, mask, _, size = EVENT.unpack_from(data, offset)
        offset += EVENT.size
        name = data[offset : offset + size].rstrip(b"\0")
        offset += size
        # A directory that is removed ends its own watch, without a name; its parent tells of it.
        if name or mask & IN_Q_OVERFLOW:
            yield watch, mask, name
