"""Calls the reference, and takes apart what comes of it. Imports nothing of the command."""

from pathlib import Path

import pytest
from ekvformat.__main__ import main
from ekvformat.completeness import DumpWarning, PartialReason, partial_reasons
from ekvformat.decode import NO_OPTIONS, Dump, Options, Summary, decode
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from ekvformat.safe_writing import Tree
from ekvformat.tree import database_directory
from in_process import runner_of
from writer import Entry, snapshot

WALL_TIME = "2026-08-22T12:00:00Z"
MAX_EXPIRY_MS = 9_223_372_036_854_775_807
"""By hand, as ENVL-7 says."""

run_reference = runner_of(main, "ekvformat")
"""Runs `python -m ekvformat` in this process."""


def options_of(*, database: int = 0, only: set[str] | None = None, salvage: bool = False) -> Options:
    """Return options; `only` may be any set of types."""
    return Options(database, None if only is None else frozenset(only), salvage)


def all_files(dump: Dump) -> dict[str, bytes]:
    """Return what a dump holds, but for MANIFEST.json and CHECKSUMS."""
    assert not dump.blobs.keys() & dump.sidecars.keys()
    return dump.blobs | dump.sidecars


def files_of(*entries: Entry, only: set[str] | None = None, salvage: bool = False) -> dict[str, bytes]:
    """Decode a snapshot of these entries; return its files, each as its path below `redis/db_0/`."""
    dump = decode(snapshot(entries), "", options_of(only=only, salvage=salvage))
    return {path.removeprefix("redis/db_0/"): content for path, content in all_files(dump).items()}


def summary_of(*entries: Entry, only: set[str] | None = None, last_commit: int = 1000) -> Summary:
    """Decode a snapshot of these entries; return what the dump says of itself."""
    return decode(snapshot(entries, last_commit=last_commit), "", options_of(only=only)).summary


def reasons_of(summary: Summary) -> list[PartialReason]:
    """Return why a dump is partial."""
    return partial_reasons(summary.warnings, database_directory(summary.options.database))


def fault_of(fault: Fault) -> tuple[str, str, int | None]:
    """Return fault, clause and offset."""
    assert fault.detail
    return fault.name, fault.clause, fault.offset


def refusal(data: bytes, options: Options = NO_OPTIONS) -> tuple[str, str, int | None, bytes | None]:
    """Decode what must be refused; return fault, clause, offset and key."""
    with pytest.raises(Fault) as caught:
        decode(data, "", options)
    return *fault_of(caught.value), caught.value.key


def write_dump(
    data: bytes, out: Path, options: Options = NO_OPTIONS, *, name: str = "snapshot", into_existing: bool = False
) -> list[DumpWarning]:
    """Decode a snapshot, which has the path `name`, into a directory; return the warnings."""
    tree = Tree(str(out), options.database, into_existing, sync=False)
    tree.check(name)
    return tree.write(decode(data, name, options), Provenance(name, WALL_TIME), lambda: None)
