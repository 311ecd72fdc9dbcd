"""Directories by their paths, for platforms without safe calls. [SAFE-7]

Every name is used by its path, after all directories down to it have been checked again.
Another process can come in between; the dump then carries a warning.
"""

import os
import stat
from collections.abc import Iterator

from ekvformat.outcomes import Fault

from ekvdump.filesystem.directories import CREATE_FILE, DIRECTORY_MODE, FILE_MODE, _name_and_kind, inode_of


class PathDirectory:
    """An open directory, used by its path, which is checked again before every use. [SAFE-7]"""

    def __init__(self, path: str, above: "PathDirectory | None") -> None:
        self._path = path
        self._above = above
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "Not a directory")
        self.inode = inode_of(status)

    def _at(self, name: str) -> str:
        """Return the path of a name after checking that all directories on it are unchanged."""
        self._check()
        return os.path.join(self._path, name)

    def _check(self) -> None:
        if self._above is not None:
            self._above._check()
        if inode_of(os.lstat(self._path)) != self.inode:
            raise Fault(
                "unsafe-path",
                "SAFE-8",
                "something else lies here than the directory that was opened",
                None,
                self._path,
            )

    def enter(self, name: str) -> "PathDirectory":
        # No check here: every operation in the subdirectory checks all directories on its path.
        return PathDirectory(os.path.join(self._path, name), self)

    def make(self, name: str) -> None:
        os.mkdir(self._at(name), DIRECTORY_MODE)

    def look(self, name: str) -> os.stat_result:
        return os.lstat(self._at(name))

    def create(self, name: str) -> int:
        return os.open(self._at(name), CREATE_FILE, FILE_MODE)

    def create_unnamed(self) -> int | None:
        return None

    def link(self, descriptor: int, name: str) -> None:
        raise NotImplementedError  # nothing here is without a name

    def open(self, name: str, flags: int) -> int:
        path = self._at(name)
        before = os.lstat(path)
        if not stat.S_ISREG(before.st_mode):
            raise Fault(
                "unsafe-path",
                "SAFE-7",
                "a link, FIFO, socket, device or directory lies where a file belongs",
                None,
                path,
            )
        descriptor = os.open(path, flags)
        if inode_of(os.fstat(descriptor)) != inode_of(before):
            os.close(descriptor)
            raise Fault("unsafe-path", "SAFE-8", "something else lies here than what was looked at", None, path)
        return descriptor

    def unlink(self, name: str) -> None:
        os.unlink(self._at(name))

    def rename(self, name: str, target: str) -> None:
        os.replace(self._at(name), os.path.join(self._path, target))

    def iter_names(self) -> Iterator[tuple[str, str]]:
        with os.scandir(self._at("")) as found:
            yield from map(_name_and_kind, found)

    def close(self) -> None:
        pass
