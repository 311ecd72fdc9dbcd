"""Chapter TREE: what is written, where, and what never is."""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_runs import decode_bytes, prepare_run
from ekvdump import system_faults
from ekvdump.engine.outputs import Blob
from ekvdump.filesystem import reading, tree_writer
from ekvdump.filesystem.directories import inode_of, write_all
from ekvdump.filesystem.external_sort import Sorter
from ekvdump.filesystem.reading import open_top
from ekvdump.filesystem.tree_writer import Inventory, TreeWriter
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from in_process import read_tree, umask
from planting import (
    BASE,
    BLOB,
    BLOBS,
    DIRECTORYS,
    FULL,
    LINKS,
    LONG,
    SIDECAR,
    SIDECARS,
    SPECIAL,
    Canary,
    Failing,
    Planter,
    decode_full,
    plant,
    plant_at,
)
from writer import HLL, STR, put, snapshot


def refused(directory: Path, data: bytes = FULL) -> Fault:
    with pytest.raises(Fault) as caught:
        decode_bytes(data, directory)
    assert caught.value.detail
    return caught.value


def place_of(fault: Fault, directory: Path) -> str:
    """The path of a fault, relative to the output directory."""
    assert fault.path is not None
    return os.path.relpath(fault.path, directory / "out")


def listing(directory: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(base, name), directory)
        for base, directories, files in os.walk(directory)
        for name in (*directories, *files)
    }


# ---- what is there ----


def test_finding_3_a_directory_is_made_once_however_many_keys_go_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = os.mkdir

    def mkdir(path: str, *arguments: Any, **keywords: Any) -> None:
        made.append(os.path.basename(path))
        real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "mkdir", mkdir)
    keys = range(20)
    prefixes = (STR + b"s", HLL + b"h")
    decode_bytes(snapshot([put(prefix + b"%d" % key, 1, b"v") for prefix in prefixes for key in keys]), tmp_path)
    assert sorted(made) == ["db_0", "hll", "out", "redis", "strings"]


def test_tree_4_the_whole_tree(tmp_path: Path) -> None:
    decode_full(tmp_path)
    assert set(read_tree(tmp_path / "out")) == {
        "MANIFEST.json", "CHECKSUMS", *SIDECARS[:3], *BLOBS,
        f"{BASE}/strings/s2.bin",
        f"{BASE}/hll/{hashlib.sha256(LONG).hexdigest()[:32]}__{LONG[:64].decode()}.bin",
    }  # fmt: skip


@pytest.mark.parametrize(("database", "name"), [(0, "db_0"), (3, "db_3"), (10_000, "db_10000"), (-1, "db_0")])
def test_tree_1_tree_2_the_database_index_names_the_directory(tmp_path: Path, database: int, name: str) -> None:
    decode_full(tmp_path, Options(database))
    assert os.listdir(tmp_path / "out" / "redis") == [name]


def test_tree_5_a_directory_exists_only_if_something_is_in_it(tmp_path: Path) -> None:
    decode_bytes(snapshot([put(STR + b"k", 1, b"v")]), tmp_path)
    for base, directories, files in os.walk(tmp_path / "out"):
        assert directories or files, f"{base} is empty"
    assert not (tmp_path / "out" / BASE / "hll").exists()


def test_tree_5_a_dump_of_nothing_is_a_directory_with_its_seal(tmp_path: Path) -> None:
    decode_bytes(snapshot([]), tmp_path)
    assert listing(tmp_path / "out") == {"MANIFEST.json", "CHECKSUMS"}


def test_tree_6_only_the_directory_of_the_own_database_is_written(tmp_path: Path) -> None:
    decode_full(tmp_path, Options(7))
    assert {path for path in read_tree(tmp_path / "out") if not path.startswith("redis/db_7/")} == {
        "MANIFEST.json", "CHECKSUMS",
    }  # fmt: skip


MODES = [(0o022, 0o755), (0o077, 0o700), (0o000, 0o755)]
if os.geteuid() == 0:
    MODES.append((0o277, 0o500))  # anybody else could not write into such a directory


@pytest.mark.parametrize(("mask", "directory_mode"), MODES)
def test_tree_7_tree_8_modes(tmp_path: Path, mask: int, directory_mode: int) -> None:
    with umask(mask):
        decode_full(tmp_path)
    for base, directories, files in os.walk(tmp_path / "out"):
        for name in (*directories, "."):
            assert stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode) == directory_mode
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode) == 0o600


# ---- the output directory ----


def test_safe_1_a_directory_that_holds_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    decode_full(tmp_path)
    before = read_tree(tmp_path / "out")
    fault = refused(tmp_path)
    assert fault.name == "not-empty"
    assert (fault.clause, fault.path) == ("SAFE-1", str(tmp_path / "out"))
    assert read_tree(tmp_path / "out") == before


@pytest.mark.parametrize("spelling", ["out/", "./out//", "other/../out"])
def test_safe_2_an_absent_directory_is_created_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    target = TreeWriter(spelling, sync=False)
    target.check()
    target.unseal()
    target.write(Blob(("strings",), "k.bin", b"v"))
    target.inventory()
    target.seal(b"{}\n")
    assert listing(tmp_path / "out") == {"strings", "strings/k.bin", "MANIFEST.json", "CHECKSUMS"}


@pytest.mark.parametrize("out", ["", "missing/out", "file/out"])
def test_safe_3_the_directory_above_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        TreeWriter(out).check()
    assert caught.value.clause == "SAFE-3"
    assert caught.value.detail
    assert os.listdir(tmp_path) == ["file"]


def test_safe_29_an_output_directory_that_cannot_be_looked_at_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> bool:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr("os.path.lexists", broken)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        TreeWriter(str(tmp_path / "outX")).check()
    assert (caught.value.clause, caught.value.path) == ("SAFE-29", str(tmp_path / "outX"))


def test_a_tree_is_careful_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(tree_writer, "flush_file_system", flushed.append)
    (tmp_path / "out").mkdir()
    target = TreeWriter(str(tmp_path / "out"))
    target.unseal()
    target.inventory()
    target.seal(b"{}")
    assert flushed
    with pytest.raises(Fault, match=r"\[not-empty, "):
        TreeWriter(str(tmp_path / "out")).check()


@pytest.mark.parametrize("present", [False, True])
def test_safe_4_a_refusal_before_the_first_write_leaves_the_directory_as_it_was(tmp_path: Path, present: bool) -> None:
    if present:
        (tmp_path / "out").mkdir()
    fault = refused(tmp_path, FULL[:-1])
    assert fault.exit_status == 4
    assert (tmp_path / "out").exists() == present
    assert not present or os.listdir(tmp_path / "out") == []


# ---- nothing outside ----


def check_no_seal(directory: Path, place: str = "") -> None:
    """Check that no seal lies in the dump, but for what was planted at `place`."""
    for name in ("MANIFEST.json", "CHECKSUMS"):
        if name != place:
            assert not os.path.lexists(directory / "out" / name)


def check_unsafe(tmp_path: Path, clause: str, place: str) -> None:
    """Check that a run is refused for what was planted at `place`, and leaves no seal."""
    fault = refused(tmp_path)
    assert (fault.name, fault.clause, place_of(fault, tmp_path)) == ("unsafe-path", clause, place)
    check_no_seal(tmp_path, place)


@pytest.mark.parametrize(("kind", "clause"), [*LINKS.items(), *SPECIAL.items(), ("directory", "SAFE-16")])
@pytest.mark.parametrize("place", BLOBS)
def test_safe_11_safe_12_safe_16_what_may_not_lie_at_a_blobs_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str, kind: str, clause: str
) -> None:
    plant_at(tmp_path, monkeypatch, canary, place, kind)
    check_unsafe(tmp_path, clause, place)


@pytest.mark.parametrize(
    ("kind", "clause"), [*LINKS.items(), *SPECIAL.items(), ("directory", "SAFE-16"), ("hard link", "SAFE-14")]
)
@pytest.mark.parametrize("place", SIDECARS)
def test_safe_11_safe_12_safe_14_safe_16_safe_18_what_may_not_lie_at_a_sidecars_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str, kind: str, clause: str
) -> None:
    plant_at(tmp_path, monkeypatch, canary, place, kind)
    check_unsafe(tmp_path, clause, place)


@pytest.mark.parametrize(("kind", "clause"), [*LINKS.items(), *SPECIAL.items(), ("file", "SAFE-17")])
@pytest.mark.parametrize("place", DIRECTORYS)
def test_safe_11_safe_12_safe_17_what_may_not_lie_at_a_directories_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str, kind: str, clause: str
) -> None:
    plant_at(tmp_path, monkeypatch, canary, place, kind)
    check_unsafe(tmp_path, clause, place)


@pytest.mark.parametrize(("kind", "clause"), [*LINKS.items(), *SPECIAL.items(), ("file", "SAFE-17")])
@pytest.mark.parametrize("slash", ["", "/"])
def test_safe_5_the_output_directory_itself_is_no_link(
    tmp_path: Path, canary: Canary, kind: str, clause: str, slash: str
) -> None:
    plant(tmp_path / "out", kind, canary)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        TreeWriter(str(tmp_path / "out") + slash).check()
    assert (caught.value.clause, caught.value.path) == (clause, str(tmp_path / "out"))
    assert caught.value.detail


def test_safe_5_links_on_the_way_to_it_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    decode_full(tmp_path / "link")
    assert (tmp_path / "real" / "out" / "CHECKSUMS").exists()


@pytest.mark.parametrize("place", [*BLOBS, *SIDECARS[:3]])
def test_tree_7_safe_15_a_regular_file_or_a_blobs_hard_link_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str
) -> None:
    planted = plant_at(tmp_path, monkeypatch, canary, place, "hard link" if place in BLOBS else "file")
    decode_full(tmp_path)
    path = planted()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.undo()
    os.mkdir(tmp_path / "clean")
    decode_full(tmp_path / "clean")
    assert path.read_bytes() == (tmp_path / "clean" / "out" / place).read_bytes()


def test_safe_13_a_fifo_with_a_reader_is_given_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary
) -> None:
    received: list[bytes] = []

    def act() -> None:
        fifo = tmp_path / "out" / SIDECAR
        fifo.parent.mkdir(parents=True)
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

        def read() -> None:
            received.append(os.read(reader, 100))
            os.close(reader)

        readers.append(threading.Thread(target=read))

    readers: list[threading.Thread] = []
    Planter(monkeypatch, act)
    fault = refused(tmp_path)
    assert fault.clause == "SAFE-12"
    readers[0].start()
    readers[0].join()
    assert received == [b""]


# ---- races ----


class Between:
    """Does something right before the n-th call of an `os` function whose first argument ends in `name`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, function: str, name: str, nth: int, act: Callable[[], None]
    ) -> None:
        self.calls = 0
        real = getattr(os, function)

        def held(path: Any, *arguments: Any, **keywords: Any) -> Any:
            if isinstance(path, str) and os.path.basename(path) == name:
                self.calls += 1
                if self.calls == nth:
                    act()
            return real(path, *arguments, **keywords)

        monkeypatch.setattr(os, function, held)


@pytest.mark.parametrize("place", DIRECTORYS)
def test_safe_6_a_link_that_appears_between_look_and_open_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str
) -> None:
    path = tmp_path / "out" / place

    def swap() -> None:
        path.rename(tmp_path / "aside")
        path.symlink_to(canary.directory)

    between = Between(monkeypatch, "open", path.name, 1, swap)
    fault = refused(tmp_path)
    assert between.calls == 1
    assert fault.name == "unsafe-path"
    # The open itself says no: a link is no directory.
    assert (fault.clause, place_of(fault, tmp_path)) in (("SAFE-11", place), ("SAFE-17", place))


@pytest.mark.parametrize("kind", [*LINKS, "FIFO", "hard link"])
def test_safe_6_a_thing_that_appears_between_look_and_open_of_a_sidecar_is_judged_by_the_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, kind: str
) -> None:
    path = tmp_path / "out" / SIDECAR

    def swap() -> None:
        path.unlink()
        plant(path, kind, canary)

    plant_at(tmp_path, monkeypatch, canary, SIDECAR, "file")
    between = Between(monkeypatch, "open", path.name, 2, swap)
    fault = refused(tmp_path)
    assert between.calls == 2
    assert (fault.name, place_of(fault, tmp_path)) == ("unsafe-path", SIDECAR)


@pytest.mark.parametrize("place", [*DIRECTORYS, ".", *SIDECARS[:3]])
def test_safe_8_a_directory_or_sidecar_that_was_swapped_after_its_first_use_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str
) -> None:
    path = tmp_path / "out" if place == "." else tmp_path / "out" / place

    def swap() -> None:
        path.rename(tmp_path / "aside")
        if place in SIDECARS:
            path.write_bytes(b"of somebody else")
        else:
            path.symlink_to(canary.directory)

    judge_places = TreeWriter._check_places

    def swapped(target: TreeWriter) -> None:
        swap()
        judge_places(target)

    monkeypatch.setattr(TreeWriter, "_check_places", swapped)
    fault = refused(tmp_path)
    assert (fault.name, fault.clause) == ("unsafe-path", "SAFE-8")
    assert not os.path.lexists(tmp_path / "aside" / "CHECKSUMS")


def test_safe_8_an_output_directory_that_became_a_link_to_itself_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_places = TreeWriter._check_places

    def swapped(target: TreeWriter) -> None:
        (tmp_path / "out").rename(tmp_path / "aside")
        (tmp_path / "out").symlink_to("aside")
        judge_places(target)

    monkeypatch.setattr(TreeWriter, "_check_places", swapped)
    fault = refused(tmp_path)
    assert (fault.clause, fault.path) == ("SAFE-8", str(tmp_path / "out"))


def test_safe_8_a_directory_that_vanished_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = TreeWriter.inventory

    def vanished(target: TreeWriter) -> Inventory:
        (tmp_path / "out" / BASE / "strings").rename(tmp_path / "aside")
        return inventory(target)

    monkeypatch.setattr(TreeWriter, "inventory", vanished)
    fault = refused(tmp_path)
    assert (fault.name, fault.clause, place_of(fault, tmp_path)) == ("unsafe-path", "SAFE-8", f"{BASE}/strings")


# ---- how files appear ----


def test_safe_19_a_blob_has_no_name_until_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, seen = os.link, {}

    def looked(source: str, target: str, *, dst_dir_fd: int, follow_symlinks: bool) -> None:
        assert not [name for name in os.listdir(dst_dir_fd) if name == target or name.endswith(".tmp")]
        seen[target] = Path(source).read_bytes()
        link(source, target, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", looked)
    decode_full(tmp_path)
    blobs = {os.path.basename(path): data for path, data in read_tree(tmp_path / "out").items() if path[-4:] == ".bin"}
    assert seen == blobs


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_safe_19_a_file_system_without_unnamed_files_is_asked_once_for_each_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened, asked = os.open, 0

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        nonlocal asked
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            asked += 1
            raise OSError(number, os.strerror(number))
        return opened(path, flags, mode, dir_fd=dir_fd)

    (tmp_path / "usual").mkdir()
    decode_full(tmp_path / "usual")
    monkeypatch.setattr(os, "open", refuse)
    decode_full(tmp_path)
    assert asked == 2
    tree, usual = (read_tree(directory / "out/redis") for directory in (tmp_path, tmp_path / "usual"))
    assert tree == usual


def test_safe_15_a_blob_that_is_there_is_replaced(tmp_path: Path) -> None:
    decode_full(tmp_path)
    blob = tmp_path / "out" / BLOB
    os.link(blob, tmp_path / "other")
    blob.write_bytes(b"before")
    decode_full(tmp_path, into_existing=True)
    assert (blob.read_bytes(), (tmp_path / "other").read_bytes()) == (b"string one", b"before")
    assert stat.S_IMODE(blob.stat().st_mode) == 0o600


def test_tree_7_the_umask_does_not_change_the_mode_of_blobs(tmp_path: Path) -> None:
    with umask(0o277):
        decode_full(tmp_path)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*.bin")}
    assert modes == {0o600}


@pytest.mark.usefixtures("named_files")
def test_safe_19_safe_20_a_file_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every rename nothing lies under the final name, and the temporary file is whole."""
    rename, seen = os.rename, {}

    def looked(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        assert source == ".ekvdump.tmp"
        assert src_dir_fd == dst_dir_fd
        with pytest.raises(FileNotFoundError):
            os.stat(target, dir_fd=dst_dir_fd, follow_symlinks=False)
        with open(os.open(source, os.O_RDONLY, dir_fd=src_dir_fd), "rb") as file:
            seen[target] = file.read()
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", looked)
    decode_full(tmp_path)
    files = {os.path.basename(path): data for path, data in read_tree(tmp_path / "out").items()}
    for name in ("h1.bin", "s1.bin", "s2.bin", "MANIFEST.json", "CHECKSUMS"):
        assert seen[name] == files[name]


@pytest.mark.usefixtures("named_files")
@pytest.mark.parametrize("kind", [*LINKS, "FIFO", "hard link", "file"])
def test_safe_21_whatever_lies_at_the_temporary_name_is_unlinked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, kind: str
) -> None:
    planted = plant_at(tmp_path, monkeypatch, canary, f"{BASE}/strings/.ekvdump.tmp", kind)
    decode_full(tmp_path)
    assert not os.path.lexists(planted())
    assert (tmp_path / "out" / BLOB).read_bytes() == b"string one"


@pytest.mark.usefixtures("named_files")
def test_safe_21_a_directory_at_the_temporary_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary
) -> None:
    plant_at(tmp_path, monkeypatch, canary, f"{BASE}/strings/.ekvdump.tmp", "directory")
    fault = refused(tmp_path)
    assert (fault.name, fault.clause) == ("unsafe-path", "SAFE-16")


class Recorder:
    """Records the order of what is renamed and synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        rename, sync = os.rename, tree_writer.flush_file_system

        def renamed(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
            self.calls.append(target)
            rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        def synced(handle: int) -> None:
            self.calls.append("sync")
            sync(handle)

        monkeypatch.setattr(os, "rename", renamed)
        monkeypatch.setattr(tree_writer, "flush_file_system", synced)


def test_safe_22_safe_23_one_sync_before_checksums_which_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    decode_full(tmp_path)
    assert recorder.calls[-3:] == ["MANIFEST.json", "sync", "CHECKSUMS"]
    assert recorder.calls.count("sync") == 1
    monkeypatch.undo()

    os.mkdir(tmp_path / "other")
    recorder = Recorder(monkeypatch)
    decode_full(tmp_path / "other", sync=False)
    assert "sync" not in recorder.calls


def test_safe_23_sidecars_are_whole_before_the_manifest_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def looked(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if target == "MANIFEST.json":
            assert (tmp_path / "out" / SIDECAR).read_bytes() == b'{"key":"s1","expire_at_ms":6}\n'
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", looked)
    decode_full(tmp_path)


def test_safe_22_the_sync_reports_its_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        tree_writer.flush_file_system(-1)


def test_safe_22_a_system_without_the_call_syncs_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    tree_writer.flush_file_system(0)
    assert calls == ["sync"]


# ---- when writing fails ----


FAULTS = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EIO: "io-error",
    errno.EACCES: "io-error",
    errno.EROFS: "io-error",
}


@pytest.mark.parametrize("function", ["mkdir", "write", "rename", "link", "open"])
@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
def test_safe_27_safe_28_safe_29_every_call_may_fail_and_leaves_no_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    monkeypatch.setattr("ekvdump.filesystem.directories.HAS_UNNAMED", function != "rename")
    monkeypatch.setattr("ekvdump.filesystem.external_sort.RUN_LINES", 2)  # so that runs are written too
    nth = 0
    while True:
        nth += 1
        directory = tmp_path / str(nth)
        directory.mkdir()
        with monkeypatch.context() as patch:
            failing = Failing(patch, function, nth, number)
            try:
                decode_full(directory)
            except Fault as fault:
                if fault.clause != "FILE-24":
                    assert fault.name == FAULTS[number]
                    assert fault.clause == ("SAFE-28" if fault.name == "disk-full" else "SAFE-29")
                    assert fault.path
                    assert fault.path.startswith(str(directory / "out"))
            else:
                break
        assert failing.calls >= nth
        check_no_seal(directory)
        assert not [path for path in listing(directory) if path.endswith(".tmp")]
    assert nth > 4


@pytest.mark.parametrize("function", ["close", "stat", "fstat"])
def test_safe_29_safe_31_looks_and_closes_may_fail_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    outcomes = set()
    for nth in range(1, 60):
        directory = tmp_path / str(nth)
        directory.mkdir()
        with monkeypatch.context() as patch:
            Failing(patch, function, nth, errno.EIO)
            try:
                decode_full(directory)
                outcomes.add("complete")  # a handle that was only read, or fewer calls than that
            except Fault as fault:
                assert fault.clause in ("SAFE-29", "SAFE-3", "FILE-22", "FILE-24")
                outcomes.add(fault.name)
        if outcomes == {"complete"}:
            assert (directory / "out" / "CHECKSUMS").exists()
        elif not (directory / "out" / "CHECKSUMS").exists():
            check_no_seal(directory)
    assert {"complete", "io-error"} <= outcomes


def test_safe_30_a_short_write_goes_on_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
    decode_full(tmp_path)
    assert (tmp_path / "out" / BLOB).read_bytes() == b"string one"


def test_safe_31_every_sidecar_that_cannot_be_flushed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_sidecars = TreeWriter._close_sidecars

    def broken(target: TreeWriter) -> list[Fault]:
        for sidecar in target._sidecars.values():
            if not sidecar.file.closed:
                os.dup2(full, sidecar.file.fileno())
        return close_sidecars(target)

    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(TreeWriter, "_close_sidecars", broken)
    try:
        fault = refused(tmp_path)
    finally:
        os.close(full)
    found = [(each.name, place_of(each, tmp_path)) for each in (fault, *fault.also)]
    assert sorted(found) == sorted(("disk-full", place) for place in SIDECARS[:3])
    check_no_seal(tmp_path)


def test_safe_31_a_close_that_fails_after_a_write_that_failed_is_reported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close

    def failing(descriptor: int) -> None:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        close(descriptor)
        if regular and writes.calls == 1:
            writes.calls = 2
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    writes = Failing(monkeypatch, "write", 1, errno.ENOSPC)
    monkeypatch.setattr(os, "close", failing)
    fault = refused(tmp_path)
    assert [each.name for each in (fault, *fault.also)] == ["disk-full", "io-error"]
    assert fault.exit_status == 6


@pytest.mark.usefixtures("named_files")
def test_safe_31_what_fails_while_cleaning_up_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Failing(monkeypatch, "rename", 3, errno.EIO)
    Failing(monkeypatch, "unlink", 1, errno.EACCES)
    fault = refused(tmp_path)
    assert [each.name for each in (fault, *fault.also)] == ["io-error", "io-error"]
    assert place_of(fault.also[0], tmp_path) == f"{BASE}/strings/.ekvdump.tmp"


def test_safe_27_the_dump_of_another_run_that_came_first_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    decode_full(tmp_path / "other")
    unseal = TreeWriter.unseal

    def late(target: TreeWriter) -> None:
        if not (tmp_path / "out").exists():
            (tmp_path / "other" / "out").rename(tmp_path / "out")
            (tmp_path / "out" / ".ekvdump.tmp").touch()
        unseal(target)

    before = read_tree(tmp_path / "other" / "out") | {".ekvdump.tmp": b""}
    monkeypatch.setattr(TreeWriter, "unseal", late)
    for data in (FULL, snapshot([])):
        run = prepare_run(data, tmp_path)
        monkeypatch.setattr(run._writer, "check", lambda: None)
        with pytest.raises(Fault, match=r"\[not-empty, "):
            run.run()
        assert run.out_state == "untouched"
        assert read_tree(tmp_path / "out") == before


@pytest.mark.parametrize("data", [FULL, snapshot([])])
def test_safe_29_an_output_directory_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    Failing(monkeypatch, "mkdir", 1, errno.EACCES)
    run = prepare_run(data, tmp_path)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        run.run()
    assert (caught.value.clause, caught.value.path) == ("SAFE-29", str(tmp_path / "out"))
    assert (caught.value.also, run.out_state) == ((), "untouched")


def test_safe_28_a_full_disk_is_one_whatever_the_caller_is_dealing_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(monkeypatch, "write", 1, errno.ENOSPC)
    try:
        raise FileNotFoundError(2, "of the caller")
    except OSError:
        fault = refused(tmp_path)
    assert (fault.name, fault.also) == ("disk-full", ())


@pytest.mark.usefixtures("named_files")
@pytest.mark.parametrize("place", [BLOB, "MANIFEST.json", "CHECKSUMS"])
@pytest.mark.parametrize("kind", ["symlink to a file", "file", "FIFO"])
def test_safe_10_a_temporary_file_that_is_swapped_before_its_rename_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str, kind: str
) -> None:
    rename = os.rename

    def swapped(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if target == os.path.basename(place):
            temporary = (tmp_path / "out" / place).with_name(".ekvdump.tmp")
            rename(temporary, tmp_path / "aside")
            plant(temporary, kind, canary)
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", swapped)
    fault = refused(tmp_path)
    assert (fault.name, fault.clause, place_of(fault, tmp_path)) == ("unsafe-path", "SAFE-10", place)
    check_no_seal(tmp_path)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("data", [FULL, FULL[:-1], b"", snapshot([put(STR + b"k", 1, b"\xff\x01")])])
def test_no_descriptor_is_left_open(tmp_path: Path, data: bytes) -> None:
    before = open_descriptors()
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        with contextlib.suppress(Fault):
            decode_bytes(data, tmp_path / str(number))
        with contextlib.suppress(Fault):
            decode_bytes(data, tmp_path / str(number), into_existing=True)
        with contextlib.suppress(Fault):
            decode_bytes(data, tmp_path / str(number))
    assert open_descriptors() == before


def test_no_descriptor_is_left_open_by_a_refused_sidecar_or_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary
) -> None:
    monkeypatch.setattr("ekvdump.filesystem.external_sort.RUN_LINES", 2)
    before = open_descriptors()
    with monkeypatch.context() as patch:
        plant_at(tmp_path, patch, canary, SIDECAR, "hard link")
        refused(tmp_path)
    for nth in range(1, 20):
        (tmp_path / str(nth)).mkdir()
        with monkeypatch.context() as patch, contextlib.suppress(Fault):
            Failing(patch, "write", nth, errno.ENOSPC)
            decode_full(tmp_path / str(nth))
    assert open_descriptors() == before


def test_safe_8_an_inode_is_identified_with_its_device() -> None:
    one = os.stat("/proc/self/stat")
    assert inode_of(one) == (one.st_dev, one.st_ino)


@pytest.mark.parametrize("handles", [True, False])
def test_tree_7_a_file_is_created_with_its_mode_and_no_wider_one(tmp_path: Path, *, handles: bool) -> None:
    top = open_top(str(tmp_path), handles=handles)
    with umask(0):
        os.close(top.create("file"))
    top.close()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_safe_30_what_is_larger_than_one_write_goes_out_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    written = bytearray()

    def some(descriptor: int, data: bytes) -> int:
        # A call may write less than it is asked to.
        assert descriptor == 9
        sizes.append(len(data))
        written.extend(data[:7])
        return min(len(data), 7)

    monkeypatch.setattr(os, "write", some)
    monkeypatch.setattr("ekvdump.filesystem.directories.WRITE_SIZE", 10)
    for size, asked in {7: [7], 10: [10, 3], 11: [10, 4], 25: [10, 10, 10, 4]}.items():
        data = bytes(range(size))
        write_all(9, data)
        assert (sizes, bytes(written)) == (asked, data)
        sizes.clear()
        written.clear()


def test_safe_7_a_directory_that_is_none_is_reported_as_a_platform_does(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reported = []
    for handles in (True, False):
        with pytest.raises(NotADirectoryError) as caught:
            open_top(str(tmp_path / "file"), handles=handles)
        reported.append((caught.value.errno, caught.value.strerror))
    assert reported[0] == reported[1]


def test_safe_29_an_error_without_a_number_is_reported_in_its_words() -> None:
    fault = system_faults.fault_of(OSError("something is wrong"), "p")
    assert (fault.name, fault.detail, fault.path) == ("io-error", "something is wrong", "p")


def test_safe_31_faults_behind_a_fault_that_has_some_are_added() -> None:
    first, second, third = (Fault("io-error", "SAFE-29", name, None, name) for name in ("first", "second", "third"))
    assert system_faults.first_of([system_faults.first_of([first, second]), third]).also == (second, third)


def test_safe_22_a_flush_that_fails_says_why() -> None:
    ctypes.set_errno(0)
    with pytest.raises(OSError, match="descriptor") as caught:
        tree_writer.flush_file_system(-1)
    assert caught.value.errno == errno.EBADF


def test_safe_29_a_list_of_files_that_cannot_be_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Sorter) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(Sorter, "__iter__", broken)
    fault = refused(tmp_path)
    assert (fault.name, fault.clause, fault.path) == ("io-error", "SAFE-29", str(tmp_path / "out"))


def test_mani_10_a_database_is_a_directory_that_holds_a_file(tmp_path: Path) -> None:
    (tmp_path / "out" / "redis" / "db_4").mkdir(parents=True)
    for name in ("db_4/KEYMAP.jsonl", "db_5"):
        (tmp_path / "out" / "redis" / name).touch()
    decode_full(tmp_path, into_existing=True)
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())
    assert manifest["adapters"]["redis"]["databases"] == [0, 4]


def test_read_34_a_file_is_hashed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def read(descriptor: int, size: int) -> bytes:
        sizes.append(size)
        return real(descriptor, size)

    real = os.read
    data = bytes(reading.PIECE_SIZE) + b"more"
    (tmp_path / "file").write_bytes(data)
    monkeypatch.setattr(os, "read", read)
    top = open_top(str(tmp_path), handles=True)
    assert reading.hash_file(top, ("file",)) == hashlib.sha256(data).hexdigest().encode()
    top.close()
    assert set(sizes) == {reading.PIECE_SIZE}


@pytest.mark.parametrize("handles", [True, False])
def test_into_5_a_directory_of_another_database_that_turns_into_a_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, handles: bool
) -> None:
    decode_full(tmp_path, Options(1))
    other = tmp_path / "out" / "redis" / "db_1"
    real = TreeWriter._iter_files_and_notes

    def swapped(target: TreeWriter) -> Iterator[tuple[bytes, list[bytes]]]:
        for each in real(target):
            if not other.is_symlink():
                other.rename(tmp_path / "aside")
                other.symlink_to(tmp_path / "aside")
            yield each

    monkeypatch.setattr(TreeWriter, "_iter_files_and_notes", swapped)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        decode_full(tmp_path, Options(0), into_existing=True, handles=handles)
    assert place_of(caught.value, tmp_path).startswith("redis/db_1")


def test_safe_27_what_is_sealed_is_never_taken_back(tmp_path: Path) -> None:
    run = prepare_run(FULL, tmp_path)
    run.run()
    before = read_tree(tmp_path / "out")
    assert run._writer.rollback() == []
    assert read_tree(tmp_path / "out") == before


def test_safe_27_an_interrupted_run_leaves_no_seal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode_full(tmp_path)
    assert not [path for path in read_tree(tmp_path / "out") if path.endswith((".tmp", ".json", "CHECKSUMS"))]


def test_sums_6_the_runs_lie_in_files_without_a_name(tmp_path: Path) -> None:
    target = TreeWriter(str(tmp_path / "out"))
    target.unseal()
    run = target._open_unnamed()
    run.write(b"line\n")
    run.seek(0)
    assert run.read() == b"line\n"
    assert os.listdir(tmp_path / "out") == []
    run.close()
    target.rollback()
