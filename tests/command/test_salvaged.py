"""Chapter SALV: what becomes of unreadable values with the caller's consent."""

import base64
import json
from pathlib import Path

import pytest
from command_runs import decode_in_memory, refusal
from ekvdump.run import decode
from ekvformat.decode import Options
from ekvformat.salvage import render_unreadable_line
from model import segment_of
from real import REAL, assert_counters_add_up, complaints, read_dump, read_seen, unpack
from writer import HLL, STR, TTL, Entry, envelope, expiry, put, snapshot

SALVAGE = Options(salvage=True)
BASE = "redis/db_0"
BAD_STRING = put(STR + b"k", 1, b"\xff\x01")
BAD_HLL = put(HLL + b"k", 1, b"\xff\x02\x01short")
BAD_ROW = put(TTL + b"k", 1, b"seven b")
LONG = b"%" * 81


def salvaged(*entries: Entry) -> tuple[dict[str, bytes], list[dict[str, object]]]:
    """The files of a salvage run but its list, and the lines of the list."""
    outcome, files = decode_in_memory(snapshot(entries), SALVAGE)
    assert_counters_add_up(outcome)
    lines = [json.loads(line) for line in files.pop(f"{BASE}/unreadable.jsonl", b"").splitlines()]
    return {path.removeprefix(f"{BASE}/"): data for path, data in files.items()}, lines


def test_salv_1_without_consent_the_snapshot_is_refused() -> None:
    for entry in (BAD_STRING, BAD_HLL, BAD_ROW):
        assert refusal(snapshot([entry]))[0] == "invalid-value"


def test_salv_1_with_consent_the_rest_is_shown_and_the_dump_is_partial() -> None:
    data = snapshot([BAD_STRING, put(STR + b"other", 1, b"v")])
    outcome, files = decode_in_memory(data, SALVAGE)
    assert files[f"{BASE}/strings/other.bin"] == b"v"
    assert f"{BASE}/strings/k.bin" not in files
    assert outcome.counters.strings == {"written": 1, "shadowed": 0, "excluded": 0, "unreadable": 1}
    assert outcome.exit_status == 3
    assert [(each.reason, each.about, each.count) for each in outcome.partial_reasons] == [
        ("unreadable-value", "redis/db_0", 1)
    ]


def test_salv_1_a_snapshot_without_unreadable_values_is_complete() -> None:
    outcome, files = decode_in_memory(snapshot([put(STR + b"other", 1, b"v")]), SALVAGE)
    assert outcome.complete
    assert list(files) == [f"{BASE}/strings/other.bin"]


@pytest.mark.parametrize(
    ("owners", "shown", "listed"),
    [
        pytest.param([put(STR + b"k", 1, b"v")], [], [("string", "RTTL-1"), ("ttl", "RTTL-1")], id="legacy"),
        pytest.param([put(b"k", 1, b"v")], [], [("string", "RTTL-1"), ("ttl", "RTTL-1")], id="bare"),
        pytest.param([put(HLL + b"k", 1, b"v")], [], [("hll", "RTTL-1"), ("ttl", "RTTL-1")], id="legacy-hll"),
        pytest.param(
            [put(HLL + b"k", 1, b"v"), put(STR + b"k", 1, b"v")], ["hll/k.bin"],
            [("string", "RTTL-1"), ("ttl", "RTTL-1")], id="string-decides",
        ),
        pytest.param(
            [put(HLL + b"k", 1, b"v"), put(b"k", 1, b"v")], ["hll/k.bin"],
            [("string", "RTTL-1"), ("ttl", "RTTL-1")], id="bare-decides",
        ),
        pytest.param([put(STR + b"k", 1, envelope(1, b""))], ["strings/k.bin"], [("ttl", "RTTL-1")], id="salv_7-str"),
        pytest.param([put(HLL + b"k", 1, envelope(2, b""))], ["hll/k.bin"], [("ttl", "RTTL-1")], id="salv_7-hll"),
        pytest.param([], [], [("ttl", "RTTL-1")], id="salv_7-orphan"),
        pytest.param([BAD_STRING], [], [("string", "RSTR-3"), ("ttl", "RTTL-1")], id="both"),
    ],
)  # fmt: skip
def test_salv_2_salv_5_salv_7_a_row_of_another_size_makes_the_key_unreadable_that_it_decides_about(
    owners: list[Entry], shown: list[str], listed: list[tuple[str, str]]
) -> None:
    files, lines = salvaged(*owners, BAD_ROW)
    assert [path for path in files if not path.startswith("unreadable/")] == shown
    assert [(line["kind"], line["clause"]) for line in lines] == listed


def test_salv_3_a_line_has_segment_storage_key_offset_clause_and_kind() -> None:
    assert render_unreadable_line("k", STR + b"k", 79, "RSTR-3", "string").decode() in (
        REAL.parent.parent / "spec" / "15-salvage.md"
    ).read_text().replace("\n\n", "\n")
    _, lines = salvaged(BAD_HLL, BAD_ROW)
    body_at = 32 + 8 + 20 + 8 + 9
    assert lines[0] == {
        "segment": "k", "storage_key": base64.urlsafe_b64encode(HLL + b"k").decode().rstrip("="),
        "offset": body_at + 3, "clause": "RHLL-4", "kind": "hll",
    }  # fmt: skip
    assert lines[1]["offset"] == body_at + 8 + 8 + 8 + 20 + 9
    assert lines[1]["kind"] == "ttl"


def test_salv_3_the_offset_of_a_key_that_a_row_decides_about_is_that_of_its_body() -> None:
    _, lines = salvaged(put(STR + b"k", 1, b"legacy"), BAD_ROW)
    assert lines[0]["offset"] == 32 + 8 + 20 + 8 + 9


def test_salv_4_the_body_lies_beside_whole_and_unchanged() -> None:
    files, _ = salvaged(BAD_STRING, BAD_HLL, BAD_ROW)
    assert files == {
        "unreadable/k.string.bin": b"\xff\x01",
        "unreadable/k.hll.bin": b"\xff\x02\x01short",
        "unreadable/k.ttl.bin": b"seven b",
    }


def test_salv_5_lines_stand_in_output_order() -> None:
    entries = [
        put(TTL + b"a", 1, b""), put(STR + b"b", 1, b"\xff\x01"), put(STR + b"bb", 1, b"\xff\x01"),
        put(HLL + b"c", 1, b"\xff\x02"), put(b"a", 1, b"bare"),
    ]  # fmt: skip
    _, lines = salvaged(*entries)
    assert [(line["segment"], line["kind"]) for line in lines] == [
        ("c", "hll"), ("bb", "string"), ("b", "string"), ("a", "string"), ("a", "ttl"),
    ]  # fmt: skip


def test_salv_6_one_warning_gives_the_count_and_16_segments() -> None:
    outcome, _ = decode_in_memory(snapshot([put(STR + b"k%02d" % n, 1, b"\xff\x01") for n in range(20)]), SALVAGE)
    (warning,) = outcome.warnings
    assert (warning.name, warning.count) == ("unreadable-value", 20)
    assert list(warning.about) == [f"k{n:02}" for n in range(16)]


def test_salv_8_an_unreadable_prefixed_string_shadows_a_bare_one() -> None:
    files, lines = salvaged(BAD_STRING, put(b"k", 1, b"bare"), put(TTL + b"k", 1, expiry(5)))
    assert list(files) == ["unreadable/k.string.bin"]
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (snapshot([BAD_STRING])[:-1], "footer-mismatch"),
        (snapshot([BAD_STRING])[:-5], "truncated"),
        (snapshot([BAD_STRING, put(STR + b"z", 1, b"", flags=2)]), "encrypted"),
    ],
)
def test_salv_9_other_faults_are_never_salvaged(data: bytes, fault: str) -> None:
    if fault == "footer-mismatch":
        data = data + bytes((snapshot([BAD_STRING])[-1] ^ 1,))
    assert refusal(data, SALVAGE)[0] == fault


def test_kmap_2_a_line_is_written_for_a_string_whose_hll_is_unreadable() -> None:
    files, lines = salvaged(put(HLL + LONG, 1, b"\xff\x02"), put(STR + LONG, 1, b"v"))
    assert files["KEYMAP.jsonl"].count(b"\n") == 1
    assert [line["segment"] for line in lines] == [segment_of(LONG)]
    files, _ = salvaged(put(HLL + LONG, 1, b"\xff\x02"))
    assert "KEYMAP.jsonl" not in files


def test_salv_1_grown_gives_everything_but_its_ten_keys(tmp_path: Path) -> None:
    outcome = decode(unpack("grown", tmp_path), str(tmp_path / "out"), SALVAGE)
    assert outcome.exit_status == 3
    seen = read_seen("grown")
    errors = {key for key, each in seen.items() if "error" in each}
    lines = [json.loads(line) for line in (tmp_path / "out" / BASE / "unreadable.jsonl").read_text().splitlines()]
    listed = [base64.urlsafe_b64decode(line["storage_key"] + "==").removeprefix(STR) for line in lines]
    assert len(listed) == 10
    assert set(listed) == errors
    assert {path.read_bytes() for path in (tmp_path / "out" / BASE / "unreadable").iterdir()} == {b"\xff\x01"}

    for key in errors:
        del seen[key]
    assert complaints(seen, read_dump(tmp_path / "out")) == []
