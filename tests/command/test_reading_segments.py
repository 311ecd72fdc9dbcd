"""Chapter SEGM, its reading half: file names as keys."""

import pytest
from ekvdump.verify.findings import Finding
from ekvdump.verify.segments import decode_segment, needs_keymap
from ekvformat.segments import encode_segment, is_fallback
from hypothesis import given
from hypothesis import strategies as st
from model import base64url
from store_strategies import KEYS_OF_EACH_FORM


def refused(segment: str) -> tuple[str, str]:
    with pytest.raises(Finding) as caught:
        decode_segment(segment)
    assert caught.value.path == segment
    assert caught.value.detail
    return caught.value.name, caught.value.clause


def test_read_1_a_segment_of_more_than_240_bytes_is_invalid() -> None:
    assert decode_segment("x" * 240) == b"x" * 240
    assert refused("x" * 241) == ("invalid-segment", "READ-1")


def test_read_1_bytes_are_counted_and_not_characters() -> None:
    assert refused("é" * 121) == ("invalid-segment", "READ-1")
    assert refused("é" * 120) == ("invalid-segment", "READ-4")
    assert refused("\udcff" * 240) == ("invalid-segment", "READ-4")
    assert refused("\ud800") == ("invalid-segment", "READ-4")


@pytest.mark.parametrize("segment", ["0" * 32 + "__", "F" * 32 + "__x", "a" * 32 + "__%"])
def test_read_2_a_fallback_segment_needs_keymap(segment: str) -> None:
    assert refused(segment) == ("needs-keymap", "READ-2")
    assert needs_keymap(segment)


def test_read_2_a_segment_of_more_than_240_bytes_is_not_a_fallback() -> None:
    assert needs_keymap("0" * 32 + "__" + "x" * 206)
    assert not needs_keymap("0" * 32 + "__" + "x" * 207)


@given(st.binary(max_size=20))
def test_read_3_a_binary_form_comes_back(key: bytes) -> None:
    assert decode_segment("b64." + base64url(key)) == key


@pytest.mark.parametrize("rest", ["A", "AAAAA", "AA==", "A+", "A/", "é", "A%20", "A A"])
def test_read_3_anything_else_behind_b64_is_invalid(rest: str) -> None:
    assert refused("b64." + rest) == ("invalid-segment", "READ-3")


@pytest.mark.parametrize("segment", ["a b", "~", "%", "%4", "%4g", "%g4", "a%", "/", "é", "\n", "a\n"])
def test_read_4_a_reserved_byte_or_a_broken_escape_is_invalid(segment: str) -> None:
    assert refused(segment) == ("invalid-segment", "READ-4")


def test_read_4_hex_digits_of_either_case_are_accepted() -> None:
    assert decode_segment("%7e%7E%41") == b"~~A"
    assert decode_segment("") == b""


@pytest.mark.parametrize(
    ("segment", "clause"),
    [
        ("0" * 32 + "__" + "x" * 207, "READ-1"),
        ("b64." + "!" * 237, "READ-1"),
        ("0" * 32 + "__~", "READ-2"),
        ("b64.~", "READ-3"),
    ],
)
def test_read_5_the_forms_are_judged_in_order(segment: str, clause: str) -> None:
    assert refused(segment)[1] == clause


@given(KEYS_OF_EACH_FORM)
def test_read_5_a_key_comes_back_from_its_segment_or_needs_keymap(key: bytes) -> None:
    segment = encode_segment(key)
    if is_fallback(segment):
        assert refused(segment) == ("needs-keymap", "READ-2")
    else:
        assert decode_segment(segment) == key


def test_read_4_the_specs_example_of_a_slash() -> None:
    assert refused("a/b") == ("invalid-segment", "READ-4")
