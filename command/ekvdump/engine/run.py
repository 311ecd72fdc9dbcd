"""One run: from a snapshot to its dump.

This module is the order of the steps: check the output directory, first pass, first output,
unseal, write, check that the snapshot has not changed, inventory, seal. Whatever fails or
interrupts a step, the tree is rolled back. [TREE-23] [TREE-39]
"""

import os
from collections.abc import Iterator
from typing import Final

from ekvdump.engine.first_pass import FirstPass, run_first_pass
from ekvdump.engine.outputs import Blob, Options, Outputs, Row, redis_directory
from ekvdump.engine.source import Progress, ProgressSource, SnapshotFile, decode_snapshot_name
from ekvdump.filesystem.tree_writer import Inventory, TreeWriter
from ekvdump.format import keys
from ekvdump.format.manifest import Provenance, render_manifest
from ekvdump.format.outcomes import (
    Changed,
    DumpWarning,
    Fault,
    InvalidValue,
    Outcome,
    PartialReason,
    SnapshotFault,
    UnsafePath,
)
from ekvdump.format.segments import encode_percent

WRITING: Final = "keys"
"""The stage of a run that writes the dump."""


UNTOUCHED: Final = "untouched"
"""Nothing in the output directory was created or changed."""
UNFINISHED: Final = "unfinished"
"""The output directory contains files of a failed run, without a seal."""
SEALED: Final = "sealed"
"""The output directory contains a whole dump."""


class Run:
    """One run. Its properties can be read at any moment, also after an interrupt."""

    def __init__(
        self,
        snapshot_path: str,
        out: str,
        options: Options = Options(),
        provenance: Provenance | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._snapshot_path = snapshot_path
        self._out = out
        self._options = options
        self._provenance = provenance or Provenance(snapshot_path)
        self._progress = progress
        self._writer = TreeWriter(
            out,
            redis_directory(options.database),
            into_existing=options.into_existing,
            sync=options.sync,
            handles=options.handles,
        )
        self.is_ending = False
        """True once the run has failed or was interrupted, and rolls back."""
        self._outcome: Outcome | None = None

    @property
    def out_state(self) -> str:
        """The state of the output directory: `UNTOUCHED`, `UNFINISHED` or `SEALED`."""
        if self._writer.is_sealed:
            return SEALED
        return UNFINISHED if self._writer.is_touched else UNTOUCHED

    @property
    def sealed_outcome(self) -> Outcome | None:
        """The outcome of the run, once the dump is sealed."""
        return self._outcome if self._writer.is_sealed else None

    def run(self) -> Outcome:
        """Decode the snapshot.

        Raises a `Fault`: of the snapshot, the tree or the disk. After a fault there is no
        seal in the output directory [TREE-23]; a fault before the first write leaves the output
        directory unchanged [TREE-9].
        """
        self._writer.check()  # [OUTC-5]
        # [TREE-41] With `into_existing` the snapshot could be overwritten before it is read.
        if os.path.realpath(self._snapshot_path).startswith(os.path.join(os.path.realpath(self._out), "")):
            raise UnsafePath("TREE-41", "the snapshot lies in the output folder", None, self._snapshot_path)
        with SnapshotFile(self._snapshot_path) as source:
            first_pass = run_first_pass(
                ProgressSource(source, self._progress) if self._progress else source
            )  # [FILE-19]
            try:
                return self._write(source, first_pass)
            except BaseException as end:
                self.is_ending = True
                faults = self._writer.rollback()  # [TREE-23] [TREE-39]
                if isinstance(end, Fault):
                    end.also += tuple(faults)  # [TREE-27]
                raise

    def _write(self, source: SnapshotFile, first_pass: FirstPass) -> Outcome:
        outputs = Outputs(source, first_pass, self._options)
        made = self._iter_made(source, outputs)
        # [TREE-9] The first output is made before the output directory is touched, so that a
        # snapshot that is refused at its first value leaves it as it was.
        output = next(made, None)
        if output is None:
            source.check_unchanged()  # [FILE-20]
        self._writer.unseal()
        while output is not None:
            self._writer.write(output)
            if self._progress:
                self._progress(WRITING, first_pass.counters.shown_count, first_pass.counters.showable_count)
            output = None  # the next output is not read while this one is held
            output = next(made, None)
        source.check_unchanged()  # [FILE-20]
        inventory = self._writer.inventory()
        index = decode_snapshot_name(self._snapshot_path)
        self._outcome = decide_outcome(first_pass, outputs, index, self._options, inventory)
        provenance = self._provenance._replace(
            fsm_crc32c=first_pass.fsm_crc32c,
            snapshot_index=index,
            last_commit_ts=first_pass.start.last_commit_ts,
        )
        manifest = render_manifest(
            provenance,
            self._outcome,
            max(0, self._options.database),
            list(inventory.databases),
            self._writer.earlier_manifest,
            only=self._options.only is not None,
        )
        self._writer.seal(manifest)
        return self._outcome

    def _iter_made(self, source: SnapshotFile, outputs: Outputs) -> Iterator[Blob | Row]:
        """Yield the outputs; raise `Changed` if the snapshot is no longer what the first pass read. [FILE-20]"""
        try:
            yield from outputs
        except SnapshotFault as fault:
            # The first pass has checked the structure; whatever is wrong with it now has changed since.
            source.check_unchanged()
            if isinstance(fault, InvalidValue):
                raise
            detail = f"not any more what was judged: {fault.detail}"
            raise Changed("FILE-20", detail, fault.offset, self._snapshot_path) from fault


def decode(
    snapshot_path: str,
    out: str,
    options: Options = Options(),
    provenance: Provenance | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Decode a snapshot file into the directory `out`.

    Raises a `Fault`, as `Run.run` says.
    """
    return Run(snapshot_path, out, options, provenance, progress).run()


def decide_outcome(
    first_pass: FirstPass, outputs: Outputs, index: int | None, options: Options, inventory: Inventory
) -> Outcome:
    """Return the outcome of a run with a whole tree: warnings, and the reasons why it is partial. [OUTC-9] [OUTC-12]"""
    counters = outputs.counters
    entries = counters.entries
    warnings: list[DumpWarning] = []
    reasons: list[PartialReason] = []

    # [OUTC-11] In the order of the spec's table.
    if first_pass.fsm_crc32c is None:
        detail = "the file has no footer and cannot prove that it is whole"
        warnings.append(DumpWarning("no-footer", 1, (), detail))
    if index is not None and first_pass.applied_index is not None and index < first_pass.applied_index:
        detail = f"the name says applied index {index}, the file {first_pass.applied_index}"
        warnings.append(DumpWarning("index-behind", 1, (), detail))
    if count := entries["future"]:
        warnings.append(DumpWarning("future-version", count, (), "versions above the last commit; not shown"))
    if options.only is None:  # [OUTC-13]
        if count := entries[keys.UNKNOWN]:
            about = tuple(map(encode_percent, first_pass.beginnings))  # [KEYS-9]
            detail = "records whose keys begin with none of the known prefixes; not shown"
            warnings.append(DumpWarning("unknown-prefix", count, about, detail))
            reasons.append(PartialReason("unknown-prefix", keys.UNKNOWN, count))
        for type_ in keys.UNDECODED:
            if count := counters.undecoded[type_]:
                detail = "records of a type that this version cannot show"  # [KEYS-10]
                warnings.append(DumpWarning("undecoded-type", count, (type_,), detail))
                reasons.append(PartialReason("undecoded-type", type_, count))
    if count := counters.ttls["orphan"]:
        about = tuple(outputs.orphan_examples)  # [RTTL-15]
        warnings.append(DumpWarning("orphan-ttl", count, about, "TTL rows of keys that do not exist"))

    own = "/".join(redis_directory(options.database))
    if count := counters.unreadable_count:
        about = tuple(outputs.unreadable_examples)  # [SALV-6]
        detail = "records that no client could read; listed in unreadable.jsonl, not shown"
        warnings.append(DumpWarning("unreadable-value", count, about, detail))
        reasons.append(PartialReason("unreadable-value", own, count))
    if count := inventory.stale_count:
        # [TREE-36]
        about = tuple(path.decode("utf-8", "backslashreplace") for path in inventory.stale_examples)
        detail = "files of an earlier run that this snapshot knows nothing of; they stay"
        warnings.append(DumpWarning("stale-file", count, about, detail))
        reasons.append(PartialReason("stale-file", own, count))
    if not options.handles:
        detail = "written by path, without safe calls: another process could have come in between"
        warnings.append(DumpWarning("unguarded-writes", 1, (), detail))
    return Outcome(counters, tuple(warnings), tuple(reasons))
