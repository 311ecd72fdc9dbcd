"""Outcomes: faults, warnings, partial dumps, counters. Implements spec chapter OUTC.

A fault is named for what is wrong, never for the place where it was met; the place
is data: clause, offset in the snapshot or path in the tree, and the key where one
is concerned. Whatever leaves this package as an exception and is not a `Fault` is a
bug of this package.

    exit status  how a run ends                       [OUTC-6]
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
from typing import Final, NamedTuple

from ekvformat import keys

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


class WarningKind(NamedTuple):
    """What all warnings of one name have in common."""

    makes_partial: bool
    """Whether a dump with this warning is partial. [OUTC-8]"""
    detail: str
    """Words for people, which are free. [OUTC-9]"""


WARNINGS: Final = {
    "no-footer": WarningKind(False, "the file has no footer and cannot prove that it is whole"),
    "index-behind": WarningKind(False, "the applied index in the file's name is below the one in the file"),
    "future-version": WarningKind(False, "versions above the last commit; not shown"),
    "unknown-prefix": WarningKind(True, "records whose keys begin with none of the known prefixes; not shown"),
    "undecoded-type": WarningKind(True, "records of a type that this version cannot show"),
    "orphan-ttl": WarningKind(False, "TTL rows of keys that do not exist"),
    "unreadable-value": WarningKind(True, "records that no client could read; listed in unreadable.jsonl, not shown"),
    "stale-file": WarningKind(True, "files of an earlier run that are not in this snapshot; they stay"),
    "unguarded-writes": WarningKind(False, "written without directory handles; another process could have interfered"),
}
"""Name of a warning, in the order in which they are given. [OUTC-11]"""


class Fault(Exception):
    """What is wrong, and where. [OUTC-1]

    `name` is one of `FAULTS`, `clause` the clause that is broken, and `detail` says it
    in words. `offset` is in bytes from the start of the snapshot, `path` names a file or
    directory, and `key` is the storage key concerned. `also` holds the faults met while
    cleaning up after this one. [TREE-27]
    """

    def __init__(
        self, name: str, clause: str, detail: str, offset: int | None = None, path: str | None = None,
        key: bytes | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, clause, detail, offset, path, key)
        self.name, self.clause, self.detail = name, clause, detail
        self.offset, self.path, self.key = offset, path, key
        self.also: tuple[Fault, ...] = ()

    @property
    def exit_status(self) -> int:
        """Exit status of a run that ends with this fault. [OUTC-7]"""
        return FAULTS[self.name]

    def __str__(self) -> str:
        place = f" at offset {self.offset}" if self.offset is not None else ""
        place += f" at {text_of_path(self.path)}" if self.path is not None else ""
        place += f", key {self.key!r}" if self.key is not None else ""
        return f"{self.name} [{self.clause}]{place}: {self.detail}"


class DumpWarning(NamedTuple):
    """Something to know about a dump. [OUTC-9]"""

    name: str
    """One of `WARNINGS`."""
    count: int  # type: ignore[assignment]  # hides a method of tuples that is not used here
    """1 where its clause gives none."""
    about: tuple[str, ...]
    """Segments, beginnings of keys, a type or paths, as its clause says; empty where it gives nothing."""
    detail: str
    """Words for people."""


def warn(name: str, count: int = 1, about: tuple[str, ...] = ()) -> list[DumpWarning]:
    """Return the warning of this name, if there is anything to count. [OUTC-10]"""
    return [DumpWarning(name, count, about, WARNINGS[name].detail)] if count else []


class PartialReason(NamedTuple):
    """Why a dump is partial. [OUTC-12]"""

    reason: str
    """The name of the warning."""
    about: str
    """A type, or the directory of the database."""
    count: int  # type: ignore[assignment]  # as above


def partial_reasons(warnings: list[DumpWarning], directory: str) -> list[PartialReason]:
    """Return why a dump with these warnings is partial; [] for a complete one. [OUTC-12]

    `directory` is that of the run's database, `redis/db_<n>`.
    """
    reasons: list[PartialReason] = []
    for warning in warnings:
        if WARNINGS[warning.name].makes_partial:
            types = {"unknown-prefix": keys.UNKNOWN, "undecoded-type": "".join(warning.about)}
            reasons.append(PartialReason(warning.name, types.get(warning.name, directory), warning.count))
    return reasons


class Counters:
    """What became of every entry, and of every record of a type with a chapter.

    Groups and names are in the order of the spec. [OUTC-16] In each group the first
    name that fits counts, and the counts add up to the number of entries [OUTC-14], of
    undecoded records [KEYS-7], or of string records, HLL records and TTL rows [OUTC-15].
    """

    def __init__(self) -> None:
        self.entries = dict.fromkeys(
            (
                "operational", "future", "history", "deleted", "expired", "internal", "unknown", "undecoded",
                "string", "bare", "hll", "ttl",
            ),
            0,
        )  # fmt: skip
        self.undecoded = dict.fromkeys(keys.UNDECODED, 0)
        self.strings = dict.fromkeys(("written", "shadowed", "excluded", "unreadable"), 0)
        self.hlls = dict.fromkeys(("written", "excluded", "unreadable"), 0)
        self.ttls = dict.fromkeys(("applied", "redundant", "unclaimed", "orphan", "excluded", "unreadable"), 0)

    @property
    def unreadable(self) -> int:
        """How many records cannot be read. [SALV-6]"""
        return self.strings["unreadable"] + self.hlls["unreadable"] + self.ttls["unreadable"]


def text_of_path(path: str) -> str:
    r"""Return a path as text: bytes that are not UTF-8 as `\xHH`, all others as they are. [MANI-4]"""
    # A path is bytes, and what Python made of them depends on the locale. A lone
    # surrogate stands for no byte: only a caller in Python can give one.
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        data = path.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
