"""Chapter TREE: what happens in the output directory while the reference writes it, and what of it is left."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ekvformat.decode import Options, decode
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from ekvformat.safe_writing import Tree, fault_of
from in_process import read_tree
from reference_runs import WALL_TIME, write_dump
from writer import HLL, STR, envelope, put, snapshot

TEMPORARY = ".ekvdump.tmp"
BLOB, SIDECAR = "redis/db_0/strings/s.bin", "redis/db_0/strings_ttl.jsonl"
DATA = snapshot(
    [
        put(HLL + b"h", 1, envelope(2, b"hll", 5)),
        put(STR + b"b64.x", 1, b"fallback"),
        put(STR + b"s", 1, envelope(1, b"string", 6)),
    ]
)
"""A snapshot that becomes blobs of both types and every sidecar but `unreadable.jsonl`."""


def write(out: Path, check_snapshot: Callable[[], None], *, into_existing: bool = False, sync: bool = False) -> None:
    """Write a dump; `check_snapshot` is called when all blobs and sidecars are whole, before the seal."""
    tree = Tree(str(out), 0, into_existing, sync=sync)
    tree.check("snapshot")
    tree.write(decode(DATA, "snapshot"), Provenance("snapshot", WALL_TIME), check_snapshot)


def raises(error: BaseException) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def refused(out: Path, check_snapshot: Callable[[], None], *, into_existing: bool = False) -> tuple[str, str, str]:
    """Write a dump that has to be refused without a seal; return fault, clause and path below `out`."""
    with pytest.raises(Fault) as caught:
        write(out, check_snapshot, into_existing=into_existing)
    assert caught.value.detail
    assert caught.value.path is not None
    assert not (out / "CHECKSUMS").is_file()
    return caught.value.name, caught.value.clause, os.path.relpath(caught.value.path, out)


def before_call(monkeypatch: pytest.MonkeyPatch, call: str, name: str, act: Callable[[], object]) -> None:
    """Act once, before a system call is given this name."""
    real, pending = getattr(os, call), [act]

    def wrapper(path: Any, *arguments: Any, **keywords: Any) -> Any:
        if name in (path, *arguments) and pending:
            pending.pop()()
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, call, wrapper)


def swap(path: Path) -> None:
    """Put another file or directory in the place of one."""
    path.rename(path.with_name("elsewhere"))
    if path.with_name("elsewhere").is_dir():
        path.mkdir()
    else:
        path.write_bytes(b"")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- concurrent tampering ----


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo"])
def test_safe_21_what_appears_at_the_temporary_name_is_unlinked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "canary").write_bytes(b"precious")
    place = tmp_path / "out" / "redis" / "db_0" / "strings" / TEMPORARY
    plants: dict[str, Callable[[], object]] = {
        "file": lambda: place.write_bytes(b"in the way"),
        "symlink": lambda: place.symlink_to(tmp_path / "canary"),
        "fifo": lambda: os.mkfifo(place),
    }
    real = os.open

    def open_(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if path == TEMPORARY and place.parent.exists() and not os.path.lexists(place) and not planted:
            planted.append(plants[kind]())
        return real(path, flags, *arguments, **keywords)

    planted: list[object] = []
    monkeypatch.setattr(os, "open", open_)
    write_dump(DATA, tmp_path / "out")
    assert planted
    assert read_tree(tmp_path / "out")[BLOB] == b"string"
    assert (tmp_path / "canary").read_bytes() == b"precious"


def test_safe_10_a_temporary_file_that_is_swapped_before_its_rename_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    before_call(monkeypatch, "rename", "MANIFEST.json", lambda: swap(out / TEMPORARY))
    assert refused(out, lambda: None) == ("unsafe-path", "SAFE-10", "MANIFEST.json")


@pytest.mark.parametrize("place", ["redis", "redis/db_0", "redis/db_0/hll", SIDECAR, "redis/db_0/KEYMAP.jsonl"])
def test_safe_8_a_directory_or_sidecar_that_is_swapped_is_noticed(tmp_path: Path, place: str) -> None:
    out = tmp_path / "out"
    assert refused(out, lambda: swap(out / place)) == ("unsafe-path", "SAFE-8", place)


def test_safe_8_an_output_directory_that_becomes_a_link_to_itself_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def tamper() -> None:
        out.rename(tmp_path / "moved")
        out.symlink_to(tmp_path / "moved")

    assert refused(out, tamper) == ("unsafe-path", "SAFE-8", ".")


def test_safe_8_a_sidecar_that_is_missing_at_the_end_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert refused(out, (out / SIDECAR).unlink) == ("unsafe-path", "SAFE-8", SIDECAR)


def test_safe_9_a_blob_that_is_missing_at_the_end_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert refused(out, (out / BLOB).unlink) == ("unsafe-path", "SAFE-9", BLOB)
    write_dump(DATA, tmp_path / "again")
    again = tmp_path / "again"
    assert refused(again, (again / BLOB).unlink, into_existing=True) == ("unsafe-path", "SAFE-9", BLOB)


def test_read_34_safe_12_a_file_that_becomes_a_fifo_before_it_is_hashed_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_bytes(b"of another run")

    def tamper() -> None:
        (out / "notes.txt").unlink()
        os.mkfifo(out / "notes.txt")

    before_call(monkeypatch, "rename", "MANIFEST.json", tamper)
    assert refused(out, lambda: None, into_existing=True) == ("unsafe-path", "SAFE-12", "notes.txt")


# ---- the end of a run ----


def test_safe_22_safe_23_one_flush_before_checksums_which_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[set[str]] = []
    monkeypatch.setattr(os, "sync", lambda: there.append(set(read_tree(tmp_path / "out"))))
    write(tmp_path / "out", lambda: None, sync=True)
    files = set(read_tree(tmp_path / "out"))
    assert there == [files - {"CHECKSUMS"} | {TEMPORARY}]
    write(tmp_path / "not flushed", lambda: None)
    assert len(there) == 1


@pytest.mark.parametrize("error", [Fault("changed", "FILE-22", "for a test"), KeyboardInterrupt()], ids=repr)
def test_safe_24_a_run_that_fails_or_is_interrupted_leaves_no_seal_and_no_open_handle(
    tmp_path: Path, error: BaseException
) -> None:
    before = open_descriptors()
    write_dump(DATA, tmp_path / "out")
    with pytest.raises(type(error)) as caught:
        write(tmp_path / "out", raises(error), into_existing=True)
    assert caught.value is error
    assert {"CHECKSUMS", "MANIFEST.json", TEMPORARY} & set(read_tree(tmp_path / "out")) == set()
    assert open_descriptors() == before


@pytest.mark.parametrize("name", ["MANIFEST.json", "CHECKSUMS"])
def test_safe_24_an_interrupt_after_the_rename_of_a_seal_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = os.rename

    def rename(old: str, new: str, **keywords: Any) -> None:
        real(old, new, **keywords)
        if new == name:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        write_dump(DATA, tmp_path / "out")
    assert {"CHECKSUMS", "MANIFEST.json", TEMPORARY} & set(read_tree(tmp_path / "out")) == set()


# ---- a file system that fails ----


@contextmanager
def failing(call: str, number: int, code: int) -> Iterator[list[str]]:
    """Make one call fail: the one of this number, counted from 0. Yields how often it was called."""
    real, calls = getattr(os, call), list[str]()

    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        calls.append(call)
        if len(calls) - 1 == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, wrapper)
        yield calls


@pytest.mark.parametrize(
    "call", ["open", "mkdir", "fstat", "fchmod", "ftruncate", "write", "rename", "listdir", "sync"]
)
@pytest.mark.parametrize(
    ("code", "fault"),
    [(errno.ENOSPC, ("disk-full", "SAFE-28")), (errno.EIO, ("io-error", "SAFE-29"))],
    ids=["full", "io"],
)
def test_safe_27_safe_28_safe_29_any_call_may_fail_and_no_seal_is_left(
    tmp_path: Path, call: str, code: int, fault: tuple[str, str]
) -> None:
    before = open_descriptors()
    for number in range(200):
        out = tmp_path / str(number)
        out.mkdir()
        with failing(call, number, code) as calls:
            try:
                write(out, lambda: None, into_existing=True, sync=True)
            except Fault as caught:
                assert (caught.name, caught.clause) == fault
                assert caught.path is not None
                assert (out / caught.path) == Path(caught.path)
            else:
                assert number > 0
                assert len(calls) == number
                break
        assert {"CHECKSUMS", "MANIFEST.json", TEMPORARY} & set(read_tree(out)) == set()
    else:
        pytest.fail(f"{call} is called without end")
    assert open_descriptors() == before


def test_safe_30_a_write_may_take_only_some_of_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, content[:3]))
    write_dump(DATA, tmp_path / "slow")
    monkeypatch.undo()
    write_dump(DATA, tmp_path / "fast")
    assert read_tree(tmp_path / "slow") == read_tree(tmp_path / "fast")


def test_safe_31_a_close_that_fails_behind_a_write_that_failed_is_reported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.close

    def close(descriptor: int) -> None:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        real(descriptor)
        if is_file:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "close", close)
    with failing("write", 0, errno.ENOSPC), pytest.raises(Fault) as caught:
        write_dump(DATA, tmp_path / "out")
    assert (caught.value.name, [fault.name for fault in caught.value.also]) == ("disk-full", ["io-error"])
    assert {fault.path for fault in (caught.value, *caught.value.also)} == {caught.value.path}


def test_safe_31_what_fails_while_cleaning_up_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, out = Fault("changed", "FILE-22", "for a test"), tmp_path / "out"
    write_dump(DATA, out)

    def tamper() -> None:
        for name in ("CHECKSUMS", "MANIFEST.json"):
            (out / name).write_bytes(b"of another process")
        monkeypatch.setattr(os, "unlink", raises(OSError(errno.EROFS, "read-only")))
        raise changed

    with pytest.raises(Fault) as caught:
        write(out, tamper, into_existing=True)
    assert caught.value is changed
    assert [(fault.name, fault.clause, fault.path) for fault in changed.also] == [
        ("io-error", "SAFE-29", str(out / "MANIFEST.json")),
        ("io-error", "SAFE-29", str(out / "CHECKSUMS")),
    ]


def test_safe_24_an_interrupt_stays_one_whatever_fails_while_cleaning_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tamper() -> None:
        monkeypatch.setattr(os, "unlink", raises(OSError(errno.EROFS, "read-only")))
        raise KeyboardInterrupt

    write_dump(DATA, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", tamper, into_existing=True)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (errno.ENOSPC, ("disk-full", "SAFE-28")),
        (errno.EDQUOT, ("disk-full", "SAFE-28")),
        (errno.ELOOP, ("unsafe-path", "SAFE-11")),
        (errno.ENXIO, ("unsafe-path", "SAFE-12")),
        (errno.EISDIR, ("unsafe-path", "SAFE-16")),
        (errno.ENOTEMPTY, ("unsafe-path", "SAFE-16")),
        (errno.ENOTDIR, ("unsafe-path", "SAFE-17")),
        (errno.EEXIST, ("unsafe-path", "SAFE-8")),
        (errno.ENOENT, ("unsafe-path", "SAFE-8")),
        (errno.EACCES, ("io-error", "SAFE-29")),
        (None, ("io-error", "SAFE-29")),
    ],
)
def test_safe_8_safe_28_safe_29_the_fault_that_an_error_stands_for(code: int | None, fault: tuple[str, str]) -> None:
    found = fault_of(OSError(code, "words") if code else OSError("words"), "place")
    assert (found.name, found.clause, found.path) == (*fault, "place")
    assert found.detail


@pytest.mark.parametrize(("database", "name"), [(0, "db_0"), (3, "db_3"), (10_000, "db_10000"), (-1, "db_0")])
def test_tree_1_tree_2_the_database_index_names_the_directory(tmp_path: Path, database: int, name: str) -> None:
    write_dump(DATA, tmp_path / "out", Options(database))
    assert os.listdir(tmp_path / "out" / "redis") == [name]
