"""Describes the file system calls of Linux on x86-64: numbers, path arguments and effects."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

LOOK: Final = "look"
"""Queries a file, or lists a directory."""
OPEN: Final = "open"
WRITE: Final = "write"
FLUSH: Final = "flush"
CLOSE: Final = "close"
RENAME: Final = "rename"
LINK: Final = "link"
MAKE: Final = "make"
"""Creates a directory, a FIFO or a device."""
REMOVE: Final = "remove"
CHANGE: Final = "change"
"""Changes a size, a mode, an owner or times."""
END: Final = "end"
"""Ends the program."""


class Shape(NamedTuple):
    """The files that a call takes: pairs of arguments, a directory descriptor and a path, either may be None."""

    kind: str
    number: int
    files: tuple[tuple[int | None, int | None], ...] = ()


ONE_PATH: Final = ((None, 0),)
ONE_HANDLE: Final = ((0, None),)
RELATIVE: Final = ((0, 1),)
CALLS: Final[Mapping[str, Shape]] = MappingProxyType({
    "stat": Shape(LOOK, 4, ONE_PATH), "lstat": Shape(LOOK, 6, ONE_PATH), "fstat": Shape(LOOK, 5, ONE_HANDLE),
    "newfstatat": Shape(LOOK, 262, RELATIVE), "statx": Shape(LOOK, 332, RELATIVE), "access": Shape(LOOK, 21, ONE_PATH),
    "faccessat": Shape(LOOK, 269, RELATIVE), "faccessat2": Shape(LOOK, 439, RELATIVE),
    "readlink": Shape(LOOK, 89, ONE_PATH), "readlinkat": Shape(LOOK, 267, RELATIVE),
    "getdents64": Shape(LOOK, 217, ONE_HANDLE),
    "open": Shape(OPEN, 2, ONE_PATH), "creat": Shape(OPEN, 85, ONE_PATH), "openat": Shape(OPEN, 257, RELATIVE),
    "openat2": Shape(OPEN, 437, RELATIVE),
    "write": Shape(WRITE, 1, ONE_HANDLE), "pwrite64": Shape(WRITE, 18, ONE_HANDLE),
    "writev": Shape(WRITE, 20, ONE_HANDLE), "pwritev": Shape(WRITE, 296, ONE_HANDLE),
    "pwritev2": Shape(WRITE, 328, ONE_HANDLE), "sendfile": Shape(WRITE, 40, ONE_HANDLE),
    "copy_file_range": Shape(WRITE, 326, ((2, None),)), "splice": Shape(WRITE, 275, ((2, None),)),
    "fsync": Shape(FLUSH, 74, ONE_HANDLE), "fdatasync": Shape(FLUSH, 75, ONE_HANDLE),
    "sync_file_range": Shape(FLUSH, 277, ONE_HANDLE), "syncfs": Shape(FLUSH, 306, ONE_HANDLE),
    "sync": Shape(FLUSH, 162),
    "close": Shape(CLOSE, 3, ONE_HANDLE),
    "rename": Shape(RENAME, 82, ((None, 0), (None, 1))), "renameat": Shape(RENAME, 264, ((0, 1), (2, 3))),
    "renameat2": Shape(RENAME, 316, ((0, 1), (2, 3))),
    "link": Shape(LINK, 86, ((None, 0), (None, 1))), "linkat": Shape(LINK, 265, ((0, 1), (2, 3))),
    "symlink": Shape(LINK, 88, ((None, 1),)), "symlinkat": Shape(LINK, 266, ((1, 2),)),
    "mkdir": Shape(MAKE, 83, ONE_PATH), "mkdirat": Shape(MAKE, 258, RELATIVE), "mknod": Shape(MAKE, 133, ONE_PATH),
    "mknodat": Shape(MAKE, 259, RELATIVE),
    "rmdir": Shape(REMOVE, 84, ONE_PATH), "unlink": Shape(REMOVE, 87, ONE_PATH),
    "unlinkat": Shape(REMOVE, 263, RELATIVE),
    "truncate": Shape(CHANGE, 76, ONE_PATH), "ftruncate": Shape(CHANGE, 77, ONE_HANDLE),
    "fallocate": Shape(CHANGE, 285, ONE_HANDLE), "chmod": Shape(CHANGE, 90, ONE_PATH),
    "fchmod": Shape(CHANGE, 91, ONE_HANDLE), "fchmodat": Shape(CHANGE, 268, RELATIVE),
    "fchmodat2": Shape(CHANGE, 452, RELATIVE), "chown": Shape(CHANGE, 92, ONE_PATH),
    "lchown": Shape(CHANGE, 94, ONE_PATH), "fchown": Shape(CHANGE, 93, ONE_HANDLE),
    "fchownat": Shape(CHANGE, 260, RELATIVE), "utimensat": Shape(CHANGE, 280, RELATIVE),
    "exit": Shape(END, 60), "exit_group": Shape(END, 231),
})  # fmt: skip
NAMES: Final[Mapping[int, str]] = MappingProxyType({shape.number: name for name, shape in CALLS.items()})
FLAGS_OF_OPEN: Final[Mapping[str, int]] = MappingProxyType({"open": 1, "openat": 2})
"""Call = index of its flags; `creat` has none, and those of `openat2` are in the memory of the program."""
CREAT_FLAGS: Final = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ALWAYS_WRITING: Final = frozenset((WRITE, FLUSH, RENAME, LINK, MAKE, REMOVE, CHANGE))


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that is about to be executed."""

    name: str
    paths: tuple[str, ...]
    """Absolute paths of its files."""
    flags: int = 0
    """Flags that the file is, or was, opened with."""

    @property
    def kind(self) -> str:
        """Kind of its effect."""
        return CALLS[self.name].kind

    @property
    def writes(self) -> bool:
        """Predicate: is it a part of creating or writing a file or directory?"""
        return self.kind in ALWAYS_WRITING or bool(self.flags & WRITING)

    @property
    def makes_file(self) -> bool:
        """Predicate: does a file appear under its last path?"""
        return self.kind in (RENAME, LINK) or (self.kind == OPEN and bool(self.flags & os.O_CREAT))
