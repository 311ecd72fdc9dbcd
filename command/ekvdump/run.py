"""One run: from a snapshot to its dump.

This module is the order of the steps: check the output directory, first pass, first output,
unseal, write, check that the snapshot has not changed, inventory, seal. Whatever fails or
interrupts a step, the tree is rolled back. [SAFE-27] [SAFE-24]
"""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from ekvformat.decode import NO_OPTIONS, Options, Summary
from ekvformat.manifest import Provenance, render_manifest
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import decode_snapshot_name

from ekvdump.engine.first_pass import FirstPass, run_first_pass
from ekvdump.engine.outputs import (
    Blob,
    Document,
    Line,
    Outputs,
    is_value,
    redis_directory,
    shown_count,
    value_count,
)
from ekvdump.engine.refusals import judged_whole
from ekvdump.engine.source import Progress, ProgressSource, SnapshotFile
from ekvdump.exit_statuses import EXIT_SNAPSHOT_REFUSED
from ekvdump.filesystem.directories import HAS_HANDLES
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvdump.outcome import Outcome, decide_outcome
from ekvdump.system_faults import check_spelling

WRITING: Final = "keys"
"""The stage of a run that writes strings and HLLs."""


UNTOUCHED: Final = "untouched"
"""Nothing in the output directory was created or changed."""
UNFINISHED: Final = "unfinished"
"""The output directory contains files of a failed run, without a seal."""
SEALED: Final = "sealed"
"""The output directory contains a whole dump."""


class Run:
    """One run. Its properties can be read at any moment, also after an interrupt.

    `options` say what the dump shows; `into_existing`, `sync` and `handles` how `TreeWriter` writes it.
    """

    def __init__(
        self,
        snapshot_path: str,
        out: str,
        options: Options = NO_OPTIONS,
        provenance: Provenance | None = None,
        progress: Progress | None = None,
        *,
        into_existing: bool = False,
        sync: bool = True,
        handles: bool = HAS_HANDLES,
    ) -> None:
        self._snapshot_path = snapshot_path
        self._out = out
        self._options = options
        self._provenance = provenance or Provenance(snapshot_path)
        self._progress = progress
        self._handles = handles
        self._writer = TreeWriter(
            out,
            redis_directory(options.database),
            into_existing=into_existing,
            sync=sync,
            handles=handles,
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
        seal in the output directory [SAFE-27]; a fault before the first write leaves the output
        directory unchanged [SAFE-4].
        """
        self._writer.check()  # [OUTC-6]
        check_spelling(self._snapshot_path, "FILE-24")
        # [INTO-2] With `into_existing` the snapshot could be overwritten before it is read.
        if os.path.realpath(self._snapshot_path).startswith(os.path.join(os.path.realpath(self._out), "")):
            raise Fault("unsafe-path", "INTO-2", "the snapshot lies in the output directory", None, self._snapshot_path)
        with SnapshotFile(self._snapshot_path) as source:
            with judged_whole(source):
                first_pass = run_first_pass(
                    ProgressSource(source, self._progress) if self._progress else source
                )  # [FILE-21]
            with closing(first_pass):
                try:
                    return self._write(source, first_pass)
                except BaseException as end:
                    self.is_ending = True
                    faults = self._writer.rollback()  # [SAFE-27] [SAFE-24]
                    if isinstance(end, Fault):
                        end.also += tuple(faults)  # [SAFE-31]
                    raise

    def _write(self, source: SnapshotFile, first_pass: FirstPass) -> Outcome:
        outputs = Outputs(source, first_pass, self._options, self._progress)
        made = self._iter_made(source, outputs)
        # [SAFE-4] The first output is made before the output directory is touched, so that a
        # snapshot that is refused at its first value leaves it as it was.
        output = next(made, None)
        if output is None:
            source.check_unchanged()  # [FILE-22]
        self._writer.unseal()
        while output is not None:
            self._writer.write(output)
            if self._progress and is_value(output):
                self._progress(WRITING, shown_count(outputs.counters), value_count(outputs.counters))
            output = None  # the next output is not read while this one is held
            output = next(made, None)
        source.check_unchanged()  # [FILE-22]
        inventory = self._writer.inventory()
        index = decode_snapshot_name(self._snapshot_path)
        self._outcome = decide_outcome(outputs, index, inventory, handles=self._handles)
        summary = Summary(
            self._options,
            first_pass.start.last_commit_ts,
            first_pass.fsm_crc32c,
            index,
            self._outcome.counters,
            self._outcome.warnings,
        )
        manifest = render_manifest(
            summary, self._provenance, summary.warnings, inventory.databases, self._writer.earlier_manifest
        )
        self._writer.seal(manifest)
        return self._outcome

    def _iter_made(self, source: SnapshotFile, outputs: Outputs) -> Iterator[Blob | Document | Line]:
        """Yield the outputs; of a snapshot that has changed meanwhile, raise `changed` and no other fault. [FILE-22]"""
        try:
            yield from outputs
        except Fault as fault:
            if fault.exit_status == EXIT_SNAPSHOT_REFUSED:
                source.check_unchanged()
            raise


def decode(
    snapshot_path: str,
    out: str,
    options: Options = NO_OPTIONS,
    provenance: Provenance | None = None,
    progress: Progress | None = None,
    *,
    into_existing: bool = False,
    sync: bool = True,
    handles: bool = HAS_HANDLES,
) -> Outcome:
    """Decode a snapshot file into the directory `out`.

    Raises a `Fault`, as `Run.run` says.
    """
    return Run(
        snapshot_path, out, options, provenance, progress, into_existing=into_existing, sync=sync, handles=handles
    ).run()
