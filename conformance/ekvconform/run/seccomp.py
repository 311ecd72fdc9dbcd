"""Intercepts the file system calls of a program before they are executed. Linux on x86-64.

A seccomp filter passes every file system call of a program and of all its descendants,
threads included, to this process, which continues it, makes it fail, or kills or interrupts
the program. Calls are handled one at a time, so the same program makes the same sequence of
calls.

Not observable: io_uring and io_submit (their set-up calls fail with ENOSYS), writes through
a shared mapping of a file of the sandbox that was opened for writing, and calls by the
numbers of another architecture. `Held.unseen` lists uses of the latter two; then a run
proves nothing.
"""

import ctypes
import errno
import fcntl
import os
import platform
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ekvconform.cases.errors import UsageError
from ekvconform.cases.limits import Limits
from ekvconform.cases.system_calls import CALLS, CREAT_FLAGS, FLAGS_OF_OPEN, NAMES, Call
from ekvconform.run.processes import adopt_orphans, descendants
from ekvconform.run.sandbox import UMASK, Finish, Running, Sandbox, environment

AT_FDCWD: Final = -100
OWN_PROC: Final = re.compile(r"^/proc/(?:self|thread-self)/")
MAX_PATH: Final = 4096
PAGE: Final = 4096
FLAGS: Final = re.compile(rb"^flags:\s+([0-7]+)", re.MULTILINE)
AUDIT_ARCH_X86_64: Final = 0xC000003E
X32_CALLS: Final = 0x40000000

# linux/seccomp.h, linux/filter.h
PR_SET_NO_NEW_PRIVS: Final = 38
SYS_SECCOMP: Final = 317
SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: Final = 32
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


IO_URING_SETUP: Final = 425
IO_SETUP: Final = 206
MMAP: Final = 9
MAP_SHARED: Final = 1


class CannotHoldError(UsageError):
    """Raised where calls cannot be intercepted; says why."""


class Answer(NamedTuple):
    """How a call is answered: it continues, or fails with `error`, or the program is killed or interrupted."""

    error: int = 0
    kill: bool = False
    interrupt: bool = False
    """The call continues, and SIGINT is pending when it returns."""


GO_ON: Final = Answer()
WAITS: Final = b"w"


@dataclass(slots=True)
class Held:
    """A run with intercepted calls."""

    finish: Finish
    unseen: list[str] = field(default_factory=list)
    """What the program did that is not observable."""


def require_machine() -> None:
    """Raise `CannotHoldError` if calls cannot be intercepted on this machine."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise CannotHoldError(f"system calls can be intercepted only on Linux on x86-64, not on {platform.machine()}")


def _filter() -> bytes:
    """Assemble the seccomp filter."""
    numbers = sorted((*NAMES, IO_URING_SETUP, IO_SETUP))
    program = [
        (LOAD, 0, 0, 4),  # the architecture
        (EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        (RETURN, 0, 0, RET_USER_NOTIF),
        (LOAD, 0, 0, 0),  # the number of the call
        (AT_LEAST, 0, 1, X32_CALLS),
        (RETURN, 0, 0, RET_USER_NOTIF),
    ]
    for number in numbers:
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, RET_USER_NOTIF)]
    program += [
        # `mprotect` can make a mapping writable later, so the flags of the descriptor decide.
        (EQUAL, 0, 3, MMAP),
        (LOAD, 0, 0, 16 + 3 * 8),  # flags
        (SOME_BITS, 0, 1, MAP_SHARED),
        (RETURN, 0, 0, RET_USER_NOTIF),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in program)


def _install() -> tuple[int, bool]:
    """Install the filter for this process and its descendants.

    Returns the listener, and whether calls that are being handled are not interrupted by signals, which
    needs Linux 5.19. Raises `OSError`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    raw = _filter()
    steps = ctypes.create_string_buffer(raw, len(raw))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(raw) // 8, ctypes.addressof(steps)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    for flag in (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0):
        flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | flag
        listener = libc.syscall(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, described)
        if listener >= 0:
            return int(listener), bool(flag)
    raise OSError(ctypes.get_errno(), "seccomp")


def hold_program(
    command: Sequence[str], box: Sandbox, limits: Limits, decide: Callable[[Call], Answer], stop: int | None = None
) -> Held:
    """Run a program; `decide` answers each file system call, and the call that ends it ("exit_group").

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
        patience, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    except ValueError as error:
        raise CannotHoldError("the kernel does not permit intercepting system calls here") from error
    finally:
        ours.close()
    with suppress(OSError):  # faster, on kernels that support it
        fcntl.ioctl(listener, NOTIF_SET_FLAGS, SYNC_WAKE_UP)
    holder = _Holder(listener, decide, box, waits=patience == WAITS)
    running = Running(pid, [os.fdopen(reader, "rb") for reader, _ in outputs], box, limits, begin, stop)
    finish = running.finish({listener: holder.serve})
    os.close(listener)
    return Held(finish, holder.unseen)


def _become(command: Sequence[str], box: Sandbox, theirs: socket.socket, outputs: Sequence[int]) -> None:
    """Replace this process by the program. Never returns."""
    try:
        os.setsid()
        os.chdir(box.root / "work")
        os.umask(UMASK)
        for each in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            # Python ignores the first two; a shell ignores SIGINT in background processes.
            signal.signal(each, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, writer in enumerate(outputs, 1):
            os.dup2(writer, number)
        listener, waits = _install()
        socket.send_fds(theirs, [WAITS if waits else b"-"], [listener])
        os.execve(command[0], list(command), environment(box))  # noqa: S606 - it is the purpose
    finally:
        os._exit(127)


class _Holder:
    """Receives calls and answers them."""

    def __init__(self, listener: int, decide: Callable[[Call], Answer], box: Sandbox, *, waits: bool) -> None:
        self._listener = listener
        self._waits = waits
        self._box = box
        self._decide = decide
        self.unseen: list[str] = []

    def serve(self) -> None:
        """Answer the pending call."""
        notice = bytearray(80)
        try:
            fcntl.ioctl(self._listener, NOTIF_RECV, notice)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return  # the caller has ended
            raise
        cookie, thread, _, number, arch, _, *arguments = struct.unpack("QIIiIQ6Q", notice)
        answer = self._answer(thread, number, arch, arguments)
        if answer.kill:
            _send_to_all(signal.SIGKILL)
            return
        if answer.interrupt and self._waits:
            _send_to_all(signal.SIGINT)
        elif answer.interrupt:
            self.unseen.append("the delivery of a signal: it needs Linux 5.19")
        reply = struct.pack("QqiI", cookie, 0, -answer.error, 0 if answer.error else FLAG_CONTINUE)
        try:
            fcntl.ioctl(self._listener, NOTIF_SEND, bytearray(reply))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _answer(self, thread: int, number: int, arch: int, arguments: list[int]) -> Answer:
        if arch != AUDIT_ARCH_X86_64 or number >= X32_CALLS:
            self.unseen.append("a call by the number of another architecture")
            return GO_ON
        if number in (IO_URING_SETUP, IO_SETUP):
            return Answer(errno.ENOSYS)
        if number == MMAP:
            path = _path_of_handle(thread, arguments[4])
            root = str(self._box.root) + "/"
            if path.startswith(root) and not path.startswith(f"{root}tmp/") and _handle_flags(thread, arguments[4]) & 3:
                self.unseen.append(f"a mapping of {path} that is shared and writable")
            return GO_ON
        name = NAMES[number]
        paths = tuple(_path(thread, arguments, handle, path) for handle, path in CALLS[name].files)
        return self._decide(Call(name, paths, _flags(thread, name, arguments)))


def _send_to_all(number: signal.Signals) -> None:
    """Send a signal to the program and all its descendants, as a terminal does."""
    for process in descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _flags(thread: int, name: str, arguments: list[int]) -> int:
    """Return the flags that a file is, or was, opened with."""
    if name in FLAGS_OF_OPEN:
        return arguments[FLAGS_OF_OPEN[name]] & 0xFFFFFFFF
    if name == "creat":
        return CREAT_FLAGS
    if name == "openat2":
        return int.from_bytes(_bytes_at(thread, arguments[2], 8), "little")
    return _handle_flags(thread, arguments[0]) if name == "close" else 0


def _handle_flags(thread: int, handle: int) -> int:
    """Return the flags that a descriptor was opened with."""
    with suppress(OSError), open(f"/proc/{thread}/fdinfo/{handle}", "rb") as file:
        if match := FLAGS.search(file.read()):
            return int(match[1], 8)
    return 0


def _path(thread: int, arguments: list[int], handle: int | None, path: int | None) -> str:
    directory = _path_of_handle(thread, AT_FDCWD if handle is None else arguments[handle])
    text = "" if path is None or not arguments[path] else _text_at(thread, arguments[path])
    return _resolved(thread, os.path.join(directory, text)) if text else directory


def _resolved(thread: int, path: str) -> str:
    """Resolve the symlinks of a path except in its last component; /proc/self is that of the program."""
    path = OWN_PROC.sub(f"/proc/{thread}/", path)
    above, name = os.path.split(path.rstrip("/") or "/")
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(above), name)


def _path_of_handle(thread: int, handle: int) -> str:
    number = ctypes.c_int(handle & 0xFFFFFFFF).value
    try:
        return os.readlink(f"/proc/{thread}/cwd" if number == AT_FDCWD else f"/proc/{thread}/fd/{number}")
    except OSError:
        return ""


def _text_at(thread: int, address: int) -> str:
    """Read a NUL-terminated text from the memory of a program."""
    found = b""
    # Not across a page boundary: the next page may be unmapped.
    while len(found) < MAX_PATH and (
        piece := _bytes_at(thread, address + len(found), min(256, PAGE - (address + len(found)) % PAGE))
    ):
        found += piece
        if b"\0" in piece:
            break
    return os.fsdecode(found.split(b"\0")[0])


def _bytes_at(thread: int, address: int, size: int) -> bytes:
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)
    except OSError:
        return b""
