"""Chapter MANI: MANIFEST.json."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ekvformat.decode import Options, decode
from ekvformat.manifest import Provenance, is_utc_time, render_earlier, render_manifest
from ekvformat.outcomes import text_of_path
from manifests import EXAMPLE, edited
from reference_runs import WALL_TIME
from writer import HLL, STR, TTL, Entry, envelope, expiry, operational, put, snapshot

from spec import text_of

EXAMPLE_SNAPSHOT = snapshot(
    [
        put(STR + b"a", 10, envelope(1, b"new")),
        put(STR + b"a", 5, envelope(1, b"old")),
        put(STR + b"b", 6, b"legacy"),
        put(TTL + b"b", 6, expiry(7)),
        put(HLL + b"h", 8, b"HYLL"),
        operational(b"_meta_applied_index", 9999),
        *(put(b"!ddb|item|x" + item, 9, b"v") for item in (b"1", b"2", b"3")),
    ],
    last_commit=30,
)
TABLE = put(b"!ddb|item|x", 1, b"v")
LIST_ITEM = put(b"!lst|itm|x" + bytes(8), 1, b"v")
STRING = put(STR + b"k", 1, b"v")
REDIS = {"databases": [0]}
ALL: dict[str, Any] = {"dynamodb": {}, "s3": {}, "redis": {}, "sqs": {}}


def render(data: bytes, name: str, provenance: Provenance, options: Options) -> str:
    """Decode a snapshot with the path `name`; return the MANIFEST.json of a dump into an empty directory."""
    dump = decode(data, name, options)
    files = dump.blobs | dump.sidecars
    databases = [max(0, options.database)] if files else []
    return render_manifest(dump.summary, provenance, dump.summary.warnings, databases, b"").decode()


def manifest_of(*entries: Entry, options: Options | None = None, **words: str) -> dict[str, Any]:
    """Return the members of MANIFEST.json for these entries; `words` are those of `Provenance`."""
    provenance = Provenance("snapshot", **{"wall_time": WALL_TIME, **words})
    members: dict[str, Any] = json.loads(render(snapshot(entries), "snapshot", provenance, options or Options()))
    return members


def test_mani_1_the_specs_example_is_written_byte_for_byte() -> None:
    name = "0000000000002710.fsm"
    provenance = Provenance(name, wall_time=WALL_TIME, cluster_id="a & b")
    assert render(EXAMPLE_SNAPSHOT, name, provenance, Options()) == EXAMPLE


def test_mani_1_the_members_are_those_of_the_table_in_its_order() -> None:
    table = re.findall(r"^\| `([a-z0-9_]+)` \|", text_of("22-manifest.md").split("## ")[0], re.MULTILINE)
    table.remove("live")
    provenance = Provenance("x", cluster_id="c", elastickv_version="v")
    assert list(json.loads(render(snapshot([STRING]), f"{5:016x}.fsm", provenance, Options()))) == table


def test_mani_4_the_time_is_that_of_the_run_unless_given() -> None:
    before = datetime.now(UTC)
    text = json.loads(render(snapshot([]), "s", Provenance("s"), Options()))["wall_time_iso"]
    assert text.endswith("Z")
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(text) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("time", "is_one"),
    [
        ("2026-08-22T12:00:00Z", True), ("2026-08-22t12:00:00.123456789Z", True), ("2024-02-29T23:59:59Z", True),
        ("2024-02-29T23:59:59+05:30", False), ("2026-08-22T12:00:00z", False), ("2026-08-22T12:00:00", False),
        ("2026-08-22T12:00:00.1234567890Z", False), ("2026-08-22T12:00:00.Z", False), ("2026-08-22 12:00:00Z", False),
        ("2026-02-29T12:00:00Z", False), ("2026-13-01T12:00:00Z", False), ("2026-08-22T24:00:01Z", False),
        ("0000-08-22T12:00:00Z", False), ("yesterday", False), ("", False),
    ],
)  # fmt: skip
def test_mani_4_a_caller_may_give_a_time_in_utc_up_to_nanoseconds(time: str, is_one: bool) -> None:
    assert is_utc_time(time) == is_one


def test_mani_5_bytes_of_the_caller_that_are_not_utf_8_are_hex() -> None:
    members = manifest_of(cluster_id="a\udcff", elastickv_version="\udcfeé")
    assert members["cluster_id"] == "a\\xff"
    assert members["elastickv_version"] == "\\xfeé"


@pytest.mark.parametrize(
    ("entries", "options", "adapters"),
    [
        pytest.param([], Options(), ALL, id="mani_6-nothing"),
        pytest.param([STRING], Options(), ALL | {"redis": REDIS}, id="mani_8-redis"),
        pytest.param([STRING], Options(7), ALL | {"redis": {"databases": [7]}}, id="mani_8-7"),
        pytest.param([STRING], Options(-7), ALL | {"redis": REDIS}, id="mani_8-negative"),
        pytest.param([TABLE], Options(), {"s3": {}, "redis": {}, "sqs": {}}, id="mani_7-only-tables"),
        pytest.param([TABLE, STRING], Options(), {"s3": {}, "redis": REDIS, "sqs": {}}, id="mani_6-both"),
        pytest.param([LIST_ITEM], Options(), {"dynamodb": {}, "s3": {}, "sqs": {}}, id="mani_8-an-orphan-is-not-shown"),
        pytest.param(
            [put(prefix + b"x", 1, b"") for prefix in (b"!ddb|item|", b"!s3|blob|", b"!sqs|msg|vis|")],
            Options(), {"redis": {}}, id="mani_7-three-adapters",
        ),
        pytest.param([put(TTL + b"x", 1, expiry(1))], Options(), ALL, id="mani_6-a-row-is-not-a-key"),
        pytest.param([STRING], Options(only=frozenset({"strings"})), {"redis": REDIS}, id="mani_20-only"),
        pytest.param([STRING], Options(only=frozenset({"hll"})), {}, id="mani_20-only-hll"),
    ],
)  # fmt: skip
def test_mani_7_mani_8_mani_10_mani_9_adapters(
    entries: list[Entry], options: Options, adapters: dict[str, Any]
) -> None:
    assert list(manifest_of(*entries, options=options)["adapters"].items()) == list(adapters.items())


# ---- what is kept of an earlier one ----

SOUND = {"database": 3, "complete": True, "partial_reasons": [{"reason": "r", "about": "a", "count": 1}]}
KEPT = {"complete": True, "partial_reasons": SOUND["partial_reasons"], "fsm_path": "old.fsm"}
NOTHING: dict[str, Any] = {"complete": None, "partial_reasons": [], "fsm_path": None}


def earlier(outcome: object, source: object = None) -> list[dict[str, Any]]:
    members = {"outcome": outcome, "source": {"fsm_path": "old.fsm"} if source is None else source}
    return render_earlier([3], json.dumps(edited(**members)).encode())


def test_into_7_what_an_earlier_manifest_says_is_kept() -> None:
    assert earlier(SOUND) == [{"database": 3, **KEPT}]
    assert earlier({**SOUND, "database": 4}) == [{"database": 3, **NOTHING}]
    before = {"database": 3, "complete": False, "partial_reasons": [], "fsm_path": "older.fsm"}
    assert earlier({**SOUND, "database": 4, "earlier": [before]}) == [before]
    # Of two that say something of a database, the manifest's own counts.
    assert earlier({**SOUND, "earlier": [before]}) == [{"database": 3, **KEPT}]


@pytest.mark.parametrize("before", [b"", b"{}", json.dumps(edited(format_version=2, outcome=SOUND)).encode()])
def test_into_7_without_a_manifest_that_can_be_read_nothing_is_known(before: bytes) -> None:
    assert render_earlier([3], before) == [{"database": 3, **NOTHING}]


@pytest.mark.parametrize("outcome", [None, 1, [], {"earlier": 1}, {"database": True}, {"earlier": [1, None, "x"]}])
def test_into_7_what_makes_no_sense_says_nothing(outcome: object) -> None:
    assert earlier(outcome) == [{"database": 3, **NOTHING}]


@pytest.mark.parametrize("complete", [None, 1, "true", []])
def test_into_7_complete_is_a_boolean_or_null(complete: object) -> None:
    assert earlier({**SOUND, "complete": complete}) == [{"database": 3, **KEPT, "complete": None}]


@pytest.mark.parametrize("fsm_path", [1, None, [], "\ud800"])
def test_into_7_a_path_is_a_text_that_can_be_written_or_null(fsm_path: object) -> None:
    assert earlier(SOUND, {"fsm_path": fsm_path}) == [{"database": 3, **KEPT, "fsm_path": None}]
    assert earlier(SOUND, [fsm_path]) == [{"database": 3, **KEPT, "fsm_path": None}]


@pytest.mark.parametrize(
    "reason",
    [1, "x", {"reason": "r", "about": "a"}, {"reason": "r", "count": 1}, {"about": "a", "count": 1},
     {"reason": 1, "about": "a", "count": 1}, {"reason": "r", "about": None, "count": 1},
     {"reason": "r", "about": "a", "count": True}, {"reason": "\udc00", "about": "a", "count": 1}],
)  # fmt: skip
def test_into_7_a_reason_is_kept_if_it_is_whole(reason: object) -> None:
    reasons = [reason, {"reason": "r", "about": "a", "count": 2, "more": 3}]
    kept = [{"reason": "r", "about": "a", "count": 2}]
    assert earlier({**SOUND, "partial_reasons": reasons}) == [{"database": 3, **KEPT, "partial_reasons": kept}]
    assert earlier({**SOUND, "partial_reasons": reason}) == [{"database": 3, **KEPT, "partial_reasons": []}]


def test_mani_5_a_path_is_bytes_whatever_the_locale_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a Latin-1 locale Python reads the byte FF of a file name as this letter.
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("latin-1", "surrogateescape"))
    assert text_of_path("ÿ.fsm") == "\\xff.fsm"
    assert text_of_path(b"\xc3\xa9.fsm".decode("latin-1")) == "é.fsm"


def test_mani_5_a_lone_surrogate_of_a_caller_is_shown() -> None:
    assert text_of_path("a\ud800") == "a\\ud800"
