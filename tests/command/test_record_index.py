"""Indexes of records, in memory and in a temporary file."""

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_runs import MemorySource, decode_in_memory
from ekvdump.engine.record_index import HEAD_SIZE, Record, RecordIndex, read_body
from ekvdump.engine.spool import Spool
from ekvformat.outcomes import Fault
from hypothesis import given
from hypothesis import strategies as st
from writer import STR, put, snapshot

SMALL = 64
"""Bytes that a spool, a batch and a window have in these tests, so that each ends within a record."""


@pytest.fixture(autouse=True, scope="module")
def small_sizes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ekvdump.engine.spool.SPOOL_SIZE", SMALL)
        patch.setattr("ekvdump.engine.spool.BATCH_SIZE", SMALL)
        patch.setattr("ekvdump.engine.record_index.WINDOW_SIZE", SMALL)
        yield


@st.composite
def records(draw: st.DrawFn) -> Record:
    head = draw(st.binary(max_size=HEAD_SIZE))
    size = len(head) if len(head) < HEAD_SIZE else draw(st.integers(HEAD_SIZE, 2**32 - 1))
    return Record(draw(st.binary(max_size=3 * SMALL)), draw(st.integers(0, 2**64 - 1)), size, head)


@given(st.lists(records(), max_size=20))
def test_what_was_added_comes_back_each_time_and_side_by_side(added: list[Record]) -> None:
    with closing(RecordIndex()) as index:
        for record in added:
            index.add(*record)
        assert index.record_count == len(added)
        assert list(index) == added
        assert list(zip(index, index, strict=True)) == [(each, each) for each in added]


def test_few_bytes_need_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    with closing(Spool()) as spool:
        assert spool.read(0, 9) == b""
        spool.append(b"x" * (SMALL - 1))
        assert spool.read(SMALL - 3, 9) == b"xx"


def test_the_file_has_no_name_and_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    with closing(Spool()) as spool:
        spool.append(b"x" * SMALL)
        spool.append(b"yz")
        assert spool.read(SMALL - 1, 9) == b"xyz"
        assert len(os.listdir("/proc/self/fd")) == before + 1
        assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


class Broken(io.BytesIO):
    """A file that cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.write = failing(number)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("number", "name", "clause"), [(errno.ENOSPC, "disk-full", "SAFE-28"), (errno.ENOENT, "io-error", "SAFE-29")]
)
def test_safe_28_safe_29_a_temporary_file_that_cannot_be_written_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, name: str, clause: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Broken(number))
    data = snapshot([put(STR + b"%03d" % place, 1, b"") for place in range(9)])
    with pytest.raises(Fault) as caught:
        decode_in_memory(data)
    fault = caught.value
    assert (fault.name, fault.clause, fault.path, fault.detail) == (name, clause, str(tmp_path), os.strerror(number))


def test_safe_29_a_temporary_file_that_cannot_be_read_is_a_fault() -> None:
    with closing(Spool()) as spool:
        spool.append(b"x" * SMALL)
        with pytest.raises(Fault, match=r"\[io-error, SAFE-29\]"):
            spool.read(-1, 1)  # a seek to there fails


def test_safe_29_a_system_without_temporary_files_is_told_to_set_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", failing(errno.ENOENT))
    monkeypatch.setattr(tempfile, "gettempdir", failing(errno.ENOENT))
    with closing(Spool()) as spool, pytest.raises(Fault) as caught:
        spool.append(b"x" * SMALL)
    assert (caught.value.clause, caught.value.path) == ("SAFE-29", None)
    assert caught.value.detail == "there is no directory for temporary files: set TMPDIR"


@pytest.mark.parametrize("begin", [0, 3])
def test_file_22_a_body_is_read_from_any_byte_on_and_compared_with_its_head(begin: int) -> None:
    body = b"0123456789abcdef"
    record = Record(b"k", 5, len(body), body[:HEAD_SIZE])
    assert read_body(MemorySource(b"....." + body), record, begin) == body[begin:]
    with pytest.raises(Fault) as caught:
        read_body(MemorySource(b"....." + body[:10] + b"?bcdef"), record, begin)
    assert (caught.value.name, caught.value.clause, caught.value.offset) == ("changed", "FILE-22", 5)
    assert caught.value.path == "in memory"
