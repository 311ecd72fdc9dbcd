"""Chapter RTTL: TTL records and expiry sidecars."""

import pytest
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import decode_ttl_value, render_expiry_line
from hypothesis import given
from hypothesis import strategies as st
from reference_runs import MAX_EXPIRY_MS, fault_of, files_of, summary_of
from writer import HLL, STR, TTL, Entry, delete, envelope, expiry, put

ROW = b'{"key":"k","expire_at_ms":9}\n'
TTL_ROW = put(TTL + b"k", 1, expiry(9))
MEMBER = put(b"!st|mem|\0\0\0\1km", 1, b"")
META = put(b"!st|meta|\0\0\0\1k", 1, bytes(8) + expiry(8))
STRAY = put(b"!st|mem|k", 1, b"")
STRING_ENVELOPE = put(STR + b"k", 1, envelope(1, b"v"))
LEGACY_STRING = put(STR + b"k", 1, b"v")
BARE_STRING = put(b"k", 1, b"\xff\x01\x00")
HLL_ENVELOPE = put(HLL + b"k", 1, envelope(2, b"h"))
LEGACY_HLL = put(HLL + b"k", 1, b"h")


@given(st.binary(max_size=10))
def test_rttl_1_rttl_2_a_row_has_exactly_eight_bytes(body: bytes) -> None:
    if len(body) == 8:
        assert decode_ttl_value(body) == min(int.from_bytes(body, "big"), MAX_EXPIRY_MS)
        return
    with pytest.raises(Fault) as caught:
        decode_ttl_value(body, 100, b"k")
    assert fault_of(caught.value) == ("invalid-value", "RTTL-1", 100)
    assert caught.value.key == b"k"
    with pytest.raises(Fault) as caught:
        decode_ttl_value(body)
    assert (caught.value.offset, caught.value.key) == (0, b"")


def test_rttl_1_a_row_that_is_not_visible_is_not_judged() -> None:
    assert files_of(put(TTL + b"k", 1, b"bad"), delete(TTL + b"k", 2), put(TTL + b"x", 2000, b"bad")) == {}


@pytest.mark.parametrize(
    ("owners", "fate", "sidecar"),
    [
        pytest.param([STRING_ENVELOPE], "redundant", None, id="rttl_4-string-envelope"),
        pytest.param([STRING_ENVELOPE, BARE_STRING], "redundant", None, id="rttl_4-shadowed"),
        pytest.param([STRING_ENVELOPE, LEGACY_HLL], "redundant", None, id="rttl_7-envelope-and-legacy-hll"),
        pytest.param([LEGACY_STRING], "applied", "strings_ttl.jsonl", id="rttl_5-legacy"),
        pytest.param([BARE_STRING], "applied", "strings_ttl.jsonl", id="rttl_5-bare"),
        pytest.param([LEGACY_STRING, HLL_ENVELOPE], "applied", "strings_ttl.jsonl", id="rttl_7-hll-envelope"),
        pytest.param([BARE_STRING, LEGACY_HLL], "applied", "hll_ttl.jsonl", id="rttl_7-bare-and-hll"),
        pytest.param([HLL_ENVELOPE], "redundant", None, id="rttl_4-hll-envelope"),
        pytest.param([LEGACY_HLL], "applied", "hll_ttl.jsonl", id="rttl_6-legacy-hll"),
        pytest.param([LEGACY_HLL, META], "applied", "hll_ttl.jsonl", id="rttl_7-beside-a-collection"),
        pytest.param([MEMBER], "applied", None, id="rttl_17-collection"),
        pytest.param([MEMBER, META], "redundant", None, id="rttl_16-collection-with-expiry"),
        pytest.param([STRAY], "orphan", None, id="rttl_10-beside-a-stray"),
        pytest.param([], "orphan", None, id="rttl_10-orphan"),
        pytest.param([put(b"!ddb|item|x", 1, b"")], "orphan", None, id="rttl_8-not-redis"),
        pytest.param([MEMBER, delete(MEMBER[0][:-8], 2)], "orphan", None, id="rttl_8-deleted-collection"),
        pytest.param([delete(STR + b"k", 1)], "orphan", None, id="rttl_14-deleted-string"),
    ],
)
def test_rttl_4_rttl_5_rttl_6_rttl_7_rttl_8_rttl_10_rttl_16_rttl_17_the_key_that_a_row_decides_about(
    owners: list[Entry], fate: str, sidecar: str | None
) -> None:
    counts = summary_of(TTL_ROW, *owners).counters.ttls
    assert {name: count for name, count in counts.items() if count} == {fate: 1}
    sidecars = {name: data for name, data in files_of(TTL_ROW, *owners).items() if name.endswith(".jsonl")}
    assert sidecars == ({sidecar: ROW} if sidecar else {})


def test_rttl_11_one_warning_gives_the_exact_count_and_eight_segments() -> None:
    entries = [put(TTL + b"k%02d" % n, 1, expiry(9)) for n in range(30)] + [put(TTL + b"k0", 1, expiry(9))]
    (warning,) = summary_of(*entries).warnings
    assert (warning.name, warning.count) == ("orphan-ttl", 31)
    # `k0` comes after all its extensions. [VISI-17]
    assert list(warning.about) == [f"k{n:02}" for n in range(8)]


def test_rttl_14_a_row_has_no_spaces_and_ends_with_lf() -> None:
    assert render_expiry_line("a%20b", MAX_EXPIRY_MS) == b'{"key":"a%20b","expire_at_ms":9223372036854775807}\n'
