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


def test_segm_11_a_segment_of_more_than_240_bytes_is_not_a_fallback() -> None:
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


@given(KEYS_OF_EACH_FORM)
def test_segm_14_a_key_comes_back_from_its_segment_or_needs_keymap(key: bytes) -> None:
    segment = encode_segment(key)
    if is_fallback(segment):
        assert refused(segment) == ("needs-keymap", "SEGM-11")
    else:
        assert decode_segment(segment) == key


def test_segm_13_the_specs_example_of_a_slash() -> None:
    assert refused("a/b") == ("invalid-segment", "SEGM-13")
