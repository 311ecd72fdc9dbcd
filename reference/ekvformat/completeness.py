"""What a dump does not show: warnings, partial dumps, counters. Implements spec chapter COMP.

A dump is partial for each warning of a kind that makes it so [COMP-6]; every entry
is counted once, and every record of a type with a chapter once more [COMP-7] [COMP-8].
"""

from typing import Final, NamedTuple

from ekvformat import keys


class WarningKind(NamedTuple):
    """What all warnings of one name have in common."""

    makes_partial: bool
    """Whether a dump with this warning is partial. [OUTC-9]"""
    detail: str
    """Words for people, which are free. [COMP-3]"""


WARNINGS: Final = {
    "no-footer": WarningKind(False, "the file has no footer and cannot prove that it is whole"),
    "index-behind": WarningKind(False, "the applied index in the file's name is below the one in the file"),
    "future-version": WarningKind(False, "versions above the last commit; not shown"),
    "unknown-prefix": WarningKind(True, "records whose keys begin with none of the known prefixes; not shown"),
    "undecoded-type": WarningKind(True, "records of a type that this version cannot show"),
    "orphan-ttl": WarningKind(False, "TTL records of keys that do not exist"),
    "unreadable-value": WarningKind(True, "records that no client could read; listed in unreadable.jsonl, not shown"),
    "stale-file": WarningKind(True, "files of an earlier run that are not in this snapshot; they stay"),
    "unguarded-writes": WarningKind(False, "written without directory handles; another process could have interfered"),
}
"""Name of a warning, in the order in which they are given. [COMP-5]"""


class DumpWarning(NamedTuple):
    """Something to know about a dump. [COMP-3]"""

    name: str
    """One of `WARNINGS`."""
    count: int  # type: ignore[assignment]  # hides a method of tuples that is not used here
    """1 where its clause gives none."""
    about: tuple[str, ...]
    """Segments, beginnings of keys, a type or paths, as its clause says; empty where it gives nothing."""
    detail: str
    """Words for people."""


def warn(name: str, count: int = 1, about: tuple[str, ...] = ()) -> list[DumpWarning]:
    """Return the warning of this name, if there is anything to count. [COMP-4]"""
    return [DumpWarning(name, count, about, WARNINGS[name].detail)] if count else []


class PartialReason(NamedTuple):
    """Why a dump is partial. [COMP-6]"""

    reason: str
    """The name of the warning."""
    about: str
    """A type, or the directory of the database."""
    count: int  # type: ignore[assignment]  # as above


def partial_reasons(warnings: list[DumpWarning], directory: str) -> list[PartialReason]:
    """Return why a dump with these warnings is partial; [] for a complete one. [COMP-6] [KEYS-7] [KEYS-10]

    `directory` is that of the run's database, `redis/db_<n>`.
    """
    reasons: list[PartialReason] = []
    for warning in warnings:
        if WARNINGS[warning.name].makes_partial:
            types = {"unknown-prefix": keys.UNKNOWN, "undecoded-type": "".join(warning.about)}
            reasons.append(PartialReason(warning.name, types.get(warning.name, directory), warning.count))
    return reasons


COLLECTION_FATES: Final = ("written", "unread", "shadowed", "orphan", "excluded", "unreadable")
"""What becomes of a record of a collection, in the order of the manifest. [COMP-12]"""


class Counters:
    """What became of every entry, and of every record of a type with a chapter.

    Groups and names are in the order of the spec. [COMP-9] In each group the first
    name that fits counts, and the counts add up to the number of entries [COMP-7], of
    undecoded records [KEYS-5], or of the records of their types [COMP-8] [COMP-12].
    """

    def __init__(self) -> None:
        self.entries = dict.fromkeys(
            (
                "operational", "future", "history", "deleted", "expired", "internal", "unknown", "undecoded",
                "string", "bare", "hll", *keys.COLLECTIONS, "ttl",
            ),
            0,
        )  # fmt: skip
        self.undecoded = dict.fromkeys(keys.UNDECODED, 0)
        self.strings = dict.fromkeys(("written", "shadowed", "excluded", "unreadable"), 0)
        self.hlls = dict.fromkeys(("written", "shadowed", "excluded", "unreadable"), 0)
        self.hashes = dict.fromkeys(COLLECTION_FATES, 0)
        self.lists = dict.fromkeys(COLLECTION_FATES, 0)
        self.sets = dict.fromkeys(COLLECTION_FATES, 0)
        self.zsets = dict.fromkeys(COLLECTION_FATES, 0)
        self.streams = dict.fromkeys(COLLECTION_FATES, 0)
        self.collections = dict.fromkeys(keys.COLLECTIONS, 0)
        """User keys that are shown, by type. [COMP-13]"""
        self.ttls = dict.fromkeys(("applied", "redundant", "orphan", "excluded", "unreadable"), 0)

    @property
    def by_type(self) -> dict[str, dict[str, int]]:
        """The group of each type of collection. [COMP-12]"""
        return {
            keys.HASH: self.hashes, keys.LIST: self.lists, keys.SET: self.sets, keys.ZSET: self.zsets,
            keys.STREAM: self.streams,
        }  # fmt: skip
