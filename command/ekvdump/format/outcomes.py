"""Outcomes: faults, warnings, counters, exit status. Implements spec chapter OUTC.

A fault is named for what is wrong, never for the place where it was met; the
place is data: clause, offset in the snapshot or path in the tree, and the key
where one is concerned. Whatever leaves this package as an exception and is not
a `Fault` is a bug of the package.
"""

import shlex
from typing import ClassVar, Final, NamedTuple

from ekvdump.cli.exit_statuses import (
    EXIT_COMPLETE,
    EXIT_DISK_FULL,
    EXIT_FINDINGS,
    EXIT_IO_ERROR,
    EXIT_PARTIAL,
    EXIT_SNAPSHOT_REFUSED,
    EXIT_TREE_REFUSED,
)
from ekvdump.format.keys import UNDECODED


class Fault(Exception):
    """What is wrong, and where. [OUTC-1]

    `clause` is the clause that is broken, `detail` says it in words, `offset` is
    in bytes from the start of the snapshot, `path` is in the tree, and `key` is
    the storage key concerned. `also` holds the faults met while cleaning up
    after this one. [TREE-27]
    """

    name: ClassVar[str]
    exit_status: ClassVar[int]
    advice: ClassVar[str]

    def __init__(
        self,
        clause: str,
        detail: str,
        offset: int | None = None,
        path: str | None = None,
        key: bytes | None = None,
    ) -> None:
        super().__init__(clause, detail, offset, path, key)
        self.clause = clause
        self.detail = detail
        self.offset = offset
        self.path = path
        self.key = key
        self.also: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        place = f" at offset {self.offset}" if self.offset is not None else ""
        if self.path is not None:
            place += f" at {printable_path(self.path)}"
        if self.key is not None:
            place += f", key {printable(self.key)}"
        return f"{self.name} [{self.clause}]{place}: {self.detail}"


class SnapshotFault(Fault):
    """The snapshot is refused."""

    exit_status = EXIT_SNAPSHOT_REFUSED
    advice = "Fetch the file again, or take another node's snapshot; this one cannot be decoded as it is."


class Truncated(SnapshotFault):
    """The snapshot ends before it is whole."""

    name = "truncated"
    advice = "The file is cut short: copy it again from the node and compare the sizes."


class BadMagic(SnapshotFault):
    """Not a snapshot."""

    name = "bad-magic"
    advice = "This is no elastickv snapshot. If it is compressed, decompress it first."


class BadHeader(SnapshotFault):
    """A header field that cannot be."""

    name = "bad-header"


class Unsupported(SnapshotFault):
    """A known kind of file that this version does not read."""

    name = "unsupported"
    advice = "Look for a newer ekvdump, or take a snapshot that a node wrote to its fsm-snap folder."


class TooLarge(SnapshotFault):
    """A size above its limit."""

    name = "too-large"


class OutOfOrder(SnapshotFault):
    """Entries not in ascending order."""

    name = "out-of-order"


class FooterMismatch(SnapshotFault):
    """The bytes are not those that the footer was made from."""

    name = "footer-mismatch"
    advice = "The file was damaged after it was written: copy it again from the node."


class TooShort(SnapshotFault):
    """A key or value with no room for its header."""

    name = "too-short"


class Encrypted(SnapshotFault):
    """An encrypted entry."""

    name = "encrypted"
    advice = "There is no key ring here: an encrypted store cannot be decoded from its snapshot alone."


class ReservedBits(SnapshotFault):
    """Flag bits with no meaning."""

    name = "reserved-bits"


class InvalidValue(SnapshotFault):
    """A value that no client could read."""

    name = "invalid-value"
    advice = "No client could read this key. With --salvage all others are shown, and those that cannot be are listed."


class Changed(SnapshotFault):
    """The snapshot changed while it was read."""

    name = "changed"
    advice = "Copy the snapshot to a place where nothing writes to it, and decode the copy."


class TreeFault(Fault):
    """What lies in the output folder is refused."""

    exit_status = EXIT_TREE_REFUSED


class NotEmpty(TreeFault):
    """The output folder holds something."""

    name = "not-empty"
    advice = (
        "Name a folder that does not exist yet, or say --into-existing: that takes the seal away first, "
        "and writes over files of the same names."
    )


class UnsafePath(TreeFault):
    """Something in the tree that must not be there."""

    name = "unsafe-path"
    advice = "Find out what it is and who put it there. Nothing was written through it."


class DiskFull(Fault):
    """No space or quota left."""

    name = "disk-full"
    exit_status = EXIT_DISK_FULL
    advice = "Make room (df -h; df -i for the number of files), or decode to another disk."


class IoError(Fault):
    """Any other failure of the file system."""

    name = "io-error"
    exit_status = EXIT_IO_ERROR
    advice = "Check that the path exists and that you may read or write there."


class Finding(Fault):
    """What a reader of a dump finds wrong with it."""

    exit_status = EXIT_FINDINGS
    advice = "The dump is not what was written: decode the snapshot again."


class InvalidSegment(Finding):
    """A file name that no key has."""

    name = "invalid-segment"


class NeedsKeymap(Finding):
    """A file name whose key stands only in KEYMAP."""

    name = "needs-keymap"
    advice = "Look the file name up in KEYMAP.jsonl."


class InvalidKeymap(Finding):
    """A KEYMAP line that cannot be read."""

    name = "invalid-keymap"


class InvalidManifest(Finding):
    """A MANIFEST.json that cannot be read."""

    name = "invalid-manifest"


class UnsupportedManifest(Finding):
    """A MANIFEST.json of a newer version."""

    name = "unsupported-manifest"
    advice = "Look for a newer ekvdump."


class MalformedLine(Finding):
    """A CHECKSUMS line that cannot be read."""

    name = "malformed-line"


class EmptyPath(Finding):
    """A CHECKSUMS line without a path."""

    name = "empty-path"


class AbsolutePath(Finding):
    """A CHECKSUMS line with a path from the root."""

    name = "absolute-path"


class ParentPath(Finding):
    """A CHECKSUMS line with a path that climbs."""

    name = "parent-path"


class Symlink(Finding):
    """A symlink in the tree."""

    name = "symlink"


class MissingFile(Finding):
    """A file that a CHECKSUMS line names and that is not there."""

    name = "missing-file"


class NotRegular(Finding):
    """Something that is neither file, folder nor symlink."""

    name = "not-regular"


class NoSeal(Finding):
    """A dump without CHECKSUMS."""

    name = "no-seal"
    advice = "The dump is not whole: the run that wrote it failed or is not done. Decode the snapshot again."


class NoManifest(Finding):
    """A dump without MANIFEST.json."""

    name = "no-manifest"


class ForeignFile(Finding):
    """A file that no CHECKSUMS line names."""

    name = "foreign-file"


class UnusualLine(Finding):
    """A CHECKSUMS line that can be read, but would have been written otherwise."""

    name = "unusual-line"


class UnsortedLine(Finding):
    """A CHECKSUMS line that is not in its place."""

    name = "unsorted-line"


class RepeatedPath(Finding):
    """A path that has two CHECKSUMS lines."""

    name = "repeated-path"


class UnusualSegment(Finding):
    """A file name that its key would not have been given."""

    name = "unusual-segment"


class KeymapMismatch(Finding):
    """A KEYMAP line whose key has another segment."""

    name = "keymap-mismatch"


class LineWithoutBlob(Finding):
    """A KEYMAP line whose segment no blob has."""

    name = "line-without-blob"


class InvalidRow(Finding):
    """A sidecar row that cannot be read."""

    name = "invalid-row"


class RowWithoutBlob(Finding):
    """A sidecar row whose key has no blob."""

    name = "row-without-blob"


class RepeatedRow(Finding):
    """A key that has two rows in one sidecar."""

    name = "repeated-row"


class BlobWithoutRow(Finding):
    """An unreadable value that is not listed."""

    name = "blob-without-row"


class WrongDatabases(Finding):
    """A MANIFEST.json that names other databases than are there."""

    name = "wrong-databases"


class NoLine(Finding):
    """A CHECKSUMS without a line."""

    name = "no-line"


class Mismatch(Finding):
    """A file that has another hash than its CHECKSUMS line."""

    name = "mismatch"


class DumpWarning(NamedTuple):
    """Something to know about a dump that does not change the exit status. [OUTC-9]"""

    name: str
    count: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody wants here
    about: tuple[str, ...]
    """Segments, beginnings of keys, or the name of a type, as the warning's clause says."""
    detail: str


class PartialReason(NamedTuple):
    """Why a dump is partial. [OUTC-12]"""

    reason: str
    """The name of the warning."""
    about: str
    count: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody wants here


ENTRY_CLASSES: Final = (
    "operational", "future", "history", "deleted", "expired", "internal", "unknown", "undecoded",
    "string", "bare", "hll", "ttl",
)  # fmt: skip
"""What an entry can be, the first that fits. [OUTC-14]"""
STRING_FATES: Final = ("written", "shadowed", "excluded", "unreadable")
"""What becomes of a string record, prefixed or bare. [OUTC-15]"""
HLL_FATES: Final = ("written", "excluded", "unreadable")
"""What becomes of an HLL record. [OUTC-15]"""
TTL_FATES: Final = ("applied", "redundant", "unclaimed", "orphan", "excluded", "unreadable")
"""What becomes of a TTL row. [OUTC-15]"""


class Counters:
    """What became of every entry, and of every record that has a chapter. [OUTC-16]"""

    def __init__(self) -> None:
        self.entries = dict.fromkeys(ENTRY_CLASSES, 0)
        self.undecoded = dict.fromkeys(UNDECODED, 0)
        """By type, those of `entries["undecoded"]`. [KEYS-7]"""
        self.strings = dict.fromkeys(STRING_FATES, 0)
        self.hlls = dict.fromkeys(HLL_FATES, 0)
        self.ttls = dict.fromkeys(TTL_FATES, 0)

    def by_group(self) -> dict[str, dict[str, int]]:
        """Return name of a group = its counts."""
        return dict(vars(self))

    @property
    def shown_count(self) -> int:
        """How many keys have been written as a string or an HLL."""
        return self.strings["written"] + self.hlls["written"]

    @property
    def showable_count(self) -> int:
        """How many keys could be: some of them may be shadowed, excluded or unreadable."""
        return self.entries["string"] + self.entries["bare"] + self.entries["hll"]

    @property
    def unreadable_count(self) -> int:
        """How many records were unreadable. [SALV-6]"""
        return self.strings["unreadable"] + self.hlls["unreadable"] + self.ttls["unreadable"]


class Outcome(NamedTuple):
    """How a run ended that wrote a whole tree."""

    counters: Counters
    warnings: tuple[DumpWarning, ...]
    partial_reasons: tuple[PartialReason, ...]

    @property
    def complete(self) -> bool:
        """Whether the dump shows everything that the caller wanted. [OUTC-12]"""
        return not self.partial_reasons

    @property
    def exit_status(self) -> int:
        """0 for a complete dump, 3 for a partial one. [OUTC-6] [OUTC-8]"""
        return EXIT_COMPLETE if self.complete else EXIT_PARTIAL


def os_path_bytes(path: str) -> bytes:
    """Give the bytes of a path, also of one that is no UTF-8."""
    return path.encode("utf-8", "surrogateescape")


def printable_path(path: str) -> str:
    r"""Show a path so that it can be pasted into a shell; what is not printable as bash and zsh read it, in `$'..'`."""
    if path.isprintable():
        return shlex.quote(path)
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os_path_bytes(path)
    )
    return f"$'{''.join(shown)}'"


def printable(data: bytes, limit: int = 200) -> str:
    r"""Show a key as `redis-cli` reads it: printable ASCII as it is, the rest as `\xHH`, in double quotes."""
    shown = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in data[:limit]
    )
    return f'"{shown}"' + (f" and {len(data) - limit} bytes more" if len(data) > limit else "")
