"""The outcome of a run that wrote a whole tree. Implements part of spec chapters OUTC and COMP.

The first pass and the outputs have counted; the names and words of warnings, and which of
them make a dump partial, are those of `ekvformat.outcomes`.
"""

import os
from typing import NamedTuple

from ekvformat import keys
from ekvformat.completeness import Counters, DumpWarning, PartialReason, partial_reasons, warn
from ekvformat.outcomes import text_of_path
from ekvformat.segments import encode_percent
from ekvformat.tree import database_directory

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
        """Whether the dump shows everything that the caller wanted. [COMP-6]"""
        return not self.partial_reasons

    @property
    def exit_status(self) -> int:
        """0 for a complete dump, 3 for a partial one. [OUTC-7] [OUTC-9]"""
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
    """Return the warnings about the snapshot and about what is not shown of it. [COMP-5]"""
    found, counters = outputs.first_pass, outputs.counters
    # [FILE-20] [FILE-26] [VISI-14]
    warnings = warn("no-footer") if found.fsm_crc32c is None else []
    if index is not None and found.applied_index is not None and index < found.applied_index:
        warnings += warn("index-behind")
    warnings += warn("future-version", counters.entries["future"])
    # [COMP-1] A caller who selects types is not warned of the others.
    if outputs.options.only is None:
        # [KEYS-9] [KEYS-6]
        warnings += warn("unknown-prefix", counters.entries[keys.UNKNOWN], tuple(map(encode_percent, found.beginnings)))
        for type_, count in counters.undecoded.items():
            warnings += warn("undecoded-type", count, (type_,))
    # [RTTL-11] [SALV-9]
    warnings += warn("orphan-ttl", counters.ttls["orphan"], tuple(outputs.orphan_examples))
    return warnings + warn("unreadable-value", outputs.unreadable_count, tuple(outputs.unreadable_examples))


def warnings_of_tree(inventory: Inventory, *, handles: bool) -> list[DumpWarning]:
    """Return the warnings about the output directory. [INTO-6] [SAFE-7]"""
    stale = tuple(text_of_path(os.fsdecode(path)) for path in inventory.stale_examples)
    return warn("stale-file", inventory.stale_count, stale) + (warn("unguarded-writes") if not handles else [])
