"""The real snapshots against what clients of the live server saw. [CONV-1]"""

import base64
import json
from pathlib import Path

import pytest
from ekvdump.run import decode
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from real import DIRECTORIES, assert_counters_add_up, complaints, read_dump, read_seen, unpack


@pytest.mark.parametrize(
    ("name", "strings", "hlls", "collections"),
    [
        ("fresh", 150, 7, {}),
        ("grown-clean", 781, 42, {"hash": 34, "list": 40, "set": 40, "zset": 36, "stream": 36}),
        ("interleaved", 61, 1, {}),
    ],
)
def test_conv_1_every_key_is_what_clients_saw(
    tmp_path: Path, name: str, strings: int, hlls: int, collections: dict[str, int]
) -> None:
    outcome = decode(unpack(name, tmp_path), str(tmp_path / "out"))
    assert outcome.complete
    assert_counters_add_up(outcome)
    dump = read_dump(tmp_path / "out")
    assert len(dump["strings"]) == strings
    assert len(dump["hll"]) == hlls
    assert {kind: len(dump[kind]) for kind in DIRECTORIES if dump[kind]} == collections
    assert outcome.counters.collections == {kind: collections.get(kind, 0) for kind in DIRECTORIES}

    missed = {b"deleted", b"expiring"} if name == "interleaved" else set()
    assert complaints(read_seen(name), dump, missed) == []


def test_envl_10_the_first_unreadable_key_refuses_the_snapshot(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"\[invalid-value, ") as refusal:
        decode(unpack("grown", tmp_path), str(tmp_path / "out"))
    unreadable = {key for key, seen in read_seen("grown").items() if "error" in seen}
    assert len(unreadable) == 10
    fault = refusal.value
    assert fault.clause == "ENVL-4"
    assert fault.key is not None
    assert fault.key.removeprefix(b"!redis|str|") in unreadable
    assert not (tmp_path / "out" / "MANIFEST.json").exists()
    assert not (tmp_path / "out" / "CHECKSUMS").exists()


def test_salv_1_grown_gives_everything_but_its_ten_keys(tmp_path: Path) -> None:
    outcome = decode(unpack("grown", tmp_path), str(tmp_path / "out"), Options(salvage=True))
    assert outcome.exit_status == 3
    seen = read_seen("grown")
    errors = {key for key, each in seen.items() if "error" in each}
    lines = [
        json.loads(line) for line in (tmp_path / "out" / "redis" / "db_0" / "unreadable.jsonl").read_text().splitlines()
    ]
    listed = [base64.urlsafe_b64decode(line["storage_key"] + "==").removeprefix(b"!redis|str|") for line in lines]
    assert len(listed) == 10
    assert set(listed) == errors
    assert {path.read_bytes() for path in (tmp_path / "out" / "redis" / "db_0" / "unreadable").iterdir()} == {
        b"\xff\x01"
    }

    for key in errors:
        del seen[key]
    assert complaints(seen, read_dump(tmp_path / "out")) == []


def test_visi_5_an_encrypted_store_is_refused_before_the_first_write(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"\[encrypted, ") as refusal:
        decode(unpack("encrypted", tmp_path), str(tmp_path / "out"))
    fault = refusal.value
    assert (fault.clause, fault.offset) == ("VISI-5", 905)
    assert fault.key == b"!hs|fld|\x00\x00\x00\x07p2:hashbin\x00\xff"
    assert not (tmp_path / "out").exists()
