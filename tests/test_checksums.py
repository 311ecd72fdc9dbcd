"""Chapter SUMS: CHECKSUMS."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from ekvdump.verify.checksums import MAX_LINE_SIZE, ChecksumLine, decode_checksum_line
from ekvdump.verify.findings import Finding
from ekvdump.verify.lines import iter_bounded_lines
from ekvformat.checksums import render_checksum_line
from harness import BoundedLines, decode_bytes, fault_of, read_tree
from hypothesis import given
from hypothesis import strategies as st
from test_conventions import REAL_SHAPED
from writer import STR, put, snapshot

SHA = b"0123456789abcdef" * 4
PATHS = st.binary(min_size=1, max_size=20).filter(lambda path: b"\0" not in path)
ODD_PATHS = PATHS | st.lists(st.sampled_from([b"\\", b"\n", b"\r", b"n", b"a"]), min_size=1, max_size=6).map(b"".join)


def test_sums_1_a_line_for_every_file_but_itself(tmp_path: Path) -> None:
    decode_bytes(REAL_SHAPED, tmp_path)
    files = read_tree(tmp_path / "out")
    text = files.pop("CHECKSUMS").decode()
    assert text.splitlines() == [f"{hashlib.sha256(files[path]).hexdigest()}  {path}" for path in sorted(files)]
    assert text.endswith("\n")
    assert "MANIFEST.json" in text


@given(ODD_PATHS)
def test_sums_2_lf_cr_and_backslash_are_escaped_and_come_back(path: bytes) -> None:
    line = render_checksum_line(path, SHA)
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert line.startswith(b"\\") == any(byte in path for byte in b"\n\r\\")
    if path.startswith(b"/") or b".." in path.split(b"/"):
        return
    assert decode_checksum_line(line) == ChecksumLine(SHA, path)


@pytest.mark.parametrize("name", [b"plain", b"a b", b"back\\slash", b"line\nfeed", b"re\rturn", b"\\\n\r\\n", b"\xff"])
def test_sums_2_sha256sum_writes_and_reads_the_same_lines(tmp_path: Path, name: bytes) -> None:
    Path(os.path.join(os.fsencode(tmp_path), name).decode("utf-8", "surrogateescape")).write_bytes(b"data")
    told = subprocess.run(["sha256sum", name], cwd=tmp_path, check=True, capture_output=True).stdout
    assert told == render_checksum_line(name, hashlib.sha256(b"data").hexdigest().encode())
    assert decode_checksum_line(told).path == name


def test_sums_1_sums_2_the_specs_example() -> None:
    spec = (Path(__file__).resolve().parent.parent / "spec" / "12-checksums.md").read_bytes()
    for path, data in ((b"redis/db_0/strings/a.bin", b"hi"), (b"redis/db_0/strings/a\nb", b"")):
        assert b"\n" + render_checksum_line(path, hashlib.sha256(data).hexdigest().encode()) in spec


def test_sums_3_lines_stand_in_bytewise_order_of_the_paths(tmp_path: Path) -> None:
    # A blob's `.bin` stands between a key and its extensions: `a.bin` is before `aa.bin`, `a-.bin` before both.
    names = ["a", "aa", "a-", "a%2F", "B", "_", ""]
    decode_bytes(snapshot([put(STR + name.replace("%2F", "/").encode(), 1, b"v") for name in names]), tmp_path)
    lines = (tmp_path / "out" / "CHECKSUMS").read_bytes().splitlines()
    paths = [line[66:] for line in lines]
    assert paths == sorted(paths)
    assert len(paths) == len(names) + 1


def test_sums_4_sha256sum_agrees(tmp_path: Path) -> None:
    decode_bytes(REAL_SHAPED, tmp_path)
    check = ["sha256sum", "--check", "--strict", "CHECKSUMS"]
    told = subprocess.run(check, cwd=tmp_path / "out", check=True, capture_output=True, text=True).stdout
    assert told.count(": OK\n") == len(read_tree(tmp_path / "out")) - 1
    (tmp_path / "out/redis/db_0/strings/k.bin").write_bytes(b"other")
    assert subprocess.run(check, cwd=tmp_path / "out", check=False, capture_output=True).returncode == 1


def test_sums_5_a_partial_dump_is_sealed_too(tmp_path: Path) -> None:
    outcome = decode_bytes(snapshot([put(b"!hs|fld|x", 1, b"v")]), tmp_path)
    assert outcome.exit_status == 3
    assert set(read_tree(tmp_path / "out")) == {"MANIFEST.json", "CHECKSUMS"}


# ---- reading ----


def refused(line: bytes) -> tuple[str, str, int | None]:
    with pytest.raises(Finding) as caught:
        decode_checksum_line(line, 100, "out/CHECKSUMS")
    assert caught.value.path == "out/CHECKSUMS"
    return fault_of(caught.value)


@pytest.mark.parametrize("separator", [b"  ", b" *"])
def test_sums_7_a_line_is_a_hash_a_separator_and_a_path(separator: bytes) -> None:
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
def test_sums_7_any_other_line_is_malformed(line: bytes) -> None:
    assert refused(line) == ("malformed-line", "SUMS-7", 100)


def test_sums_7_a_line_may_have_8_kib() -> None:
    line = SHA + b"  " + b"a" * (8192 - 66)
    lines = list(iter_bounded_lines(BoundedLines(line + b"\n" + line + b"a\n" + line), MAX_LINE_SIZE + 1))
    assert decode_checksum_line(lines[0][1]) == ChecksumLine(SHA, b"a" * (8192 - 66))
    assert lines[1][0] == 8193
    assert refused(lines[1][1]) == ("malformed-line", "SUMS-7", 100)
    assert decode_checksum_line(lines[2][1]) == ChecksumLine(SHA, b"a" * (8192 - 66))


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (b"", ("empty-path", "SUMS-8")),
        (b"/", ("absolute-path", "SUMS-13")),
        (b"/etc/passwd", ("absolute-path", "SUMS-13")),
        (b"..", ("parent-path", "SUMS-14")),
        (b"a/../b", ("parent-path", "SUMS-14")),
        (b"a/..", ("parent-path", "SUMS-14")),
    ],
)
def test_sums_8_sums_13_sums_14_a_path_that_leads_elsewhere(path: bytes, fault: tuple[str, str]) -> None:
    assert refused(SHA + b"  " + path) == (*fault, 100)


@pytest.mark.parametrize("path", [b"...", b"a/..b", b"..a", b".", b"a..b/c"])
def test_sums_14_dots_alone_do_not_climb(path: bytes) -> None:
    assert decode_checksum_line(SHA + b"  " + path).path == path


def test_sums_7_a_reader_that_has_no_place_names_the_file() -> None:
    with pytest.raises(Finding) as caught:
        decode_checksum_line(b"x")
    assert (caught.value.offset, caught.value.path) == (0, "CHECKSUMS")
