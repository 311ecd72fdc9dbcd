"""Chapter MANI: MANIFEST.json."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ekvdump.engine.run import decode
from ekvdump.verify.manifest import decode_manifest, is_rfc3339_time, require_known_version
from ekvformat.decode import NO_OPTIONS, Options
from ekvformat.manifest import Provenance, is_utc_time, render_earlier
from ekvformat.outcomes import Fault
from harness import decode_bytes
from hypothesis import given
from hypothesis import strategies as st
from writer import HLL, STR, TTL, Entry, envelope, expiry, operational, put, snapshot

SPEC = (Path(__file__).resolve().parent.parent / "spec" / "11-manifest.md").read_text()
(EXAMPLE,) = re.findall(r"^```json\n(.*?)^```", SPEC, re.MULTILINE | re.DOTALL)
EXAMPLE_SNAPSHOT = snapshot(
    [
        put(STR + b"a", 10, envelope(1, b"new")),
        put(STR + b"a", 5, envelope(1, b"old")),
        put(STR + b"b", 6, b"legacy"),
        put(TTL + b"b", 6, expiry(7)),
        put(HLL + b"h", 8, b"HYLL"),
        operational(b"_meta_applied_index", 9999),
        *(put(b"!hs|fld|\0\0\0\1x" + field, 9, b"v") for field in (b"1", b"2", b"3")),
    ],
    last_commit=30,
)
HASH = put(b"!hs|fld|x", 1, b"v")
STRING = put(STR + b"k", 1, b"v")
REDIS = {"databases": [0]}
ALL: dict[str, Any] = {"dynamodb": {}, "s3": {}, "redis": {}, "sqs": {}}


def manifest_of(
    tmp_path: Path,
    entries: list[Entry],
    options: Options = NO_OPTIONS,
    *,
    last_commit: int = 9,
    name: str = "snapshot",
) -> dict[str, Any]:
    decode_bytes(snapshot(entries, last_commit=last_commit), tmp_path, options, name=name)
    manifest: dict[str, Any] = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())
    return manifest


def test_mani_1_the_specs_example_is_written_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "0000000000002710.fsm"
    Path(name).write_bytes(EXAMPLE_SNAPSHOT)
    outcome = decode(name, "out", Options(), Provenance(name, wall_time="2026-08-22T12:00:00Z", cluster_id="a & b"))
    assert outcome.exit_status == 3
    assert Path("out/MANIFEST.json").read_text() == EXAMPLE
    assert decode_manifest(EXAMPLE.encode()) == json.loads(EXAMPLE)


def test_mani_1_the_members_are_those_of_the_table_in_its_order(tmp_path: Path) -> None:
    table = re.findall(r"^\| `([a-z0-9_]+)` \|", SPEC, re.MULTILINE)
    table.remove("live")
    provenance = Provenance("x", cluster_id="c", elastickv_version="v")
    (tmp_path / f"{5:016x}.fsm").write_bytes(snapshot([STRING]))
    decode(str(tmp_path / f"{5:016x}.fsm"), str(tmp_path / "out"), provenance=provenance)
    assert list(json.loads((tmp_path / "out" / "MANIFEST.json").read_text())) == table


def test_mani_19_only_what_json_requires_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(snapshot([]))
    odd = 'é<>&\u2028\x7f"\\\n\t\x01'
    decode(str(tmp_path / "s"), str(tmp_path / "out"), provenance=Provenance("s", cluster_id=odd))
    text = (tmp_path / "out" / "MANIFEST.json").read_text(encoding="utf-8")
    assert '"cluster_id": "é<>&\u2028\x7f\\"\\\\\\n\\t\\u0001"' in text
    assert json.loads(text)["cluster_id"] == odd


def test_mani_1_what_is_not_given_empty_or_0_is_absent(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [], last_commit=0, name=f"{0:016x}.fsm")
    assert not {"elastickv_version", "cluster_id", "snapshot_index", "last_commit_ts"} & set(manifest)


def test_mani_2_a_decoder_of_snapshots_writes_phase_0(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [STRING])
    assert manifest["phase"] == "phase0-snapshot-decode"
    assert list(manifest["source"]) == ["fsm_path", "fsm_crc32c"]
    assert "live" not in manifest


def test_mani_3_the_time_is_that_of_the_run_unless_given(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(snapshot([]))
    before = datetime.now(UTC)
    decode(str(tmp_path / "s"), str(tmp_path / "out"))
    text = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())["wall_time_iso"]
    assert text.endswith("Z")
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(text) <= datetime.now(UTC)


def test_mani_4_bytes_that_are_no_utf_8_stand_as_hex(tmp_path: Path) -> None:
    name = b"s\xff\xc3\xa9".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_bytes(snapshot([]))
    decode(str(tmp_path / name), str(tmp_path / "out"))
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text(encoding="utf-8"))
    assert manifest["source"]["fsm_path"] == f"{tmp_path}/s\\xffé"


def test_mani_4_words_of_the_caller_that_are_no_utf_8_stand_as_hex(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(snapshot([]))
    provenance = Provenance("s", cluster_id="a\udcff", elastickv_version="\udcfeé")
    decode(str(tmp_path / "s"), str(tmp_path / "out"), provenance=provenance)
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text(encoding="utf-8"))
    assert manifest["cluster_id"] == "a\\xff"
    assert manifest["elastickv_version"] == "\\xfeé"


def test_mani_5_all_four_exclusions_are_there(tmp_path: Path) -> None:
    assert manifest_of(tmp_path, [])["exclusions"] == dict.fromkeys(
        ["include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records"],
        False,
    )


@pytest.mark.parametrize(
    ("entries", "options", "adapters"),
    [
        pytest.param([], Options(), ALL, id="mani_6-nothing"),
        pytest.param([STRING], Options(), ALL | {"redis": REDIS}, id="mani_8-redis"),
        pytest.param([STRING], Options(7), ALL | {"redis": {"databases": [7]}}, id="mani_8-7"),
        pytest.param([STRING], Options(-7), ALL | {"redis": REDIS}, id="mani_8-negative"),
        pytest.param([HASH], Options(), {"dynamodb": {}, "s3": {}, "sqs": {}}, id="mani_7-only-hashes"),
        pytest.param([HASH, STRING], Options(), ALL | {"redis": REDIS}, id="mani_6-both"),
        pytest.param(
            [put(prefix + b"x", 1, b"") for prefix in (b"!ddb|item|", b"!s3|blob|", b"!sqs|msg|vis|")],
            Options(), {"redis": {}}, id="mani_7-three-adapters",
        ),
        pytest.param([put(TTL + b"x", 1, expiry(1))], Options(), ALL, id="mani_6-a-row-is-no-key"),
        pytest.param([STRING], Options(only=frozenset({"strings"})), {"redis": REDIS}, id="mani_20-only"),
        pytest.param([STRING], Options(only=frozenset({"hll"})), {}, id="mani_20-only-hll"),
    ],
)  # fmt: skip
def test_mani_6_mani_7_mani_8_mani_20_adapters(
    tmp_path: Path, entries: list[Entry], options: Options, adapters: dict[str, Any]
) -> None:
    assert list(manifest_of(tmp_path, entries, options)["adapters"].items()) == list(adapters.items())


def test_mani_9_outcome_says_what_was_counted(tmp_path: Path) -> None:
    outcome = manifest_of(tmp_path, [STRING])["outcome"]
    assert list(outcome) == ["database", "complete", "partial_reasons", "warnings", "counters", "earlier"]
    assert outcome["complete"] is True
    assert outcome["partial_reasons"] == outcome["warnings"] == []
    assert outcome["counters"]["strings"] == {"written": 1, "shadowed": 0, "excluded": 0, "unreadable": 0}


# ---- reading ----


def edited(**members: Any) -> dict[str, Any]:
    """The example with members replaced, or left out if `...`."""
    manifest: dict[str, Any] = json.loads(EXAMPLE)
    for name, value in members.items():
        holder, _, member = name.rpartition("__")
        place = manifest[holder] if holder else manifest
        if value is ...:
            place.pop(member)
        else:
            place[member] = value
    return manifest


def refused(manifest: object) -> tuple[str, str]:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with pytest.raises(Fault) as caught:
        decode_manifest(text, "out/MANIFEST.json")
    assert caught.value.path == "out/MANIFEST.json"
    assert caught.value.detail
    return caught.value.name, caught.value.clause


LIVE = edited(phase="phase1-live-pinned", source=..., live={"read_ts": 5, "pin_token_sha256": "x"})


@pytest.mark.parametrize("version", [..., None, "1", 1.0, True, [1]], ids=repr)
def test_mani_10_a_version_that_is_none_is_invalid(version: object) -> None:
    assert refused(edited(format_version=version)) == ("invalid-manifest", "MANI-10")


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_mani_10_another_version_is_unsupported_whatever_the_rest(version: int) -> None:
    unknown = {"format_version": version, "phase": 7, "adapters": "of another kind"}
    assert refused(unknown) == ("unsupported-manifest", "MANI-10")
    assert refused(edited(format_version=version)) == ("unsupported-manifest", "MANI-10")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{} {}", b"{}x", b'{"x":NaN}', b'{"x":-Infinity}'],
    ids=range(10),
)  # fmt: skip
def test_mani_11_anything_but_one_object_is_invalid(text: bytes) -> None:
    assert refused(text) == ("invalid-manifest", "MANI-11")


def test_mani_11_trailing_bytes_are_invalid_and_white_space_is_not() -> None:
    assert refused(EXAMPLE.encode() + b"x") == ("invalid-manifest", "MANI-11")
    assert decode_manifest(EXAMPLE.encode() + b" \r\n\t")


def test_mani_23_a_text_of_more_than_16_mib_is_not_read() -> None:
    assert refused(b" " * (16 * 1024 * 1024 + 1)) == ("invalid-manifest", "MANI-23")


def test_mani_12_unknown_members_are_ignored() -> None:
    assert decode_manifest(json.dumps(edited(of_tomorrow=[1], exclusions__more=True)).encode())["of_tomorrow"] == [1]


@pytest.mark.parametrize("phase", [..., None, "", "phase2", ["phase0-snapshot-decode"]], ids=repr)
def test_mani_13_an_unknown_phase_is_invalid(phase: object) -> None:
    assert refused(edited(phase=phase)) == ("invalid-manifest", "MANI-13")


@pytest.mark.parametrize(
    "time", [..., None, "", 5, "2026-08-22", "2026-08-22T12:00:00", "2026-13-22T12:00:00Z", "2026-08-22T12:00:00.Z",
     "2026-08-22T12:00:00+05:60", "2026-08-22T12:00:00+24:00", "2026-08-22T12:00:60Z", "0000-08-22T12:00:00Z",
     "2026-08-22T12:00:00.1234567890Z"],
    ids=repr,
)  # fmt: skip
def test_mani_14_a_time_that_is_none_is_invalid(time: object) -> None:
    assert refused(edited(wall_time_iso=time)) == ("invalid-manifest", "MANI-14")


@pytest.mark.parametrize(
    "time", ["2026-08-22T12:00:00Z", "2026-08-22t12:00:00.123456789z", "2024-02-29T23:59:59+05:30"]
)
def test_mani_14_rfc_3339_up_to_nanoseconds(time: str) -> None:
    assert decode_manifest(json.dumps(edited(wall_time_iso=time)).encode())
    assert is_rfc3339_time(time)
    assert is_utc_time(time) == time.endswith("Z")


@given(st.datetimes(timezones=st.timezones()))
def test_mani_14_every_time_that_python_writes(time: datetime) -> None:
    text = time.isoformat()
    # Historical zones have seconds in their offset, which RFC 3339 has not.
    assert is_rfc3339_time(text) or re.search(r"[+-]\d\d:\d\d:\d\d", text)


@pytest.mark.parametrize("member", ["adapters", "exclusions"])
@pytest.mark.parametrize("value", [..., None, [], "x"], ids=repr)
def test_mani_15_adapters_and_exclusions_are_objects(member: str, value: object) -> None:
    assert refused(edited(**{member: value})) == ("invalid-manifest", "MANI-15")


@pytest.mark.parametrize(
    "flag", ["include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records"]
)
@pytest.mark.parametrize("value", [..., None, 0, "false"], ids=repr)
def test_mani_16_each_required_exclusion_is_a_boolean(flag: str, value: object) -> None:
    assert refused(edited(**{f"exclusions__{flag}": value})) == ("invalid-manifest", "MANI-16")
    assert decode_manifest(json.dumps(edited(**{f"exclusions__{flag}": True})).encode())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(
            (member, value)
            for member in (
                "checksum_algorithm", "checksum_format", "encoded_filename_charset", "s3_meta_suffix",
                "s3_collision_strategy", "dynamodb_layout",
            )
            for value in (..., None, "", 1)
        ),
        *(("key_segment_max_bytes", value) for value in (..., None, 0, -1, "240", True, 240.5)),
    ],
    ids=repr,
)  # fmt: skip
def test_mani_17_a_policy_member_is_not_empty(member: str, value: object) -> None:
    assert refused(edited(**{member: value})) == ("invalid-manifest", "MANI-17")


def test_mani_18_phase_0_has_no_live() -> None:
    assert refused(edited(live={"read_ts": 5})) == ("invalid-manifest", "MANI-18")
    assert decode_manifest(json.dumps(edited(live=None)).encode())


def test_mani_21_phase_1_has_no_source() -> None:
    assert decode_manifest(json.dumps(LIVE).encode())["phase"] == "phase1-live-pinned"
    assert decode_manifest(json.dumps(LIVE | {"source": None}).encode())
    assert refused(LIVE | {"source": {"fsm_path": "x"}}) == ("invalid-manifest", "MANI-21")


@pytest.mark.parametrize("live", [None, {}, [], {"read_ts": 0}, {"read_ts": None}, {"read_ts": "5"}], ids=repr)
def test_mani_22_phase_1_has_live_with_a_read_ts(live: object) -> None:
    assert refused(LIVE | {"live": live}) == ("invalid-manifest", "MANI-22")


def test_mani_10_a_reader_that_has_no_path_names_the_file() -> None:
    for refuse in (lambda: decode_manifest(b""), lambda: require_known_version(None), lambda: require_known_version(2)):
        with pytest.raises(Fault) as caught:
            refuse()
        assert caught.value.path == "MANIFEST.json"


# ---- what is kept of an earlier one ----

SOUND = {"database": 3, "complete": True, "partial_reasons": [{"reason": "r", "about": "a", "count": 1}]}
KEPT = {"complete": True, "partial_reasons": SOUND["partial_reasons"], "fsm_path": "old.fsm"}
NOTHING: dict[str, Any] = {"complete": None, "partial_reasons": [], "fsm_path": None}


def earlier(outcome: object, source: object = None) -> list[dict[str, Any]]:
    members = {"outcome": outcome, "source": {"fsm_path": "old.fsm"} if source is None else source}
    return render_earlier([3], json.dumps(edited(**members)).encode())


def test_mani_24_what_an_earlier_manifest_says_is_kept() -> None:
    assert earlier(SOUND) == [{"database": 3, **KEPT}]
    assert earlier({**SOUND, "database": 4}) == [{"database": 3, **NOTHING}]
    before = {"database": 3, "complete": False, "partial_reasons": [], "fsm_path": "older.fsm"}
    assert earlier({**SOUND, "database": 4, "earlier": [before]}) == [before]
    # Of two that say something of a database, the manifest's own counts.
    assert earlier({**SOUND, "earlier": [before]}) == [{"database": 3, **KEPT}]


@pytest.mark.parametrize("before", [b"", b"{}", json.dumps(edited(format_version=2, outcome=SOUND)).encode()])
def test_mani_24_without_a_manifest_that_can_be_read_nothing_is_known(before: bytes) -> None:
    assert render_earlier([3], before) == [{"database": 3, **NOTHING}]


@pytest.mark.parametrize("outcome", [None, 1, [], {"earlier": 1}, {"database": True}, {"earlier": [1, None, "x"]}])
def test_mani_24_what_makes_no_sense_says_nothing(outcome: object) -> None:
    assert earlier(outcome) == [{"database": 3, **NOTHING}]


@pytest.mark.parametrize("complete", [None, 1, "true", []])
def test_mani_24_complete_is_a_boolean_or_null(complete: object) -> None:
    assert earlier({**SOUND, "complete": complete}) == [{"database": 3, **KEPT, "complete": None}]


@pytest.mark.parametrize("fsm_path", [1, None, [], "\ud800"])
def test_mani_24_a_path_is_a_text_that_can_be_written_or_null(fsm_path: object) -> None:
    assert earlier(SOUND, {"fsm_path": fsm_path}) == [{"database": 3, **KEPT, "fsm_path": None}]
    assert earlier(SOUND, [fsm_path]) == [{"database": 3, **KEPT, "fsm_path": None}]


@pytest.mark.parametrize(
    "reason",
    [1, "x", {"reason": "r", "about": "a"}, {"reason": "r", "count": 1}, {"about": "a", "count": 1},
     {"reason": 1, "about": "a", "count": 1}, {"reason": "r", "about": None, "count": 1},
     {"reason": "r", "about": "a", "count": True}, {"reason": "\udc00", "about": "a", "count": 1}],
)  # fmt: skip
def test_mani_24_a_reason_is_kept_if_it_is_whole(reason: object) -> None:
    reasons = [reason, {"reason": "r", "about": "a", "count": 2, "more": 3}]
    kept = [{"reason": "r", "about": "a", "count": 2}]
    assert earlier({**SOUND, "partial_reasons": reasons}) == [{"database": 3, **KEPT, "partial_reasons": kept}]
    assert earlier({**SOUND, "partial_reasons": reason}) == [{"database": 3, **KEPT, "partial_reasons": []}]
