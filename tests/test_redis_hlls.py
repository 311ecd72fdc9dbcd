"""Chapter RHLL: HyperLogLogs."""

import pytest
from ekvformat.outcomes import Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_strings import Value
from harness import fault_of, refusal
from hypothesis import given
from model import UnreadableError, read_value
from test_redis_strings import BODIES, MOST, files_of
from writer import HLL, STR, TTL, envelope, expiry, put, snapshot


@given(BODIES)
def test_rhll_2_every_body_is_what_the_model_says(body: bytes) -> None:
    try:
        payload, expiry_ms, _ = read_value(body, 2, "RHLL")
    except UnreadableError as unreadable:
        with pytest.raises(Fault, match=r"^invalid-value") as caught:
            decode_hll_value(body, 100, b"k")
        assert caught.value.clause == unreadable.args[0]
        assert caught.value.key == b"k"
        return
    assert decode_hll_value(body) == Value(payload, expiry_ms)


def test_rhll_1_the_user_key_is_the_storage_key_without_its_prefix() -> None:
    assert files_of(put(HLL, 1, b"e"), put(HLL + b"k", 1, b"h")) == {"hll/.bin": b"e", "hll/k.bin": b"h"}


def test_rhll_2_a_strings_envelope_is_no_hll_envelope() -> None:
    assert decode_hll_value(b"\xff\x01\x00x") == Value(b"\xff\x01\x00x", None)
    assert decode_hll_value(b"\xff\x02\x00x") == Value(b"x", None)


def test_rhll_3_the_flags_byte_is_not_optional() -> None:
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_hll_value(b"\xff\x02", 100)
    assert fault_of(caught.value) == ("invalid-value", "RHLL-3", 102)
    assert caught.value.detail.startswith("flags is cut:")
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_hll_value(b"\xff\x02")
    assert (caught.value.offset, caught.value.key) == (2, b"")


@pytest.mark.parametrize("size", range(8))
def test_rhll_4_an_expiry_that_is_cut_is_unreadable(size: int) -> None:
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_hll_value(b"\xff\x02\x01" + bytes(size), 100)
    assert fault_of(caught.value) == ("invalid-value", "RHLL-4", 103)
    assert caught.value.detail.startswith("expiry is cut:")
    assert decode_hll_value(b"\xff\x02\x01" + bytes(8)) == Value(b"", 0)


@pytest.mark.parametrize("bit", range(1, 8))
def test_rhll_5_other_flags_are_ignored(bit: int) -> None:
    assert decode_hll_value(envelope(2, b"v", other_flags=1 << bit)) == Value(b"v", None)
    assert decode_hll_value(envelope(2, b"v", 7, other_flags=1 << bit)) == Value(b"v", 7)


@pytest.mark.parametrize(("stored", "shown"), [(MOST, MOST), (MOST + 1, MOST), (2**64 - 1, MOST)])
def test_rhll_6_an_expiry_above_the_greatest_counts_as_that(stored: int, shown: int) -> None:
    assert decode_hll_value(envelope(2, b"", stored)).expiry_ms == shown


def test_rhll_7_rhll_13_an_expiry_of_0_is_a_row() -> None:
    files = files_of(put(HLL + b"k", 1, envelope(2, b"h", 0)))
    assert files == {"hll/k.bin": b"h", "hll_ttl.jsonl": b'{"key":"k","expire_at_ms":0}\n'}


@pytest.mark.parametrize("payload", [b"", b"HYLL\x01", b"\xff\x02"])
def test_rhll_8_the_payload_is_opaque(payload: bytes) -> None:
    assert decode_hll_value(envelope(2, payload)) == Value(payload, None)


@pytest.mark.parametrize(("body", "clause", "offset"), [(b"\xff\x02", "RHLL-3", 2), (b"\xff\x02\x01abc", "RHLL-4", 3)])
def test_rhll_9_an_unreadable_value_refuses_the_snapshot(body: bytes, clause: str, offset: int) -> None:
    value_at = 32 + 8 + 20 + 8 + 9
    assert refusal(snapshot([put(HLL + b"k", 1, body)])) == ("invalid-value", clause, value_at + offset, HLL + b"k")


def test_rhll_10_an_envelope_alone_decides_the_expiry() -> None:
    files = files_of(put(HLL + b"k", 1, envelope(2, b"h")), put(TTL + b"k", 1, expiry(9)))
    assert files == {"hll/k.bin": b"h"}


def test_rhll_11_a_legacy_hll_takes_the_ttl_row() -> None:
    files = files_of(put(HLL + b"k", 1, b"raw"), put(TTL + b"k", 1, expiry(9)))
    assert files == {"hll/k.bin": b"raw", "hll_ttl.jsonl": b'{"key":"k","expire_at_ms":9}\n'}


def test_rhll_12_an_hll_is_shown_beside_a_string_of_the_same_name() -> None:
    assert files_of(put(HLL + b"k", 1, b"h"), put(STR + b"k", 1, b"s"), put(b"k", 1, b"b")) == {
        "hll/k.bin": b"h",
        "strings/k.bin": b"s",
    }
