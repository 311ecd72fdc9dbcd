"""Outcomes: faults and how a run ends. Implements spec chapter OUTC.

A fault is named for what is wrong, never for the place where it was met; the place
is data: clause, offset in the snapshot or path in the tree, and the key where one
is concerned. Whatever leaves this package as an exception and is not a `Fault` is a
bug of this package.

    exit status  how a run ends                       [OUTC-7]
    -----------  -----------------------------------
              0  a complete dump, and nothing else
              2  usage
              3  a partial dump
              4  the snapshot was refused
              5  the tree was refused
              6  the disk is full
              7  any other failure of the file system
            130  interrupted
"""

import os
from typing import Final

EXIT_COMPLETE: Final = 0
EXIT_PARTIAL: Final = 3
EXIT_INTERRUPTED: Final = 130

FAULTS: Final = dict.fromkeys(
    (
        "truncated", "bad-magic", "bad-header", "unsupported", "too-large", "out-of-order", "footer-mismatch",
        "too-short", "encrypted", "reserved-bits", "invalid-value", "changed",
    ),
    4,
) | {"not-empty": 5, "unsafe-path": 5, "disk-full": 6, "io-error": 7}  # fmt: skip
"""Name of a fault = exit status."""


class Fault(Exception):
    """What is wrong, and where. [OUTC-1]

    `name` is one of `FAULTS`, `clause` the clause that is broken, and `detail` says it
    in words. `offset` is in bytes from the start of the snapshot, `path` names a file or
    directory, and `key` is the storage key concerned. `also` holds the faults met while
    cleaning up after this one. [SAFE-31]
    """

    def __init__(
        self, name: str, clause: str, detail: str, offset: int | None = None, path: str | None = None,
        key: bytes | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, clause, detail, offset, path, key)
        self.name, self.clause, self.detail = name, clause, detail
        self.offset, self.path, self.key = offset, path, key
        self.also: tuple[Fault, ...] = ()

    def at(self, offset: int) -> "Fault":
        """Return the same fault at another offset, in bytes from the start of the snapshot."""
        return Fault(self.name, self.clause, self.detail, offset, self.path, self.key)

    @property
    def exit_status(self) -> int:
        """Exit status of a run that ends with this fault. [OUTC-8]"""
        return FAULTS[self.name]

    def __str__(self) -> str:
        place = [] if self.path is None else [text_of_path(self.path)]
        place += [] if self.offset is None else [f"offset {self.offset}"]
        place += [] if self.key is None else [f"key {self.key!r}"]
        return f"{', '.join(place)}{': ' if place else ''}{self.detail} [{self.name}, {self.clause}]"


def text_of_path(path: str) -> str:
    r"""Return a path as text: bytes that are not UTF-8 as `\xHH`, all others as they are. [MANI-5]"""
    # A path is bytes, and what Python made of them depends on the locale. A lone
    # surrogate stands for no byte: only a caller in Python can give one.
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        data = path.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
