"""The real snapshots against what clients of the live server saw. [CONV-1]"""

from pathlib import Path

import pytest
from ekvdump.run import decode
from ekvformat.outcomes import Fault
from real import assert_counters_add_up, complaints, read_dump, read_seen, unpack


@pytest.mark.parametrize(
    ("name", "partial", "strings", "hlls"),
    [("fresh", False, 150, 7), ("grown-clean", True, 781, 42), ("interleaved", False, 61, 1)],
)
def test_conv_1_every_key_is_what_clients_saw(
    tmp_path: Path, name: str, partial: bool, strings: int, hlls: int
) -> None:
    outcome = decode(unpack(name, tmp_path), str(tmp_path / "out"))
    assert outcome.complete is not partial
    assert_counters_add_up(outcome)
    dump = read_dump(tmp_path / "out")
    assert len(dump["strings"]) == strings
    assert len(dump["hll"]) == hlls

    missed = {b"deleted", b"expiring"} if name == "interleaved" else set()
    assert complaints(read_seen(name), dump, missed) == []


def test_rstr_9_the_first_unreadable_key_refuses_the_snapshot(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"^invalid-value") as refusal:
        decode(unpack("grown", tmp_path), str(tmp_path / "out"))
    unreadable = {key for key, seen in read_seen("grown").items() if "error" in seen}
    assert len(unreadable) == 10
    fault = refusal.value
    assert fault.clause == "RSTR-3"
    assert fault.key is not None
    assert fault.key.removeprefix(b"!redis|str|") in unreadable
    assert not (tmp_path / "out" / "MANIFEST.json").exists()
    assert not (tmp_path / "out" / "CHECKSUMS").exists()


def test_visi_5_an_encrypted_store_is_refused_before_the_first_write(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"^encrypted") as refusal:
        decode(unpack("encrypted", tmp_path), str(tmp_path / "out"))
    fault = refusal.value
    assert (fault.clause, fault.offset) == ("VISI-5", 905)
    assert fault.key == b"!hs|fld|\x00\x00\x00\x07p2:hashbin\x00\xff"
    assert not (tmp_path / "out").exists()
