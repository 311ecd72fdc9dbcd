"""Holds a program at each of its file calls, before it happens. Linux on x86-64.

A filter in the kernel (seccomp) hands every file call of a program and of all its
descendants, threads included, to this process, which looks at it, does what it likes
meanwhile, and lets it go on, answers it with an error, or ends the program. Calls come
one after another, so the same program makes the same sequence of them.

What is not seen: what io_uring does (its set-up is answered as if the kernel had none),
writes through memory that is mapped and shared, and calls by numbers of another processor.
`Held.unseen` says that one of the latter two was made; then a run proves nothing.
"""

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ekvconform.sandbox import UMASK, Finish, Limits, Running, Sandbox, adopt_orphans, environment
from ekvconform.usage import UsageError

AT_FDCWD: Final = -100
MAX_PATH: Final = 4096
AUDIT_ARCH_X86_64: Final = 0xC000003E
X32_CALLS: Final = 0x40000000

# linux/seccomp.h, linux/filter.h
PR_SET_NO_NEW_PRIVS: Final = 38
SYS_SECCOMP: Final = 317
SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 8
RET_USER_NOTIF: Final = 0x7FC00000
RET_ALLOW: Final = 0x7FFF0000
NOTIF_RECV: Final = 0xC0502100
NOTIF_SEND: Final = 0xC0182101
NOTIF_SET_FLAGS: Final = 0x40082104
SYNC_WAKE_UP: Final = 1
FLAG_CONTINUE: Final = 1
LOAD: Final = 0x20
EQUAL: Final = 0x15
AT_LEAST: Final = 0x35
SOME_BITS: Final = 0x45
RETURN: Final = 0x06


class Shape(NamedTuple):
    """How a call names its files: pairs of arguments, a folder's handle (None for none) and a path (None for none)."""

    number: int
    files: tuple[tuple[int | None, int | None], ...]


ONE_PATH: Final = ((None, 0),)
ONE_HANDLE: Final = ((0, None),)
RELATIVE: Final = ((0, 1),)
CALLS: Final = {
    "open": Shape(2, ONE_PATH), "creat": Shape(85, ONE_PATH), "openat": Shape(257, RELATIVE),
    "openat2": Shape(437, RELATIVE), "stat": Shape(4, ONE_PATH), "lstat": Shape(6, ONE_PATH),
    "fstat": Shape(5, ONE_HANDLE), "newfstatat": Shape(262, RELATIVE), "statx": Shape(332, RELATIVE),
    "access": Shape(21, ONE_PATH), "faccessat": Shape(269, RELATIVE), "faccessat2": Shape(439, RELATIVE),
    "readlink": Shape(89, ONE_PATH), "readlinkat": Shape(267, RELATIVE), "getdents64": Shape(217, ONE_HANDLE),
    "write": Shape(1, ONE_HANDLE), "pwrite64": Shape(18, ONE_HANDLE), "writev": Shape(20, ONE_HANDLE),
    "pwritev": Shape(296, ONE_HANDLE), "pwritev2": Shape(328, ONE_HANDLE), "sendfile": Shape(40, ONE_HANDLE),
    "copy_file_range": Shape(326, ((2, None),)), "splice": Shape(275, ((2, None),)), "close": Shape(3, ONE_HANDLE),
    "fsync": Shape(74, ONE_HANDLE), "fdatasync": Shape(75, ONE_HANDLE), "syncfs": Shape(306, ONE_HANDLE),
    "truncate": Shape(76, ONE_PATH), "ftruncate": Shape(77, ONE_HANDLE), "fallocate": Shape(285, ONE_HANDLE),
    "rename": Shape(82, ((None, 0), (None, 1))), "renameat": Shape(264, ((0, 1), (2, 3))),
    "renameat2": Shape(316, ((0, 1), (2, 3))), "mkdir": Shape(83, ONE_PATH), "mkdirat": Shape(258, RELATIVE),
    "rmdir": Shape(84, ONE_PATH), "link": Shape(86, ((None, 0), (None, 1))), "linkat": Shape(265, ((0, 1), (2, 3))),
    "unlink": Shape(87, ONE_PATH), "unlinkat": Shape(263, RELATIVE), "symlink": Shape(88, ((None, 1),)),
    "symlinkat": Shape(266, ((1, 2),)), "chmod": Shape(90, ONE_PATH), "fchmod": Shape(91, ONE_HANDLE),
    "fchmodat": Shape(268, RELATIVE), "fchmodat2": Shape(452, RELATIVE), "chown": Shape(92, ONE_PATH),
    "lchown": Shape(94, ONE_PATH), "fchown": Shape(93, ONE_HANDLE), "fchownat": Shape(260, RELATIVE),
    "utimensat": Shape(280, RELATIVE), "mknod": Shape(133, ONE_PATH), "mknodat": Shape(259, RELATIVE),
}  # fmt: skip
"""Numbers of x86-64."""
EXIT_GROUP: Final = 231
IO_URING_SETUP: Final = 425
MMAP: Final = 9
PROT_WRITE: Final = 2
MAP_SHARED: Final = 1
NAMES: Final = {shape.number: name for name, shape in CALLS.items()}


class CannotHoldError(UsageError):
    """Raised where no program can be held; says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is about to happen."""

    name: str
    paths: tuple[str, ...]
    """Whole paths of the files that it names."""


class Answer(NamedTuple):
    """What becomes of a call: it goes on, or fails with an error number, or the program is killed."""

    error: int = 0
    kill: bool = False


GO_ON: Final = Answer()


@dataclass(slots=True)
class Held:
    """A run that was held."""

    finish: Finish
    unseen: list[str] = field(default_factory=list)
    """What the program did that cannot be seen."""


def require_machine() -> None:
    """Raise `CannotHoldError` where programs cannot be held."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise CannotHoldError(f"a program can be held on Linux and x86-64 only, not on {platform.machine()}")


def _filter() -> bytes:
    """Return the kernel's filter: what to hand over, in the order of its questions."""
    numbers = sorted((*NAMES, EXIT_GROUP, IO_URING_SETUP))
    program = [
        (LOAD, 0, 0, 4),  # the processor
        (EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        (RETURN, 0, 0, RET_USER_NOTIF),
        (LOAD, 0, 0, 0),  # the number
        (AT_LEAST, 0, 1, X32_CALLS),
        (RETURN, 0, 0, RET_USER_NOTIF),
    ]
    for number in numbers:
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, RET_USER_NOTIF)]
    program += [
        (EQUAL, 0, 5, MMAP),
        (LOAD, 0, 0, 16 + 2 * 8),  # prot
        (SOME_BITS, 0, 3, PROT_WRITE),
        (LOAD, 0, 0, 16 + 3 * 8),  # flags
        (SOME_BITS, 0, 1, MAP_SHARED),
        (RETURN, 0, 0, RET_USER_NOTIF),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in program)


def _install() -> int:
    """Put this process and all that it starts under the filter; return the listener. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    raw = _filter()
    steps = ctypes.create_string_buffer(raw, len(raw))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(raw) // 8, ctypes.addressof(steps)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    listener = libc.syscall(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, described)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def hold_program(
    command: Sequence[str], box: Sandbox, limits: Limits, decide: Callable[[Call], Answer], stop: int | None = None
) -> Held:
    """Run a program, and let `decide` look at each call that names a file, and at its end ("exit_group").

    Raises `CannotHoldError`, and what `run_program` raises.
    """
    require_machine()
    adopt_orphans()
    ours, theirs = socket.socketpair()
    outputs = [os.pipe(), os.pipe()]
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become(command, box, theirs, [writer for _, writer in outputs])
    theirs.close()
    for _, writer in outputs:
        os.close(writer)
    try:
        _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    except ValueError as error:
        raise CannotHoldError("the kernel lets nobody hold a program here") from error
    finally:
        ours.close()
    with suppress(OSError):  # a younger kernel hands over without going to sleep in between
        fcntl.ioctl(listener, NOTIF_SET_FLAGS, SYNC_WAKE_UP)
    holder = _Holder(listener, decide)
    running = Running(pid, [os.fdopen(reader, "rb") for reader, _ in outputs], box, limits, begin, stop)
    finish = running.finish({listener: holder.serve})
    os.close(listener)
    return Held(finish, holder.unseen)


def _become(command: Sequence[str], box: Sandbox, theirs: socket.socket, outputs: Sequence[int]) -> None:
    """Become the program. Never returns."""
    try:
        os.setsid()
        os.chdir(box.root / "work")
        os.umask(UMASK)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, writer in enumerate(outputs, 1):
            os.dup2(writer, number)
        socket.send_fds(theirs, [b"x"], [_install()])
        os.execve(command[0], list(command), environment(box))  # noqa: S606 - it is the purpose
    finally:
        os._exit(127)


class _Holder:
    """Takes calls in, and answers them."""

    def __init__(self, listener: int, decide: Callable[[Call], Answer]) -> None:
        self._listener = listener
        self._decide = decide
        self.unseen: list[str] = []

    def serve(self) -> None:
        """Answer the call that waits."""
        notice = bytearray(80)
        try:
            fcntl.ioctl(self._listener, NOTIF_RECV, notice)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return  # whoever made it has ended meanwhile
            raise
        cookie, thread, _, number, arch, _, *arguments = struct.unpack("QIIiIQ6Q", notice)
        answer = self._answer(thread, number, arch, arguments)
        if answer.kill:
            os.kill(_process_of(thread), 9)
            return
        reply = struct.pack("QqiI", cookie, 0, -answer.error, 0 if answer.error else FLAG_CONTINUE)
        try:
            fcntl.ioctl(self._listener, NOTIF_SEND, bytearray(reply))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _answer(self, thread: int, number: int, arch: int, arguments: list[int]) -> Answer:
        if arch != AUDIT_ARCH_X86_64 or number >= X32_CALLS:
            self.unseen.append("a call by a number of another processor")
            return GO_ON
        if number == IO_URING_SETUP:
            return Answer(errno.ENOSYS)
        if number == MMAP:
            path = _path_of_handle(thread, arguments[4])
            if os.path.isabs(path):
                self.unseen.append(f"a mapping of {path} that is shared and can be written to")
            return GO_ON
        if number == EXIT_GROUP:
            return self._decide(Call("exit_group", ()))
        shape = CALLS[NAMES[number]]
        paths = tuple(_path(thread, arguments, handle, path) for handle, path in shape.files)
        return self._decide(Call(NAMES[number], paths))


def _path(thread: int, arguments: list[int], handle: int | None, path: int | None) -> str:
    folder = _path_of_handle(thread, AT_FDCWD if handle is None else arguments[handle])
    text = "" if path is None or not arguments[path] else _text_at(thread, arguments[path])
    return os.path.normpath(os.path.join(folder, text)) if text else folder


def _path_of_handle(thread: int, handle: int) -> str:
    number = ctypes.c_int(handle & 0xFFFFFFFF).value
    try:
        return os.readlink(f"/proc/{thread}/cwd" if number == AT_FDCWD else f"/proc/{thread}/fd/{number}")
    except OSError:
        return ""


def _text_at(thread: int, address: int) -> str:
    """Return the text that ends with NUL at an address of a program."""
    found = b""
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            while b"\0" not in found and len(found) < MAX_PATH:
                # Not beyond a page: the next one may not be there.
                found += memory.read(min(256, MAX_PATH - (address + len(found)) % MAX_PATH))
    except OSError:
        return ""
    return os.fsdecode(found.split(b"\0")[0])


def _process_of(thread: int) -> int:
    with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return thread
