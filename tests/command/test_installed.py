"""The package without its checkout, with what its extras bring and without."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import google_crc32c
import pytest
from patience import HANG_SECONDS
from planting import FULL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built of this checkout and unpacked."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(directory / "unpacked")
    return directory / "unpacked"


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what an installation without extras brings, and nothing else."""
    directory = tmp_path_factory.mktemp("dependencies")
    for path in Path(google_crc32c.__file__).parent.parent.glob("google_crc32c*"):
        (directory / path.name).symlink_to(path)
    return directory


def environment(*directories: Path) -> dict[str, str]:
    # What is measured is the checkout, not a copy of it.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, directories))}


def run(unpacked: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=unpacked.parent, env=environment(unpacked),
        capture_output=True, text=True, check=False, timeout=HANG_SECONDS,
    )  # fmt: skip


def test_it_is_the_unpacked_one_that_runs(unpacked: Path) -> None:
    program = "from ekvconform.cases.data_files import ROOT; import ekvdump; print(ROOT, ekvdump.__file__)"
    reported = subprocess.run(
        [sys.executable, "-c", program],
        cwd=unpacked.parent, env=environment(unpacked), stdout=subprocess.PIPE, text=True,
        check=True,
    ).stdout.split()  # fmt: skip
    assert reported == [str(unpacked / "ekvconform"), str(unpacked / "ekvdump" / "__init__.py")]


def test_the_suite_runs_from_an_installed_package(unpacked: Path, tmp_path: Path) -> None:
    profile = str(ROOT / "conformance" / "profiles" / "command.toml")
    words = ["--profile", profile, "--smoke", "--quiet", "--html", str(tmp_path / "page.html")]
    ended = run(unpacked, "ekvconform", "run", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all 25 cases as expected" in ended.stdout
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert "ENVL-8 · MUST · An expiry of 0" in run(unpacked, "ekvconform", "show", "envl-expiry-0").stdout
    assert run(unpacked, "ekvconform", "export", str(tmp_path / "cases.jsonl")).returncode == 0
    assert run(unpacked, "ekvdump", "--version").returncode == 0


# ---- without extras ----


def run_alone(unpacked: Path, dependencies: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module on a terminal; both streams are returned as `stdout`."""
    terminal, streams = os.openpty()
    command = [sys.executable, "-S", "-m", module, *words]
    ended = subprocess.run(
        command, cwd=unpacked.parent, env=environment(unpacked, dependencies) | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL, stdout=streams, stderr=streams, check=False, timeout=HANG_SECONDS,
    )  # fmt: skip
    os.write(streams, b"\0")
    os.close(streams)
    printed = b""
    while not printed.endswith(b"\0"):
        printed += os.read(terminal, 4096)
    os.close(terminal)
    return subprocess.CompletedProcess(command, ended.returncode, printed[:-1].decode().replace("\r\n", "\n"))


def test_without_extras_a_crc_is_all_that_is_brought(unpacked: Path) -> None:
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    needed = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ")]
    assert [line for line in needed if "extra ==" not in line] == ["Requires-Dist: google-crc32c>=1.5"]
    assert sorted(path.name for path in unpacked.iterdir() if path.suffix != ".dist-info") == [
        "ekvconform", "ekvdump", "ekvexplain", "ekvformat",
    ]  # fmt: skip


def test_without_extras_the_command_shows_neither_progress_nor_colours(
    unpacked: Path, dependencies: Path, tmp_path: Path
) -> None:
    (tmp_path / "snapshot.fsm").write_bytes(FULL)
    ended = run_alone(unpacked, dependencies, "ekvdump", "decode", f"{tmp_path}/snapshot.fsm", f"{tmp_path}/out")
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith(f"{tmp_path}/out: complete\n")
    assert "\x1b" not in ended.stdout
    ended = run_alone(unpacked, dependencies, "ekvdump", "verify", f"{tmp_path}/out")
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path}/out: 9 files, whole, and complete\n")
    assert run_alone(unpacked, dependencies, "ekvformat", f"{tmp_path}/snapshot.fsm", f"{tmp_path}/two").returncode == 0


def test_without_extras_completion_and_the_judge_say_what_to_install(unpacked: Path, dependencies: Path) -> None:
    ended = run_alone(unpacked, dependencies, "ekvdump", "--print-completion", "bash")
    assert ended.returncode == 2
    assert ended.stdout.splitlines()[-1] == "ekvdump: error: --print-completion: install ekvdump[terminal]"
    ended = run_alone(unpacked, dependencies, "ekvconform", "run", "--smoke", "--", "decoder")
    assert (ended.returncode, ended.stdout) == (2, "ekvconform: install ekvdump[conform]\n")
