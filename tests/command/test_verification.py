"""Chapter VERI: what can be wrong with a dump, and what it is called."""

import errno
import hashlib
import json
import os
import random
import socket
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import model
import pytest
from command_runs import decode_bytes, stat_of_tree
from ekvdump.filesystem.directories import Directory, HandleDirectory, Parts, inode_of
from ekvdump.filesystem.external_sort import Sorter, open_temporary
from ekvdump.filesystem.reading import open_top, opened
from ekvdump.run import decode
from ekvdump.verify.findings import Finding
from ekvdump.verify.rows import decode_unreadable_line
from ekvdump.verify.verification import VERIFYING, Verification
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from hypothesis import event, given
from hypothesis import strategies as st
from in_process import read_tree
from real import unpack
from store_strategies import stores
from writer import HLL, STR, TTL, envelope, expiry, put, snapshot

BASE = "redis/db_0"
LONG = b"%" * 81
SEGMENT = model.segment_of(LONG)
FULL = snapshot(
    [
        put(HLL + b"h1", 1, envelope(2, b"hll one", 5)),
        put(STR + LONG, 1, envelope(1, b"string long")),
        put(STR + b"s1", 1, envelope(1, b"string one", 6)),
        put(STR + b"s2", 1, b"legacy"),
        put(TTL + b"s2", 1, expiry(7)),
        put(STR + b"bad", 1, b"\xff\x01"),
    ]
)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    decode_bytes(FULL, tmp_path, Options(salvage=True), sync=False)
    return tmp_path / "out"


def verify(out: Path, *, handles: bool = True) -> list[Finding]:
    """All findings, which are counted as they are reported. [VERI-19]"""
    findings: list[Finding] = []
    verification = Verification(str(out), findings.append, handles=handles)
    before = stat_of_tree(out)
    verification.run()
    assert stat_of_tree(out) == before, "the verifier touched something [VERI-21]"
    assert verification.counts == Counter(finding.name for finding in findings)
    for finding in findings:
        assert finding.exit_status == 1
        assert finding.path
        assert finding.detail
    return findings


def reported(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return sorted((finding.name, finding.clause, finding.path or "") for finding in findings)


def reseal(out: Path) -> None:
    """Make CHECKSUMS agree with what lies there now, so that only the edit itself can be found."""
    files = read_tree(out)
    files.pop("CHECKSUMS", None)
    (out / "CHECKSUMS").write_bytes(model.checksums(files))


@pytest.mark.parametrize("handles", [True, False])
@pytest.mark.parametrize("name", ["fresh", "grown-clean", "interleaved", "empty", "grown"])
def test_veri_19_a_dump_of_a_real_snapshot_has_no_finding(tmp_path: Path, name: str, handles: bool) -> None:
    decode(unpack(name, tmp_path), str(tmp_path / "out"), Options(salvage=True), sync=False)
    assert verify(tmp_path / "out", handles=handles) == []


def test_veri_19_two_databases_in_one_tree_verify(tmp_path: Path) -> None:
    decode(unpack("fresh", tmp_path), str(tmp_path / "out"), Options(3), sync=False)
    decode(unpack("grown", tmp_path), str(tmp_path / "out"), Options(0, salvage=True), into_existing=True, sync=False)
    assert verify(tmp_path / "out") == []


# ---- the tree as a whole ----


def test_veri_3_a_dump_without_checksums(dump: Path) -> None:
    (dump / "CHECKSUMS").unlink()
    assert reported(verify(dump)) == [("no-seal", "VERI-3", "CHECKSUMS")]


def test_veri_4_a_dump_without_manifest(dump: Path) -> None:
    (dump / "MANIFEST.json").unlink()
    reseal(dump)
    assert reported(verify(dump)) == [("no-manifest", "VERI-4", "MANIFEST.json")]


def test_read_31_a_file_that_is_missing(dump: Path) -> None:
    (dump / BASE / "strings/s1.bin").unlink()
    assert reported(verify(dump)) == [
        ("missing-file", "READ-31", f"{BASE}/strings/s1.bin"),
        ("row-without-blob", "VERI-15", f"{BASE}/strings_ttl.jsonl"),
    ]


@pytest.mark.parametrize("data", [b"", b"string onf", b"string one\n"])
def test_read_33_a_file_that_was_changed(dump: Path, data: bytes) -> None:
    (dump / BASE / "strings/s1.bin").write_bytes(data)
    assert reported(verify(dump)) == [("mismatch", "READ-33", f"{BASE}/strings/s1.bin")]


@pytest.mark.parametrize("name", ["notes.txt", f"{BASE}/strings/s3.bin", "redis/x", "CHECKSUMS.old", "a\nb", "a\udcff"])
def test_veri_5_a_file_without_a_line(dump: Path, name: str) -> None:
    (dump / name).write_bytes(b"x")
    assert reported(verify(dump)) == [("foreign-file", "VERI-5", name)]


@pytest.mark.parametrize("handles", [True, False])
def test_veri_6_read_30_a_symlink_is_named_and_not_followed(dump: Path, tmp_path: Path, handles: bool) -> None:
    path = dump / BASE / "strings/s1.bin"
    path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "aside")
    (dump / "dangling").symlink_to("nowhere")
    assert [each for each in reported(verify(dump, handles=handles)) if each[0] != "row-without-blob"] == [
        ("symlink", "VERI-6", "dangling"),
        ("symlink", "VERI-6", f"{BASE}/strings/s1.bin"),
    ]


@pytest.mark.parametrize("handles", [True, False])
def test_read_30_a_directory_that_is_a_symlink(dump: Path, tmp_path: Path, handles: bool) -> None:
    (dump / BASE / "hll").rename(tmp_path / "aside")
    (dump / BASE / "hll").symlink_to(tmp_path / "aside")
    assert [each for each in reported(verify(dump, handles=handles)) if each[0] != "row-without-blob"] == [
        ("symlink", "READ-30", f"{BASE}/hll/h1.bin"),
        ("symlink", "VERI-6", f"{BASE}/hll"),
    ]


def test_progress_counts_the_files(dump: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    Verification(str(dump), list[Finding]().append, lambda *words: seen.append(words)).run()
    count = len(read_tree(dump))
    assert seen == [(VERIFYING, number, count) for number in range(1, count + 1)]


@pytest.mark.parametrize("handles", [True, False])
def test_into_1_a_dump_that_is_too_deep_is_reported_by_its_place(
    dump: Path, monkeypatch: pytest.MonkeyPatch, *, handles: bool
) -> None:
    monkeypatch.setattr("ekvdump.filesystem.directories.MAX_DEPTH", 1)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        Verification(str(dump), print, handles=handles).run()
    assert (caught.value.clause, caught.value.path) == ("INTO-1", str(dump / BASE))


def test_veri_22_a_directory_that_cannot_be_listed_is_named(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(directory: HandleDirectory) -> Iterator[tuple[str, str]]:
        if directory.inode == inode_of((dump / BASE).stat()):
            raise OSError(errno.EIO, "the disk is broken")
        return listed(directory)

    listed = HandleDirectory.iter_names
    monkeypatch.setattr(HandleDirectory, "iter_names", broken)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        Verification(str(dump), print).run()
    fault = caught.value
    assert (fault.clause, fault.detail, fault.path) == ("VERI-22", "the disk is broken", str(dump / BASE))


@pytest.mark.parametrize("name", ["MANIFEST.json", "CHECKSUMS", f"{BASE}/hll_ttl.jsonl"])
def test_veri_22_a_file_that_cannot_be_read_is_named(dump: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def broken(top: Directory, parts: Parts) -> AbstractContextManager[BinaryIO]:
        if "/".join(parts) == name:
            raise OSError(errno.EIO, "the disk is broken")
        return opened(top, parts)

    monkeypatch.setattr("ekvdump.verify.verification.opened", broken)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        Verification(str(dump), list[Finding]().append).run()
    assert (caught.value.clause, caught.value.path) == ("VERI-22", str(dump / name))


def test_what_is_opened_and_no_file_is_reported_as_the_system_would(dump: Path) -> None:
    os.mkfifo(dump / "pipe")
    file = opened(open_top(str(dump), handles=True), ("pipe",))
    with pytest.raises(OSError, match="a FIFO, socket, device or directory lies where a file belongs") as caught, file:
        pass
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (None, None), ({"complete": True}, True), ({"complete": False}, False), ({"complete": 1}, None),
        ({"complete": True, "earlier": 5}, True), ({"complete": True, "earlier": [5]}, None),
        ({"complete": True, "earlier": [{"complete": True}]}, True), ({"complete": True, "earlier": [{}]}, None),
        ({"complete": True, "earlier": [{}, {"complete": False}]}, False),
    ],
    ids=range(9),
)  # fmt: skip
def test_into_7_one_database_that_is_not_known_to_be_complete_is_enough(
    tmp_path: Path, outcome: object, says: bool | None
) -> None:
    verification = Verification(str(tmp_path), print)
    assert verification.says_complete is None
    verification.manifest = {"outcome": outcome}
    assert verification.says_complete is says


def test_there_is_no_manifest_until_one_was_read(dump: Path) -> None:
    (dump / "MANIFEST.json").unlink()
    verification = Verification(str(dump), list[Finding]().append)
    verification.run()
    assert verification.manifest is None


@pytest.mark.parametrize("name", ["check_directory", "open_top"])
def test_veri_22_a_dump_that_cannot_be_opened_is_reported(
    dump: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(f"ekvdump.verify.verification.{name}", fail)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        verify(dump)
    assert (caught.value.detail, caught.value.path) == ("the disk is broken", str(dump))


def test_veri_21_the_runs_lie_in_files_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_temporary() as run:
        run.write(b"line\n")
        run.seek(0)
        assert run.read() == b"line\n"
        assert os.listdir(tmp_path) == []


def test_veri_14_a_record_at_the_first_byte_is_one() -> None:
    row = {"segment": "k", "storage_key": "IXJlZGlzfHN0cnxr", "kind": "string", "clause": "ENVL-10", "offset": 0}
    assert decode_unreadable_line(json.dumps(row).encode()) == ("unreadable", "k.string")
    assert decode_unreadable_line(json.dumps({**row, "offset": -1}).encode()) is None


def test_veri_6_read_32_what_is_neither_file_nor_directory_is_not_opened(dump: Path) -> None:
    path = dump / BASE / "strings/s1.bin"
    path.unlink()
    os.mkfifo(path)
    (dump / BASE / "strings/s2.bin").unlink()
    (dump / BASE / "strings/s2.bin").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(dump)
        server.bind("socket")
        os.chdir(here)
    assert [each for each in reported(verify(dump)) if each[0] == "not-regular"] == [
        ("not-regular", "READ-32", f"{BASE}/strings/s2.bin"),
        ("not-regular", "VERI-6", f"{BASE}/strings/s1.bin"),
        ("not-regular", "VERI-6", "socket"),
    ]


Edit = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        pytest.param(lambda lines: [lines[0].upper(), *lines[1:]], None, id="capitals-in-the-path-too"),
        pytest.param(
            lambda lines: [lines[0][:64].upper() + lines[0][64:], *lines[1:]],
            ("unusual-line", "VERI-7"), id="capital-digits",
        ),
        pytest.param(lambda lines: [lines[0].replace(b"  ", b" *"), *lines[1:]], ("unusual-line", "VERI-7"), id="star"),
        pytest.param(lambda lines: [b"\\" + lines[0], *lines[1:]], ("unusual-line", "VERI-7"), id="escape"),
        pytest.param(lambda lines: [*lines[:-1], lines[-1][:-1]], ("unusual-line", "VERI-7"), id="no-lf"),
        pytest.param(lambda lines: [lines[1], lines[0], *lines[2:]], ("unsorted-line", "VERI-8"), id="swapped"),
        pytest.param(lambda lines: [lines[0], *lines], ("repeated-path", "VERI-9"), id="twice"),
        pytest.param(lambda lines: [b"\n", *lines], ("malformed-line", "READ-25"), id="empty-line"),
        pytest.param(lambda lines: [b"x" * 20_000 + b"\n", *lines], ("malformed-line", "READ-25"), id="long-line"),
        pytest.param(lambda lines: [b"x" * 20_000], ("malformed-line", "READ-25"), id="long-line-without-lf"),
        pytest.param(lambda lines: [b"0" * 64 + b"  /etc/x\n", *lines], ("absolute-path", "READ-27"), id="absolute"),
        pytest.param(lambda lines: [b"0" * 64 + b"  ../x\n", *lines], ("parent-path", "READ-28"), id="parent"),
        pytest.param(lambda lines: [b"0" * 64 + b"  \n", *lines], ("empty-path", "READ-26"), id="empty-path"),
        pytest.param(lambda lines: [b"0" * 64 + b"  CHECKSUMS\n", *lines], ("mismatch", "READ-33"), id="itself"),
        pytest.param(lambda lines: [b"0" * 64 + b"  a//b\n", *lines], ("missing-file", "READ-31"), id="empty-part"),
        pytest.param(
            lambda lines: [lines[0].replace(b"  ", b"  ./"), *lines[1:]], ("unusual-line", "VERI-7"), id="dot-part"
        ),
        pytest.param(
            lambda lines: [lines[0], b"0" * 64 + b"  MANIFEST.json\0z\n", *lines[1:]],
            ("malformed-line", "READ-25"), id="nul",
        ),
        pytest.param(
            lambda lines: [*lines, b"0" * 64 + b"  " + b"z" * 8126 + b"\n"], ("missing-file", "READ-31"), id="8-kib"
        ),
        pytest.param(lambda lines: lines[1:], ("foreign-file", "VERI-5"), id="one-less"),
        pytest.param(lambda lines: [], ("no-line", "READ-29"), id="none"),
    ],
)  # fmt: skip
def test_veri_7_veri_8_veri_9_every_edit_of_checksums(dump: Path, edit: Edit, finding: tuple[str, str] | None) -> None:
    lines = (dump / "CHECKSUMS").read_bytes().splitlines(keepends=True)
    (dump / "CHECKSUMS").write_bytes(b"".join(edit(lines)))
    found = {(name, clause) for name, clause, _ in reported(verify(dump))}
    if finding is None:
        assert {("missing-file", "READ-31"), ("foreign-file", "VERI-5")} <= found
    else:
        assert finding in found
        assert finding[0] not in ("unusual-line", "repeated-path") or found == {finding}


def test_veri_7_veri_8_read_25_a_line_is_reported_by_its_place(dump: Path) -> None:
    first, second, third, *others = (dump / "CHECKSUMS").read_bytes().splitlines(keepends=True)
    lines = [second, first, third[:64].upper() + third[64:], b"nonsense\n"]
    (dump / "CHECKSUMS").write_bytes(b"".join([*lines, *others]))
    assert [(finding.name, finding.path, finding.offset) for finding in verify(dump)] == [
        ("unsorted-line", "CHECKSUMS", len(second)),
        ("unusual-line", "CHECKSUMS", len(first + second)),
        ("malformed-line", "CHECKSUMS", len(first + second + third)),
    ]


@pytest.mark.parametrize("handles", [True, False])
@pytest.mark.parametrize("path", [b".", b"./", b".//."])
def test_read_32_the_directory_itself_is_no_regular_file(dump: Path, path: bytes, *, handles: bool) -> None:
    with (dump / "CHECKSUMS").open("ab") as file:
        file.write(b"0" * 64 + b"  " + path + b"\n")
    found = [(finding.name, finding.clause, finding.path) for finding in verify(dump, handles=handles)]
    # The line comes last, and before those of files.
    assert found == [
        ("unusual-line", "VERI-7", "CHECKSUMS"),
        ("unsorted-line", "VERI-8", "CHECKSUMS"),
        ("not-regular", "READ-32", "."),
    ]


def test_veri_9_each_line_but_the_first_is_named(dump: Path) -> None:
    lines = (dump / "CHECKSUMS").read_bytes().splitlines(keepends=True)
    (dump / "CHECKSUMS").write_bytes(b"".join([lines[0], lines[0], b"0" * 64 + lines[0][64:], *lines[1:]]))
    assert [(name, clause) for name, clause, _ in reported(verify(dump))] == [
        ("mismatch", "READ-33"),
        ("repeated-path", "VERI-9"),
        ("repeated-path", "VERI-9"),
    ]


# ---- MANIFEST.json ----


def edit_manifest(dump: Path, **members: Any) -> None:
    manifest = json.loads((dump / "MANIFEST.json").read_text())
    manifest.update(members)
    (dump / "MANIFEST.json").write_text(json.dumps(manifest))
    reseal(dump)


def test_read_14_findings_of_the_manifest_have_their_names(dump: Path) -> None:
    edit_manifest(dump, phase="phase7")
    assert reported(verify(dump)) == [("invalid-manifest", "READ-15", "MANIFEST.json")]
    edit_manifest(dump, format_version=2)
    assert reported(verify(dump)) == [("unsupported-manifest", "READ-14", "MANIFEST.json")]


def test_read_12_a_manifest_of_more_than_16_mib(dump: Path) -> None:
    text = (dump / "MANIFEST.json").read_text()
    (dump / "MANIFEST.json").write_text(text + " " * (16 * 1024 * 1024 - len(text.encode())))
    reseal(dump)
    assert verify(dump) == []
    with (dump / "MANIFEST.json").open("a") as file:
        file.write(" ")
    reseal(dump)
    assert reported(verify(dump)) == [("invalid-manifest", "READ-12", "MANIFEST.json")]


def test_read_12_no_more_of_a_manifest_is_read(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def decode_manifest(text: bytes, path: str) -> dict[str, Any]:
        sizes.append(len(text))
        raise Finding("invalid-manifest", "READ-12", "too large", None, path)

    monkeypatch.setattr("ekvdump.verify.verification.MAX_MANIFEST_SIZE", 9)
    monkeypatch.setattr("ekvdump.verify.verification.decode_manifest", decode_manifest)
    verify(dump)
    assert sizes == [10]


@pytest.mark.parametrize(
    ("adapters", "found"),
    [
        ({"redis": {"databases": [0]}}, False), ({"redis": {"databases": [0, 1]}}, True),
        ({"redis": {"databases": []}}, True), ({"redis": {"databases": "0"}}, True),
        ({"redis": {"databases": [False]}}, True),
        ({"redis": {}}, False), ({}, False), ({"redis": None}, False),
    ],
    ids=range(8),
)  # fmt: skip
def test_veri_18_databases_are_those_that_are_there(dump: Path, adapters: dict[str, Any], found: bool) -> None:
    edit_manifest(dump, adapters=adapters)
    assert reported(verify(dump)) == ([("wrong-databases", "VERI-18", "MANIFEST.json")] if found else [])


# ---- sidecars against blobs ----


def write_line(dump: Path, sidecar: str, line: bytes) -> None:
    with (dump / BASE / sidecar).open("ab") as file:
        file.write(line)
    reseal(dump)


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("%41", ("unusual-segment", "VERI-10")), ("%7e", ("unusual-segment", "VERI-10")),
        ("b64.QQ", ("unusual-segment", "VERI-10")), ("a b", ("invalid-segment", "READ-4")),
        ("%", ("invalid-segment", "READ-4")), ("\udcff", ("invalid-segment", "READ-4")),
        ("x" * 241, ("invalid-segment", "READ-1")), ("b64.A", ("invalid-segment", "READ-3")),
        ("0" * 32 + "__x", ("needs-keymap", "VERI-11")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("directory", ["strings", "hll"])
def test_veri_10_veri_11_segments_of_blobs(dump: Path, directory: str, name: str, finding: tuple[str, str]) -> None:
    (dump / BASE / directory / f"{name}.bin").write_bytes(b"")
    reseal_odd(dump)
    assert reported(verify(dump)) == [(*finding, f"{BASE}/{directory}/{name}.bin")]


def reseal_odd(out: Path) -> None:
    """As `reseal`, for names that are no UTF-8."""
    lines = []
    for base, _, names in os.walk(os.fsencode(out)):
        for name in names:
            path = os.path.join(base, name)
            relative = os.path.relpath(path, os.fsencode(out))
            if relative != b"CHECKSUMS":
                with open(path, "rb") as file:
                    data = file.read()
                lines.append((relative, hashlib.sha256(data).hexdigest().encode()))
    (out / "CHECKSUMS").write_bytes(b"".join(b"%b  %b\n" % (sha, path) for path, sha in sorted(lines)))


def test_veri_11_a_fallback_name_without_a_line(dump: Path) -> None:
    (dump / BASE / "KEYMAP.jsonl").unlink()
    reseal(dump)
    assert reported(verify(dump)) == [("needs-keymap", "VERI-11", f"{BASE}/strings/{SEGMENT}.bin")]


def keymap_line(encoded: str, original: bytes, kind: str = "sha-fallback") -> bytes:
    return model.json_lines([{"encoded": encoded, "original": model.base64url(original), "kind": kind}])


def test_veri_12_a_line_whose_key_has_another_segment(dump: Path) -> None:
    # A line of another kind before it is passed over.
    write_line(dump, "KEYMAP.jsonl", keymap_line("x", b"y", "s3-leaf-data") + keymap_line(SEGMENT, LONG + b"x"))
    assert reported(verify(dump)) == [("keymap-mismatch", "VERI-12", f"{BASE}/KEYMAP.jsonl")]


def test_veri_13_a_line_whose_segment_no_blob_has(dump: Path) -> None:
    key = b"b64.nobody"
    write_line(dump, "KEYMAP.jsonl", keymap_line(model.segment_of(key), key))
    assert reported(verify(dump)) == [("line-without-blob", "VERI-13", f"{BASE}/KEYMAP.jsonl")]


def test_veri_13_read_11_kmap_5_a_line_twice_and_other_kinds_are_no_finding(dump: Path) -> None:
    write_line(dump, "KEYMAP.jsonl", keymap_line(SEGMENT, LONG) + keymap_line("x", b"y", "s3-leaf-data"))
    assert verify(dump) == []


def test_read_10_a_line_that_cannot_be_read_ends_the_reading(dump: Path) -> None:
    line = keymap_line(SEGMENT, LONG)
    (dump / BASE / "KEYMAP.jsonl").write_bytes(b"{}\n" + line)
    reseal(dump)
    assert reported(verify(dump)) == [
        ("invalid-keymap", "READ-7", f"{BASE}/KEYMAP.jsonl"),
        ("needs-keymap", "VERI-11", f"{BASE}/strings/{SEGMENT}.bin"),
    ]


BAD_ROWS = [
    b"\n", b"{}\n", b"[]\n", b"null", b"\xff\n", b"[" * 100_000 + b"\n", b'{"key":"s1"}\n', b'{"expire_at_ms":1}\n',
    b'{"key":"s1","expire_at_ms":-1}\n', b'{"key":"s1","expire_at_ms":9223372036854775808}\n',
    b'{"key":"s1","expire_at_ms":1.0}\n', b'{"key":"s1","expire_at_ms":true}\n', b'{"key":"s1","expire_at_ms":"1"}\n',
    b'{"key":"s1","expire_at_ms":NaN,"expire_at_ms":1}\n',
    b'{"key":null,"expire_at_ms":1}\n', b'{"key":"a b","expire_at_ms":1}\n', b'{"key":"s1","expire_at_ms":1,"x":1}\n',
    b'{"key":"' + b"x" * (4 * 1024 * 1024) + b'","expire_at_ms":1}\n',
]  # fmt: skip


@pytest.mark.parametrize("row", BAD_ROWS, ids=range(len(BAD_ROWS)))
@pytest.mark.parametrize("sidecar", ["strings_ttl.jsonl", "hll_ttl.jsonl"])
def test_veri_14_a_row_that_cannot_be_read(dump: Path, sidecar: str, row: bytes) -> None:
    offset = (dump / BASE / sidecar).stat().st_size
    write_line(dump, sidecar, row)
    (finding,) = verify(dump)
    assert (finding.name, finding.clause, finding.path, finding.offset) == (
        "invalid-row", "VERI-14", f"{BASE}/{sidecar}", offset,
    )  # fmt: skip


@pytest.mark.parametrize(
    "edits",
    [
        {"segment": "a b"}, {"segment": None}, {"storage_key": "A"}, {"storage_key": 1}, {"offset": -1},
        {"offset": "1"}, {"clause": None}, {"kind": "list"}, {"kind": None}, {"more": 1},
        {"clause": "nonsense"}, {"segment": "other"}, {"kind": "ttl"},
    ],
    ids=str,
)  # fmt: skip
def test_veri_14_a_line_of_unreadable_that_cannot_be_read(dump: Path, edits: dict[str, Any]) -> None:
    line = json.loads((dump / BASE / "unreadable.jsonl").read_text()) | edits
    write_line(dump, "unreadable.jsonl", json.dumps(line).encode())
    assert reported(verify(dump)) == [("invalid-row", "VERI-14", f"{BASE}/unreadable.jsonl")]


@pytest.mark.parametrize("kind", ["hll", "ttl"])
def test_salv_6_only_a_string_can_lie_in_a_bare_key(dump: Path, kind: str) -> None:
    line = json.loads((dump / BASE / "unreadable.jsonl").read_text())
    write_line(dump, "unreadable.jsonl", json.dumps({**line, "kind": kind, "segment": "%21redis%7Cstr%7Cbad"}).encode())
    assert reported(verify(dump)) == [("invalid-row", "VERI-14", f"{BASE}/unreadable.jsonl")]


def test_rttl_14_the_name_in_a_row_may_be_a_fallback(tmp_path: Path) -> None:
    decode_bytes(snapshot([put(STR + LONG, 1, envelope(1, b"", 9999))]), tmp_path, sync=False)
    assert SEGMENT in (tmp_path / "out" / BASE / "strings_ttl.jsonl").read_text()
    assert verify(tmp_path / "out") == []


def test_veri_14_order_and_spacing_do_not_matter(dump: Path) -> None:
    (dump / BASE / "strings_ttl.jsonl").write_bytes(b'{ "expire_at_ms": 6, "key": "s1" }\r\n')
    reseal(dump)
    assert verify(dump) == []


@pytest.mark.parametrize("sidecar", ["strings_ttl.jsonl", "hll_ttl.jsonl"])
def test_veri_15_a_row_without_a_blob(dump: Path, sidecar: str) -> None:
    # A blob of the other directory does not count.
    segment = "h1" if sidecar.startswith("strings") else "s1"
    write_line(dump, sidecar, b'{"key":"%b","expire_at_ms":1}\n' % segment.encode())
    assert reported(verify(dump)) == [("row-without-blob", "VERI-15", f"{BASE}/{sidecar}")]


@pytest.mark.parametrize("sidecar", ["strings_ttl.jsonl", "hll_ttl.jsonl", "unreadable.jsonl"])
def test_veri_16_two_rows_for_a_key(dump: Path, sidecar: str) -> None:
    line = (dump / BASE / sidecar).read_bytes().splitlines(keepends=True)[0]
    write_line(dump, sidecar, line)
    assert reported(verify(dump)) == [("repeated-row", "VERI-16", f"{BASE}/{sidecar}")]


def test_veri_15_veri_17_unreadable_values_and_their_list(dump: Path) -> None:
    blob = dump / BASE / "unreadable/bad.string.bin"
    blob.rename(blob.with_name("other.hll.bin"))
    reseal(dump)
    assert reported(verify(dump)) == [
        ("blob-without-row", "VERI-17", f"{BASE}/unreadable/other.hll.bin"),
        ("row-without-blob", "VERI-15", f"{BASE}/unreadable.jsonl"),
    ]


def test_salv_7_the_name_of_an_unreadable_value_ends_in_its_kind(dump: Path) -> None:
    (dump / BASE / "unreadable/x.none.bin").write_bytes(b"")
    reseal(dump)
    assert ("invalid-segment", "SALV-7", f"{BASE}/unreadable/x.none.bin") in reported(verify(dump))


def test_read_4_segments_of_unreadable_values_are_judged_too(dump: Path) -> None:
    (dump / BASE / "unreadable/a b.string.bin").write_bytes(b"")
    reseal(dump)
    assert reported(verify(dump)) == [
        ("blob-without-row", "VERI-17", f"{BASE}/unreadable/a b.string.bin"),
        ("invalid-segment", "READ-4", f"{BASE}/unreadable/a b.string.bin"),
    ]


def test_a_slash_at_the_end_does_not_make_a_link_a_directory(dump: Path, tmp_path: Path) -> None:
    assert verify(Path(f"{dump}/")) == []
    (tmp_path / "link").symlink_to(dump)
    with pytest.raises(Fault) as caught:
        Verification(f"{tmp_path}/link/", print).run()
    assert caught.value.clause == "SAFE-11"


def test_veri_20_memory_does_not_grow_with_the_lines_of_one_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ekvdump.filesystem.external_sort.RUN_LINES", 256)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    peaks = []
    for count in (10_000, 30_000):
        (tmp_path / "out" / "CHECKSUMS").write_bytes(b"".join(b"%064d  x\n" % n for n in range(count)))
        tracemalloc.start()
        verification = Verification(str(tmp_path / "out"), lambda _: None)
        verification.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert verification.counts["repeated-path"] == count - 1
    assert peaks[1] < 1.5 * peaks[0]


def test_veri_20_what_is_too_much_at_once_is_sorted_in_files(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekvdump.filesystem.external_sort.RUN_LINES", 1)
    assert verify(dump) == []


def test_safe_28_a_full_disk_for_temporary_files_is_not_the_dumps_fault(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ekvdump.filesystem.external_sort.RUN_LINES", 2)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(Fault) as caught:
        Verification(str(dump), print).run()
    assert (caught.value.name, caught.value.path) == ("disk-full", tempfile.gettempdir())


def test_safe_29_a_temporary_file_that_cannot_be_read_is_not_the_dumps_fault(
    dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Sorter) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(Sorter, "__iter__", broken)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        Verification(str(dump), print).run()
    assert (caught.value.clause, caught.value.path) == ("SAFE-29", tempfile.gettempdir())


def test_salv_6_a_bare_string_may_be_unreadable_too(tmp_path: Path) -> None:
    data = snapshot([put(b"k", 1, b"v"), put(TTL + b"k", 1, b"")])
    decode_bytes(data, tmp_path, Options(salvage=True), sync=False)
    assert verify(tmp_path / "out") == []


def test_veri_20_without_a_directory_for_temporary_files_nothing_is_looked_at(
    dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(Fault, match=r"\[io-error, ") as caught:
        Verification(str(dump), print).run()
    assert caught.value.clause == "VERI-20"
    assert "TMPDIR" in caught.value.detail


def test_veri_10_databases_are_looked_at_one_by_one(tmp_path: Path) -> None:
    decode_bytes(FULL, tmp_path, Options(1, salvage=True), sync=False)
    decode_bytes(snapshot([put(STR + b"x", 1, b"")]), tmp_path, Options(2), into_existing=True, sync=False)
    (tmp_path / "out/redis/db_2/strings_ttl.jsonl").write_bytes(b'{"key":"s1","expire_at_ms":1}\n')
    reseal(tmp_path / "out")
    assert reported(verify(tmp_path / "out")) == [("row-without-blob", "VERI-15", "redis/db_2/strings_ttl.jsonl")]


def test_veri_5_what_is_not_of_a_database_is_hashed_and_no_more(dump: Path) -> None:
    for name in (
        "redis/db_01/strings/a b.bin",
        "redis/db_0/sets/a b.bin",
        "s3/strings/a b.bin",
        "s3/db_0/strings/a b.bin",
        "redis/db_5",
        f"{BASE}/notes.txt",
        f"{BASE}/strings/hll_ttl.jsonl",
        f"{BASE}/strings/x/a b.bin",
    ):
        (dump / name).parent.mkdir(parents=True, exist_ok=True)
        (dump / name).write_bytes(b"x")
    reseal(dump)
    assert verify(dump) == []


# ---- reading ----


@pytest.mark.parametrize("handles", [True, False])
def test_veri_21_what_is_no_directory_is_not_looked_at(tmp_path: Path, handles: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(".")
    for name, clause in (("file", "SAFE-17"), ("link", "SAFE-11"), ("missing", "VERI-1"), ("missingX", "VERI-1")):
        with pytest.raises(Fault) as caught:
            Verification(str(tmp_path / name), lambda _: None, handles=handles).run()
        assert (caught.value.clause, caught.value.path) == (clause, str(tmp_path / name))
        assert caught.value.detail


def test_veri_21_an_error_of_reading_ends_the_verification(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def broken(path: str, *arguments: Any, **keywords: Any) -> int:
        if path == "s1.bin":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(Fault, match=r"\[io-error, "):
        Verification(str(dump), lambda _: None).run()


def test_veri_6_a_file_that_turns_into_a_fifo_does_not_block(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def swapped(path: str, *arguments: Any, **keywords: Any) -> int:
        if path == "s1.bin":
            (dump / BASE / "strings/s1.bin").unlink()
            os.mkfifo(dump / BASE / "strings/s1.bin")
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(Fault) as caught:
        Verification(str(dump), lambda _: None).run()
    assert caught.value.name == "unsafe-path"


def test_veri_20_memory_does_not_grow_with_findings(tmp_path: Path) -> None:
    directory = tmp_path / "out" / BASE / "strings"
    directory.mkdir(parents=True)
    (tmp_path / "out" / "CHECKSUMS").write_bytes(b"0" * 64 + b"  x\n")
    peaks = []
    for count in (500, 5000):
        for number in range(count):
            (directory / f"{'k' * 200}{number:05}.bin").touch()
        found = Counter[str]()
        tracemalloc.start()
        Verification(str(tmp_path / "out"), lambda finding, found=found: found.update([finding.name])).run()  # type: ignore[misc]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found["foreign-file"] == count
    # One run of the sorter is kept in memory: two notes of some 500 bytes a file here.
    assert peaks[1] - peaks[0] < 4500 * 1500


# ---- any single edit is found and named ----


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, int, int]:
    return draw(st.sampled_from(sorted(EDITS))), draw(st.integers(0, 2**16)), draw(st.integers(0, 2**16))


def remove(out: Path, path: str, _: int) -> set[str]:
    (out / path).unlink()
    return {"no-seal"} if path == "CHECKSUMS" else {"missing-file"}


def add(out: Path, path: str, number: int) -> set[str]:
    (out / path).with_name(f"added{number}").write_bytes(b"")
    return {"foreign-file"}


def move(out: Path, path: str, number: int) -> set[str]:
    (out / path).rename((out / path).with_name(f"moved{number}.bin"))
    return {"no-seal"} if path == "CHECKSUMS" else {"missing-file", "foreign-file"}


def flip(out: Path, path: str, number: int) -> set[str]:
    data = bytearray((out / path).read_bytes())
    if not data:
        return append(out, path, number)
    data[number % len(data)] ^= 1 << number % 8
    (out / path).write_bytes(data)
    return set() if path == "CHECKSUMS" else {"mismatch"}


def cut(out: Path, path: str, number: int) -> set[str]:
    data = (out / path).read_bytes()
    if not data:
        return append(out, path, number)
    (out / path).write_bytes(data[: number % len(data)])
    return set() if path == "CHECKSUMS" else {"mismatch"}


def append(out: Path, path: str, number: int) -> set[str]:
    with (out / path).open("ab") as file:
        file.write(bytes((number % 256,)))
    return set() if path == "CHECKSUMS" else {"mismatch"}


def link(out: Path, path: str, _: int) -> set[str]:
    (out / path).rename(out.parent / "aside")
    (out / path).symlink_to(out.parent / "aside")
    return {"symlink"}


def fold(out: Path, path: str, _: int) -> set[str]:
    (out / path).unlink()
    (out / path).mkdir()
    return {"no-seal"} if path == "CHECKSUMS" else {"not-regular"}


def shuffle(out: Path, _: str, number: int) -> set[str]:
    lines = (out / "CHECKSUMS").read_bytes().splitlines(keepends=True)
    shuffled = lines[:]
    random.Random(number).shuffle(shuffled)
    if shuffled == lines:
        return add(out, "CHECKSUMS", number)
    (out / "CHECKSUMS").write_bytes(b"".join(shuffled))
    return {"unsorted-line"}


EDITS: dict[str, Callable[[Path, str, int], set[str]]] = {
    edit.__name__: edit for edit in (remove, add, move, flip, cut, append, link, fold, shuffle)
}


@given(stores(), edits())
def test_veri_19_any_single_edit_of_a_dump_is_found_and_named(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[bytes, bytes]], edit: tuple[str, int, int]
) -> None:
    directory = tmp_path_factory.mktemp("edited")
    decode_bytes(snapshot(entries), directory, Options(salvage=True), sync=False)
    out = directory / "out"
    assert verify(out) == []
    name, which, number = edit
    files = sorted(read_tree(out))
    expected = EDITS[name](out, files[which % len(files)], number)
    found = {finding.name for finding in verify(out)}
    event(f"{name}: {' '.join(sorted(found))}")
    assert found, "an edit that nobody noticed"
    assert expected <= found
