"""The output directory: dumps of several databases go into it while others plant and remove things, as a model says."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from command_runs import prepare_run
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from failures import refused_for, save_case, scene_of, written
from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, rule
from in_process import read_tree
from reach import Reach, steps
from writer import HLL, STR, envelope, put, snapshot

CHECKSUMS, MANIFEST, TEMPORARY = "CHECKSUMS", "MANIFEST.json", ".ekvdump.tmp"
SEAL = (CHECKSUMS, MANIFEST)
# What a store holds, and what comes of it below the database's directory.
STORES: tuple[tuple[bytes, dict[str, bytes]], ...] = (
    (snapshot([]), {}),
    (snapshot([put(STR + b"a", 1, b"old")]), {"strings/a.bin": b"old"}),
    (
        snapshot([put(STR + b"a", 1, envelope(1, b"new", 5)), put(HLL + b"h", 1, b"h")]),
        {"strings/a.bin": b"new", "hll/h.bin": b"h", "strings_ttl.jsonl": b'{"key":"a","expire_at_ms":5}\n'},
    ),
)
DATABASES = (0, 1, 12)
PLACES = (
    "redis/db_0/strings/a.bin", "redis/db_0/strings/stale.bin", "redis/db_0/strings_ttl.jsonl", "redis/db_1/hll/h.bin",
    "redis/db_7/strings/a.bin", "notes.txt", "redis/notes.txt", "redis/db_0/strings/.ekvdump.tmp", TEMPORARY, CHECKSUMS,
    MANIFEST,
)  # fmt: skip
IN_THE_WAY = ("redis/db_{}", "redis/db_{}/hll", "redis/db_{}/strings_ttl.jsonl/x", "redis/db_{}/.ekvdump.tmp")
KINDS = ("file", "hard link", "symlink", "directory symlink", "dangling symlink", "fifo", "socket")
PRECIOUS = b"precious\n"
"""What the file holds that links lead to."""
DIRECTORYS = ("redis", "redis/db_0", "redis/db_0/strings", "redis/db_1", "redis/db_12/hll")
WAYS = tuple(way.format(database) for way in IN_THE_WAY for database in DATABASES)
# Not at a sidecar: whether it is refused there, and when, depends on whether the run writes it.
LINKED = ("redis/db_0/strings/a.bin", "redis/db_1/hll/h.bin", "notes.txt", CHECKSUMS)
POSSIBLE = (
    *((place, kind) for place in PLACES for kind in KINDS if kind != "hard link"),
    *((place, "file") for place in WAYS),
    *((place, "hard link") for place in LINKED * 3),
)
OBSTACLES = (*((way, "file") for way in IN_THE_WAY), (CHECKSUMS, "hard link"), ("notes.txt", "fifo"))
"""What a run with a database index meets."""
PLANTS = st.lists(st.sampled_from(POSSIBLE), min_size=1, max_size=2)
WANTED = {
    "sealed", "partial", "refused", "TREE-6", "SAFE-1", "SAFE-11", "SAFE-12", "SAFE-14", "SAFE-16", "SAFE-15",
    "SAFE-17", "INTO-4", "INTO-5", "INTO-6", "INTO-3", "MANI-10", "INTO-7", *(f"planted {kind}" for kind in KINDS),
    "removed", "directory removed", "started anew",
}  # fmt: skip
REACH = Reach("tree", WANTED)


def is_leftover(place: str) -> bool:
    return os.path.basename(place) == TEMPORARY


class Output(RuleBasedStateMachine):
    """Several databases, one directory, and somebody else who has a key to the room."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="tree-machine."))
        self.out = self.directory / "work" / "out"
        self.out.parent.mkdir()
        self.canary = self.directory / "canary"
        (self.canary / "directory").mkdir(parents=True)
        (self.canary / "file").write_bytes(PRECIOUS)
        self.untouched = self.outside()
        # The model: what lies there, by path; None is something that no dump may go near.
        self.model: dict[str, bytes | None] = {}
        self.is_there = False
        self.is_sealed = False
        """Whether nobody has planted or removed anything since the last run that sealed."""
        self.complete: dict[int, bool] = {}
        """Database = whether its last dump said that it is complete; only while a seal says so."""

    def teardown(self) -> None:
        target(float(len(self.model)), label="places")
        shutil.rmtree(self.directory)

    def outside(self) -> dict[str, tuple[bytes, int]]:
        files = read_tree(self.canary)
        return {path: (data, (self.canary / path).stat().st_mtime_ns) for path, data in files.items()}

    # ---- somebody else ----

    @rule(plants=PLANTS)
    def somebody_plants(self, plants: list[tuple[str, str]]) -> None:
        for place, kind in plants:
            self.plant(place, kind)

    def plant(self, place: str, kind: str) -> None:
        path = self.out / place
        if kind == "hard link" and place in self.model:
            self.remove_one(place)
        if self.is_below_file(place) or os.path.lexists(path):
            return
        REACH(f"planted {kind}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.is_there = True
        if kind == "file":
            path.write_bytes(b"planted")
        elif kind == "hard link":
            path.hardlink_to(self.canary / "file")
        elif kind in ("fifo", "socket"):
            os.mknod(path, (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK) | 0o600)
        else:
            leads = {"symlink": "file", "directory symlink": "directory", "dangling symlink": "new"}[kind]
            path.symlink_to("../" * (place.count("/") + 2) + f"canary/{leads}")
        self.model[place] = {"file": b"planted", "hard link": PRECIOUS}.get(kind)
        self.forget_seal(place)

    @rule(place=st.sampled_from(PLACES))
    def remove(self, place: str) -> None:
        if place in self.model:
            self.remove_one(place)

    def remove_one(self, place: str) -> None:
        REACH("removed")
        (self.out / place).unlink()
        del self.model[place]
        self.forget_seal(place)

    @rule(directory=st.sampled_from(DIRECTORYS))
    def remove_directory(self, directory: str) -> None:
        path = self.out / directory
        if path.is_dir() and not path.is_symlink() and not self.is_below_file(directory):
            REACH("directory removed")
            shutil.rmtree(path)
            for place in [place for place in self.model if place.startswith(f"{directory}/")]:
                del self.model[place]
            self.is_sealed = False

    @rule()
    def start_anew(self) -> None:
        REACH("started anew")
        shutil.rmtree(self.out, ignore_errors=True)
        self.model.clear()
        self.complete.clear()
        self.is_there = False
        self.is_sealed = False

    def is_link(self, place: str) -> bool:
        return place in self.model and self.model[place] is not None and (self.out / place).stat().st_nlink > 1

    def is_in_the_way(self, place: str) -> bool:
        return self.model[place] is None or place in WAYS or (place in SEAL and self.is_link(place))

    def forget_seal(self, place: str) -> None:
        self.is_sealed = False
        if place == MANIFEST:
            self.complete.clear()

    def is_below_file(self, place: str) -> bool:
        parents = [str(parent) for parent in Path(place).parents if parent.name]
        return any(parent in self.model for parent in parents)

    # ---- dumps ----

    @rule(
        plants=st.just([]) | PLANTS,
        database=st.sampled_from(DATABASES),
        store=st.sampled_from(STORES),
        is_tidy=st.booleans(),
        obstacle=st.sampled_from((None, None, None, *OBSTACLES)),
    )
    def decode_into_existing(
        self,
        plants: list[tuple[str, str]],
        database: int,
        store: tuple[bytes, dict[str, bytes]],
        is_tidy: bool,
        obstacle: tuple[str, str] | None,
    ) -> None:
        self.somebody_plants(plants)
        for place in [place for place in self.model if is_tidy and self.is_in_the_way(place)]:
            self.remove_one(place)
        if obstacle is not None:
            place, kind = obstacle
            self.plant(place.format(database), kind)
        self.decode(database, *store, into_existing=True)

    @rule(store=st.sampled_from(STORES))
    def decode_into_nothing(self, store: tuple[bytes, dict[str, bytes]]) -> None:
        self.decode(0, *store, into_existing=False)

    def decode(self, database: int, data: bytes, files: dict[str, bytes], *, into_existing: bool) -> None:
        own = f"redis/db_{database}/"
        options = Options(database)
        allowed = self.refusals(own, into_existing)
        replaced = [path for path in files if self.is_link(own + path)]
        scene, expect = scene_of(self.out), self.expected(own, files, allowed)
        try:
            run = prepare_run(data, self.out.parent, options, into_existing=into_existing, sync=False)
            if allowed:
                with pytest.raises(Fault) as caught:
                    run.run()
                assert caught.value.clause in allowed, f"{caught.value} is none of {allowed}"
                assert run.out_state == "untouched"
                REACH("refused", caught.value.clause)
            else:
                outcome = run.run()
                self.written(database, own, files, outcome.complete)
                REACH(*(["SAFE-15"] if replaced else []))
            self.compare()
        except (Exception, pytest.fail.Exception):
            save_case("tree-found-by-the-machine", data, options, expect, scene, into_existing=into_existing)
            raise

    def expected(self, own: str, files: dict[str, bytes], allowed: set[str]) -> dict[str, Any]:
        """What a case says of a run."""
        if allowed:
            return refused_for(min(allowed))
        there = {place: content for place, content in self.model.items() if content is not None}
        there = {place: data for place, data in there.items() if place not in SEAL and not is_leftover(place)}
        there |= {own + path: data for path, data in files.items()}
        stale = sum(place.startswith(own) and place.removeprefix(own) not in files for place in there)
        return written(not stale, there, {"stale-file": stale} if stale else {})

    def refusals(self, own: str, into_existing: bool) -> set[str]:
        """The clauses that a run may be refused for; none if it may not. [SAFE-1] [INTO-1]"""
        if not into_existing:
            something = bool(self.model) or (self.out.is_dir() and any(self.out.iterdir()))
            return {"SAFE-1"} if something else set()
        allowed = set()
        for place, content in self.model.items():
            path = self.out / place
            if content is None:
                allowed.add("SAFE-11" if path.is_symlink() else "SAFE-12")
            elif place in (own.rstrip("/"), f"{own}strings", f"{own}hll", f"{own}unreadable", "redis"):
                allowed.add("SAFE-17")
            elif place == f"{own}strings_ttl.jsonl/x":
                allowed.add("SAFE-16")
            elif place in SEAL and self.is_link(place):
                allowed.add("SAFE-14")
        if (self.out / own / "strings_ttl.jsonl").is_dir():
            allowed.add("SAFE-16")
        return allowed

    def written(self, database: int, own: str, files: dict[str, bytes], complete: bool) -> None:
        """Say what lies there after a run. [TREE-6] [INTO-3] to [INTO-6]"""
        leftovers = [place for place in self.model if is_leftover(place)]
        REACH(*(["INTO-4"] if any(name in self.model for name in SEAL) else []), *(["INTO-3"] if leftovers else []))
        earlier = dict(self.complete) if MANIFEST in self.model else {}
        for place in (*SEAL, *leftovers):
            self.model.pop(place, None)
        stale = [place for place in self.model if place.startswith(own) and place.removeprefix(own) not in files]
        others = [place for place in self.model if not place.startswith(own)]
        REACH(*(["INTO-6"] if stale else []), *(["INTO-5"] if others else []))
        self.model.update({own + path: data for path, data in files.items()})
        self.is_there = True
        assert complete == (not stale)
        REACH("sealed", *([] if complete else ["partial"]))
        manifest = json.loads((self.out / MANIFEST).read_text())
        databases = self.databases()
        assert manifest["adapters"].get("redis", {}).get("databases", []) == sorted(databases)
        if len(databases) > 1:
            REACH("MANI-10", "TREE-6")
        reported = {each["database"]: each["complete"] for each in manifest["outcome"]["earlier"]}
        assert reported == {each: earlier.get(each) for each in sorted(databases) if each != database}
        REACH(*(["INTO-7"] if any(earlier.get(each) is not None for each in reported) else []))
        self.complete = {each: known for each in reported if (known := reported[each]) is not None}
        self.complete[database] = complete
        for name in SEAL:
            self.model[name] = (self.out / name).read_bytes()
        self.is_sealed = True

    def databases(self) -> set[int]:
        found = set()
        for place in self.model:
            parts = place.split("/")
            if len(parts) > 2 and parts[0] == "redis" and parts[1].startswith("db_"):
                found.add(int(parts[1][3:]))
        return found

    def compare(self) -> None:
        """What lies there is what the model says, the seal is over all of it, and nothing outside was touched."""
        assert self.outside() == self.untouched
        found = {}
        for base, _, names in os.walk(self.out):
            for name in names:
                path = Path(base) / name
                found[str(path.relative_to(self.out))] = path
            for name in os.listdir(base):
                path = Path(base) / name
                if path.is_symlink():
                    found[str(path.relative_to(self.out))] = path
        assert set(found) == set(self.model)
        contents = {place: found[place].read_bytes() for place, content in self.model.items() if content is not None}
        assert contents == {place: content for place, content in self.model.items() if content is not None}
        if self.is_sealed:
            lines = [
                f"{hashlib.sha256(contents[place]).hexdigest()}  {place}\n"
                for place in sorted(contents, key=str.encode)
                if place != CHECKSUMS
            ]
            assert contents[CHECKSUMS].decode() == "".join(lines)


CONFIG = steps(examples=160, count=30)
