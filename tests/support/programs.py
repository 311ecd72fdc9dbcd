"""Both decoders as programs, run in this process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ekvdump.cli.main import main as command
from ekvformat.__main__ import main as reference
from in_process import Main, run_main
from writer import Entry, snapshot

Program = tuple[Main, Sequence[str]]
"""What runs it, and the words that come first."""
PROGRAMS: Final[dict[str, Program]] = {
    "the reference": (reference, ()), "the command": (command, ("decode",)),
    "the command by path": (command, ("decode", "--by-path")),
}  # fmt: skip


def decoded(
    program: Program, entries: Sequence[Entry], directory: Path, *words: str, out: str = "out"
) -> tuple[int, str]:
    """Decode a store to a path below a directory; return the exit status, and what was printed on stderr."""
    main, first = program
    source = directory / "x.fsm"
    source.write_bytes(snapshot(entries))
    status, _, err = run_main(main, [*first, "--no-sync", *words, "--", str(source), f"{directory}/{out}"])
    return status, err
