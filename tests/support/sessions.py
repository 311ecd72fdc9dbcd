"""Runs of the command: with JSON as output, ended by a signal, on a snapshot that changes meanwhile."""

import contextlib
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ekvdump.cli import main as cli
from ekvdump.engine.source import SnapshotFile

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen() -> None:
    """Take signals as a program does that nobody has put into the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)


SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "command" / "output.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def run_json(*arguments: str | Path) -> dict[str, Any]:
    """Run in process; the object on stdout is valid and says the exit status."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = cli.main([*map(str, arguments), "--json"])
    rendered: dict[str, Any] = json.loads(stdout.getvalue())
    VALIDATOR.validate(rendered)
    assert rendered["exit_status"] == status
    assert stdout.getvalue().count("\n") == 1
    assert (stderr.getvalue() == "") == (status in (0, 1, 3))
    return rendered


class Meddler:
    """Does something to the snapshot file at its n-th read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, what: str, path: Path) -> None:
        self.reads = 0
        read = SnapshotFile.read

        def meddled(source: SnapshotFile, offset: int, size: int) -> bytes:
            self.reads += 1
            if self.reads == at:
                data = path.read_bytes()
                if what == "cut":
                    os.truncate(path, 20)
                elif what == "touched":
                    os.utime(path, ns=(1, 1))
                elif what == "replaced":
                    status = path.stat()
                    path.unlink()
                    path.write_bytes(data)
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
                elif what == "removed":
                    path.unlink()
                elif what == "grown":
                    status = path.stat()
                    path.write_bytes(data + b"x")
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            return read(source, offset, size)

        monkeypatch.setattr(SnapshotFile, "read", meddled)
