"""What the README shows is what its reader will see."""

import re
import subprocess
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
    assert steps.pop(0) == ("cd build/real/fresh/dump", "")
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
            assert (ROOT / document).parent.joinpath(link).exists(), f"{document}: {link}"
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, f"{document}: make {target}"
