"""What a program keeps outside OUT while it runs is seen, though it removes it; and it cannot read the fixtures."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from decoders import JUDGE_COMMAND, REFERENCE
from ekvconform import cli
from ekvconform.cases.data_files import FIXTURES
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.loading import load_cases
from ekvconform.judge.verdicts import ESCAPED, PASS, Judgement
from ekvconform.judge.workers import judge_cases
from ekvconform.run.namespaces import can_hide
from ekvconform.run.watching import TOO_MANY, Watch

CASES = {case.id: case for case in load_cases()}
COMPLETE = CASES["rstr-envelope"]
REFUSED = CASES["file-bad-magic"]
PLACES = {
    "beside OUT": "os.path.dirname(out)", "beside the snapshot": "os.path.dirname(snapshot)",
    "among the canaries": "os.path.join(os.path.dirname(out), '..', 'canary', 'directory')",
    "in the directory above": "os.path.join(os.path.dirname(out), '..')",
}  # fmt: skip
WAYS = {
    "a file": "open(place + '/scratch', 'w').close(); os.unlink(place + '/scratch')",
    "a directory": "os.mkdir(place + '/scratch'); os.rmdir(place + '/scratch')",
    "a file of OUT, for a moment":
        "os.makedirs(out); open(out + '/x', 'w').close(); os.rename(out + '/x', place + '/scratch'); "
        "os.rename(place + '/scratch', out + '/x'); os.unlink(out + '/x'); os.rmdir(out)",
}  # fmt: skip


def judged(tmp_path: Path, lines: str, *cases: Case) -> list[Judgement]:
    """Judge a program that runs these lines, with `snapshot` and `out`, and then is the reference."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, runpy, sys\nsnapshot, out = sys.argv[-2:]\n{lines}\n"
        "sys.argv[0] = 'ekvformat'\nrunpy.run_module('ekvformat', run_name='__main__', alter_sys=True)\n"
    )
    command = (sys.executable, str(program), *REFERENCE.command[3:])
    profile = replace(REFERENCE, command=command)
    return judge_cases(cases, profile, 1, strict_reasons=False, on_result=lambda _: None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_removed_again_was_there(place: str, way: str, tmp_path: Path) -> None:
    for judgement in judged(tmp_path, f"place = {PLACES[place]}\n{WAYS[way]}", COMPLETE, REFUSED):
        assert judgement.verdict == ESCAPED
        (difference,) = judgement.differences
        assert (difference.clause, difference.found) == ("SAFE-5", "made and removed")
        assert difference.place.endswith("scratch, outside OUT")


def test_tmpdir_and_out_are_its_own(tmp_path: Path) -> None:
    lines = "open(os.environ['TMPDIR'] + '/scratch', 'w').close(); os.mkdir(out); os.rmdir(out)"
    assert [judgement.verdict for judgement in judged(tmp_path, lines, COMPLETE)] == [PASS]


def test_names_of_a_run_say_nothing_of_the_case(tmp_path: Path) -> None:
    lines = f"open({str(tmp_path / 'seen')!r}, 'a').write(out + chr(10))"
    cases = [COMPLETE, REFUSED, COMPLETE]
    assert {judgement.verdict for judgement in judged(tmp_path, lines, *cases)} == {PASS}
    outs = (tmp_path / "seen").read_text().splitlines()
    assert len(set(outs)) == 3
    for out in outs:
        assert "rstr" not in out
        assert "ekv" not in out
        assert not [part for part in Path(out).parts if part.isdecimal()]


def test_the_fixtures_are_out_of_reach_where_the_machine_permits_it(tmp_path: Path) -> None:
    lines = f"open({str(tmp_path / 'seen')!r}, 'w').write(repr(os.listdir({str(FIXTURES)!r})))"
    assert [judgement.verdict for judgement in judged(tmp_path, lines, COMPLETE)] == [PASS]
    assert (tmp_path / "seen").read_text() == ("[]" if can_hide(FIXTURES) else repr(os.listdir(FIXTURES)))
    assert (FIXTURES / "index.toml").is_file()


def test_a_report_says_where_the_fixtures_are_in_reach(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for can, count in ((True, 0), (False, 1)):
        monkeypatch.setattr("ekvconform.cli.running.can_hide", lambda directory, can=can: can)
        assert cli.main(["run", "--quiet", COMPLETE.id, *JUDGE_COMMAND]) == 0
        assert capfd.readouterr().out.count("the program could read the fixtures") == count


def test_a_watch_that_is_flooded_says_so(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watch = Watch([os.fsencode(tmp_path)])
    for number in range(limit // 2 + 1):
        os.close(os.open(tmp_path / str(number), os.O_CREAT))
        os.unlink(tmp_path / str(number))
    assert TOO_MANY in watch.ended()


def test_what_cannot_be_watched_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directories cannot be watched"):
        Watch([os.fsencode(tmp_path / "absent")])
