"""Tampers with the tree while a program runs.

scene         effect at a path
------------  ----------------------------------------------------------------------
swap          the directory is moved aside and replaced by a symlink to a directory outside
vanish        the directory is moved aside
remove        the directory is removed with its contents
symlink       a symlink to a file outside is created; an existing file is moved aside
hard-link     the same with a hard link
fifo          the same with a FIFO
fifo-reader   the same with a FIFO that is open for reading
replace       the same with a file of other bytes
gone          the file is moved aside
"""

import os
import shutil
from pathlib import Path
from typing import Final

from ekvconform.cases.golden_cases import During
from ekvconform.cases.limits import Limits
from ekvconform.cases.moments import (
    FIFO,
    FIFO_READER,
    GONE,
    HARD_LINK,
    OF_DIRECTORYS,
    REMOVE,
    REPLACE,
    SNAPSHOT,
    SWAP,
    SYMLINK,
    TEMPORARY,
    Watch,
)
from ekvconform.cases.system_calls import RENAME, Call
from ekvconform.run.looks import touched
from ekvconform.run.sandbox import Finish, Sandbox
from ekvconform.run.seccomp import GO_ON, Answer, hold_program

ASIDE: Final = b"aside"
"""Directory of the sandbox that files are moved to; writes to directories in it do not count as outside."""
OTHER_BYTES: Final = b"of another process\n"


class Rearrangement:
    """One change of the tree, with a record of what was touched outside before and after it."""

    def __init__(self, box: Sandbox, scene: str, may_lose: int = 0) -> None:
        self._box = box
        self._scene = scene
        self._may_lose = may_lose
        """Number of links that files outside may lose, because they have as many in OUT."""
        (box.root / os.fsdecode(ASIDE)).mkdir()
        self._before = box.look_outside(ASIDE)
        self._touched: list[str] = []
        self.is_done = False

    def do(self, at: Path) -> None:
        """Change the tree, if the change is possible at this path."""
        if self.is_done or not can_rearrange(self._scene, at):
            return
        self._touched = touched(self._before, self._box.look_outside(ASIDE), self._may_lose)
        rearrange(self._box, self._scene, at)
        if self._scene == FIFO_READER:
            self._box.readers["the FIFO"] = os.open(at, os.O_RDONLY | os.O_NONBLOCK)
        # The change itself must not be reported.
        self._may_lose += self._scene == HARD_LINK
        self._before = self._box.look_outside(ASIDE)
        self.is_done = True

    def touched(self) -> list[str]:
        """Return what the program touched outside. Raises `OSError`."""
        fed = [f"{path} was written to" for path in self._box.fed_readers()]
        return [*self._touched, *touched(self._before, self._box.look_outside(ASIDE), self._may_lose), *fed]


def can_rearrange(scene: str, place: Path) -> bool:
    """Return True if the change is possible at a path."""
    is_directory = place.is_dir() and not place.is_symlink()
    if scene == GONE and not os.path.lexists(place):
        return False
    return is_directory == (scene in OF_DIRECTORYS) and place.parent.is_dir()


def rearrange(box: Sandbox, scene: str, place: Path) -> None:
    """Change the tree at a path."""
    if scene == REMOVE:
        shutil.rmtree(place)
    elif os.path.lexists(place):
        place.rename(box.root / os.fsdecode(ASIDE) / "moved")
    canary = box.root / "canary"
    if scene == SWAP:
        place.symlink_to(canary / "directory")
    elif scene == SYMLINK:
        place.symlink_to(canary / "file")
    elif scene == HARD_LINK:
        os.link(canary / "file", place)
    elif scene in (FIFO, FIFO_READER):
        os.mkfifo(place)
    elif scene == REPLACE:
        place.write_bytes(OTHER_BYTES)


def place_of(during: During, call: Call, box: Sandbox) -> Path:
    """Return the path that a place of a fixture stands for at a call."""
    if during.place == TEMPORARY:
        # Only a rename has a temporary file.
        return Path(call.paths[0]) if call.kind == RENAME else box.root / "nowhere" / "to be"
    if during.place == SNAPSHOT:
        (snapshot,) = (box.root / "in").iterdir()
        return snapshot
    return box.out / during.place


def run_with_tampering(
    command: tuple[str, ...], box: Sandbox, limits: Limits, during: During, stop: int | None
) -> tuple[Finish, list[str], list[str], bool]:
    """Run a program with concurrent tampering.

    Returns how it ended, what it touched outside, what was not observable, and whether the tree was changed.
    Raises as `hold_program`.
    """
    watch = Watch(during.when, box.real_out)
    rearrangement = Rearrangement(box, during.scene)

    def decide(call: Call) -> Answer:
        if not rearrangement.is_done and watch.has_come(call):
            rearrangement.do(place_of(during, call, box))
        return GO_ON

    held = hold_program(command, box, limits, decide, stop)
    return held.finish, rearrangement.touched(), held.unseen, rearrangement.is_done
