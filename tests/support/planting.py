"""A dump with a file of each kind, and what may be in its way: links, special files, calls that fail."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_runs import decode_bytes
from ekvdump.engine.outputs import Blob, Line
from ekvdump.filesystem.directories import HAS_HANDLES
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvdump.outcome import Outcome
from ekvformat.decode import NO_OPTIONS, Options
from writer import HLL, STR, envelope, put, snapshot

LONG = b"b64." + b"x" * 200
BASE = "redis/db_0"
# Two blobs of each kind, both sidecars and a KEYMAP.
FULL = snapshot(
    [
        put(HLL + b"h1", 1, envelope(2, b"hll one", 5)),
        put(HLL + LONG, 1, envelope(2, b"hll two")),
        put(STR + b"s1", 1, envelope(1, b"string one", 6)),
        put(STR + b"s2", 1, envelope(1, b"string two")),
    ]
)
BLOB, SIDECAR = f"{BASE}/strings/s1.bin", f"{BASE}/strings_ttl.jsonl"
BLOBS = [f"{BASE}/hll/h1.bin", BLOB]
SIDECARS = [SIDECAR, f"{BASE}/hll_ttl.jsonl", f"{BASE}/KEYMAP.jsonl", "MANIFEST.json", "CHECKSUMS"]
DIRECTORYS = ["redis", BASE, f"{BASE}/strings", f"{BASE}/hll"]


def decode_full(
    directory: Path,
    options: Options = NO_OPTIONS,
    *,
    into_existing: bool = False,
    sync: bool = True,
    handles: bool = HAS_HANDLES,
) -> Outcome:
    return decode_bytes(FULL, directory, options, into_existing=into_existing, sync=sync, handles=handles)


class Canary:
    """A directory outside of the tree; whatever happens, it stays as it is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "file").write_bytes(b"precious")
        (directory / "file").chmod(0o644)
        self.before = self.now()

    def now(self) -> dict[str, tuple[int, ...]]:
        return {
            name: (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
            for name in sorted(os.listdir(self.directory))
            for status in [os.lstat(self.directory / name)]
        }

    def check(self) -> None:
        assert self.now() == self.before
        assert (self.directory / "file").read_bytes() == b"precious"


def plant(path: Path, kind: str, canary: Canary) -> None:
    """Put something where the decoder is going to write."""
    if kind == "symlink to a file":
        path.symlink_to(canary.directory / "file")
    elif kind == "symlink to a directory":
        path.symlink_to(canary.directory)
    elif kind == "dangling symlink":
        path.symlink_to(canary.directory / "missing")
    elif kind == "looping symlink":
        path.symlink_to(path.name)
    elif kind == "hard link":
        os.link(canary.directory / "file", path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket has at most 107 bytes
            server.bind(path.name)
            os.chdir(here)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "directory":
        path.mkdir()
        (path / "inside").touch()
    elif kind == "file":
        path.write_bytes(b"of somebody else, and longer than what will be here")
        path.chmod(0o666)


LINKS = {
    "symlink to a file": "SAFE-11",
    "symlink to a directory": "SAFE-11",
    "dangling symlink": "SAFE-11",
    "looping symlink": "SAFE-11",
}


SPECIAL = {"FIFO": "SAFE-12", "socket": "SAFE-12"}
if os.geteuid() == 0:
    SPECIAL["device"] = "SAFE-12"


class Planter:
    """Plants something right before the first output goes to the tree. [SAFE-1] lets nothing lie there earlier."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
        self.done = False
        write = TreeWriter.write

        def planted(target: TreeWriter, output: Blob | Line) -> None:
            if not self.done:
                self.done = True
                act()
            write(target, output)

        monkeypatch.setattr(TreeWriter, "write", planted)


def plant_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str, kind: str
) -> Callable[[], Path]:
    path = tmp_path / "out" / place

    def act() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        plant(path, kind, canary)

    planter = Planter(monkeypatch, act)

    def planted() -> Path:
        assert planter.done, "nothing was planted, so nothing was proved"
        return path

    return planted


class Failing:
    """Lets the n-th call of an `os` function fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str, nth: int, number: int) -> None:
        self.calls = 0
        real = getattr(os, function)

        def failing(*arguments: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls == nth:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **keywords)

        monkeypatch.setattr(os, function, failing)
