"""What somebody else does to the tree while a program runs.

scene         what happens at a place
------------  ----------------------------------------------------------------------
swap          the folder is moved aside, and a symlink to a folder outside takes its place
vanish        the folder is moved aside
remove        the folder is removed with all that is in it
symlink       a symlink to a file outside appears; what lies there is moved aside
hard-link     the same, a hard link
fifo          the same, a FIFO
fifo-reader   the same, a FIFO that somebody reads from
replace       the same, a file with other bytes
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
    HARD_LINK,
    OF_FOLDERS,
    REMOVE,
    REPLACE,
    SNAPSHOT,
    SWAP,
    SYMLINK,
    TEMPORARY,
    Watch,
)
from ekvconform.cases.system_calls import RENAME, Call
from ekvconform.run.sandbox import Finish, Sandbox, touched
from ekvconform.run.seccomp import GO_ON, Answer, hold_program

ASIDE: Final = b"aside"
"""Where things are moved to, from the sandbox: what a program still writes into a folder there is not outside."""
OTHER_BYTES: Final = b"of somebody else\n"


class Rearrangement:
    """One rearrangement of the tree, and whether anything outside was touched before or after it."""

    def __init__(self, box: Sandbox, scene: str, may_lose: int = 0) -> None:
        self._box = box
        self._scene = scene
        self._may_lose = may_lose
        """How many names the files outside may lose, because they have as many in OUT."""
        (box.root / os.fsdecode(ASIDE)).mkdir()
        self._before = box.look_outside(ASIDE)
        self._touched: list[str] = []
        self.is_done = False

    def do(self, at: Path) -> None:
        """Rearrange, if there is anything to do it to."""
        if self.is_done or not can_rearrange(self._scene, at):
            return
        self._touched = touched(self._before, self._box.look_outside(ASIDE), self._may_lose)
        rearrange(self._box, self._scene, at)
        if self._scene == FIFO_READER:
            self._box.readers["the FIFO"] = os.open(at, os.O_RDONLY | os.O_NONBLOCK)
        # From here on, what was done here is what was there.
        self._may_lose += self._scene == HARD_LINK
        self._before = self._box.look_outside(ASIDE)
        self.is_done = True

    def touched(self) -> list[str]:
        """Return what was touched outside by the program. Raises `OSError`."""
        fed = [f"{path} was written into" for path in self._box.fed_readers()]
        return [*self._touched, *touched(self._before, self._box.look_outside(ASIDE), self._may_lose), *fed]


def can_rearrange(scene: str, place: Path) -> bool:
    """Tell whether there is anything to do to a place what a scene says."""
    is_folder = place.is_dir() and not place.is_symlink()
    return is_folder == (scene in OF_FOLDERS) and place.parent.is_dir()


def rearrange(box: Sandbox, scene: str, place: Path) -> None:
    """Do to a place what a scene says."""
    if scene == REMOVE:
        shutil.rmtree(place)
    elif os.path.lexists(place):
        place.rename(box.root / os.fsdecode(ASIDE) / "moved")
    canary = box.root / "canary"
    if scene == SWAP:
        place.symlink_to(canary / "folder")
    elif scene == SYMLINK:
        place.symlink_to(canary / "file")
    elif scene == HARD_LINK:
        os.link(canary / "file", place)
    elif scene in (FIFO, FIFO_READER):
        os.mkfifo(place)
    elif scene == REPLACE:
        place.write_bytes(OTHER_BYTES)


def place_of(during: During, call: Call, box: Sandbox) -> Path:
    """Return where a place of a fixture lies at a call."""
    if during.place == TEMPORARY:
        # Of a file that gets its name by something else than a rename there is none.
        return Path(call.paths[0]) if call.kind == RENAME else box.root / "nowhere" / "to be"
    if during.place == SNAPSHOT:
        (snapshot,) = (box.root / "in").iterdir()
        return snapshot
    return box.out / during.place


def run_meanwhile(
    command: tuple[str, ...], box: Sandbox, limits: Limits, during: During, stop: int | None
) -> tuple[Finish, list[str], list[str], bool]:
    """Run a program while somebody else is at work.

    Returns how it ended, what it touched outside, what it did that cannot be seen, and whether the moment came.
    Raises what `hold_program` does.
    """
    watch = Watch(during.when, box.real_out)
    rearrangement = Rearrangement(box, during.scene)

    def decide(call: Call) -> Answer:
        if not rearrangement.is_done and watch.has_come(call):
            rearrangement.do(place_of(during, call, box))
        return GO_ON

    held = hold_program(command, box, limits, decide, stop)
    return held.finish, rearrangement.touched(), held.unseen, rearrangement.is_done
