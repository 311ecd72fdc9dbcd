"""Chapter SEGM: keys as file names."""

import hashlib
import re
import string
import urllib.parse
from pathlib import Path

import pytest
from ekvdump.verify.findings import Finding
from ekvdump.verify.segments import decode_segment, needs_keymap
from ekvformat.outcomes import Fault
from ekvformat.segments import encode_binary_segment, encode_fallback, encode_segment, is_fallback
from hypothesis import given
from hypothesis import strategies as st
from model import base64url, segment_of
from test_redis_strings import files_of
from writer import STR, put

KEYS = st.one_of(
    st.binary(max_size=8),
    st.binary(min_size=75, max_size=85),
    st.binary(min_size=235, max_size=245),
    st.builds(
        lambda digits, rest: digits.encode() + rest,
        st.text(string.hexdigits, min_size=31, max_size=33),
        st.sampled_from([b"__", b"_", b"__x", b"%_"]),
    ),
    st.builds(lambda start, rest: start + rest, st.sampled_from([b"b64.", b"b64", b"B64."]), st.binary(max_size=4)),
)


def sha(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:32]


@given(KEYS)
def test_segm_2_every_key_has_the_models_segment_and_comes_back(key: bytes) -> None:
    segment = encode_segment(key)
    assert segment == segment_of(key)
    assert len(segment.encode()) <= 240
    if is_fallback(segment):
        with pytest.raises(Finding, match=r"^needs-keymap"):
            decode_segment(segment)
    else:
        assert decode_segment(segment) == key


def test_segm_1_unreserved_bytes_stand_for_themselves_and_all_others_are_escaped() -> None:
    unreserved = (string.ascii_letters + string.digits + "-._").encode()
    for byte in range(256):
        shown = encode_segment(bytes((byte,)))
        assert shown == (chr(byte) if byte in unreserved else f"%{byte:02X}")
    assert encode_segment(b"~") == "%7E"


def test_segm_3_the_fallback_form() -> None:
    key = bytes(range(128)) * 3
    assert encode_fallback(key) == sha(key) + "__" + urllib.parse.quote(key[:64], safe="").replace("~", "%7E")
    assert len(encode_fallback(b"%" * 300)) == 226
    assert encode_fallback(b"short") == sha(b"short") + "__short"


def test_segm_4_a_key_of_more_than_240_bytes() -> None:
    assert encode_segment(b"x" * 240) == "x" * 240
    assert encode_segment(b"x" * 241) == sha(b"x" * 241) + "__" + "x" * 64


def test_segm_5_a_percent_form_of_more_than_240_bytes() -> None:
    assert encode_segment(b"%" * 80) == "%25" * 80
    assert encode_segment(b"%" * 81) == sha(b"%" * 81) + "__" + "%25" * 64
    assert len(encode_segment(b"%" * 79 + b"abc")) == 240


@pytest.mark.parametrize("digits", ["0" * 32, "ABCDEFabcdef0123456789" + "0" * 10])
def test_segm_6_a_key_that_looks_like_a_fallback_form(digits: str) -> None:
    key = digits.encode() + b"__rest"
    assert encode_segment(key) == f"{sha(key)}__{digits}__rest"
    for other in (digits[1:].encode() + b"__", digits.encode() + b"_x", b"g" + digits[1:].encode() + b"__"):
        assert encode_segment(other) == other.decode()


def test_segm_7_a_key_that_looks_like_a_binary_form() -> None:
    assert encode_segment(b"b64.x") == "261e3e281e06e9789437999358e26046__b64.x"
    assert encode_segment(b"b64.") == sha(b"b64.") + "__b64."
    assert encode_segment(b"b64") == "b64"
    assert encode_segment(b"B64.") == "B64."
    assert encode_segment(b"xb64.") == "xb64."


def test_segm_8_the_binary_form() -> None:
    assert encode_binary_segment(b"\xfb\xff") == "b64.-_8"
    assert encode_binary_segment(b"") == "b64."
    assert len(encode_binary_segment(b"x" * 177)) == 240
    assert encode_binary_segment(b"x" * 178) == encode_fallback(b"x" * 178)


def test_segm_8_base64url_is_cut_of_its_padding_and_of_nothing_else() -> None:
    assert encode_binary_segment(b"\0\0\x17") == "b64.AAAX"
    assert encode_binary_segment(b"\x5d\0\0") == "b64.XQAA"
    assert encode_binary_segment(b"\x5d") == "b64.XQ"


def test_segm_9_a_fallback_segment_gets_a_keymap_line() -> None:
    files = files_of(put(STR + b"b64.x", 1, b"v"), put(STR + b"plain", 1, b"v"))
    assert files["KEYMAP.jsonl"].count(b"\n") == 1


def refused(segment: str) -> tuple[str, str]:
    with pytest.raises(Fault) as caught:
        decode_segment(segment)
    assert caught.value.path == segment
    assert caught.value.detail
    return caught.value.name, caught.value.clause


def test_segm_10_a_segment_of_more_than_240_bytes_is_invalid() -> None:
    assert decode_segment("x" * 240) == b"x" * 240
    assert refused("x" * 241) == ("invalid-segment", "SEGM-10")


def test_segm_10_bytes_are_counted_and_not_characters() -> None:
    assert refused("é" * 121) == ("invalid-segment", "SEGM-10")
    assert refused("é" * 120) == ("invalid-segment", "SEGM-13")
    assert refused("\udcff" * 240) == ("invalid-segment", "SEGM-13")
    assert refused("\ud800") == ("invalid-segment", "SEGM-13")


@pytest.mark.parametrize("segment", ["0" * 32 + "__", "F" * 32 + "__x", "a" * 32 + "__%"])
def test_segm_11_a_fallback_segment_needs_keymap(segment: str) -> None:
    assert refused(segment) == ("needs-keymap", "SEGM-11")
    assert needs_keymap(segment)


def test_segm_11_a_segment_of_more_than_240_bytes_is_no_fallback() -> None:
    assert needs_keymap("0" * 32 + "__" + "x" * 206)
    assert not needs_keymap("0" * 32 + "__" + "x" * 207)


@given(st.binary(max_size=20))
def test_segm_12_a_binary_form_comes_back(key: bytes) -> None:
    assert decode_segment("b64." + base64url(key)) == key


@pytest.mark.parametrize("rest", ["A", "AAAAA", "AA==", "A+", "A/", "é", "A%20", "A A"])
def test_segm_12_anything_else_behind_b64_is_invalid(rest: str) -> None:
    assert refused("b64." + rest) == ("invalid-segment", "SEGM-12")


@pytest.mark.parametrize("segment", ["a b", "~", "%", "%4", "%4g", "%g4", "a%", "/", "é", "\n", "a\n"])
def test_segm_13_a_reserved_byte_or_a_broken_escape_is_invalid(segment: str) -> None:
    assert refused(segment) == ("invalid-segment", "SEGM-13")


def test_segm_13_hex_digits_of_either_case_are_accepted() -> None:
    assert decode_segment("%7e%7E%41") == b"~~A"
    assert decode_segment("") == b""


@pytest.mark.parametrize(
    ("segment", "clause"),
    [
        ("0" * 32 + "__" + "x" * 207, "SEGM-10"),
        ("b64." + "!" * 237, "SEGM-10"),
        ("0" * 32 + "__~", "SEGM-11"),
        ("b64.~", "SEGM-12"),
    ],
)
def test_segm_14_the_forms_are_judged_in_order(segment: str, clause: str) -> None:
    assert refused(segment)[1] == clause


def test_the_specs_examples() -> None:
    text = (Path(__file__).resolve().parent.parent / "spec" / "08-segments.md").read_text()
    rows = re.findall(r"^(\S+) {2,}(\S+)$", text.split("## Worked examples")[1], re.MULTILINE)
    assert ("b64.x", "261e3e281e06e9789437999358e26046__b64.x") in rows
    assert rows.pop(0) == ("key", "segment")
    for key, segment in rows:
        assert encode_segment(key.encode()) == segment
    with pytest.raises(Finding, match=r"^invalid-segment"):
        decode_segment("a/b")
