"""`python -m ekvformat SNAPSHOT OUT`: enough of a program to be judged by the conformance suite."""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from ekvformat.completeness import partial_reasons
from ekvformat.decode import Options, decode
from ekvformat.manifest import Provenance, is_utc_time
from ekvformat.outcomes import EXIT_COMPLETE, EXIT_INTERRUPTED, EXIT_PARTIAL, Fault
from ekvformat.safe_writing import Tree
from ekvformat.snapshot_file import check_unchanged, read_snapshot
from ekvformat.tree import SELECTABLE, database_directory, decode_database_index


def main(arguments: Sequence[str] | None = None) -> int:
    """Decode a snapshot into a directory; return the exit status. [OUTC-7]"""
    words = parse(arguments)
    try:
        return run(words)
    except Fault as fault:
        # [SAFE-31] What failed while cleaning up is reported as well. [OUTC-8]
        for each in (fault, *fault.also):
            print(f"ekvformat: {each}", file=sys.stderr)
        return fault.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def run(words: argparse.Namespace) -> int:
    """Decode; print the warnings."""
    options = Options(words.db, words.only, words.salvage, words.key, words.prefix)
    provenance = Provenance(words.snapshot, words.wall_time, words.cluster_id, words.elastickv_version)
    tree = Tree(words.out, words.db, words.into_existing, sync=not words.no_sync)
    # [OUTC-6] The output directory first, and only then the snapshot.
    tree.check(words.snapshot)
    data, identity = read_snapshot(words.snapshot)
    try:
        dump = decode(data, words.snapshot, options)
    except Fault:
        # [FILE-22] Nothing else can be said of a file that is still being written.
        check_unchanged(words.snapshot, identity)
        raise
    warnings = tree.write(dump, provenance, partial(check_unchanged, words.snapshot, identity))
    for warning in warnings:
        print(f"warning: {warning.name}: {warning.count}: {warning.detail}: {' '.join(warning.about)}")
    # [OUTC-9] A warning alone changes nothing.
    return EXIT_PARTIAL if partial_reasons(warnings, database_directory(words.db)) else EXIT_COMPLETE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; one that makes no sense ends with status 2."""
    parser = argparse.ArgumentParser(prog="ekvformat", description="Decode an elastickv snapshot: the reference.")
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="the .fsm file")
    parser.add_argument("out", metavar="OUT", help="the directory to write")
    parser.add_argument("--db", default="0", metavar="N", help="database index [TREE-1]")
    parser.add_argument("--only", metavar="TYPES", help=f"of {', '.join(SELECTABLE)}, with commas [COMP-1]")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--key", type=os.fsencode, metavar="KEY", help="this user key alone [COMP-10]")
    part.add_argument("--prefix", type=os.fsencode, metavar="P", help="user keys that begin like this [COMP-10]")
    parser.add_argument("--salvage", action="store_true", help="list unreadable values [SALV-1]")
    parser.add_argument("--into-existing", action="store_true", help="OUT may hold something [INTO-1]")
    parser.add_argument("--no-sync", action="store_true", help="flush nothing to disk [SAFE-22]")
    parser.add_argument("--wall-time", metavar="TIME", help="for MANIFEST.json [MANI-4]")
    parser.add_argument("--cluster-id", metavar="ID", help="for MANIFEST.json")
    parser.add_argument("--elastickv-version", metavar="VERSION", help="for MANIFEST.json")
    words = parser.parse_args(arguments)
    try:
        words.db = decode_database_index(words.db)
    except ValueError as error:
        parser.error(f"--db: {error}")
    words.only = None if words.only is None else frozenset(words.only.split(","))
    if words.only is not None and not words.only <= set(SELECTABLE):
        parser.error(f"--only: any of {', '.join(SELECTABLE)}")
    if words.wall_time is not None and not is_utc_time(words.wall_time):
        parser.error("--wall-time: not an RFC 3339 time in UTC")
    return words


if __name__ == "__main__":
    raise SystemExit(main())
