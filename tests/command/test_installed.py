"""The package without its checkout: what it reads lies beside it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built of this checkout and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "unpacked")
    return folder / "unpacked"


def environment(unpacked: Path) -> dict[str, str]:
    # What is measured is the checkout, not a copy of it.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return kept | {"PYTHONPATH": str(unpacked)}


def run(unpacked: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=unpacked.parent, env=environment(unpacked),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_it_is_the_unpacked_one_that_runs(unpacked: Path) -> None:
    program = "from ekvconform.cases.data_files import ROOT; import ekvdump; print(ROOT, ekvdump.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=unpacked.parent, env=environment(unpacked), stdout=subprocess.PIPE, text=True,
        check=True,
    ).stdout.split()  # fmt: skip
    assert told == [str(unpacked / "ekvconform"), str(unpacked / "ekvdump" / "__init__.py")]


def test_the_suite_runs_from_an_installed_package(unpacked: Path, tmp_path: Path) -> None:
    profile = str(ROOT / "conformance" / "profiles" / "command.toml")
    words = ["--profile", profile, "--smoke", "--quiet", "--html", str(tmp_path / "page.html")]
    ended = run(unpacked, "ekvconform", "run", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all 25 cases as expected" in ended.stdout
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert "RSTR-7 · MUST · An expiry of 0" in run(unpacked, "ekvconform", "show", "rstr-expiry-0").stdout
    assert run(unpacked, "ekvconform", "export", str(tmp_path / "bundle")).returncode == 0
    assert run(unpacked, "ekvdump", "--version").returncode == 0
