"""Chapter SUMS, its reading half: lines of CHECKSUMS as paths and hashes."""

import pytest
from command_runs import BoundedLines
from ekvdump.verify.checksums import MAX_LINE_SIZE, ChecksumLine, decode_checksum_line
from ekvdump.verify.findings import Finding
from ekvdump.verify.lines import iter_bounded_lines
from ekvformat.checksums import render_checksum_line
from hypothesis import given
from reference_runs import fault_of
from store_strategies import ODD_PATHS

SHA = b"0123456789abcdef" * 4


@given(ODD_PATHS)
def test_read_25_a_path_comes_back_from_its_line(path: bytes) -> None:
    line = render_checksum_line(path, SHA)
    if path.startswith(b"/") or b".." in path.split(b"/"):
        with pytest.raises(Finding, match=r"\[(absolute|parent)-path, "):
            decode_checksum_line(line)
    else:
        assert decode_checksum_line(line) == ChecksumLine(SHA, path)


def refused(line: bytes) -> tuple[str, str, int | None]:
    with pytest.raises(Finding) as caught:
        decode_checksum_line(line, 100, "out/CHECKSUMS")
    assert caught.value.path == "out/CHECKSUMS"
    return fault_of(caught.value)


@pytest.mark.parametrize("separator", [b"  ", b" *"])
def test_read_25_a_line_is_a_hash_a_separator_and_a_path(separator: bytes) -> None:
    assert decode_checksum_line(SHA.upper() + separator + b"a/b\n") == ChecksumLine(SHA, b"a/b")
    assert decode_checksum_line(SHA + separator + b" *a") == ChecksumLine(SHA, b" *a")


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"x", SHA, SHA + b" ", SHA + b"\t a", SHA + b" a",
        SHA[1:] + b"  a", b"g" + SHA[1:] + b"  a", b"0" + SHA + b"  a",
        b"\\" + SHA + b"  a\\x", b"\\" + SHA + b"  a\\",
        SHA + b"  " + b"a" * (8192 - 66 + 1),
        SHA + b"  a\0b", SHA + b"  MANIFEST.json\0zzz\n",
    ],
    ids=range(15),
)  # fmt: skip
def test_read_25_any_other_line_is_malformed(line: bytes) -> None:
    assert refused(line) == ("malformed-line", "READ-25", 100)


def test_read_25_a_line_may_have_8_kib() -> None:
    line = SHA + b"  " + b"a" * (8192 - 66)
    lines = list(iter_bounded_lines(BoundedLines(line + b"\n" + line + b"a\n" + line), MAX_LINE_SIZE + 1))
    assert decode_checksum_line(lines[0][1]) == ChecksumLine(SHA, b"a" * (8192 - 66))
    assert lines[1][0] == 8193
    assert refused(lines[1][1]) == ("malformed-line", "READ-25", 100)
    assert decode_checksum_line(lines[2][1]) == ChecksumLine(SHA, b"a" * (8192 - 66))


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (b"", ("empty-path", "READ-26")),
        (b"/", ("absolute-path", "READ-27")),
        (b"/etc/passwd", ("absolute-path", "READ-27")),
        (b"..", ("parent-path", "READ-28")),
        (b"a/../b", ("parent-path", "READ-28")),
        (b"a/..", ("parent-path", "READ-28")),
    ],
)
def test_read_26_read_27_read_28_a_path_that_leads_elsewhere(path: bytes, fault: tuple[str, str]) -> None:
    assert refused(SHA + b"  " + path) == (*fault, 100)


@pytest.mark.parametrize("path", [b"...", b"a/..b", b"..a", b".", b"a..b/c"])
def test_read_28_dots_alone_do_not_climb(path: bytes) -> None:
    assert decode_checksum_line(SHA + b"  " + path).path == path


def test_read_25_a_reader_that_has_no_place_names_the_file() -> None:
    with pytest.raises(Finding) as caught:
        decode_checksum_line(b"x")
    assert (caught.value.offset, caught.value.path) == (0, "CHECKSUMS")
