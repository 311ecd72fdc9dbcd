"""Restore the real snapshots into a real server, and read back what clients had seen: `make restore`.

Each snapshot goes through `ekvdump resp` and `redis-cli --pipe` into an empty server, once
directly and once by way of its dump. The expiries of a snapshot are moved by the time that has
passed since its last commit, so that the answer is the same whenever this is run; nothing
else of the stream is changed.
"""

import base64
import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT / "fixtures" / "real"
sys.path.append(str(ROOT / "tests" / "support"))
from redis_server import Server, commands_in, render_command, running  # noqa: E402

SERVERS = ("redis-server", "valkey-server")
SLACK_MS = 2
"""By how much the bounds of an expiry may be missed (fixtures/real/README.md)."""
ELEMENTS = {"hash": "fields", "list": "items", "set": "members", "zset": "members", "stream": "entries"}
"""Type of a collection = what seen.jsonl calls its elements."""
MOST_COUNT_ERROR = 0.03
"""Relative error of PFCOUNT: a server of this kind estimates, with a standard error of 0.81 %."""


def ekvdump(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a user would."""
    return subprocess.run([sys.executable, "-m", "ekvdump", *words], check=False, capture_output=True)


def moved(stream: bytes, by_ms: int) -> bytes:
    """Return a stream with other expiries."""
    commands = commands_in(stream)
    for words in commands:
        place = 2 if words[0] == b"PEXPIREAT" else words.index(b"PXAT", 3) + 1 if b"PXAT" in words[3:] else None
        if place is not None:
            words[place] = b"%d" % min(int(words[place]) + by_ms, 2**63 - 1)
    return b"".join(map(render_command, commands))


def elements_there(server: Server, type_: str, key: bytes) -> Any:
    """Return the elements of a collection in a server."""
    if type_ == "hash":
        words = server.ask(b"HGETALL", key)
        return dict(zip(words[::2], words[1::2], strict=True))
    if type_ == "list":
        return server.ask(b"LRANGE", key, b"0", b"-1")
    if type_ == "set":
        return set(server.ask(b"SMEMBERS", key))
    if type_ == "zset":
        words = server.ask(b"ZRANGE", key, b"0", b"-1", b"WITHSCORES")
        return dict(zip(words[::2], map(float, words[1::2]), strict=True))
    return [(element_id, fields) for element_id, fields in server.ask(b"XRANGE", key, b"-", b"+")]


def elements_seen(line: dict[str, Any]) -> Any:
    """Return the elements of a collection as a client saw them."""
    decode = base64.b64decode
    seen = line[ELEMENTS[line["type"]]]
    if line["type"] == "hash":
        return {decode(name): decode(value) for name, value in seen}
    if line["type"] == "list":
        return [decode(item) for item in seen]
    if line["type"] == "set":
        return {decode(member) for member in seen}
    if line["type"] == "zset":
        return {decode(member): float(score) for member, score in seen}
    return [(element_id.encode(), [decode(word) for pair in pairs for word in pair]) for element_id, pairs in seen]


def find_fault(server: Server, line: dict[str, Any], moved_ms: int) -> str | None:
    """Compare one key with what a client saw of it; return what is wrong, or None."""
    key = base64.b64decode(line["key"])
    if line["type"] == "string":
        value = server.ask(b"GET", key)
        if value is None:
            return "it is not there"
        if line.get("value") is None:
            if (len(value), hashlib.sha256(value).hexdigest()) != (line["size"], line["sha256"]):
                return "another value"
        elif value != base64.b64decode(line["value"]):
            return "another value"
    elif line["type"] == "hll":
        count = server.ask(b"PFCOUNT", key)
        if abs(count - line["pfcount"]) > MOST_COUNT_ERROR * line["pfcount"]:
            return f"PFCOUNT gives {count}, and gave {line['pfcount']}"
    elif line["type"] in ELEMENTS:
        found, seen = elements_there(server, line["type"], key), elements_seen(line)
        # A server of this kind keeps nothing without elements, but streams.
        if not seen and line["type"] != "stream":
            return "it is there" if server.ask(b"EXISTS", key) else None
        if found != seen or server.ask(b"TYPE", key).decode() != line["type"]:
            return f"it holds {found!r:.80} and not {seen!r:.80}"
    else:
        return "it is there, as something else" if line["type"] != "none" and server.ask(b"EXISTS", key) else None
    expiry_ms = server.ask(b"PEXPIRETIME", key)
    bounds = line.get("expire_at_ms_between")
    if bounds is None:
        return None if expiry_ms == -1 else "it expires"
    first, last = bounds
    if not first - SLACK_MS <= expiry_ms - moved_ms <= last + SLACK_MS:
        return f"it expires at {expiry_ms - moved_ms} and not between {first} and {last}"
    return None


def compare(server: Server, name: str, moved_ms: int) -> tuple[Counter[str], list[str]]:
    """Compare a server with what clients saw; return how many keys agree, by type, and what is wrong."""
    agree: Counter[str] = Counter()
    wrong = []
    lines = [json.loads(text) for text in (REAL / name / "seen.jsonl").read_text().splitlines()]
    for line in lines:
        if "error" in line:
            continue  # no client could read it
        if fault := find_fault(server, line, moved_ms):
            wrong.append(f"{name}: {base64.b64decode(line['key'])!r:.60}: {fault}")
        elif line["type"] != "none":
            agree[line["type"]] += 1
    # What was deleted or had expired when the client looked may be there only as what expires.
    known = {base64.b64decode(line["key"]): line["type"] for line in lines if "error" not in line}
    for key in server.ask(b"KEYS", b"*"):
        if key not in known:
            wrong.append(f"{name}: {key!r:.60}: nobody saw such a key")
        agree["others"] += known.get(key) == "none"
    return agree, wrong


def try_nx(server: Server, stream: bytes) -> list[str]:
    """Change every key, and restore without replacing: the changes have to stay."""
    keys = server.ask(b"KEYS", b"*")
    for key in keys:
        server.ask(b"SET", key, b"mine")
    server.pipe(stream)
    wrong = [f"--nx replaced {key!r:.60}" for key in keys if server.ask(b"GET", key) != b"mine"]
    # KEYS does not count what has expired and is still held.
    return wrong if len(server.ask(b"KEYS", b"*")) == len(keys) else [*wrong, "--nx left other keys behind"]


def restore(program: str, name: str, directory: Path) -> tuple[list[str], list[str]]:
    """Restore one snapshot; return the cells of its line, and what is wrong."""
    (packed,) = (REAL / name).glob("*.fsm.xz")
    snapshot = directory / packed.stem
    snapshot.write_bytes(lzma.decompress(packed.read_bytes()))
    inspected = json.loads(ekvdump("inspect", "--json", str(snapshot)).stdout)
    moved_ms = time.time_ns() // 1_000_000 - (inspected["last_commit_ts"] >> 16)
    sent = ekvdump("resp", "--expired=send", str(snapshot))
    ekvdump("decode", "--salvage", "--no-sync", str(snapshot), str(directory / name))
    wrong = []
    if ekvdump("resp", "--expired=send", str(directory / name)).stdout != sent.stdout:
        wrong.append(f"{name}: its dump gives other commands")
    with running(program) as server:
        answer = server.pipe(moved(sent.stdout, moved_ms))
        if "errors: 0" not in answer:
            wrong.append(f"{name}: {answer}")
        agree, disagree = compare(server, name, moved_ms)
        nx = ekvdump("resp", "--expired=send", "--nx", str(snapshot)).stdout
        wrong += disagree + try_nx(server, moved(nx, moved_ms))
        server.ask(b"FLUSHALL")
        server.pipe(moved(nx, moved_ms))
        wrong += compare(server, name, moved_ms)[1]
    counts = [agree[type_] for type_ in ("string", "hll", *ELEMENTS, "others")]
    return [name, str(len(commands_in(sent.stdout))), *map(str, counts), str(len(wrong))], wrong


def main() -> int:
    """Restore all real snapshots into each server that is installed; return 1 if a key is not as it was seen."""
    programs = [program for program in SERVERS if shutil.which(program)]
    if not programs or not shutil.which("redis-cli"):
        sys.exit("a server is needed: on Debian, apt-get install redis-server")
    console = Console(width=150)
    wrong: list[str] = []
    for program in programs:
        version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()[2]
        table = Table(
            "snapshot", "commands", "strings", "HLLs", "hashes", "lists", "sets", "zsets", "streams",
            "unseen, but expiring", "wrong", title=f"{program} {version}: keys that agree",
        )  # fmt: skip
        for name in sorted(path.parent.name for path in REAL.glob("*/seen.jsonl")):
            with tempfile.TemporaryDirectory(prefix="ekvdump-restore.") as directory:
                cells, found = restore(program, name, Path(directory))
            table.add_row(*cells)
            wrong += [f"{program}: {each}" for each in found]
        console.print(table)
    for each in wrong:
        print(each)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
