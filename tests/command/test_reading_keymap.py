"""Chapter KMAP, its reading half: lines of KEYMAP.jsonl as keys."""

import io
import json

import pytest
from command_runs import BoundedLines
from ekvdump.verify.findings import Finding
from ekvdump.verify.keymap import KeymapLine, decode_keymap_line, iter_keymap
from ekvdump.verify.lines import iter_bounded_lines
from ekvformat.keymap import render_keymap_line
from hypothesis import given
from hypothesis import strategies as st
from model import segment_of
from reference_runs import fault_of

ANY_LINE = b'{"encoded":"s","original":"aw","kind":"sha-fallback"}\n'


@given(st.binary(min_size=1, max_size=400))
def test_kmap_1_a_key_comes_back_from_its_line(key: bytes) -> None:
    line = render_keymap_line(segment_of(key), key)
    assert decode_keymap_line(line) == KeymapLine(segment_of(key), key, "sha-fallback")


class ReadsOf(io.BytesIO):
    """A stream that is asked for `size` bytes at a time and no other number."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size == self._size
        return super().readline(size)


def test_conv_9_of_a_long_line_only_the_beginning_is_given() -> None:
    data = b"abc\n" + b"d" * 20 + b"\n" + b"e\n\n" + b"f" * 11
    assert list(iter_bounded_lines(ReadsOf(data, 5), 4)) == [
        (0, b"abc\n"), (4, b"ddddd"), (25, b"e\n"), (27, b"\n"), (28, b"fffff"),
    ]  # fmt: skip
    assert list(iter_bounded_lines(ReadsOf(b"abcd", 5), 4)) == [(0, b"abcd")]
    assert list(iter_bounded_lines(ReadsOf(b"abcd\nx", 5), 4)) == [(0, b"abcd\n"), (5, b"x")]


def refused(line: bytes) -> tuple[str, str, int | None]:
    with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
        decode_keymap_line(line, 100, "some/KEYMAP.jsonl")
    assert caught.value.path == "some/KEYMAP.jsonl"
    return fault_of(caught.value)


FRAME = b'{"encoded":"s","original":"%b","kind":"k"}\n'


def line_of(size: int) -> bytes:
    return FRAME % (b"A" * (size + 2 - len(FRAME)))


def test_read_6_a_line_may_have_4_mib_lf_included() -> None:
    limit = 4_194_304
    assert len(line_of(limit)) == limit
    (line,) = iter_keymap(BoundedLines(line_of(limit)))
    assert len(line.original) == (limit + 2 - len(FRAME)) * 3 // 4
    with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
        list(iter_keymap(BoundedLines(ANY_LINE + line_of(limit + 1))))
    assert fault_of(caught.value) == ("invalid-keymap", "READ-6", len(ANY_LINE))
    # The longest key there is fits.
    assert len(render_keymap_line(segment_of(b"%" * 1_048_576), b"%" * 1_048_576)) < limit


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"null\n", b"[]\n", b"{}\n", b"{", b"\xff\n", b"[" * 100_000,
        b'{"encoded":"s","original":"aw"}\n',
        b'{"encoded":"s","kind":"k"}\n',
        b'{"original":"aw","kind":"k"}\n',
        b'{"encoded":null,"original":"aw","kind":"k"}\n',
        b'{"encoded":"s","original":null,"kind":"k"}\n',
        b'{"encoded":"s","original":"aw","kind":null}\n',
        b'{"encoded":1,"original":"aw","kind":"k"}\n',
        b'{"encoded":"s","original":["aw"],"kind":"k"}\n',
        b'{"encoded":"s","original":"aw","kind":"k"} {}\n',
        b'{"encoded":"s","original":"aw","kind":"k","x":NaN}\n',
    ],
    ids=range(17),
)  # fmt: skip
def test_read_7_a_line_is_an_object_with_three_strings(line: bytes) -> None:
    assert refused(line) == ("invalid-keymap", "READ-7", 100)


def test_read_7_other_members_and_spaces_are_ignored() -> None:
    line = b' {"x": [1], "kind": "k", "original": "", "encoded": "s"} \r\n'
    assert decode_keymap_line(line) == KeymapLine("s", b"", "k")


@pytest.mark.parametrize(
    "line", [b'{"encoded":"","original":"aw","kind":"k"}', b'{"encoded":"s","original":"aw","kind":""}']
)
def test_read_8_an_empty_segment_or_kind_is_refused_and_an_empty_key_is_a_key(line: bytes) -> None:
    assert refused(line) == ("invalid-keymap", "READ-8", 100)
    assert decode_keymap_line(b'{"encoded":"s","original":"","kind":"k"}').original == b""


@pytest.mark.parametrize("original", ["A", "AA==", "A+", "é"])
def test_read_9_an_original_is_base64url_without_padding(original: str) -> None:
    line = json.dumps({"encoded": "s", "original": original, "kind": "k"}).encode()
    assert refused(line) == ("invalid-keymap", "READ-9", 100)


def test_read_10_the_first_bad_line_ends_the_reading() -> None:
    lines = iter_keymap(io.BytesIO(ANY_LINE + b"bad\n" + ANY_LINE))
    assert next(lines).encoded == "s"
    with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
        next(lines)
    assert caught.value.offset == len(ANY_LINE)
    assert list(lines) == []


def test_read_7_a_reader_that_has_no_place_names_the_file() -> None:
    with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
        decode_keymap_line(b"x")
    assert (caught.value.offset, caught.value.path) == (0, "KEYMAP.jsonl")
    with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
        list(iter_keymap(io.BytesIO(b"x")))
    assert (caught.value.offset, caught.value.path) == (0, "KEYMAP.jsonl")


def test_read_7_what_is_not_json_is_named() -> None:
    with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
        decode_keymap_line(ANY_LINE.replace(b'"s"', b"NaN"))
    assert "NaN is not JSON" in caught.value.detail


def test_read_11_all_lines_are_given_in_order_so_that_the_last_can_count() -> None:
    second = ANY_LINE.replace(b"aw", b"YQ")
    assert {line.encoded: line.original for line in iter_keymap(io.BytesIO(ANY_LINE + second))} == {"s": b"a"}


@pytest.mark.parametrize("kind", ["sha-fallback", "s3-leaf-data", "meta-suffix-rename", "of-tomorrow"])
def test_kmap_5_a_reader_takes_any_kind(kind: str) -> None:
    assert decode_keymap_line(ANY_LINE.replace(b"sha-fallback", kind.encode())).kind == kind
