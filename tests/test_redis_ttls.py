"""Chapter RTTL: TTL rows and expiry sidecars."""

import tracemalloc

import pytest
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import decode_ttl_value, render_expiry_row
from harness import decode_in_memory, fault_of, refusal
from hypothesis import given
from hypothesis import strategies as st
from test_redis_strings import MOST, files_of
from writer import HLL, STR, TTL, Entry, delete, envelope, expiry, put, snapshot

ROW = b'{"key":"k","expire_at_ms":9}\n'
TTL_ROW = put(TTL + b"k", 1, expiry(9))
COLLECTION = put(b"!zs|mem|z", 1, b"")


def fates(*entries: Entry, only: set[str] | None = None) -> dict[str, int]:
    options = Options(only=None if only is None else frozenset(only))
    counts = decode_in_memory(snapshot(entries), options)[0].counters.ttls
    return {name: count for name, count in counts.items() if count}


@given(st.binary(max_size=10))
def test_rttl_1_a_row_has_exactly_eight_bytes(body: bytes) -> None:
    if len(body) == 8:
        assert decode_ttl_value(body) == min(int.from_bytes(body, "big"), MOST)
        return
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_ttl_value(body, 100, b"k")
    assert fault_of(caught.value) == ("invalid-value", "RTTL-1", 100)
    assert caught.value.key == b"k"
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_ttl_value(body)
    assert (caught.value.offset, caught.value.key) == (0, b"")


@pytest.mark.parametrize(
    "owner", [[], [put(STR + b"k", 1, envelope(1, b"v"))], [put(STR + b"k", 1, b"v")], [COLLECTION]]
)
@pytest.mark.parametrize("size", [0, 7, 9])
def test_rttl_1_a_row_of_another_size_refuses_the_snapshot(owner: list[Entry], size: int) -> None:
    fault = refusal(snapshot([*owner, put(TTL + b"k", 1, bytes(size))]))
    assert (fault[0], fault[1], fault[3]) == ("invalid-value", "RTTL-1", TTL + b"k")


def test_rttl_1_a_row_that_nobody_sees_is_not_judged() -> None:
    assert files_of(put(TTL + b"k", 1, b"bad"), delete(TTL + b"k", 2), put(TTL + b"x", 2000, b"bad")) == {}


@pytest.mark.parametrize(("stored", "shown"), [(MOST, MOST), (MOST + 1, MOST), (2**64 - 1, MOST)])
def test_rttl_2_an_expiry_above_the_greatest_counts_as_that(stored: int, shown: int) -> None:
    assert decode_ttl_value(expiry(stored)) == shown


def test_rttl_3_an_expiry_of_0_is_a_row() -> None:
    files = files_of(put(STR + b"k", 1, b"v"), put(TTL + b"k", 1, expiry(0)))
    assert files["strings_ttl.jsonl"] == b'{"key":"k","expire_at_ms":0}\n'


STRING_ENVELOPE = put(STR + b"k", 1, envelope(1, b"v"))
LEGACY_STRING = put(STR + b"k", 1, b"v")
BARE_STRING = put(b"k", 1, b"\xff\x01\x00")
HLL_ENVELOPE = put(HLL + b"k", 1, envelope(2, b"h"))
LEGACY_HLL = put(HLL + b"k", 1, b"h")


@pytest.mark.parametrize(
    ("owners", "fate", "sidecar"),
    [
        pytest.param([STRING_ENVELOPE], "redundant", None, id="rttl_4-string-envelope"),
        pytest.param([STRING_ENVELOPE, BARE_STRING], "redundant", None, id="rttl_4-shadowed"),
        pytest.param([STRING_ENVELOPE, LEGACY_HLL], "redundant", None, id="rttl_7-envelope-and-legacy-hll"),
        pytest.param([LEGACY_STRING], "applied", "strings_ttl.jsonl", id="rttl_5-legacy"),
        pytest.param([BARE_STRING], "applied", "strings_ttl.jsonl", id="rttl_5-bare"),
        pytest.param([LEGACY_STRING, HLL_ENVELOPE], "applied", "strings_ttl.jsonl", id="rttl_7-hll-envelope"),
        pytest.param([BARE_STRING, LEGACY_HLL], "applied", "strings_ttl.jsonl", id="rttl_7-bare-and-hll"),
        pytest.param([HLL_ENVELOPE], "redundant", None, id="rttl_4-hll-envelope"),
        pytest.param([LEGACY_HLL], "applied", "hll_ttl.jsonl", id="rttl_6-legacy-hll"),
        pytest.param([LEGACY_HLL, COLLECTION], "applied", "hll_ttl.jsonl", id="rttl_6-beside-collections"),
        pytest.param([COLLECTION], "unclaimed", None, id="rttl_8-unclaimed"),
        pytest.param([], "orphan", None, id="rttl_9-orphan"),
        pytest.param([put(b"!ddb|item|x", 1, b"")], "orphan", None, id="rttl_8-not-redis"),
        pytest.param([COLLECTION, delete(COLLECTION[0][:-8], 2)], "orphan", None, id="rttl_8-deleted-collection"),
        pytest.param([delete(STR + b"k", 1)], "orphan", None, id="rttl_14-deleted-string"),
    ],
)
def test_rttl_4_rttl_5_rttl_6_rttl_7_rttl_8_rttl_9_rttl_14_whom_a_row_decides_about(
    owners: list[Entry], fate: str, sidecar: str | None
) -> None:
    assert fates(TTL_ROW, *owners) == {fate: 1}
    files = files_of(TTL_ROW, *owners)
    assert {name: data for name, data in files.items() if name.endswith(".jsonl")} == (
        {sidecar: ROW} if sidecar else {}
    )


def test_rttl_8_unclaimed_rows_give_no_warning() -> None:
    outcome, _ = decode_in_memory(snapshot([TTL_ROW, COLLECTION]))
    assert [warning.name for warning in outcome.warnings] == ["undecoded-type"]


def test_rttl_15_one_warning_gives_the_exact_count_and_eight_segments() -> None:
    entries = [put(TTL + b"k%02d" % n, 1, expiry(9)) for n in range(30)] + [put(TTL + b"k0", 1, expiry(9))]
    outcome, files = decode_in_memory(snapshot(entries))
    assert files == {}
    (warning,) = outcome.warnings
    assert (warning.name, warning.count) == ("orphan-ttl", 31)
    # `k0` comes after all its extensions. [VISI-17]
    assert list(warning.about) == [f"k{n:02}" for n in range(8)]
    assert outcome.complete


def test_rttl_10_orphans_are_counted_and_their_keys_are_not_kept() -> None:
    entries = [put(TTL + b"%06d" % n + b"x" * 1000, 1, expiry(9)) for n in range(2000)]
    data = snapshot(entries)
    del entries
    tracemalloc.start()
    try:
        outcome, _ = decode_in_memory(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.counters.ttls["orphan"] == 2000
    assert peak < len(data) / 2, "the keys of all orphans were in memory at once"


def test_rttl_11_a_sidecar_has_at_most_one_row_for_a_key_and_none_without_rows() -> None:
    assert files_of(LEGACY_STRING) == {"strings/k.bin": b"v"}
    versions = [put(TTL + b"k", ts, expiry(ts)) for ts in (1, 2, 9)]
    assert files_of(LEGACY_STRING, *versions)["strings_ttl.jsonl"] == ROW


def test_rttl_12_a_row_has_no_spaces_and_ends_with_lf() -> None:
    assert render_expiry_row("a%20b", 2**63 - 1) == b'{"key":"a%20b","expire_at_ms":9223372036854775807}\n'


def test_rttl_13_rows_of_envelopes_come_first_then_those_of_ttl_rows() -> None:
    entries = [
        put(STR + b"a", 1, b"legacy"), put(TTL + b"a", 1, expiry(1)),
        put(STR + b"b", 1, envelope(1, b"v", 2)), put(TTL + b"b", 1, expiry(7)),
        put(b"c", 1, b"bare"), put(TTL + b"c", 1, expiry(3)),
        put(STR + b"ab", 1, b"legacy"), put(TTL + b"ab", 1, expiry(4)),
        put(STR + b"bb", 1, envelope(1, b"v", 5)),
    ]  # fmt: skip
    rows = files_of(*entries)["strings_ttl.jsonl"]
    assert [line.split(b'"')[3] for line in rows.splitlines()] == [b"bb", b"b", b"ab", b"a", b"c"]
