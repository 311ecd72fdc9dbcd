"""Ratios within one run, on a memory file system: `make bench`, or some of its parts by name.

Every ratio is a median; its two commands take turns. The snapshots are
live-shaped: ten entries a key, one third each of envelopes with expiry, envelopes
without, and legacy values with a TTL record. In a mixed one each third key is a collection.
"""

import argparse
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ekvconform.cases.loading import load_cases
from ekvconform.judge.workers import judge_cases
from ekvconform.run.profiles import bare_profile
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.outputs import Outputs, redis_directory
from ekvdump.engine.source import SnapshotFile
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvformat.decode import Options

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from collection_stores import sized, text_field  # noqa: E402
from large_collections import LAYOUTS  # noqa: E402
from writer import HEADER_V1, encoded_entry, live_set, live_store, payload_start, put, snapshot  # noqa: E402

MEMORY = Path("/dev/shm")  # noqa: S108
ROUNDS = 5
SPAWNS = 40
CORES = os.cpu_count() or 1
RATIO_KEYS = 60_000
ELEMENTS = 5
"""Elements of a collection in a mixed store."""
MEMORY_KEYS = (10_000, 100_000, 1_000_000)
MEMORY_ELEMENTS = 1_000_000
"""Elements of one collection."""
PARTS = DECODES, KEYS, COLLECTIONS, SUITE = "decodes", "memory-of-keys", "memory-of-collections", "suite"
GOAL_LIVE = 3.2
"""Most times that a decode may take of the bare loop, which opens, writes, closes and renames as many files."""
GOAL_PLAIN = 1.4
"""The same, with one entry a key instead of ten."""
GOAL_KEYS = 1.2
GOAL_VERIFY = 2
GOAL_START = 3
GOAL_MIB = 64
GOAL_GROWTH = 11
PICTURE = ROOT / "docs" / "memory.svg"
JUDGE_ALONE = """
import sys
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.source import SnapshotFile
with SnapshotFile(sys.argv[1]) as source:
    run_first_pass(source)
"""

# The same calls as for one blob each, and nothing else.
LOOP = """
import os, sys
out, count = sys.argv[1], int(sys.argv[2])
os.mkdir(out)
directory = os.open(out, os.O_RDONLY)
flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
for number in range(count):
    file = os.open(".tmp", flags, 0o600, dir_fd=directory)
    os.write(file, b"%08d" % number * 3)
    os.close(file)
    os.rename(".tmp", "user%%3A%08d.bin" % number, src_dir_fd=directory, dst_dir_fd=directory)
"""


def iter_pieces(keys: int) -> Iterator[bytes]:
    """Yield a snapshot in pieces; one of a million keys is not held in memory.

    The prefixes of each SET sort apart, so the entries are made prefix by prefix.
    """
    yield HEADER_V1 + payload_start(10**9)
    entries_of_a_key = [key for key, _ in live_store(1)]
    for place in sorted(range(10), key=entries_of_a_key.__getitem__):
        for index, entry in enumerate(live_store(keys)):
            if index % 10 == place:
                yield encoded_entry(entry)


def iter_plain_pieces(keys: int) -> Iterator[bytes]:
    """Yield a snapshot with one entry a key in pieces."""
    yield HEADER_V1 + payload_start(10**9)
    for index, entry in enumerate(live_store(keys)):
        if index % 10 == 0:
            yield encoded_entry(entry)


def iter_collection(number: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield storage key and body of the records of a collection, each of the five types in turn."""
    user_key = b"user:%08d" % number
    type_ = number // 3 % 5
    short = (b"hs", b"lst", b"st", b"stream", b"zs")[type_]
    start = b"!" + short + b"|meta|"
    length, end = struct.pack(">Q", ELEMENTS), struct.pack(">Q", 1_800_000_000_000 + number)
    if type_ == 1:
        yield start + user_key, bytes(8) + length + length + end
        yield from ((b"!lst|itm|" + user_key + struct.pack(">Q", 2**63 + n), b"item %d" % n) for n in range(ELEMENTS))
        return
    yield start + sized(user_key), length + (length + bytes(8) if type_ == 3 else b"") + end
    if type_ != 3:
        yield start + b"d|" + sized(user_key) + struct.pack(">QI", number, 0), bytes(8)
    for n in range(ELEMENTS):
        name, score = b"element %d" % n, struct.pack(">d", n)
        if type_ == 0:
            yield b"!hs|fld|" + sized(user_key) + name, b"value %d" % n
        elif type_ == 2:
            yield b"!st|mem|" + sized(user_key) + name, b""
        elif type_ == 3:
            body = b"\0RXE\1" + text_field(1, b"%d-0" % n) + text_field(2, b"name") + text_field(2, name)
            yield b"!stream|entry|" + sized(user_key) + struct.pack(">QQ", n, 0), body
        else:
            yield b"!zs|mem|" + sized(user_key) + name, score
            yield b"!zs|scr|" + sized(user_key) + score + name, b""


def iter_mixed_pieces(keys: int) -> Iterator[bytes]:
    """Yield a snapshot of which each third key is a collection; it is held in memory."""
    yield HEADER_V1 + payload_start(10**9)
    entries = [
        entry
        for number in range(keys)
        for entry in (
            (put(key, 1 + number, body) for key, body in iter_collection(number))
            if number % 3 == 2
            else live_set(b"user:%08d" % number, 1 + number, b"%08d" % number * 3, None)
        )
    ]
    yield from map(encoded_entry, sorted(entries))


def write_snapshot(path: Path, keys: int) -> None:
    """Write a live-shaped snapshot."""
    write_pieces(path, iter_pieces(keys))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a snapshot, with its footer."""
    import google_crc32c

    crc = 0
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            crc = google_crc32c.extend(crc, piece)
        file.write(crc.to_bytes(4, "big"))


def run(command: list[str]) -> float:
    """Run a command; return wall seconds."""
    # Compiled modules are kept, as on any machine that runs a command more than once.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def peak_memory(command: list[str]) -> tuple[float, float]:
    """Run the command of the package in a process that says its own peak; return wall seconds and MiB."""
    program = (
        "import re, sys\nfrom ekvdump.cli.main import main\nmain(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s+([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    begin = time.perf_counter()
    reported = subprocess.run([sys.executable, "-c", program, *command], check=True, stdout=subprocess.PIPE).stdout
    return time.perf_counter() - begin, int(reported) / 1024


def ratio(first: list[str], second: list[str], clean: list[Path]) -> tuple[float, float, float]:
    """Return the median seconds of both, and the median of their ratios pair by pair."""
    pairs = []
    for _ in range(ROUNDS + 1):
        pair = []
        for command in (first, second):
            for path in clean:
                shutil.rmtree(path, ignore_errors=True)
            pair.append(run(command))
        pairs.append(pair)
    del pairs[0]  # a warm-up
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    )


def print_stages(snapshot: Path, out: Path) -> None:
    """Say where the time of one decode goes."""
    shutil.rmtree(out, ignore_errors=True)
    with SnapshotFile(str(snapshot)) as source:
        begin = time.perf_counter()
        found = run_first_pass(source)
        surveyed = time.perf_counter()
        outputs = list(Outputs(source, found, Options()))
        decoded = time.perf_counter()
        tree = TreeWriter(str(out), redis_directory(0), sync=False)
        tree.unseal()
        for output in outputs:
            tree.write(output)
        written = time.perf_counter()
        tree.inventory()
        tree.seal(b"{}")
        sealed = time.perf_counter()
    found.close()
    print("where the time of a pure decode goes, microseconds a key:")
    for words, seconds in (
        ("first pass: judging, counting and indexing all entries", surveyed - begin),
        ("records from the index, values, segments", decoded - surveyed),
        ("writing blobs and rows", written - decoded),
        ("MANIFEST.json and CHECKSUMS", sealed - written),
    ):
        print(f"  {words:<56} {seconds / RATIO_KEYS * 1e6:6.1f}")


def print_suite(directory: Path) -> None:
    """Say what the golden suite costs beyond the runs of the program that it judges.

    The limit is 1.5 times the bare runs, shared among the cores, and 5 ms a case.
    """
    cases = [case for case in load_cases() if case.scene.verb == "decode" and not case.scene.options]
    snapshot, out = directory / "case.fsm", directory / "case.out"
    snapshot.write_bytes(next(case.scene.snapshot for case in cases if case.id == "envl-expiry-0") or b"")
    programs = (
        ("true", ["true", "{snapshot}", "{out}"]),
        ("the command", [sys.executable, "-m", "ekvdump", "decode", "--no-sync", "{snapshot}", "{out}"]),
    )
    for name, command in programs:
        bare_command = [word.format(snapshot=snapshot, out=out) for word in command]
        bare, whole = [], []
        for _ in range(SPAWNS):
            shutil.rmtree(out, ignore_errors=True)
            bare.append(run(bare_command))
        profile = bare_profile(command).located()
        spawned = [case for case in cases if profile.lacks(case) is None]
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            judge_cases(spawned, profile, CORES, strict_reasons=False, on_result=lambda judgement: None)
            whole.append(time.perf_counter() - begin)
        spawn, seconds = statistics.median(bare), statistics.median(whole)
        limit = 1.5 * len(spawned) * spawn / CORES + 0.005 * len(spawned)
        print(
            f"suite on {name}: {len(spawned)} cases in {seconds:.2f} s on {CORES} cores; "
            f"one bare run {spawn * 1e3:.1f} ms; limit {limit:.2f} s; ratio {seconds / limit:.2f}"
        )


def print_ratio(words: str, seconds: float, other: str, other_seconds: float, times: float, goal: float) -> None:
    """Print a ratio with what it is compared to, and whether it falls short."""
    verdict = "as wanted" if times <= goal else "FALLS SHORT"
    print(
        f"{words:<44} {seconds * 1e3:8.0f} ms   {other:<28} {other_seconds * 1e3:8.0f} ms   "
        f"ratio {times:5.2f}, at most {goal:g} wanted: {verdict}"
    )


def build_compiled(directory: Path) -> str | None:
    """Install the compiled wheel into an environment of its own; return its command, None without a compiler."""
    if shutil.which("cc") is None:
        return None
    environment = os.environ | {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(directory / "wheel"), str(ROOT)], check=True, env=environment)
    subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
    (wheel,) = (directory / "wheel").glob("*.whl")
    subprocess.run([*pip, "--python", str(directory / "venv"), "install", str(wheel)], check=True)
    return str(directory / "venv" / "bin" / "ekvdump")


def print_decodes(directory: Path, programs: dict[str, str]) -> None:
    """Compare decodes, and what is done with a dump, with the bare loop and its like."""
    snapshot, out, bare = directory / "snapshot", directory / "out", directory / "bare"
    loop = [sys.executable, "-c", LOOP, str(bare), str(RATIO_KEYS)]
    for shape, pieces, goal in (
        ("ten entries a key", iter_pieces(RATIO_KEYS), GOAL_LIVE),
        ("one entry a key", iter_plain_pieces(RATIO_KEYS), GOAL_PLAIN),
        ("a third collections", iter_mixed_pieces(RATIO_KEYS), GOAL_LIVE),
    ):
        write_pieces(snapshot, pieces)
        for name, program in programs.items():
            decode = [program, "decode", "--quiet", "--no-sync", str(snapshot), str(out)]
            print_ratio(f"decode, {shape}, {name}", *named(ratio(decode, loop, [out, bare]), "bare loop"), goal)
    write_snapshot(snapshot, RATIO_KEYS)
    print_stages(snapshot, out)
    first_pass = [sys.executable, "-c", JUDGE_ALONE, str(snapshot)]
    for words in (["keys", str(snapshot)], ["get", str(snapshot), "user:00000007"]):
        compared = ratio([programs["pure"], *words], first_pass, [])
        print_ratio(words[0], *named(compared, "first pass"), GOAL_KEYS)
    shutil.rmtree(out, ignore_errors=True)
    run([programs["pure"], "decode", "--quiet", "--no-sync", str(snapshot), str(out)])
    checksums = ["sh", "-c", f"cd {out} && sha256sum --quiet -c CHECKSUMS"]
    for name, program in programs.items():
        compared = ratio([program, "verify", "--quiet", str(out)], checksums, [])
        print_ratio(f"verify, {name}", *named(compared, "sha256sum -c"), GOAL_VERIFY)
    compared = ratio([programs["pure"], "--version"], [sys.executable, "-c", "pass"], [])
    print_ratio("--version", *named(compared, "python -c pass"), GOAL_START)


def named(compared: tuple[float, float, float], other: str) -> tuple[float, str, float, float]:
    """Return a ratio with the name of what it is compared to."""
    seconds, other_seconds, times = compared
    return seconds, other, other_seconds, times


def print_memory(directory: Path, command: list[str]) -> None:
    """Print peak memory and time a key for stores of several sizes, and draw them."""
    snapshot, out = directory / "snapshot", directory / "out"
    curve: list[tuple[int, float]] = []
    seconds_of: dict[int, float] = {}
    for keys in MEMORY_KEYS:
        shutil.rmtree(out, ignore_errors=True)
        write_snapshot(snapshot, keys)
        seconds, mib = peak_memory([*command, str(snapshot), str(out)])
        curve.append((keys, mib))
        seconds_of[keys] = seconds
        print(f"decode of {keys:>9} keys: peak memory {mib:.1f} MiB, {seconds / keys * 1e6:.1f} us a key")
    shutil.rmtree(out, ignore_errors=True)
    worst = max(mib for _, mib in curve)
    print(
        f"peak memory {worst:.1f} MiB, at most {GOAL_MIB} wanted: {'as wanted' if worst <= GOAL_MIB else 'FALLS SHORT'}"
    )
    largest, before = MEMORY_KEYS[-1], MEMORY_KEYS[-2]
    times = seconds_of[largest] / seconds_of[before]
    verdict = "as wanted" if times <= GOAL_GROWTH else "FALLS SHORT"
    print(f"t({largest}) / t({before}) = {times:.2f}, at most {GOAL_GROWTH} wanted: {verdict}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(render_curve(curve), encoding="utf-8")
    print(f"the curve is in {PICTURE.relative_to(ROOT)}")


def print_memory_of_collections(directory: Path, command: list[str]) -> None:
    """Print peak memory and time an element for one large collection in each layout."""
    path, out = directory / "snapshot", directory / "out"
    worst = 0.0
    for name, layout in LAYOUTS.items():
        path.write_bytes(snapshot(layout(MEMORY_ELEMENTS)))
        shutil.rmtree(out, ignore_errors=True)
        seconds, mib = peak_memory([*command, str(path), str(out)])
        worst = max(worst, mib)
        micros = seconds / MEMORY_ELEMENTS * 1e6
        print(
            f"decode of one {name} of {MEMORY_ELEMENTS} elements: peak memory {mib:.1f} MiB, {micros:.0f} us an element"
        )
    shutil.rmtree(out, ignore_errors=True)
    verdict = "as wanted" if worst <= GOAL_MIB else "FALLS SHORT"
    print(f"peak memory {worst:.1f} MiB, at most {GOAL_MIB} wanted: {verdict}")


def render_curve(curve: list[tuple[int, float]]) -> str:
    """Draw peak memory over the number of keys, whose axis is logarithmic, as SVG."""
    left, bottom, step, height = 60, 220, 150, 180
    points = [(left + 20 + step * place, bottom - height * mib / GOAL_MIB) for place, (_, mib) in enumerate(curve)]
    width = left + step * len(curve)
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4"/><text x="{x:.0f}" y="{y - 10:.0f}">{mib:.0f}</text>'
        f'<text x="{x:.0f}" y="{bottom + 20}">{keys}</text>'
        for (x, y), (keys, mib) in zip(points, curve, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 260" font-family="sans-serif" font-size="12" '
        'text-anchor="middle">\n<title>Peak memory of a decode in MiB, over the number of keys</title>\n'
        f'<rect width="{width}" height="260" fill="white"/>\n'
        f'<path d="M{left} {bottom - height}H{width - 20}" stroke="#b00" stroke-dasharray="4"/>'
        f'<text x="{left - 25}" y="{bottom - height + 4}">{GOAL_MIB} MiB</text>\n'
        f'<path d="M{left} {bottom - height}V{bottom}H{width - 20}" fill="none" stroke="#333"/>'
        f'<text x="{left - 25}" y="{bottom + 4}">0</text>\n'
        f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>\n{marks}\n'
        f'<text x="{width / 2:.0f}" y="252">keys</text>\n</svg>\n'
    )


def main() -> int:
    """Print the figures of all parts, or of those named."""
    parser = argparse.ArgumentParser(description="Print time and memory, as ratios within one run.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none")
    parts = parser.parse_args().parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if not MEMORY.is_dir():
        sys.exit(f"there is no memory file system at {MEMORY}")
    directory = Path(tempfile.mkdtemp(prefix="ekvdump-bench.", dir=MEMORY))
    programs = {"pure": str(Path(sys.executable).with_name("ekvdump"))}
    decode = ["decode", "--quiet", "--no-sync"]
    try:
        if DECODES in parts:
            if compiled := build_compiled(directory):
                programs["compiled"] = compiled
            print_decodes(directory, programs)
        if KEYS in parts:
            print_memory(directory, decode)
        if COLLECTIONS in parts:
            print_memory_of_collections(directory, decode)
        if SUITE in parts:
            print_suite(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
