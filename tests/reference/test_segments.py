"""Chapter SEGM: keys as file names."""

import hashlib
import string
import urllib.parse

from ekvformat.segments import encode_binary_segment, encode_fallback, encode_segment
from hypothesis import given
from model import segment_of
from store_strategies import KEYS_OF_EACH_FORM


def sha(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:32]


@given(KEYS_OF_EACH_FORM)
def test_segm_2_every_key_has_the_models_segment(key: bytes) -> None:
    segment = encode_segment(key)
    assert segment == segment_of(key)
    assert len(segment.encode()) <= 240


def test_segm_1_unreserved_bytes_stand_for_themselves_and_all_others_are_escaped() -> None:
    unreserved = (string.ascii_letters + string.digits + "-._").encode()
    for byte in range(256):
        assert encode_segment(bytes((byte,))) == (chr(byte) if byte in unreserved else f"%{byte:02X}")


def test_segm_3_the_fallback_form() -> None:
    key = bytes(range(128)) * 3
    assert encode_fallback(key) == sha(key) + "__" + urllib.parse.quote(key[:64], safe="").replace("~", "%7E")
    assert len(encode_fallback(b"%" * 300)) == 226
    assert encode_fallback(b"short") == sha(b"short") + "__short"


def test_segm_8_the_binary_form() -> None:
    assert encode_binary_segment(b"\xfb\xff") == "b64.-_8"
    assert encode_binary_segment(b"") == "b64."
    assert len(encode_binary_segment(b"x" * 177)) == 240
    assert encode_binary_segment(b"x" * 178) == encode_fallback(b"x" * 178)


def test_segm_8_nothing_but_its_padding_is_taken_from_base64url() -> None:
    assert encode_binary_segment(b"\0\0\x17") == "b64.AAAX"
    assert encode_binary_segment(b"\x5d\0\0") == "b64.XQAA"
    assert encode_binary_segment(b"\x5d") == "b64.XQ"
