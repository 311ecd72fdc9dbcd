"""Findings: what a reader of a dump finds wrong with it. Implements part of spec chapter OUTC.

They are faults like those of a decoder, with names of their own and one exit status. A
file that a reader cannot open is not a finding but an `unsafe-path` or `io-error`.
"""

from typing import Final

from ekvformat.outcomes import Fault

from ekvdump.exit_statuses import EXIT_FINDINGS

FINDINGS: Final = {
    "invalid-segment": "a file name that no key has",
    "needs-keymap": "a file name whose key stands only in KEYMAP",
    "invalid-keymap": "a KEYMAP line that cannot be read",
    "invalid-manifest": "a MANIFEST.json that cannot be read",
    "unsupported-manifest": "a MANIFEST.json of a newer version",
    "malformed-line": "a CHECKSUMS line that cannot be read",
    "empty-path": "a CHECKSUMS line without a path",
    "absolute-path": "a CHECKSUMS line with a path from the root",
    "parent-path": "a CHECKSUMS line with a path that climbs",
    "symlink": "a symlink in the tree",
    "missing-file": "a file that a CHECKSUMS line names and that is not there",
    "not-regular": "something that is neither file, directory nor symlink",
    "no-seal": "a dump without CHECKSUMS",
    "no-manifest": "a dump without MANIFEST.json",
    "foreign-file": "a file that no CHECKSUMS line names",
    "unusual-line": "a CHECKSUMS line that can be read, but would have been written otherwise",
    "unsorted-line": "a CHECKSUMS line that is not in its place",
    "repeated-path": "a path that has two CHECKSUMS lines",
    "unusual-segment": "a file name that its key would not have been given",
    "keymap-mismatch": "a KEYMAP line whose key has another segment",
    "line-without-blob": "a KEYMAP line whose segment no blob has",
    "invalid-row": "a sidecar row that cannot be read",
    "row-without-blob": "a sidecar row whose key has no blob",
    "repeated-row": "a key that has two rows in one sidecar",
    "blob-without-row": "an unreadable value that is not listed",
    "wrong-databases": "a MANIFEST.json that names other databases than are there",
    "no-line": "a CHECKSUMS without a line",
    "invalid-document": "a blob of a collection that is not made as its chapter says",
    "mismatch": "a file that has another hash than its CHECKSUMS line",
}
"""Name of a finding = what is wrong. All have the exit status `EXIT_FINDINGS`."""


class Finding(Fault):
    """One of `FINDINGS`, and where. `offset` is in bytes from the start of the file at `path`."""

    @property
    def exit_status(self) -> int:
        """Exit status of a verification that finds anything. [OUTC-7]"""
        return EXIT_FINDINGS
