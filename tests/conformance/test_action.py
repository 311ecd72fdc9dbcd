"""The GitHub action, as far as it can be run here: its scripts, with the variables that it gives them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
PYTHON, INSTALL, JUDGE = ACTION["runs"]["steps"]


def judge(tmp_path: Path, **inputs: str) -> tuple[int, str]:
    """Run the step that judges, with the defaults of all other inputs."""
    (tmp_path / "ekvconform").symlink_to(Path(sys.prefix))
    given = {name: each["default"] for name, each in ACTION["inputs"].items()} | inputs
    environment = {
        name: given[words.removeprefix("${{ inputs.").removesuffix(" }}")] for name, words in JUDGE["env"].items()
    } | {
        "PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }  # fmt: skip
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", JUDGE["run"]],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=HANG_SECONDS,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def test_it_is_a_composite_action_whose_inputs_are_variables_only() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert PYTHON["uses"].startswith("actions/setup-python@")
    for step in (INSTALL, JUDGE):
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an input in a script can be taken for a part of it"
    assert all(each["description"] for each in ACTION["inputs"].values())
    assert "$GITHUB_ACTION_PATH" in INSTALL["run"]


def test_a_command_with_quoted_words_is_judged(tmp_path: Path) -> None:
    decoder = tmp_path / "my decoder.sh"
    decoder.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ekvdump decode --no-sync "$@"\n')
    decoder.chmod(0o755)
    status, reported = judge(tmp_path, command="'./my decoder.sh' {snapshot} {out}", select="envl-expiry-0 rstr-bare")
    assert status == 0, reported
    assert "all 2 cases as expected" in reported
    assert "✅" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "output").read_text() == "report=ekvconform-report\npassed=2\n"
    assert sorted(os.listdir(tmp_path / "ekvconform-report")) == [
        "ekvconform-badge.json", "ekvconform.html", "ekvconform.jsonl", "ekvconform.xml",
    ]  # fmt: skip


def test_a_profile_and_a_list_are_used_and_failures_are_annotated(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('command = ["true", "{snapshot}", "{out}"]\n')
    (tmp_path / "k.txt").write_text("rstr-bare  FAIL  # bug 7\n")
    inputs = {"profile": "p.toml", "known-failures": "k.txt", "select": "rstr-bare rstr-envelope"}
    status, reported = judge(tmp_path, **inputs)
    assert status == 1
    assert "::error title=1 case%3A missing%3A string in an envelope [RSTR-6]::rstr-envelope: " in reported
    assert "::rstr-bare: redis" not in reported
    assert "❌" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("name", ["command", "select"])
def test_what_an_input_holds_is_not_run(tmp_path: Path, name: str) -> None:
    status, _ = judge(tmp_path, **{name: "$(touch escaped) `touch escaped` ; touch escaped"})
    assert status == 2
    assert not (tmp_path / "escaped").exists()


def test_a_job_in_which_too_little_ran_is_red(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('command = ["true", "{snapshot}", "{out}"]\nchapters = ["rstr"]\n')
    (tmp_path / "k.txt").write_text("rstr-bare  FAIL  # bug 7\n")
    inputs = {"profile": "p.toml", "known-failures": "k.txt", "select": "rstr-bare veri-no-seal"}
    (tmp_path / "red").mkdir()
    for path in ("p.toml", "k.txt"):
        (tmp_path / "red" / path).write_text((tmp_path / path).read_text())
    assert judge(tmp_path, **inputs)[0] == 0
    status, reported = judge(tmp_path / "red", **inputs, **{"min-ran": "2"})
    assert status == 1
    assert "only 1 case ran, fewer than --min-ran 2" in reported


def test_a_command_or_a_profile_is_needed(tmp_path: Path) -> None:
    status, reported = judge(tmp_path, select="envl-expiry-0")
    assert status == 2
    assert "no program to judge" in reported
