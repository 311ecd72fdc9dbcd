"""What the README shows is what its reader will see."""

import re
import subprocess
import sys
from pathlib import Path

from command_runs import jq_beside
from ekvdump.run import decode
from real import unpack

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_console_session_is_what_the_commands_print(tmp_path: Path) -> None:
    (session,) = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    dump = tmp_path / "dump"
    decode(unpack("fresh", tmp_path), str(dump))
    jq_beside(tmp_path)
    steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert steps.pop(0) == ("cd build/dump", "")
    assert len(steps) == 6
    for command, shown in steps:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C"}
        reported = subprocess.run(
            ["sh", "-c", command], cwd=dump, env=environment, check=True, capture_output=True, text=True
        )
        # `ls` on a terminal writes names side by side.
        assert reported.stdout.split() == shown.split()


def test_every_path_and_target_that_the_documents_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in (
        "README.md",
        "CONTRIBUTING.md",
        "spec/README.md",
        "fixtures/README.md",
        "conformance/README.md",
        "examples/decoder-go/README.md",
    ):
        text = (ROOT / document).read_text()
        for link in re.findall(r"\]\((?!https:)([^)]+)\)", text):
            assert (ROOT / document).parent.joinpath(link.partition("#")[0]).exists(), f"{document}: {link}"
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, f"{document}: make {target}"


DOCUMENTS = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not {".venv", "build", ".hypothesis", "node_modules"} & set(path.relative_to(ROOT).parts)
]


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    assert len(DOCUMENTS) > 30
    tables = 0
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(counts) == 1, f"{path.relative_to(ROOT)}: {table[:200]}"
            tables += 1
    assert tables > 40


def test_the_blocks_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    """From the top of a checkout in which `make run` has been; only what needs a Redis, or is make's, is left out."""
    (tmp_path / "build" / "real" / "fresh").mkdir(parents=True)
    unpack("fresh", tmp_path / "build" / "real" / "fresh")
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    ran = [block for block in blocks if "redis-cli" not in block and not block.startswith("make ")]
    assert (len(blocks), len(ran)) == (5, 3)
    program = f'#!/bin/sh\nexec {sys.executable} -m ekvdump "$@"\n'
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "ekvdump").write_text(program)
    (tmp_path / ".venv" / "bin" / "ekvdump").chmod(0o755)
    # One after another in one shell, as on a terminal.
    subprocess.run(["sh", "-ec", "".join(ran)], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "build" / "dump" / "CHECKSUMS").is_file()
