"""Each module of the command makes only the system calls that it is there for."""

import re
from pathlib import Path

COMMAND = Path(__file__).resolve().parents[2] / "command" / "ekvdump"
CALLS = re.compile(
    r"\bos\.(open|mkdir|unlink|rename|replace|link|symlink|write|ftruncate|truncate|fchmod|chmod|pread)\b"
)
EXPECTED = {
    "engine/source": {"open", "pread"},
    "filesystem/directories": {"open", "mkdir", "unlink", "rename", "link", "write"},
    "filesystem/by_path": {"open", "mkdir", "unlink", "replace"},
    "filesystem/reading": {"open"},
    "filesystem/tree_writer": {"mkdir", "ftruncate", "fchmod"},
    "cli/streams": {"open"},
}
"""`streams` opens the null device."""


def test_only_the_writer_writes_and_only_the_source_reads_a_snapshot() -> None:
    found = {
        path.relative_to(COMMAND).with_suffix("").as_posix(): calls
        for path in sorted(COMMAND.rglob("*.py"))
        if (calls := set(CALLS.findall(path.read_text())))
    }
    assert found.keys() == EXPECTED.keys()
    for module, calls in found.items():
        assert calls <= EXPECTED[module] | {"scandir"}, module
