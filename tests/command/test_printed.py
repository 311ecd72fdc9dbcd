"""What the command `ekvdump` prints for people: sessions in `tests/printed/`.

No clause states the words. Whoever changes a session reads it as a user would.

    line        what it is
    ----------  ------------------------------------------------------------
    $ words     a command; the files that it uses are `FILES` below
    2> words    what it prints on stderr
    [n]         its exit status, where that is not 0
    any other   what it prints on stdout

Commands of `ekvdump` run here, others in a shell. What a session of `--help` shows is compared
word by word: where its lines are broken is the library's.
"""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest
from command_runs import ekvdump
from writer import HLL, STR, TTL, delete, envelope, expiry, header_v2, operational, put, snapshot

HERE = Path(__file__).resolve().parent / "printed"
NOW_MS = 1_800_000_000_000
NOW = NOW_MS << 16
"""2027-01-15, 8 o'clock."""

SOUND = [
    put(STR + b"a", 1, envelope(1, b"one", NOW_MS + 1)), put(STR + b"b", 1, b"two"),
    put(TTL + b"b", 1, expiry(NOW_MS + 1)),
    put(HLL + b"c", 1, envelope(2, b"three")), delete(STR + b"gone", 2), put(STR + b"gone", 1, b""),
    operational(b"_meta_applied_index", 5),
]  # fmt: skip
COLLECTIONS = [
    put(b"!hs|meta|\0\0\0\1h", 3, bytes(8) + expiry(NOW_MS + 1)), put(b"!hs|fld|\0\0\0\1hname", 3, b"value"),
    put(b"!st|mem|\0\0\0\1sm", 3, b""), put(b"!redis|set|s", 2, b""), put(b"!zs|mem|x", 3, b""),
]  # fmt: skip
PARTIAL = [
    *SOUND, *COLLECTIONS, put(b"!ddb|item|x", 3, b""), put(b"!new|one", 3, b""), put(b"!new|two", 3, b""),
    *(put(TTL + b"orphan %02d" % number, 3, expiry(NOW_MS + 1)) for number in range(10)),
    put(STR + b"past", 3, envelope(1, b"", NOW_MS)), put(HLL + b"ended", 3, envelope(2, b"", 1)),
    put(b"bare", 3, b"v"), put(STR + b"odd key", 3, b"odd"), put(TTL + b"odd key", 3, expiry(NOW_MS + 1)),
]  # fmt: skip
UNREADABLE = [*SOUND, put(STR + b"two words", 3, b"\xff\x01"), put(TTL + b"z", 3, bytes(7))]
ENCRYPTED = [*SOUND, put(STR + b"k", 3, b"", flags=2)]
FILES: Final = {
    "sound.fsm": snapshot(SOUND, last_commit=NOW | 7),
    "0000000000000010.fsm": snapshot(PARTIAL, last_commit=NOW, header=header_v2()),
    "empty.fsm": snapshot([], last_commit=0, header=b"", with_footer=False),
    "unreadable.fsm": snapshot(UNREADABLE, last_commit=NOW),
    "encrypted.fsm": snapshot(ENCRYPTED, last_commit=NOW),
    "cut.fsm": snapshot(SOUND, last_commit=NOW)[:-12],
    "changed.fsm": snapshot(SOUND, last_commit=NOW)[:-1] + b"?",
    "archive.fsm": b"PK\3\4 an archive",
}


STEP: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def shown(command: str) -> str:
    """Run a command, and return what a session shows of it."""
    words = shlex.split(command)
    if words[0] != "ekvdump":
        return subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.PIPE, text=True).stdout
    status, out, err = ekvdump(words[1:])
    return out + re.sub("^(?=.)", "2> ", err, flags=re.MULTILINE) + f"[{status}]\n" * bool(status)


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    for name, data in FILES.items():
        Path(name).write_bytes(data)
    session = path.read_text(encoding="utf-8")
    steps = STEP.findall(session)
    assert steps
    assert session == "".join(f"$ {command}\n{reported}" for command, reported in steps)
    for command, reported in steps:
        if path.stem == "help":
            assert shown(command).split() == reported.split(), command
        else:
            assert shown(command) == reported, command
