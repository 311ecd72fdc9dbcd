"""Ratios within one run, on a memory file system: `make bench`.

Every figure is a median; the two commands of a ratio take turns. The snapshots are
live-shaped: ten entries a key, one third each of envelopes with expiry, envelopes
without, and legacy values with a TTL record.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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
from writer import HEADER_V1, encoded_entry, live_store, payload_start  # noqa: E402

MEMORY = Path("/dev/shm")  # noqa: S108
ROUNDS = 5
SPAWNS = 40
CORES = os.cpu_count() or 1
RATIO_KEYS = 50_000
MEMORY_KEYS = (10_000, 100_000, 1_000_000)

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


def write_snapshot(path: Path, keys: int) -> None:
    """Write a live-shaped snapshot."""
    import google_crc32c

    crc = 0
    with path.open("wb") as file:
        for piece in iter_pieces(keys):
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
    print("where the time goes, microseconds a key:")
    for words, seconds in (
        ("judging and counting all entries", surveyed - begin),
        ("second pass: visible records, values, segments", decoded - surveyed),
        ("writing blobs and rows", written - decoded),
        ("MANIFEST.json and CHECKSUMS", sealed - written),
    ):
        print(f"  {words:<48} {seconds / RATIO_KEYS * 1e6:6.1f}")


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


def main() -> int:
    """Print all figures."""
    if not MEMORY.is_dir():
        sys.exit(f"there is no memory file system at {MEMORY}")
    directory = Path(tempfile.mkdtemp(prefix="ekvdump-bench.", dir=MEMORY))
    python, ekvdump = sys.executable, str(Path(sys.executable).with_name("ekvdump"))
    try:
        snapshot, out, bare = directory / "snapshot", directory / "out", directory / "bare"
        write_snapshot(snapshot, RATIO_KEYS)
        decode = [ekvdump, "decode", "--quiet", "--no-sync", str(snapshot), str(out)]
        loop = [python, "-c", LOOP, str(bare), str(RATIO_KEYS)]
        seconds, bare_seconds, times = ratio(decode, loop, [out, bare])
        print(f"decode of {RATIO_KEYS:,} keys: {seconds:.2f} s; bare loop: {bare_seconds:.2f} s; ratio {times:.2f}")
        print_stages(snapshot, out)

        for keys in MEMORY_KEYS:
            shutil.rmtree(out, ignore_errors=True)
            write_snapshot(snapshot, keys)
            seconds, mib = peak_memory(decode[1:])
            print(f"decode of {keys:>9,} keys: peak memory {mib:.1f} MiB, {seconds / keys * 1e6:.1f} us a key")

        seconds, bare_seconds, times = ratio([ekvdump, "--version"], [python, "-c", "pass"], [])
        print(f"start-up: {seconds * 1e3:.0f} ms; python -c pass: {bare_seconds * 1e3:.0f} ms; ratio {times:.2f}")
        print_suite(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
