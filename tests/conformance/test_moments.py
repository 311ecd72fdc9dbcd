"""Moments in words are found in the calls of a program, and what is done at them is done."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from decoders import COMMAND, JUDGE_COMMAND, REFERENCE
from ekvconform.cases.golden_cases import BrokenCaseError, Scene, load_case
from ekvconform.cases.loading import load_cases
from ekvconform.cases.moments import SCENES, SCENES_OF_CASES, Watch, decode_when
from ekvconform.cases.system_calls import CALLS, Call
from ekvconform.judge.verdicts import Judgement
from ekvconform.judge.workers import judge_cases
from ekvconform.run.profiles import Profile, make_profile
from ekvconform.run.sandbox import make_sandbox
from ekvconform.run.seccomp import CannotHoldError
from ekvconform.run.tampering import Rearrangement, can_rearrange

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CASES = {case.id: case for case in load_cases() if case.scene.during}
CREATE = os.O_CREAT | os.O_WRONLY


def call(name: str, *places: str, flags: int = 0) -> Call:
    return Call(name, tuple(f"/box/out/{place}".removesuffix("/.") for place in places), flags)


CALLS_OF_A_RUN = [
    call("lstat", "."),
    call("mkdir", "."),
    Call("openat", ("/elsewhere",)),
    call("mkdirat", "redis"),
    call("newfstatat", "redis"),
    call("openat", "redis/db_0/hll/.tmp", flags=CREATE),
    call("renameat", "redis/db_0/hll/.tmp", "redis/db_0/hll/h.bin"),
    Call("write", ("pipe:[1]",)),
    call("openat", "redis/db_0/strings/.tmp", flags=CREATE),
    call("linkat", "redis/db_0/strings/.tmp", "redis/db_0/strings/k.bin"),
    call("openat", "redis/db_0/hll_ttl.jsonl"),
    call("openat", "redis/db_0/hll_ttl.jsonl", flags=CREATE),
    call("close", "redis/db_0/hll_ttl.jsonl"),
]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("before OUT is made", 1),
        ("after OUT is made", 3),
        ("before redis is looked at", 4),
        ("after redis is made, before anything in redis/db_0/strings is opened", 8),
        ("between the first and the second blob", 8),
        ("after the first blob appears", 8),
        ("before redis/db_0/strings/k.bin appears", 9),
        ("before redis/db_0/hll_ttl.jsonl is opened", 10),
        ("before redis/db_0/hll_ttl.jsonl appears", 11),
        ("after redis/db_0/hll_ttl.jsonl appears", 12),
        ("before CHECKSUMS appears", None),
    ],
)
def test_words_name_a_call(words: str, found: int | None) -> None:
    watch = Watch(decode_when(words), "/box/out")
    come = [number for number, each in enumerate(CALLS_OF_A_RUN) if watch.has_come(each)]
    assert (come[0] if come else None) == found


@pytest.mark.parametrize(
    "words", ["", "before", "later", "before redis", "after OUT is made before redis is made", "before redis is big"]
)
def test_other_words_are_no_moment(words: str) -> None:
    with pytest.raises(ValueError, match=r"is not an? (moment|event)"):
        decode_when(words)


def test_a_case_with_other_words_is_broken(tmp_path: Path) -> None:
    text = (FIXTURES / "cases" / "safe" / "safe-during-out-symlink.toml").read_text()
    for broken in (
        text.replace("before OUT is made", "soon"),
        text.replace("scene = 'symlink'", "scene = 'flood'"),
        text.replace("scene = 'symlink'\n", ""),
    ):
        (tmp_path / "safe-during-out-symlink.toml").write_text(broken)
        with pytest.raises(BrokenCaseError):
            load_case(tmp_path / "safe-during-out-symlink.toml")


def test_every_scene_has_a_case_and_no_twin_has_company() -> None:
    assert len(CASES) >= 20
    assert {case.scene.during.scene for case in CASES.values() if case.scene.during} == set(SCENES_OF_CASES)
    assert not [case for case in CASES.values() if case.twin is not None and case.twin.during]


@pytest.mark.parametrize("name", list(CALLS))
def test_calls_write_or_do_not(name: str) -> None:
    looks = ("stat", "access", "readlink", "getdents", "exit")
    reads_if_flags_say_so = ("open", "close", "creat")
    writes = Call(name, ("/x",)).writes
    assert writes == (not any(word in name for word in (*looks, *reads_if_flags_say_so)))
    if any(name.startswith(word) for word in reads_if_flags_say_so):
        assert Call(name, ("/x",), os.O_RDWR).writes


# ---- programs ----

# Writes a blob and its sidecar by path, without a look.
BY_PATH = """
import os, sys
out = sys.argv[1]
for path in ("redis/db_0/hll/h.bin", "redis/db_0/strings/k.bin", "redis/db_0/strings_ttl.jsonl"):
    if sys.argv[2] == "looks" and os.path.isdir(out + "/" + os.path.dirname(path)):
        os.stat(out + "/" + os.path.dirname(path))
    os.makedirs(out + "/" + os.path.dirname(path), exist_ok=True)
    with open(out + "/" + path, "wb") as file:
        file.write(b"x")
"""


def judge(case_id: str, way: str) -> Judgement:
    command = [sys.executable, "-I", "-S", "-c", BY_PATH, "{out}", way, "{snapshot}"]
    (judgement,) = judge_cases(
        [CASES[case_id]],
        make_profile({"command": command}).located(),
        1,
        strict_reasons=False,
        on_result=lambda _: None,
    )
    return judgement


@pytest.mark.parametrize(
    "case_id",
    [
        "safe-find-18-directory-swapped-between-blobs", "safe-during-blobs-top-swapped",
        "safe-during-blobs-out-swapped", "safe-find-10-directory-swapped-after-the-look",
        "safe-during-sidecar-symlink", "safe-during-sidecar-hard-link",
        "safe-during-blob-symlink",
    ],
)  # fmt: skip
def test_a_writer_by_path_is_caught_at_a_moment(case_id: str) -> None:
    assert judge(case_id, "looks").verdict == "ESCAPED"


def test_a_program_that_has_no_such_moment_is_not_judged() -> None:
    found = judge("safe-find-10-directory-swapped-after-the-look", "never looks")
    assert found.verdict == "UNSUPPORTED"
    assert found.differences[0].found.startswith("it has no such moment: after redis/db_0/strings is looked at")
    # It renames nothing, so there is no temporary file to replace.
    assert judge("safe-during-temporary-replaced", "looks").verdict == "UNSUPPORTED"


@pytest.mark.parametrize(
    ("program", "verdict"),
    [("import os; os.kill(os.getpid(), 11)", "CRASH"), ("raise SystemExit(5)", "FAIL"), ("1 / 0", "CRASH")],
)
def test_a_run_that_does_not_come_so_far_is_no_missing_moment(program: str, verdict: str) -> None:
    profile = make_profile({"command": [sys.executable, "-I", "-S", "-c", program, "{out}", "{snapshot}"]}).located()
    case = CASES["safe-during-out-symlink"]
    (found,) = judge_cases([case], profile, 1, strict_reasons=False, on_result=lambda _: None)
    assert found.verdict == verdict, found.differences


def test_where_no_program_can_be_held_its_case_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot() -> None:
        raise CannotHoldError("not here")

    monkeypatch.setattr("ekvconform.judge.verdicts.require_machine", cannot)
    case = CASES["safe-during-out-symlink"]
    (found,) = judge_cases([case], COMMAND, 1, strict_reasons=False, on_result=lambda _: None)
    assert (found.verdict, found.differences[0].found) == ("UNSUPPORTED", "not here")


NAMED: Final = {
    "safe-during-temporary-fifo", "safe-during-temporary-gone", "safe-during-temporary-replaced",
    "safe-during-temporary-symlink", "safe-find-10-directory-swapped-after-the-look",
}  # fmt: skip
"""Cases of what happens to a blob while it has a temporary name. The command gives it none. [SAFE-19]"""


@pytest.mark.parametrize(("profile", "missing"), [(REFERENCE, set()), (COMMAND, NAMED)], ids=["reference", "command"])
def test_each_decoder_has_all_moments_that_its_way_of_writing_has(profile: Profile, missing: set[str]) -> None:
    found = judge_cases(list(CASES.values()), profile, 2, strict_reasons=True, on_result=lambda _: None)
    expected = {case_id: "UNSUPPORTED" if case_id in missing else "PASS" for case_id in CASES}
    assert {each.case.id: each.verdict for each in found} == expected


# ---- what is done ----


@pytest.mark.parametrize("scene", SCENES)
def test_what_is_rearranged_is_not_held_against_the_program(scene: str, tmp_path: Path) -> None:
    box = make_sandbox(tmp_path, Scene())
    place = "directory" if scene in ("swap", "vanish", "remove") else "file"
    (box.out / "directory").mkdir(parents=True)
    (box.out / "file").write_bytes(b"x")
    done = Rearrangement(box, scene)
    done.do(box.out / "nowhere" / "else")
    assert not done.is_done
    done.do(box.out / place)
    assert done.is_done
    assert not can_rearrange(scene, box.out / "directory") or place == "file"
    assert done.touched() == []
    (tmp_path / "canary" / "file").write_bytes(b"by the program")
    assert "canary/file" in done.touched()


def test_what_was_touched_before_the_moment_is_reported(tmp_path: Path) -> None:
    box = make_sandbox(tmp_path, Scene())
    box.out.mkdir()
    done = Rearrangement(box, "symlink")
    (tmp_path / "canary" / "new").touch()
    done.do(box.out / "x")
    assert done.touched() == ["canary/new"]


def test_repro_says_what_is_left_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from ekvconform import cli

    assert cli.main(["repro", *JUDGE_COMMAND, "safe-during-out-symlink", "--directory", str(tmp_path / "scene")]) == 0
    assert "# Tampering, to be done by hand: before OUT is made, symlink at ." in capsys.readouterr().out
