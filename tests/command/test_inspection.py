"""`inspect`: what is in a snapshot, as far as it can be read."""

import os
from pathlib import Path

import pytest
from command_runs import stat_of_tree
from ekvdump.cli.json_output import render_inspection, render_time, version_count
from ekvdump.inspection import Inspection, inspect
from ekvformat.outcomes import Fault
from real import REAL_SHAPED, unpack
from sessions import Meddler
from writer import HEADER_V1, HLL, STR, TTL, delete, envelope, expiry, header_v2, operational, put, snapshot

NOW_MS = 1_800_000_000_000
"""A last commit is Unix ms, and a counter in 16 bits below."""


def look(data: bytes, directory: Path, name: str = "snapshot") -> Inspection:
    (directory / name).write_bytes(data)
    before = stat_of_tree(directory)
    result = inspect(str(directory / name))
    assert stat_of_tree(directory) == before
    return result


def test_a_sound_snapshot_is_described(tmp_path: Path) -> None:
    result = look(REAL_SHAPED, tmp_path, f"{16:016x}.fsm")
    assert result.first_pass is not None
    assert result.fault is None
    assert result.size == len(REAL_SHAPED)
    assert result.first_pass.start.header_version == 1
    assert (result.footer, result.first_pass.fsm_crc32c) == ("sound", int.from_bytes(REAL_SHAPED[-4:], "big"))
    assert (result.name_index, result.first_pass.applied_index) == (16, 3)
    assert result.first_pass.counters.entries["history"] == 1
    assert version_count(result) == 25
    assert result.tombstone_count == 9
    assert result.prefixes == {
        "": 2, "!hs|meta|": 2, "!lst|meta|": 2, "!redis|hll|": 1, "!redis|str|": 3, "!redis|ttl|": 3,
        "!redis|txn-wide-hash|": 2, "!redis|txn-wide-list|": 2, "!redis|txn-wide-set|": 2, "!redis|txn-wide-zset|": 2,
        "!st|meta|": 2, "!zs|meta|": 2,
    }  # fmt: skip
    assert sum(result.prefixes.values()) == version_count(result)


@pytest.mark.parametrize(("header", "version"), [(b"", None), (HEADER_V1, 1), (header_v2(b"more"), 2)])
def test_the_header_version(tmp_path: Path, header: bytes, version: int | None) -> None:
    assert render_inspection(look(snapshot([], header=header), tmp_path))["header_version"] == version


def test_the_last_commit_is_a_time(tmp_path: Path) -> None:
    rendered = render_inspection(look(snapshot([], last_commit=NOW_MS << 16 | 7), tmp_path))
    assert rendered["last_commit_ts"] == NOW_MS << 16 | 7
    assert rendered["last_commit_time"] == "2027-01-15T08:00:00.000Z"
    assert render_time(2**48 - 1) == "281474976710655 ms after 1970"


def test_expiries_that_had_passed_at_the_last_commit_are_counted(tmp_path: Path) -> None:
    entries = [
        put(STR + b"a", 1, envelope(1, b"", NOW_MS)), put(STR + b"b", 1, envelope(1, b"", NOW_MS + 1)),
        put(STR + b"c", 1, envelope(1, b"")), put(STR + b"d", 1, b"legacy"),
        put(STR + b"e", 1, envelope(1, b"x" * 99, 0)),
        put(HLL + b"a", 1, envelope(2, b"", NOW_MS)), put(HLL + b"b", 1, envelope(2, b"", NOW_MS + 1)),
        put(TTL + b"d", 1, expiry(NOW_MS)), put(TTL + b"e", 1, expiry(NOW_MS + 1)),
        put(STR + b"old", 2, envelope(1, b"")), put(STR + b"old", 1, envelope(1, b"", 1)),
        put(STR + b"bad", 1, b"\xff\x01"), put(TTL + b"bad", 1, bytes(7)), put(TTL + b"bad2", 1, bytes(99)),
        put(HLL + b"bad", 1, b"\xff\x02\x01"), put(b"bare", 1, b"\xff\x01"),
    ]  # fmt: skip
    result = look(snapshot(entries, last_commit=NOW_MS << 16), tmp_path)
    assert result.expired == {"string": 2, "hll": 1, "ttl": 1}
    # An HLL behind a string is shadowed, whatever it holds.
    assert result.unreadable_count == 3


def test_the_footer_has_four_verdicts(tmp_path: Path) -> None:
    assert look(REAL_SHAPED, tmp_path).footer == "sound"
    assert look(REAL_SHAPED[:-1] + b"?", tmp_path).footer == "wrong"
    assert look(snapshot([], header=b"", with_footer=False), tmp_path).footer == "none"
    assert look(REAL_SHAPED[:-9], tmp_path).footer == "not reached"
    # A fault of an entry header does not keep the footer from being judged.
    assert look(snapshot([put(STR + b"k", 1, b"", flags=2)]), tmp_path).footer == "sound"


@pytest.mark.parametrize("size", [len(REAL_SHAPED) - 1, len(REAL_SHAPED) // 2, 40, 33, 20, 5, 0])
def test_a_refused_snapshot_is_described_as_far_as_it_can_be_read(tmp_path: Path, size: int) -> None:
    result = look(REAL_SHAPED[:size], tmp_path)
    assert result.fault is not None
    assert result.fault.exit_status == 4
    assert result.fault.offset is not None
    assert result.fault.offset <= size
    counted = 0 if result.first_pass is None else sum(result.first_pass.counters.entries.values())
    assert (result.first_pass is None) == (size < 32)
    assert counted < 27 or size > len(REAL_SHAPED) - 4
    assert size != len(REAL_SHAPED) // 2 or counted > 5


def test_an_encrypted_snapshot_is_counted_to_its_end(tmp_path: Path) -> None:
    result = inspect(unpack("encrypted", tmp_path))
    assert result.fault is not None
    assert (result.fault.name, result.fault.offset) == ("encrypted", 905)
    assert result.first_pass is not None
    assert result.first_pass.faulty_count == 239
    assert result.first_pass.start.header_version == 2
    assert result.footer == "sound"
    assert result.first_pass.counters.entries["operational"] == 6


def test_the_unreadable_values_of_grown_are_counted(tmp_path: Path) -> None:
    result = inspect(unpack("grown", tmp_path))
    assert result.fault is None
    assert result.unreadable_count == 10


def test_what_is_rendered_of_a_snapshot_and_of_what_is_none(tmp_path: Path) -> None:
    nothing: dict[str, object] = {
        "size": 5, "header_version": None, "footer": "not reached", "fsm_crc32c": None, "last_commit_ts": None,
        "last_commit_time": None, "applied_index": None, "name_index": None, "entries": None, "undecoded": None,
        "collections": None, "faulty_entries": 0, "versions": 0, "tombstones": 0, "prefixes": {},
        "unknown_beginnings": [],
        "expired_at_last_commit": {"string": 0, "hll": 0, "ttl": 0}, "unreadable": 0,
    }  # fmt: skip
    assert render_inspection(look(b"other", tmp_path)) == nothing
    data = snapshot([put(b"!new|\xff", 1, b""), delete(b"!new|b", 1)], last_commit=NOW_MS << 16, header=header_v2())
    rendered = render_inspection(look(data, tmp_path, f"{255:016x}.fsm"))
    assert rendered.pop("entries")["unknown"] == 1
    assert set(rendered.pop("undecoded").values()) == set(rendered.pop("collections").values()) == {0}
    others = ("entries", "undecoded", "collections")
    assert rendered == {name: value for name, value in nothing.items() if name not in others} | {
        "size": len(data), "header_version": 2, "footer": "sound", "fsm_crc32c": data[-4:].hex(),
        "last_commit_ts": NOW_MS << 16, "last_commit_time": "2027-01-15T08:00:00.000Z", "name_index": 255,
        "versions": 2, "tombstones": 1, "prefixes": {"!": 2}, "unknown_beginnings": ["%21new%7C%FF"],
    }  # fmt: skip


def test_before_the_first_millisecond_nothing_has_expired(tmp_path: Path) -> None:
    result = look(snapshot([put(STR + b"a", 0, envelope(1, b"", 1))], last_commit=0), tmp_path)
    assert result.expired["string"] == 0


def test_operational_rows_are_no_versions(tmp_path: Path) -> None:
    result = look(snapshot([operational(b"_meta_applied_index", 5), delete(b"k", 1)]), tmp_path)
    assert version_count(result) == 1


def test_file_24_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "missing"):
        with pytest.raises(Fault, match=r"\[io-error, "):
            inspect(str(tmp_path / name))


def test_file_22_a_snapshot_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Meddler(monkeypatch, 2, "touched", tmp_path / "snapshot")
    (tmp_path / "snapshot").write_bytes(REAL_SHAPED)
    with pytest.raises(Fault, match=r"\[changed, "):
        inspect(str(tmp_path / "snapshot"))
