"""Chapter TREE, into existing: dumps beside and over earlier ones; and the writer that uses paths."""

import errno
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_runs import decode_bytes, fault_of, prepare_run
from ekvdump import system_faults
from ekvdump.engine.outputs import Blob, Document, Line
from ekvdump.filesystem import directories, tree_writer
from ekvdump.filesystem.reading import open_top
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvdump.outcome import Outcome
from ekvdump.run import Run
from ekvdump.verify.verification import Verification
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from in_process import read_tree, umask
from planting import BASE, FULL, LINKS, SPECIAL, Canary, Failing, plant, plant_at
from writer import HLL, STR, envelope, put, snapshot

EMPTY = snapshot([])
OTHER = snapshot([put(STR + b"s1", 1, envelope(1, b"newer")), put(HLL + b"h9", 1, b"h")])


@pytest.fixture(params=[True, False], ids=["handles", "paths"])
def handles(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def decode_again(data: bytes, directory: Path, database: int = 0, *, handles: bool = True) -> Outcome:
    return decode_bytes(data, directory, Options(database), into_existing=True, sync=False, handles=handles)


def refused_again(data: bytes, directory: Path, database: int = 0, *, handles: bool = True) -> tuple[Fault, str]:
    """Decode what must be refused; return the fault, and what lies in the output directory then."""
    run = prepare_run(data, directory, Options(database), into_existing=True, sync=False, handles=handles)
    with pytest.raises(Fault) as caught:
        run.run()
    assert caught.value.detail
    return caught.value, run.out_state


def check_sealed(out: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "CHECKSUMS"], cwd=out, check=True)
    files = set(read_tree(out)) - {"CHECKSUMS"}
    listed = {line[66:] for line in (out / "CHECKSUMS").read_text().splitlines()}
    assert listed == files


def databases(out: Path) -> object:
    return json.loads((out / "MANIFEST.json").read_text())["adapters"]["redis"]


def test_safe_1_a_directory_that_holds_something_is_taken_only_with_the_callers_word(tmp_path: Path) -> None:
    decode_bytes(FULL, tmp_path)
    with pytest.raises(Fault, match=r"\[not-empty, "):
        decode_bytes(OTHER, tmp_path)
    assert decode_again(OTHER, tmp_path).exit_status == 3


@pytest.mark.parametrize("present", [True, False])
def test_into_1_into_existing_takes_an_absent_or_empty_directory_too(
    tmp_path: Path, present: bool, handles: bool
) -> None:
    if present:
        (tmp_path / "out").mkdir()
    assert decode_again(FULL, tmp_path, handles=handles).complete
    check_sealed(tmp_path / "out")


def test_tree_6_mani_10_two_databases_in_one_tree_verify(tmp_path: Path, handles: bool) -> None:
    decode_again(FULL, tmp_path, 3, handles=handles)
    before = read_tree(tmp_path / "out")
    outcome = decode_again(OTHER, tmp_path, 0, handles=handles)
    assert outcome.complete
    after = read_tree(tmp_path / "out")
    assert {path: after[path] for path in before if path.startswith("redis/db_3/")} == {
        path: data for path, data in before.items() if path.startswith("redis/db_3/")
    }
    assert databases(tmp_path / "out") == {"databases": [0, 3]}
    check_sealed(tmp_path / "out")
    decode_again(OTHER, tmp_path, 20, handles=handles)
    assert databases(tmp_path / "out") == {"databases": [0, 3, 20]}


def earlier(out: Path) -> list[tuple[int, bool | None, int]]:
    return [
        (each["database"], each["complete"], len(each["partial_reasons"]))
        for each in json.loads((out / "MANIFEST.json").read_text())["outcome"]["earlier"]
    ]


def test_into_7_what_an_earlier_run_could_not_show_is_not_forgotten(tmp_path: Path, handles: bool) -> None:
    out = tmp_path / "out"
    partial = snapshot([put(b"!ddb|item|x", 1, b"v"), put(STR + b"k", 1, b"v")])
    decode_again(partial, tmp_path, 7, handles=handles)
    assert earlier(out) == []
    assert decode_again(OTHER, tmp_path, 3, handles=handles).complete
    assert earlier(out) == [(7, False, 1)]
    assert decode_again(OTHER, tmp_path, 9, handles=handles).complete
    assert earlier(out) == [(3, True, 0), (7, False, 1)]
    verification = Verification(str(out), print)
    verification.run()
    assert (verification.counts, verification.says_complete) == ({}, False)
    # A database that is decoded again is judged anew.
    decode_again(snapshot([put(STR + b"k", 1, b"v")]), tmp_path, 7, handles=handles)
    assert earlier(out) == [(3, True, 0), (9, True, 0)]
    verification.run()
    assert verification.says_complete is True


STRANGE: list[object] = [None, [], {}, {"database": "7"}, {"database": 7, "complete": "yes"}]


@pytest.mark.parametrize(
    "manifest",
    [
        None, b"", b"{}", b"no json", b'{"format_version":2}',
        *({"outcome": each} for each in STRANGE),
        {"outcome": {"earlier": [None, {"database": 7, "partial_reasons": {}}, {"database": None}]}, "source": None},
        {"outcome": {"database": 7, "partial_reasons": [[float("inf")]]}},
        {"outcome": {"database": 7, "partial_reasons": [{"reason": "\ud800", "about": "", "count": 1}]}},
        {"outcome": {"database": 7}, "source": {"fsm_path": "\ud800"}},
    ],
    ids=range(14),
)  # fmt: skip
def test_into_7_what_is_not_known_is_null(tmp_path: Path, manifest: bytes | dict[str, object] | None) -> None:
    decode_again(FULL, tmp_path, 7)
    path = tmp_path / "out" / "MANIFEST.json"
    if manifest is None:
        path.unlink()
    elif isinstance(manifest, bytes):
        path.write_bytes(manifest)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | manifest))
    decode_again(OTHER, tmp_path, 0)
    (reported,) = json.loads(path.read_text())["outcome"]["earlier"]
    assert (reported["database"], reported["complete"], reported["partial_reasons"]) == (7, None, [])
    verification = Verification(str(tmp_path / "out"), print)
    verification.run()
    assert (verification.counts, verification.says_complete) == ({}, None)


def test_mani_10_a_run_that_wrote_nothing_still_names_the_databases_that_are_there(tmp_path: Path) -> None:
    decode_again(FULL, tmp_path, 3)
    decode_again(EMPTY, tmp_path, 0)
    assert databases(tmp_path / "out") == {"databases": [3]}


def test_into_5_files_that_no_run_writes_stay_and_are_sealed(tmp_path: Path, handles: bool) -> None:
    odd = [b"notes.txt", b"redis/db_007/strings/x.bin", b"a\nb\t\\", b"deep/er/\xff", b"redis/db_1/strings/k.bin"]
    out = os.fsencode(tmp_path / "out")
    for name in odd:
        path = os.path.join(out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
        os.chmod(path, 0o644)
    assert decode_again(FULL, tmp_path, handles=handles).complete
    for name in odd:
        with open(os.path.join(out, name), "rb") as file:
            assert file.read() == name
        assert stat.S_IMODE(os.stat(os.path.join(out, name)).st_mode) == 0o644
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "CHECKSUMS"], cwd=out, check=True)
    lines = (tmp_path / "out" / "CHECKSUMS").read_bytes().splitlines()
    assert len(lines) == len(read_tree(tmp_path / "out")) - 1
    assert databases(tmp_path / "out") == {"databases": [0, 1]}


def test_into_6_files_of_an_earlier_dump_are_named_and_make_the_run_partial(tmp_path: Path, handles: bool) -> None:
    decode_again(FULL, tmp_path, handles=handles)
    first = read_tree(tmp_path / "out")
    outcome = decode_again(OTHER, tmp_path, handles=handles)
    warning = next(each for each in outcome.warnings if each.name == "stale-file")
    # OTHER has one key of FULL's, and neither rows nor lines.
    stale = sorted(set(first) - {"MANIFEST.json", "CHECKSUMS", f"{BASE}/strings/s1.bin"})
    assert warning.count == len(stale) == 6
    assert list(warning.about) == stale
    reason = outcome.partial_reasons[-1]
    assert (reason.reason, reason.about, reason.count) == ("stale-file", "redis/db_0", 6)
    assert outcome.exit_status == 3
    after = read_tree(tmp_path / "out")
    assert after[f"{BASE}/strings/s1.bin"] == b"newer"
    assert all(after[path] == first[path] for path in stale)
    check_sealed(tmp_path / "out")


def test_into_6_at_most_16_stale_files_are_named(tmp_path: Path) -> None:
    decode_again(snapshot([put(STR + b"k%02d" % n, 1, b"v") for n in range(20)]), tmp_path)
    (warning,) = decode_again(snapshot([put(STR + b"k00", 1, b"v")]), tmp_path).warnings
    assert warning.count == 19
    assert list(warning.about) == [f"{BASE}/strings/k{n:02}.bin" for n in range(1, 17)]


def test_into_6_stale_files_are_named_as_they_lie_there(tmp_path: Path) -> None:
    decode_again(snapshot([put(STR + b"a:b", 1, b"v")]), tmp_path)
    (tmp_path / "out" / BASE / "strings" / "\udcff.bin").touch()
    (warning,) = decode_again(EMPTY, tmp_path).warnings
    assert list(warning.about) == [f"{BASE}/strings/a%3Ab.bin", f"{BASE}/strings/\\xff.bin"]


def test_into_6_a_second_run_over_its_own_dump_is_complete_and_the_same(tmp_path: Path, handles: bool) -> None:
    decode_again(FULL, tmp_path)
    first = read_tree(tmp_path / "out")
    assert decode_again(FULL, tmp_path, handles=handles).complete
    second = read_tree(tmp_path / "out")
    if handles:
        assert second == first


def test_tree_7_a_sidecar_is_emptied_before_it_is_written(tmp_path: Path, handles: bool) -> None:
    decode_again(snapshot([put(STR + b"k%02d" % n, 1, envelope(1, b"v", 5)) for n in range(20)]), tmp_path)
    sidecar = tmp_path / "out" / BASE / "strings_ttl.jsonl"
    sidecar.chmod(0o666)
    decode_again(snapshot([put(STR + b"k00", 1, envelope(1, b"v", 6))]), tmp_path, handles=handles)
    assert sidecar.read_bytes() == b'{"key":"k00","expire_at_ms":6}\n'
    assert stat.S_IMODE(sidecar.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [FULL[:-1], snapshot([put(STR + b"k", 1, b"", flags=2)]), b"", b"no snapshot"])
def test_into_4_a_snapshot_that_is_refused_leaves_the_old_dump_with_its_seal(tmp_path: Path, data: bytes) -> None:
    decode_again(FULL, tmp_path)
    (tmp_path / "out" / BASE / ".ekvdump.tmp").write_bytes(b"of a run that was killed")
    before = read_tree(tmp_path / "out")
    _, out_state = refused_again(data, tmp_path)
    assert out_state == "untouched"
    assert read_tree(tmp_path / "out") == before


def test_into_4_from_the_first_write_on_there_is_no_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handles: bool
) -> None:
    decode_again(FULL, tmp_path)
    write = TreeWriter.write
    looked = []

    def look(target: TreeWriter, output: Blob | Line) -> None:
        write(target, output)
        looked.append(sorted(set(os.listdir(tmp_path / "out")) & {"MANIFEST.json", "CHECKSUMS"}))

    monkeypatch.setattr(TreeWriter, "write", look)
    decode_again(FULL, tmp_path, handles=handles)
    assert looked == [[]] * len(looked)
    assert looked


def test_into_4_the_seal_goes_before_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_again(FULL, tmp_path)
    unlinked = []
    unlink = os.unlink

    def recorded(name: str, **keywords: int) -> None:
        unlinked.append(name)
        unlink(name, **keywords)

    monkeypatch.setattr(os, "unlink", recorded)
    with monkeypatch.context() as patch:
        Failing(patch, "unlink", 2, 5)
        fault, out_state = refused_again(FULL, tmp_path)
    assert (fault.name, out_state) == ("io-error", "unfinished")
    assert (fault.path, fault.also) == (str(tmp_path / "out"), ())
    # The second call fails; at the end both are tried again, the seal first as before.
    assert unlinked == ["CHECKSUMS", "CHECKSUMS", "MANIFEST.json"]
    assert not {"MANIFEST.json", "CHECKSUMS"} & set(os.listdir(tmp_path / "out"))


def test_safe_27_a_value_that_refuses_the_snapshot_late_leaves_no_seal(tmp_path: Path) -> None:
    decode_again(FULL, tmp_path)
    _, out_state = refused_again(snapshot([put(STR + b"a", 1, b"v"), put(STR + b"b", 1, b"\xff\x01")]), tmp_path)
    assert out_state == "unfinished"
    assert not {"MANIFEST.json", "CHECKSUMS"} & set(read_tree(tmp_path / "out"))


# ---- what lies there before ----

EVERYWHERE = [
    "planted", "redis/planted", f"{BASE}/planted", f"{BASE}/strings/s1.bin", f"{BASE}/strings_ttl.jsonl",
    f"{BASE}/KEYMAP.jsonl", "MANIFEST.json", "CHECKSUMS", f"{BASE}/hll", "redis/db_5", f"{BASE}/strings/.ekvdump.tmp",
]  # fmt: skip


@pytest.mark.parametrize("place", EVERYWHERE)
@pytest.mark.parametrize(("kind", "clause"), [*LINKS.items(), *SPECIAL.items()])
def test_into_1_a_link_or_special_file_anywhere_is_refused_before_the_first_write(
    tmp_path: Path, canary: Canary, place: str, kind: str, clause: str, handles: bool
) -> None:
    decode_again(FULL, tmp_path)
    path = tmp_path / "out" / place
    if path.exists():
        path.rename(tmp_path / "aside")
    plant(path, kind, canary)
    names = {name for _, _, found in os.walk(tmp_path / "out") for name in found}
    fault, out_state = refused_again(OTHER, tmp_path, handles=handles)
    assert (fault.clause, fault.path) == (clause, str(path))
    assert out_state == "untouched"
    assert {name for _, _, found in os.walk(tmp_path / "out") for name in found} == names


@pytest.mark.parametrize(
    ("place", "kind", "clause"),
    [
        (".ekvdump.tmp", "directory", "SAFE-16"), (f"{BASE}/strings/.ekvdump.tmp", "directory", "SAFE-16"),
        (f"{BASE}/KEYMAP.jsonl", "directory", "SAFE-16"), ("redis", "file", "SAFE-17"), (BASE, "file", "SAFE-17"),
        (f"{BASE}/hll", "file", "SAFE-17"),
    ],
)  # fmt: skip
def test_into_1_what_would_be_refused_later_is_refused_before_the_old_seal_is_gone(
    tmp_path: Path, canary: Canary, place: str, kind: str, clause: str, handles: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "CHECKSUMS").write_bytes(b"the old seal")
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    plant(path, kind, canary)
    fault, out_state = refused_again(FULL, tmp_path, handles=handles)
    assert (fault.clause, fault.path, out_state) == (clause, str(path), "untouched")
    assert (tmp_path / "out" / "CHECKSUMS").read_bytes() == b"the old seal"


def test_into_1_a_path_that_sha256sum_could_not_open_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "out"
    parts = ["x" * 199] * 19
    deep.joinpath(*parts).mkdir(parents=True)
    deep.joinpath(*parts, "y" * 200).touch()
    assert decode_again(FULL, tmp_path).complete
    check_sealed(tmp_path / "out")
    deep.joinpath(*parts, "y" * 201).touch()
    fault, out_state = refused_again(FULL, tmp_path)
    assert (fault.clause, out_state) == ("INTO-1", "untouched")


@pytest.mark.parametrize("place", ["snapshot.fsm", ".ekvdump.tmp", f"{BASE}/strings/s1.bin"])
def test_into_2_a_snapshot_in_the_output_directory_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(FULL)
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for spelling in (str(path), "link", f"out/{place}"):
        run = Run(spelling, "out/", into_existing=True)
        with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
            run.run()
        assert caught.value.detail
        assert (caught.value.clause, caught.value.path, run.out_state) == ("INTO-2", spelling, "untouched")
    assert path.read_bytes() == FULL


def test_into_2_a_directory_whose_name_only_begins_like_the_output_directories_is_another(tmp_path: Path) -> None:
    (tmp_path / "out-of-yesterday").mkdir()
    (tmp_path / "out-of-yesterday" / "snapshot").write_bytes(FULL)
    assert Run(str(tmp_path / "out-of-yesterday" / "snapshot"), str(tmp_path / "out")).run().complete


def test_read_12_no_more_of_an_earlier_manifest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_bytes(FULL, tmp_path)
    monkeypatch.setattr("ekvdump.filesystem.tree_writer.MAX_MANIFEST_SIZE", 9)
    run = prepare_run(FULL, tmp_path, into_existing=True)
    run.run()
    assert len(run._writer.earlier_manifest) == 10


def test_into_6_lines_of_stale_blobs_are_gone_and_a_verifier_says_so(tmp_path: Path) -> None:
    decode_again(snapshot([put(STR + b"%" * 81, 1, b"v")]), tmp_path)
    assert decode_again(snapshot([put(STR + b"&" * 81, 1, b"v")]), tmp_path).exit_status == 3
    verification = Verification(str(tmp_path / "out"), print)
    verification.run()
    assert verification.counts == {"needs-keymap": 1}


def test_tree_1_mani_10_an_index_of_many_digits(tmp_path: Path) -> None:
    database = 12345678901234567890123
    decode_again(FULL, tmp_path, database)
    decode_again(EMPTY, tmp_path, 2)
    assert databases(tmp_path / "out") == {"databases": [database]}
    verification = Verification(str(tmp_path / "out"), print)
    verification.run()
    assert verification.counts == {}


@pytest.mark.parametrize("function", ["mkdir", "open", "unlink"])
@pytest.mark.parametrize("earlier", [True, False])
def test_safe_24_an_interrupt_at_any_call_is_reported_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, earlier: bool
) -> None:
    """Right after each call, as if a signal had come: what lies there fits to what is said, and is clean."""
    monkeypatch.setattr(
        "ekvdump.filesystem.external_sort.RUN_LINES", 2
    )  # so that temporary files without a name are made, too
    states = set()
    for nth in range(1, 40):
        directory = tmp_path / str(nth)
        directory.mkdir()
        if earlier:
            decode_again(FULL, directory)
        run = prepare_run(FULL, directory, into_existing=True, sync=False)
        real = getattr(os, function)
        calls: list[int] = []

        def interrupted(
            *words: Any, real: Any = real, calls: list[int] = calls, nth: int = nth, **keywords: Any
        ) -> Any:
            result = real(*words, **keywords)
            calls.append(1)
            if len(calls) == nth:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patch:
            patch.setattr(os, function, interrupted)
            try:
                run.run()
            except KeyboardInterrupt:
                pass
            else:
                break
        left = set(read_tree(directory / "out")) if (directory / "out").exists() else None
        states.add(run.out_state)
        if run.out_state == "untouched":
            assert left is None or (earlier and "CHECKSUMS" in left)
        elif run.out_state == "unfinished":
            assert left is not None
            assert not [path for path in left if path in ("CHECKSUMS", "MANIFEST.json") or path.endswith(".tmp")]
        else:
            assert "CHECKSUMS" in (left or ())
    assert "unfinished" in states or (function, earlier) == ("mkdir", True)


@pytest.mark.parametrize("place", ["MANIFEST.json", "CHECKSUMS", f"{BASE}/strings_ttl.jsonl", f"{BASE}/strings/s1.bin"])
def test_into_1_safe_14_safe_15_hard_links(tmp_path: Path, canary: Canary, place: str, handles: bool) -> None:
    decode_again(FULL, tmp_path)
    path = tmp_path / "out" / place
    path.unlink()
    plant(path, "hard link", canary)
    if place.endswith(".bin"):
        decode_again(FULL, tmp_path, handles=handles)
        assert path.read_bytes() == b"string one"
        return
    fault, out_state = refused_again(FULL, tmp_path, handles=handles)
    assert (fault.clause, fault.path) == ("SAFE-14", str(path))
    assert (out_state == "unfinished") == place.startswith("redis")


def test_into_3_leftovers_of_killed_runs_are_removed(tmp_path: Path, handles: bool) -> None:
    for place in ("", "redis", BASE, f"{BASE}/strings", "redis/db_5/hll"):
        (tmp_path / "out" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / place / ".ekvdump.tmp").write_bytes(b"half")
    assert decode_again(FULL, tmp_path, handles=handles).complete
    assert not [path for path in read_tree(tmp_path / "out") if path.endswith(".tmp")]


@pytest.mark.parametrize("is_new", [True, False])
def test_safe_9_a_file_that_vanishes_before_the_seal_is_noticed(
    is_new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_new:
        decode_again(EMPTY, tmp_path)
    close_sidecars = TreeWriter._close_sidecars

    def vanish(target: TreeWriter) -> list[Fault]:
        (tmp_path / "out" / BASE / "strings" / "s1.bin").unlink(missing_ok=True)
        return close_sidecars(target)

    monkeypatch.setattr(TreeWriter, "_close_sidecars", vanish)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        decode_bytes(FULL, tmp_path, Options(), into_existing=not is_new, sync=False)
    assert caught.value.detail
    assert (caught.value.clause, caught.value.path) == ("SAFE-9", f"{tmp_path}/out/{BASE}/strings/s1.bin")


def test_into_1_a_tree_that_is_too_deep_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MAX_DEPTH", 4)
    (tmp_path / "out" / "a/b/c/d").mkdir(parents=True)
    decode_again(FULL, tmp_path)
    (tmp_path / "out" / "a/b/c/d/e").mkdir(parents=True)
    fault, out_state = refused_again(FULL, tmp_path)
    assert (fault.clause, fault.path) == ("INTO-1", f"{tmp_path}/out/a/b/c/d/e")
    assert out_state == "untouched"


# ---- the writer that uses paths [SAFE-7] ----


def test_safe_7_the_same_tree_comes_out_and_one_warning_says_how(tmp_path: Path) -> None:
    outcome = decode_bytes(FULL, tmp_path, sync=False, handles=False)
    (warning,) = outcome.warnings
    assert (warning.name, warning.count, warning.about) == ("unguarded-writes", 1, ())
    assert warning.detail
    assert outcome.complete
    by_path = read_tree(tmp_path / "out")
    (tmp_path / "other").mkdir()
    decode_bytes(FULL, tmp_path / "other")
    assert {path: data for path, data in by_path.items() if path.startswith("redis")} == {
        path: data for path, data in read_tree(tmp_path / "other" / "out").items() if path.startswith("redis")
    }
    check_sealed(tmp_path / "out")


@pytest.mark.parametrize("place", ["redis", BASE, f"{BASE}/strings", "."])
def test_safe_7_every_directory_down_to_a_place_is_looked_at_before_each_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, place: str
) -> None:
    path = tmp_path / "out" / place if place != "." else tmp_path / "out"
    write = TreeWriter.write
    done = []

    def swap(target: TreeWriter, output: Blob | Document | Line) -> None:
        if isinstance(output, Blob) and output.name == "s2.bin":
            path.rename(tmp_path / "aside")
            path.symlink_to(canary.directory)
            done.append(output)
        write(target, output)

    monkeypatch.setattr(TreeWriter, "write", swap)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        decode_bytes(FULL, tmp_path, sync=False, handles=False)
    assert caught.value.detail
    assert done
    assert caught.value.clause == "SAFE-8"


def test_safe_7_a_file_that_is_swapped_between_look_and_open_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary
) -> None:
    decode_again(FULL, tmp_path)
    sidecar = tmp_path / "out" / BASE / "strings_ttl.jsonl"
    real = os.open

    def swapped(path: str, flags: int, *arguments: int, **keywords: int) -> int:
        if str(path).endswith("strings_ttl.jsonl") and not flags & os.O_CREAT:
            sidecar.unlink()
            os.link(canary.directory / "file", sidecar)
        return real(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        decode_again(FULL, tmp_path, handles=False)
    assert fault_of(caught.value) == ("unsafe-path", "SAFE-8", None)
    assert caught.value.path == str(sidecar)


@pytest.mark.parametrize("kind", [*LINKS, "FIFO", "socket"])
def test_safe_7_without_safe_flags_a_link_is_still_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary, kind: str
) -> None:
    """On a platform that lacks the flags they are 0; then the looks alone have to do."""
    unsafe = ~(os.O_NOFOLLOW | os.O_NONBLOCK)
    monkeypatch.setattr(directories, "CREATE_FILE", directories.CREATE_FILE & unsafe)
    monkeypatch.setattr(tree_writer, "WRITE_FILE", directories.WRITE_FILE & unsafe)
    plant_at(tmp_path, monkeypatch, canary, f"{BASE}/strings_ttl.jsonl", kind)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        decode_bytes(FULL, tmp_path, sync=False, handles=False)
    assert caught.value.detail
    assert caught.value.path == f"{tmp_path}/out/{BASE}/strings_ttl.jsonl"


def test_safe_22_a_platform_without_one_sync_for_all_flushes_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(tree_writer, "FLUSHES_EACH_FILE", True)
    monkeypatch.setattr(tree_writer, "flush_file_system", None)
    decode_bytes(FULL, tmp_path)
    inodes = {(tmp_path / "out" / path).stat().st_ino for path in read_tree(tmp_path / "out")}
    assert set(flushed) == inodes


def test_safe_7_a_platform_without_fchmod_still_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_again(FULL, tmp_path)
    monkeypatch.delattr(os, "fchmod")
    assert decode_again(FULL, tmp_path, handles=False).complete


@pytest.mark.parametrize("kind", [*LINKS, "FIFO", "file"])
def test_safe_7_a_directory_that_turns_into_something_else_is_not_entered(
    tmp_path: Path, canary: Canary, kind: str
) -> None:
    top = open_top(str(tmp_path), handles=False)
    plant(tmp_path / "planted", kind, canary)
    with pytest.raises(NotADirectoryError) as refused:
        top.enter("planted")
    assert refused.value.errno == errno.ENOTDIR
    if kind != "file":
        with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
            top.open("planted", directories.READ_FILE)
        assert caught.value.detail
        assert (caught.value.clause, caught.value.path) == ("SAFE-7", str(tmp_path / "planted"))


@pytest.mark.parametrize(("limit", "value"), [("MAX_PATH_SIZE", 10), ("MAX_DEPTH", 1)])
def test_into_1_a_place_too_deep_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    (tmp_path / "inner" / "innermost").mkdir(parents=True)
    monkeypatch.setattr(directories, limit, value)
    top = open_top(str(tmp_path), handles=True)
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        list(directories.iter_tree(top, "shown"))
    top.close()
    assert fault_of(caught.value) == ("unsafe-path", "INTO-1", None)
    assert caught.value.path == "shown/inner/innermost"


def test_safe_8_a_directory_in_the_place_of_another_is_reported(tmp_path: Path) -> None:
    top = open_top(str(tmp_path), handles=False)
    (tmp_path / "inner").mkdir()
    inner = top.enter("inner")
    (tmp_path / "inner").rename(tmp_path / "aside")
    (tmp_path / "inner").mkdir()
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        inner.look("file")
    fault = caught.value
    assert (fault.clause, fault.offset, fault.path) == ("SAFE-8", None, str(tmp_path / "inner"))
    assert "something else" in fault.detail


def test_safe_8_a_link_to_where_a_directory_was_moved_is_reported(tmp_path: Path) -> None:
    (tmp_path / "inner" / "innermost").mkdir(parents=True)
    innermost = open_top(str(tmp_path), handles=False).enter("inner").enter("innermost")
    (tmp_path / "inner").rename(tmp_path / "aside")
    (tmp_path / "inner").symlink_to("aside")
    with pytest.raises(Fault, match=r"\[unsafe-path, ") as caught:
        innermost.look("file")
    assert (caught.value.clause, caught.value.path) == ("SAFE-8", str(tmp_path / "inner"))


@pytest.mark.parametrize("handles", [True, False])
def test_tree_8_no_mode_of_a_directory_is_left_to_the_umask(tmp_path: Path, handles: bool) -> None:
    top = open_top(str(tmp_path), handles=handles)
    with umask(0):
        top.make("inner")
    top.close()
    assert stat.S_IMODE((tmp_path / "inner").stat().st_mode) == directories.DIRECTORY_MODE == 0o755


def test_safe_29_a_file_of_another_run_that_cannot_be_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "the disk is broken")

    decode_again(FULL, tmp_path)
    monkeypatch.setattr(tree_writer, "hash_file", fail)
    fault, _ = refused_again(FULL, tmp_path, database=1)
    assert (fault.name, fault.detail, fault.path) == (
        "io-error", "the disk is broken", f"{tmp_path}/out/redis/db_0/KEYMAP.jsonl",
    )  # fmt: skip


def test_safe_28_windows_says_disk_full_in_its_own_numbers() -> None:
    error = OSError(22, "no space")
    for number in (39, 112):
        error.winerror = number  # type: ignore[attr-defined, unused-ignore]
        assert system_faults.fault_of(error, "p").name == "disk-full"
