"""Chapter FILE: the file that a snapshot is read from, and its name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import check_unchanged, decode_snapshot_name, read_snapshot
from reference_runs import fault_of
from writer import snapshot

DATA = snapshot([])


def cannot_read(path: str) -> None:
    with pytest.raises(Fault) as caught:
        read_snapshot(path)
    assert fault_of(caught.value) == ("io-error", "FILE-24", None)
    assert caught.value.path == path


@pytest.mark.parametrize("kind", ["directory", "fifo", "nothing", "name with a NUL"])
def test_file_24_a_snapshot_is_a_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a\0b" if kind == "name with a NUL" else "snapshot")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    cannot_read(str(path))


def test_file_24_an_error_of_reading_has_the_path() -> None:
    # A regular file that can be opened; but nothing is mapped where reading begins.
    cannot_read("/proc/self/mem")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def replace(path: Path) -> None:
    """Put another file of the same size and time in the place of one."""
    status = path.stat()
    path.rename(path.with_name("older"))
    path.write_bytes(DATA)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [append, replace, touch, Path.unlink])
def test_file_22_a_snapshot_that_changed_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(DATA)
    data, identity = read_snapshot(str(path))
    assert data == DATA
    check_unchanged(str(path), identity)
    change(path)
    with pytest.raises(Fault) as caught:
        check_unchanged(str(path), identity)
    assert fault_of(caught.value) == ("changed", "FILE-22", None)
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("0000000000002710.fsm", 10_000),
        ("some/where/0000000000002710.fsm", 10_000),
        ("ffffffffffffffff.fsm", 2**64 - 1),
        ("000000000000000A.fsm", None),
        ("000000000002710.fsm", None),
        ("00000000000002710.fsm", None),
        ("0000000000002710.fsm.xz", None),
        ("0000000000002710.fsm/snapshot", None),
        ("", None),
    ],
)
def test_file_25_sixteen_small_hex_digits_give_the_applied_index(name: str, index: int | None) -> None:
    assert decode_snapshot_name(name) == index
