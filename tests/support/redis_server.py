"""A real Redis or Valkey server on a loopback port of its own, and what is said to it and by it."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 60
"""How long a server may take to start on a busy machine."""
Command = list[bytes]


class Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._answers = self._connection.makefile("rb")

    def ask(self, *words: bytes) -> Any:
        """Send a command; return the answer: bytes, a number, None or a list of them. Raises `RuntimeError`."""
        self._connection.sendall(render_command(list(words)))
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        mark, rest = line[:1], line[1:-2]
        if mark == b"-":
            raise RuntimeError(rest.decode())
        if mark == b"+":
            return rest
        if mark == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if mark == b"*":
            return [self._answer() for _ in range(int(rest))]
        return self._answers.read(int(rest) + 2)[:-2]

    def pipe(self, stream: bytes) -> str:
        """Give a stream to `redis-cli --pipe`; return what that says."""
        command = ["redis-cli", "-p", str(self.port), "--pipe"]
        return subprocess.run(command, input=stream, check=True, capture_output=True).stdout.decode()

    def close(self) -> None:
        """Close the connection."""
        self._answers.close()
        self._connection.close()


@contextmanager
def running(program: str) -> Iterator[Server]:
    """Start a server, and end it by its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ekvdump-redis.") as directory:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        try:
            server = _connected(process, port)
            try:
                yield server
            finally:
                server.close()
        finally:
            process.terminate()
            process.wait()


def _connected(process: subprocess.Popen[bytes], port: int) -> Server:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return Server(port)
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.02)


# ---- the protocol ----


def render_command(words: Command) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def commands_in(stream: bytes) -> list[Command]:
    """Return the commands of a stream. Every byte of it has to belong to one."""
    found: list[Command] = []
    at = 0

    def number_behind(mark: bytes) -> int:
        nonlocal at
        end = stream.index(b"\r\n", at)
        assert stream[at : at + 1] == mark
        number = int(stream[at + 1 : end])
        at = end + 2
        return number

    while at < len(stream):
        words = []
        for _ in range(number_behind(b"*")):
            size = number_behind(b"$")
            words.append(stream[at : at + size])
            assert stream[at + size : at + size + 2] == b"\r\n"
            at += size + 2
        found.append(words)
    return found
