"""Chapter RSTR: Redis strings."""

import pytest
from ekvformat.outcomes import Fault
from ekvformat.redis_strings import Value, decode_string_value
from harness import decode_in_memory, fault_of, refusal
from hypothesis import given
from hypothesis import strategies as st
from model import UnreadableError, read_value
from writer import STR, TTL, envelope, expiry, put, snapshot

MOST = 2**63 - 1
BODIES = st.one_of(
    st.binary(max_size=16),
    st.builds(lambda start, rest: start + rest, st.sampled_from([b"\xff", b"\xff\x01", b"\xff\x02"]), st.binary()),
)


def files_of(*entries: tuple[bytes, bytes]) -> dict[str, bytes]:
    return {path.removeprefix("redis/db_0/"): data for path, data in decode_in_memory(snapshot(entries))[1].items()}


@given(BODIES)
def test_rstr_2_every_body_is_what_the_model_says(body: bytes) -> None:
    try:
        payload, expiry_ms, _ = read_value(body, 1, "RSTR")
    except UnreadableError as unreadable:
        with pytest.raises(Fault, match=r"^invalid-value") as caught:
            decode_string_value(body, 100, b"k")
        assert caught.value.clause == unreadable.args[0]
        assert caught.value.key == b"k"
        return
    assert decode_string_value(body) == Value(payload, expiry_ms)


def test_rstr_1_the_user_key_is_the_storage_key_without_its_prefix() -> None:
    assert files_of(put(STR, 1, b"e"), put(STR + STR, 1, b"twice")) == {
        "strings/.bin": b"e",
        "strings/%21redis%7Cstr%7C.bin": b"twice",
    }


def test_rstr_2_ff_01_is_an_envelope_even_if_a_legacy_writer_meant_bytes() -> None:
    assert decode_string_value(b"\xff\x01\x00abc") == Value(b"abc", None)
    assert decode_string_value(b"\xff\x01abcdefghij") == Value(b"j", int.from_bytes(b"bcdefghi", "big"))


def test_rstr_3_the_flags_byte_is_not_optional() -> None:
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_string_value(b"\xff\x01", 100)
    assert fault_of(caught.value) == ("invalid-value", "RSTR-3", 102)
    assert caught.value.detail.startswith("flags is cut:")
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_string_value(b"\xff\x01")
    assert (caught.value.offset, caught.value.key) == (2, b"")


@pytest.mark.parametrize("size", range(8))
def test_rstr_4_an_expiry_that_is_cut_is_unreadable(size: int) -> None:
    with pytest.raises(Fault, match=r"^invalid-value") as caught:
        decode_string_value(b"\xff\x01\x01" + bytes(size), 100)
    assert fault_of(caught.value) == ("invalid-value", "RSTR-4", 103)
    assert caught.value.detail.startswith("expiry is cut:")
    assert decode_string_value(b"\xff\x01\x01" + bytes(8)) == Value(b"", 0)


@pytest.mark.parametrize("bit", range(1, 8))
def test_rstr_5_other_flags_are_ignored(bit: int) -> None:
    assert decode_string_value(envelope(1, b"v", other_flags=1 << bit)) == Value(b"v", None)
    assert decode_string_value(envelope(1, b"v", 7, other_flags=1 << bit)) == Value(b"v", 7)


@pytest.mark.parametrize(("stored", "shown"), [(MOST - 1, MOST - 1), (MOST, MOST), (MOST + 1, MOST), (2**64 - 1, MOST)])
def test_rstr_6_an_expiry_above_the_greatest_counts_as_that(stored: int, shown: int) -> None:
    assert decode_string_value(envelope(1, b"", stored)).expiry_ms == shown


def test_rstr_7_an_expiry_of_0_is_an_expiry() -> None:
    files = files_of(put(STR + b"k", 1, envelope(1, b"v", 0)))
    assert files["strings_ttl.jsonl"] == b'{"key":"k","expire_at_ms":0}\n'


@pytest.mark.parametrize("payload", [b"", b"\xff\x01", b"\n"])
def test_rstr_8_the_payload_is_what_is_left(payload: bytes) -> None:
    assert decode_string_value(envelope(1, payload)) == Value(payload, None)
    assert decode_string_value(envelope(1, payload, 5)) == Value(payload, 5)


@pytest.mark.parametrize(("body", "clause", "offset"), [(b"\xff\x01", "RSTR-3", 2), (b"\xff\x01\x01abc", "RSTR-4", 3)])
def test_rstr_9_an_unreadable_value_refuses_the_snapshot(body: bytes, clause: str, offset: int) -> None:
    value_at = 32 + 8 + 20 + 8 + 9
    assert refusal(snapshot([put(STR + b"k", 1, body)])) == ("invalid-value", clause, value_at + offset, STR + b"k")


def test_rstr_10_an_envelope_alone_decides_the_expiry() -> None:
    for body, rows in ((envelope(1, b"v"), None), (envelope(1, b"v", 5), b'{"key":"k","expire_at_ms":5}\n')):
        files = files_of(put(STR + b"k", 1, body), put(TTL + b"k", 1, expiry(9)))
        assert files.get("strings_ttl.jsonl") == rows


@pytest.mark.parametrize("body", [b"", b"\xff", b"\xff\x00\x01", b"\xff\x02\x00", b"\x01\xff", b"plain"])
def test_rstr_11_anything_else_is_legacy(body: bytes) -> None:
    assert decode_string_value(body) == Value(body, None)
    files = files_of(put(STR + b"k", 1, body), put(TTL + b"k", 1, expiry(9)))
    assert files == {"strings/k.bin": body, "strings_ttl.jsonl": b'{"key":"k","expire_at_ms":9}\n'}


def test_rstr_12_the_user_key_of_a_bare_string_is_its_whole_storage_key() -> None:
    assert files_of(put(b"redis|str|k", 1, b"v")) == {"strings/redis%7Cstr%7Ck.bin": b"v"}


@pytest.mark.parametrize("body", [b"\xff\x01", b"\xff\x01\x01short", envelope(1, b"v", 5), b""])
def test_rstr_17_no_envelope_is_looked_for_in_a_bare_string(body: bytes) -> None:
    assert files_of(put(b"k", 1, body)) == {"strings/k.bin": body}


def test_rstr_13_a_prefixed_string_shadows_a_bare_one() -> None:
    data = snapshot([put(STR + b"k", 1, b"prefixed"), put(b"k", 2, b"bare"), put(b"other", 1, b"bare")])
    outcome, files = decode_in_memory(data)
    assert files == {"redis/db_0/strings/k.bin": b"prefixed", "redis/db_0/strings/other.bin": b"bare"}
    assert outcome.counters.strings == {"written": 2, "shadowed": 1, "excluded": 0, "unreadable": 0}


def test_rstr_13_a_deleted_prefixed_string_shadows_nothing() -> None:
    assert files_of(put(STR + b"k", 1, b"", flags=1), put(b"k", 1, b"bare")) == {"strings/k.bin": b"bare"}


def test_rstr_14_the_expiry_of_a_bare_string_is_the_ttl_rows() -> None:
    files = files_of(put(b"k", 1, b"v"), put(TTL + b"k", 1, expiry(9)))
    assert files["strings_ttl.jsonl"] == b'{"key":"k","expire_at_ms":9}\n'


def test_rstr_15_rstr_16_a_string_becomes_a_blob_and_a_row() -> None:
    assert files_of(put(STR + b"a b", 1, envelope(1, b"x\0y", 5))) == {
        "strings/a%20b.bin": b"x\0y",
        "strings_ttl.jsonl": b'{"key":"a%20b","expire_at_ms":5}\n',
    }
