"""A small memory file system, for programs whose disk becomes full. Linux only."""

import ctypes
import os
from pathlib import Path
from typing import Final

PAGE_SIZE: Final = 4096
"""What a memory file system is full by, in bytes."""
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUSER: Final = 0x1000_0000
MS_PRIVATE: Final = 1 << 18
MS_REC: Final = 1 << 14


def mount_memory(directory: Path, option: str) -> None:
    """Mount a small memory file system on a directory, for this process and its children. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(line, encoding="ascii")
    elif libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "no small disk: mount namespaces are not available here")
    for source, target, kind, flags, data in (
        (b"none", b"/", None, MS_REC | MS_PRIVATE, None),
        (b"tmpfs", os.fsencode(directory), b"tmpfs", 0, f"{option},mode=755".encode()),
    ):
        if libc.mount(source, target, kind, flags, data) != 0:
            raise OSError(ctypes.get_errno(), f"no small disk: {os.strerror(ctypes.get_errno())}")
