"""Records the state of files, so that two looks show what was touched between them."""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple

MAX_HASHED_SIZE: Final = 64 * 1024 * 1024
"""Largest file that is compared by content; a larger one is compared by its metadata."""
MAX_READ_SIZE: Final = 64 * 1024 * 1024
"""Largest file that is read into memory."""


class Seen(NamedTuple):
    """Metadata and content of a file."""

    kind: int
    mode: int
    owner: tuple[int, int]
    inode: int
    links: int
    times: tuple[int, int]
    """Of a regular file, mtime and ctime in ns; else (0, 0), since a new entry changes those of a directory."""
    content: str | None
    """Hash of a regular file, target of a symlink."""


Look = dict[str, Seen]
"""Path from a directory, "." for itself = what is there. Two looks are equal if nothing was touched."""


def shown_path(path: bytes) -> str:
    r"""Return a path as text, with `\xHH` for a byte that is not UTF-8."""
    return path.decode("utf-8", "backslashreplace")


def place_of(directory: Path, path: bytes) -> bytes:
    """Return the full path of a path below a directory; "." is the directory itself."""
    return os.fsencode(directory) if path == b"." else os.path.join(os.fsencode(directory), path)


def iter_below(directory: Path, without: Collection[bytes] = ()) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield everything at and below a directory, by path from there; links are not followed. Raises `OSError`.

    Files that disappear during the walk are skipped, as are the paths of `without` with all below them.
    """
    pending = [b"."]
    while pending:
        path = pending.pop()
        place = place_of(directory, path)
        try:
            status = os.lstat(place)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                below = (name if path == b"." else os.path.join(path, name) for name in os.listdir(place))
                pending += [each for each in below if each not in without]
        except FileNotFoundError:
            continue


def look(directory: Path, without: Collection[bytes] = ()) -> Look:
    """Record everything at and below a directory; links are not followed. Raises `OSError`."""
    found: Look = {}
    for path, status in iter_below(directory, without):
        place = place_of(directory, path)
        is_file = stat.S_ISREG(status.st_mode)
        content = None
        if is_file and status.st_size <= MAX_HASHED_SIZE:
            content = hash_regular(place)
        elif stat.S_ISLNK(status.st_mode):
            content = shown_path(os.readlink(place))
        found[shown_path(path)] = Seen(
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_ino,
            status.st_nlink if is_file else 0,
            (status.st_mtime_ns, status.st_ctime_ns) if is_file else (0, 0),
            content,
        )
    return found


def read_regular(place: bytes, limit: int = MAX_READ_SIZE) -> bytes:
    """Read a regular file, without following a link or blocking. Raises `OSError`, also above `limit`."""
    with open_regular(place) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"{shown_path(place)}: more than {limit} bytes")
    return data


def hash_regular(place: bytes) -> str:
    """Return the SHA-256 of a regular file of any size, in hex. Raises `OSError`."""
    with open_regular(place) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(place: bytes) -> BufferedReader:
    """Open a regular file, without following a link or blocking. Raises `OSError`."""
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = open(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(f"{shown_path(place)}: not a regular file")
    return file


def touched(before: Look, after: Look, may_lose: int = 0) -> list[str]:
    """Return the paths at which two looks outside OUT differ.

    When a hard link in OUT is replaced, the file outside that it was linked to loses a link. A file may lose
    `may_lose` links.
    """
    paths = before.keys() | after.keys()
    return sorted(path for path in paths if not _same(before.get(path), after.get(path), may_lose))


def _same(before: Seen | None, after: Seen | None, may_lose: int) -> bool:
    if before is None or after is None:
        return before is after
    if not may_lose:
        return before == after
    # Losing a link, or being renamed, changes only ctime.
    changed = before._replace(links=after.links, times=(before.times[0], after.times[1]))
    return changed == after and 0 <= before.links - after.links <= may_lose
