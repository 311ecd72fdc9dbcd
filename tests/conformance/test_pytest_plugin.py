"""The cases as tests of pytest, as the README of the runner shows it."""

import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANG_SECONDS

WRONG = """
import os, subprocess, sys
ended = subprocess.run([sys.executable, "-m", "ekvdump", "decode", "--quiet", *sys.argv[1:3]])
if os.path.exists(sys.argv[2] + "/redis/db_0/strings_ttl.jsonl"):
    os.remove(sys.argv[2] + "/redis/db_0/strings_ttl.jsonl")
sys.exit(ended.returncode)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody else's repository, with a test of its own that starts a process and looks after it."""
    (tmp_path / "decoder.py").write_text(WRONG)
    (tmp_path / "ekvconform.toml").write_text(
        f'name = "mine"\ncommand = ["{sys.executable}", "{tmp_path}/decoder.py", "{{snapshot}}", "{{out}}"]\n'
    )
    (tmp_path / "known.txt").write_text("envl-expiry-*  FAIL  # bug 7\n")
    (tmp_path / "test_own.py").write_text(
        "import subprocess, pytest\n"
        "@pytest.fixture(scope='session', autouse=True)\n"
        "def server():\n"
        "    server = subprocess.Popen(['sleep', '60'])\n"
        "    yield\n"
        "    assert server.poll() is None, 'somebody ended the server'\n"
        "    server.kill()\n"
        "    server.wait()\n"
        "def test_own():\n    pass\n"
    )
    return tmp_path


PLUGIN = ("-p", "ekvconform.pytest_plugin")


def run(project: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *words]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
    return ended.returncode, ended.stdout + ended.stderr


SELECT = [f"--ekvconform-select={name}" for name in ("rstr-envelope", "envl-expiry-0", "veri-no-seal")]


def test_a_test_item_a_case_beside_the_projects_own(project: Path) -> None:
    status, reported = run(project, *PLUGIN, "--ekvconform-profile", "ekvconform.toml", *SELECT)
    assert status == 1
    assert "PASSED test_own.py::test_own" in reported
    assert "PASSED ekvconform::rstr-envelope" in reported
    assert "FAILED ekvconform::envl-expiry-0" in reported
    assert "ekvconform repro envl-expiry-0 --profile ekvconform.toml" in reported
    assert "ENVL-8 (MUST): An expiry of 0 is an expiry" in reported
    assert "1 skipped" in reported, "it has no command that verifies"
    assert "ended the server" not in reported


def test_known_failures_are_expected_ones(project: Path) -> None:
    words = ["--ekvconform-profile", "ekvconform.toml", "--ekvconform-known-failures", "known.txt"]
    status, reported = run(project, *PLUGIN, *words, "--ekvconform-select", "envl-expiry-*", "-k", "expiry")
    assert status == 0, reported
    assert "xfailed" in reported
    (project / "known.txt").write_text("rstr-bare-empty-key  FAIL  # bug 8\n")
    status, reported = run(project, *PLUGIN, *words, "--ekvconform-select", "rstr-bare-empty-key")
    assert status == 1
    assert "remove the line" in reported
    (project / "known.txt").write_text("gone  FAIL  # bug 9\n")
    status, reported = run(project, *PLUGIN, *words)
    assert status == 4
    assert "lines that match no case: gone" in reported


def test_it_is_loaded_only_where_it_is_asked_for(project: Path) -> None:
    status, reported = run(project)
    assert status == 0
    assert "1 passed" in reported
    status, reported = run(project, "--ekvconform-profile", "ekvconform.toml")
    assert status == 4
    assert "unrecognized arguments" in reported


def test_without_a_profile_it_says_what_is_missing(project: Path) -> None:
    status, reported = run(project, *PLUGIN)
    assert status == 4
    assert "ekvconform: no program to judge: name its profile with --ekvconform-profile" in reported


def test_what_cannot_be_used_is_usage(project: Path) -> None:
    for words in (["missing.toml"], ["ekvconform.toml", "--ekvconform-select", "no-such-case"]):
        status, reported = run(project, *PLUGIN, "--ekvconform-profile", *words)
        assert status == 4
        assert "ekvconform: " in reported
