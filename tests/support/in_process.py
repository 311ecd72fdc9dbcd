"""Runs a decoder's `main` in this process, as the judge would run the program; and reads what it wrote."""

import contextlib
import io
import os
import stat
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ekvconform.cases.limits import Limits
from ekvconform.run.sandbox import UMASK, Finish, Sandbox, environment

Main = Callable[[Sequence[str]], int]
"""Takes the words behind the program's name; returns an exit status."""
Runner = Callable[[Sequence[str], Sandbox, Limits, int | None], Finish]
"""What `judge_case` runs a program with."""


def runner_of(main: Main, program: str) -> Runner:
    """Return what runs `main` where `judge_case` would start `program`."""

    def run(command: Sequence[str], box: Sandbox, limits: Limits, stop: int | None) -> Finish:
        with contextlib.chdir(box.root / "work"), environment_is(environment(box)), umask(UMASK):
            status, out, err = run_main(main, command[command.index(program) + 1 :])
        return Finish(status, None, False, None, out, err, 0.0, 0)

    return run


def run_main(main: Main, words: Sequence[str]) -> tuple[int, str, str]:
    """Run `main`; return its exit status and what it printed. An exception is status 1 and a traceback."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            traceback.print_exc()
            status = 1
    printed = []
    for stream in (out, err):
        stream.flush()
        printed.append(stream.buffer.getvalue().decode(errors="backslashreplace"))
    return status, printed[0], printed[1]


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def environment_is(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables; others stay."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def read_tree(directory: Path) -> dict[str, bytes]:
    """Return every regular file below a directory; anything but files and directories fails the test."""
    files = {}
    for base, directories, names in os.walk(directory):
        for name in directories:
            assert stat.S_ISDIR(os.lstat(os.path.join(base, name)).st_mode)
        for name in names:
            path = os.path.join(base, name)
            assert stat.S_ISREG(os.lstat(path).st_mode)
            files[os.path.relpath(path, directory)] = Path(path).read_bytes()
    return files
