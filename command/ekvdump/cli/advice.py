"""What to do about a fault or finding, in one sentence for the person at the terminal."""

import argparse
import os
import shlex
from typing import Final

from ekvformat.outcomes import Fault

from ekvdump.engine.refusals import StructureFault
from ekvdump.exit_statuses import EXIT_FINDINGS, EXIT_SNAPSHOT_REFUSED
from ekvdump.queries.notation import shell_word_of

ADVICE: Final = {
    "truncated": "The file is cut short: copy it again from the node and compare the sizes.",
    "bad-magic": "This is not an elastickv snapshot. If it is compressed, decompress it first.",
    "unsupported": "Look for a newer ekvdump, or take a snapshot that a node wrote to its fsm-snap directory.",
    "footer-mismatch": "The file was damaged after it was written: copy it again from the node.",
    "encrypted": "There is no key ring here: an encrypted store cannot be decoded from its snapshot alone.",
    "invalid-value": (
        "No client could read this key. With --salvage all others are shown, and those that cannot be are listed."
    ),
    "changed": "Copy the snapshot to a place where nothing writes to it, and decode the copy.",
    "not-empty": (
        "Name a directory that does not exist yet, or say --into-existing: that removes the seal first, "
        "and writes over files of the same names."
    ),
    "unsafe-path": "Find out what it is and who put it there. Nothing was written through it.",
    "disk-full": "Make room (df -h; df -i for the number of files), or decode to another disk.",
    "io-error": "Check that the path exists and that you may read or write there.",
    "needs-keymap": "Look the file name up in KEYMAP.jsonl.",
    "unsupported-manifest": "Look for a newer ekvdump.",
    "no-seal": "The dump is not whole: the run that wrote it failed or is not done. Decode the snapshot again.",
}
"""Name of a fault or finding = what to do."""
OTHER_ADVICE: Final = {
    EXIT_SNAPSHOT_REFUSED: (
        "Fetch the file again, or take another node's snapshot; this one cannot be decoded as it is."
    ),
    EXIT_FINDINGS: "The dump is not what was written: decode the snapshot again.",
}
"""Exit status = what to do about all faults and findings that are not in `ADVICE`."""


WRITTEN_SO: Final = (
    "A copy would be the same: take another node's snapshot, and report this one to the operators of the node."
)
"""What to do about a fault of structure in a file that is as it was written."""


def advice_for(fault: Fault) -> str:
    """Return what to do about a fault or finding."""
    if isinstance(fault, StructureFault) and fault.footer_fits:
        return WRITTEN_SO
    return ADVICE.get(fault.name) or OTHER_ADVICE[fault.exit_status]


def advice_about_arguments(options: argparse.Namespace, fault: Fault) -> str | None:
    """Return the advice that takes the arguments to give; None if there is none."""
    if fault.clause == "SAFE-11" and (options.command == "verify" or hasattr(options, "no_verify")):
        return "A symlink is not followed here: name the directory that it leads to."
    if fault.clause == "VERI-24":
        return "Name the directory that has MANIFEST.json and CHECKSUMS, or a snapshot."
    if fault.name == "invalid-value" and options.command == "get":
        words = f"--salvage --key {shell_word_of(options.key)} {shlex.quote(options.source)} DIRECTORY"
        return f"No client could read this key. To see its bytes: ekvdump decode {words}"
    if fault.exit_status == EXIT_FINDINGS and hasattr(options, "no_verify"):
        return (
            f"To see all that is wrong: ekvdump verify {shlex.quote(options.opened)}. "
            f"To read it nevertheless: {command_again(options, '--no-verify')}"
        )
    out, snapshot = getattr(options, "out", None), getattr(options, "snapshot", None)
    if fault.clause == "SAFE-17" and out is not None and os.path.isfile(out):
        shown = shlex.quote(out)
        if snapshot is None:
            return f"That is a file; a dump is a directory. To look into a snapshot: ekvdump inspect {shown}"
        if os.path.isfile(snapshot):
            return f"OUT is a directory, and comes last: ekvdump decode {shlex.quote(snapshot)} DIRECTORY"
        return f"The snapshot comes first: {command_again(options, swap=True)}"
    key, source = getattr(options, "key", None), getattr(options, "source", None)
    if fault.clause == "FILE-24" and source is not None and isinstance(key, bytes) and os.path.exists(key):
        return f"The snapshot comes first: ekvdump {options.command} {shlex.quote(os.fsdecode(key))} KEY"
    if fault.clause == "FILE-24" and snapshot is not None and os.path.isdir(snapshot):
        return "A snapshot is one file, with a name of 16 hexadecimal digits and .fsm; this is a directory."
    file = snapshot or source or getattr(options, "opened", None)
    if fault.clause == "FILE-24" and file is not None and os.path.exists(file):
        return "A snapshot has to be a regular file, because parts of it are read more than once: save it as one first."
    return None


def command_again(options: argparse.Namespace, *more: str, swap: bool = False) -> str:
    """Return the command line with more options, ready to be pasted."""
    words = [word for word in options.words[1:] if word not in more]
    if swap:
        other = {options.snapshot: options.out, options.out: options.snapshot}
        words = [other.get(word, word) for word in words]
    return shlex.join(["ekvdump", options.command, *more, *words])
