"""The outcome of a run that wrote a whole tree. Implements part of spec chapter OUTC.

The first pass and the outputs have counted; the names and words of warnings, and which of
them make a dump partial, are those of `ekvformat.outcomes`.
"""

import os
from typing import NamedTuple

from ekvformat import keys
from ekvformat.decode import database_directory
from ekvformat.outcomes import Counters, DumpWarning, PartialReason, partial_reasons, text_of_path, warn
from ekvformat.segments import encode_percent

from ekvdump.engine.outputs import Outputs
from ekvdump.exit_statuses import EXIT_COMPLETE, EXIT_PARTIAL
from ekvdump.filesystem.tree_writer import Inventory


class Outcome(NamedTuple):
    """How a run ended that wrote a whole tree."""

    counters: Counters
    warnings: list[DumpWarning]
    partial_reasons: list[PartialReason]

    @property
    def complete(self) -> bool:
        """Whether the dump shows everything that the caller wanted. [OUTC-12]"""
        return not self.partial_reasons

    @property
    def exit_status(self) -> int:
        """0 for a complete dump, 3 for a partial one. [OUTC-6] [OUTC-8]"""
        return EXIT_COMPLETE if self.complete else EXIT_PARTIAL


def decide_outcome(outputs: Outputs, index: int | None, inventory: Inventory, *, handles: bool) -> Outcome:
    """Return the outcome of a run with a whole tree, after its last output.

    `index` is the applied index in the snapshot's name; `handles` says whether the tree was
    written by directory handles.
    """
    warnings = [*warnings_of_snapshot(outputs, index), *warnings_of_tree(inventory, handles=handles)]
    reasons = partial_reasons(warnings, database_directory(outputs.options.database))
    return Outcome(outputs.counters, warnings, reasons)


def warnings_of_snapshot(outputs: Outputs, index: int | None) -> list[DumpWarning]:
    """Return the warnings about the snapshot and about what is not shown of it. [OUTC-11]"""
    found, counters = outputs.first_pass, outputs.counters
    # [FILE-18] [FILE-24] [VISI-14]
    warnings = warn("no-footer") if found.fsm_crc32c is None else []
    if index is not None and found.applied_index is not None and index < found.applied_index:
        warnings += warn("index-behind")
    warnings += warn("future-version", counters.entries["future"])
    # [OUTC-13] A caller who selects types is not warned of the others.
    if outputs.options.only is None:
        # [KEYS-9] [KEYS-10]
        warnings += warn("unknown-prefix", counters.entries[keys.UNKNOWN], tuple(map(encode_percent, found.beginnings)))
        for type_, count in counters.undecoded.items():
            warnings += warn("undecoded-type", count, (type_,))
    # [RTTL-15] [SALV-6]
    warnings += warn("orphan-ttl", counters.ttls["orphan"], tuple(outputs.orphan_examples))
    return warnings + warn("unreadable-value", unreadable_count(counters), tuple(outputs.unreadable_examples))


def warnings_of_tree(inventory: Inventory, *, handles: bool) -> list[DumpWarning]:
    """Return the warnings about the output directory. [TREE-36] [TREE-38]"""
    stale = tuple(text_of_path(os.fsdecode(path)) for path in inventory.stale_examples)
    return warn("stale-file", inventory.stale_count, stale) + (warn("unguarded-writes") if not handles else [])


def unreadable_count(counters: Counters) -> int:
    """Return how many records were unreadable. [SALV-6]"""
    return counters.strings["unreadable"] + counters.hlls["unreadable"] + counters.ttls["unreadable"]
