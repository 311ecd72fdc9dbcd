"""Mount namespaces: a small disk for a program, and fixtures that it cannot read. Linux only."""

import ctypes
import os
from pathlib import Path
from typing import Final

PAGE_SIZE: Final = 4096
"""What a memory file system is full by, in bytes."""
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUSER: Final = 0x1000_0000
MS_RDONLY: Final = 1
MS_PRIVATE: Final = 1 << 18
MS_REC: Final = 1 << 14


def mount_memory(directory: Path, option: str) -> None:
    """Mount a small memory file system on a directory, for this process and its children. Raises `OSError`."""
    _unshare()
    _mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, f"{option},mode=755".encode())


def hide(directory: Path) -> None:
    """Put an empty directory in the place of another one, for this process and its children. Raises `OSError`."""
    _unshare()
    _mount(b"tmpfs", os.fsencode(directory), b"tmpfs", MS_RDONLY, b"size=4096,mode=755")


def can_hide(directory: Path) -> bool:
    """Return True if this machine lets a program be run without sight of a directory. Raises `OSError`."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            hide(directory)
            status = 0 if not os.listdir(directory) else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _unshare() -> None:
    """Give this process mounts of its own; without privileges, as the only user of a namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS) != 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "mount namespaces are not available here")
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(line, encoding="ascii")
    _mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, flags, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount namespaces are not available here: {os.strerror(error)}")
