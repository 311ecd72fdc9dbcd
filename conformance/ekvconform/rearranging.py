"""What somebody else does to the tree while a program runs.

scene         what happens at a place
------------  ----------------------------------------------------------------------
swap          the folder is moved aside, and a symlink to a folder outside takes its place
vanish        the folder is moved aside
remove        the folder is removed with all that is in it
symlink       a symlink to a file outside appears; what lies there is moved aside
hard-link     the same, a hard link
fifo          the same, a FIFO
replace       the same, a file with other bytes
"""

import os
import shutil
from pathlib import Path
from typing import Final

from ekvconform.calls import RENAME, Call
from ekvconform.cases import During
from ekvconform.holding import GO_ON, Answer, hold_program
from ekvconform.limits import Limits
from ekvconform.moments import (
    FIFO,
    HARD_LINK,
    OF_FOLDERS,
    REMOVE,
    REPLACE,
    SWAP,
    SYMLINK,
    TEMPORARY,
    Watch,
    as_shown,
    places_of,
)
from ekvconform.sandbox import Finish, Sandbox, touched

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

    def do(self, place: str, call: Call) -> None:
        """Rearrange, at a path from OUT, if there is anything to do it to."""
        at = place_of_run(place, call, self._box)
        if self.is_done or not can_rearrange(self._scene, at):
            return
        self._touched = touched(self._before, self._box.look_outside(ASIDE), self._may_lose)
        rearrange(self._box, self._scene, at)
        # From here on, what was done here is what was there.
        self._may_lose += self._scene == HARD_LINK
        self._before = self._box.look_outside(ASIDE)
        self.is_done = True

    def touched(self) -> list[str]:
        """Return what was touched outside by the program. Raises `OSError`."""
        return [*self._touched, *touched(self._before, self._box.look_outside(ASIDE), self._may_lose)]


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
    elif scene == FIFO:
        os.mkfifo(place)
    elif scene == REPLACE:
        place.write_bytes(OTHER_BYTES)


def place_of_run(place: str, call: Call, box: Sandbox) -> Path:
    """Return where a place lies in this run: what differs from run to run is taken from the call."""
    if place == TEMPORARY:
        # Of a file that gets its name by something else than a rename there is none.
        return Path(call.paths[0]) if call.kind == RENAME else box.root / "nowhere" / "to be"
    for path in places_of(call, box.real_out):
        parts = path.split("/")
        for depth in range(len(parts), 0, -1):
            if as_shown("/".join(parts[:depth])) == place:
                return box.out / "/".join(parts[:depth])
    return box.out / place


def run_meanwhile(
    command: tuple[str, ...], box: Sandbox, limits: Limits, during: During, stop: int | None
) -> tuple[Finish, list[str], str | None]:
    """Run a program while somebody else is at work.

    Returns how it ended, what it touched outside, and what keeps this run from proving anything. Raises what
    `hold_program` does.
    """
    watch = Watch(during.when, box.real_out)
    rearrangement = Rearrangement(box, during.scene)

    def decide(call: Call) -> Answer:
        if not rearrangement.is_done and watch.has_come(call):
            rearrangement.do(during.place, call)
        return GO_ON

    held = hold_program(command, box, limits, decide, stop)
    lack = None
    if held.unseen:
        lack = f"what the program did cannot be seen: {held.unseen[0]}"
    elif not rearrangement.is_done:
        lack = f"the program has no such moment: {during.when.words}"
    return held.finish, rearrangement.touched(), lack
