r"""Reads golden cases: one TOML file each, in `fixtures/cases/<chapter>/`.

    member         value
    -------------  --------------------------------------------------------------
    id             a slug, the file's name; never used again
    title          the claim, as a sentence
    clauses        IDs of the spec that the case stands for
    level          "must", "should" or "may"
    snapshot       annotated hex; absent if the run needs none
    [described]    the same snapshot as a description (`snapshots`), if there is one
    generated      true: the snapshot is too long to be shown, and only described
    big            true: it takes long, and is run only if it is selected
    family         name of the systematic group that the case belongs to, if it does
    [limits]       resource limits: seconds, memory_mib, files_mib; those that are not
                   given are the profile's
    [run]          see below
    [scene]        path from the directory above OUT = what is there before the run:
                   the bytes of a file, or one of { file = bytes, mode = 0o644 },
                   { directory = true }, { symlink = target }, { hard_link = path },
                   { fifo = true }, the same with reader = true, { socket = true },
                   { device = true }, { pieces = [bytes, { text = bytes, times = n }] }
    [during]       concurrent tampering: `moment` in the words of `moments`, `scene`,
                   one of `tampering`, and `place`, from OUT, or "the temporary file",
                   "the snapshot"
    [expect]       see below. A `may` case has several, [[expect]]: each is allowed.
    [twin]         the repaired twin, which must be accepted: why (what is repaired),
                   and what differs from the case: snapshot, described, run, scene (a
                   path with { nothing = true } is removed); there is no tampering

    run            value
    -------------  --------------------------------------------------------------
    verb           "decode" (default), or "verify": verify the dump in OUT
    db             database index, default 0
    name           of the snapshot file, default snapshot.fsm
    snapshot_is    "file" (default), "symlink" (to one), "missing", "directory", "fifo"
    below_out      true: the snapshot is in OUT
    out            OUT, from the directory above; default out
    disk_bytes     size of the file system that OUT is on; default as large as needed
    options        only = "strings,hll" or one of both; key or prefix, of user keys; salvage = true;
                   into_existing = true; wall_time, cluster_id, elastickv_version

    expect         value
    -------------  --------------------------------------------------------------
    outcome        of decode: "complete", "partial" or "refused"; of verify: "whole"
                   or "findings"
    fault, clause  of a refusal; also offset (in the snapshot) or path (from the
                   directory above OUT, or {snapshot}), if the spec gives one
    out            what a refusal leaves: "untouched" (OUT is unchanged, or still
                   absent), or "unsealed" (neither MANIFEST.json nor CHECKSUMS)
    exit_status    the number itself, in cases about exit statuses
    [tree]         path = bytes, of everything below OUT but MANIFEST.json and
                   CHECKSUMS; there must be nothing else. Or path = { text = bytes,
                   times = n }: {n} in the text is 000000, 000001 ..; or { text,
                   files = n }, the same for as many files and {n} in the path; in
                   both, {x} is as many x as the number, and `from` is the first
                   number, default 0. Or { pieces = [..] } as in [scene], of a file
                   that is too large for memory
    [warnings]     name = count; no others of the spec may be reported
    [manifest]     member = value; "a.b" is b inside a, "a.0" the first item of a,
                   "a.x" the first item of a whose member `name` is x;
                   "(absent)" for one that must not be there, "(present)" for one
                   with any value, "(null)"; {directory} in a text is the
                   snapshot's directory. Other members are not compared.
    canonical      true: MANIFEST.json is written as MANI-1 and MANI-2 say
    [findings]     fault = paths from OUT, each as often as it is reported
    strict         names of tolerances (spec chapter TOLE) that are withdrawn

Bytes are written as in `snapshots`.
"""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.limits import Limits
from ekvconform.cases.moments import SCENES_OF_CASES, When, decode_when
from ekvconform.cases.snapshots import (
    BadDescriptionError,
    decode_bytes,
    decode_hex,
    describe_snapshot,
    numbered,
    render_hex,
    require_described,
)
from ekvconform.cases.tolerances import TOLERANCES

LEVELS: Final = ("must", "should", "may")
DECODE: Final = "decode"
VERIFY: Final = "verify"
COMPLETE: Final = "complete"
PARTIAL: Final = "partial"
REFUSED: Final = "refused"
WHOLE: Final = "whole"
FINDINGS: Final = "findings"
OUTCOMES: Final = {DECODE: (COMPLETE, PARTIAL, REFUSED), VERIFY: (WHOLE, FINDINGS, REFUSED)}
UNTOUCHED: Final = "untouched"
UNSEALED: Final = "unsealed"
ABSENT: Final = "(absent)"
PRESENT: Final = "(present)"
NULL: Final = "(null)"
"""Expected of a member of MANIFEST.json: it must not be there, it must be, it is null."""

MEMBERS: Final = {
    "id", "title", "clauses", "level", "snapshot", "described", "generated", "run", "scene", "during", "expect", "twin",
    "big", "limits", "family",
}  # fmt: skip
RUN: Final = {"verb", "db", "name", "snapshot_is", "below_out", "out", "options", "disk_bytes"}
SNAPSHOT_KINDS: Final = ("file", "symlink", "missing", "directory", "fifo")
OPTIONS: Final = {
    "only": True, "key": True, "prefix": True, "salvage": False, "into_existing": False, "wall_time": True,
    "cluster_id": True, "elastickv_version": True,
}  # fmt: skip
"""Option = whether it takes a value."""
TWIN: Final = {"why", "snapshot", "described", "run", "scene"}
REFUSAL: Final = {"outcome", "fault", "clause", "offset", "path", "out", "exit_status"}
DUMP: Final = {"outcome", "exit_status", "tree", "warnings", "manifest", "canonical", "strict"}
EXPECTED: Final = {
    REFUSED: REFUSAL, COMPLETE: DUMP, PARTIAL: DUMP,
    WHOLE: {"outcome", "exit_status"}, FINDINGS: {"outcome", "exit_status", "findings"},
}  # fmt: skip


MAX_WEIGHT: Final = 1 << 30
"""Weight of a case whose snapshot is generated."""
Pieces = tuple[tuple[bytes, int], ...]
"""Content of a file: bytes, and how often they are repeated."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One permitted outcome."""

    outcome: str
    fault: str = ""
    """Only of a refusal, as `clause`; else empty."""
    clause: str = ""
    offset: int | None = None
    path: bytes | None = None
    out: str | None = None
    exit_status: int | None = None
    tree: dict[bytes, bytes] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    canonical: bool = False
    findings: dict[str, list[str]] = field(default_factory=dict)
    strict: frozenset[str] = frozenset()
    large: dict[bytes, Pieces] = field(default_factory=dict)
    """Files of the tree that are too large for memory."""
    carriers_warnings: frozenset[str] = frozenset()
    """Warnings that only the kind of file calls for: `manifest` says nothing about them."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A file that exists before the run."""

    kind: str
    """One of "file", "directory", "symlink", "hard_link", "fifo", "socket", "device"."""
    pieces: Pieces = ()
    """Of a file."""
    target: bytes = b""
    """Of a link."""
    mode: int | None = None
    """Permission bits; None for those that the umask leaves."""
    has_reader: bool = False
    """Of a FIFO: it is open for reading."""

    @property
    def data(self) -> bytes:
        """Content of a file."""
        return b"".join(text * times for text, times in self.pieces)


@dataclass(frozen=True, slots=True)
class During:
    """Tampering with the tree while a program runs."""

    when: When
    scene: str
    place: str
    """From OUT."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a program is given: snapshot, surrounding files and arguments."""

    verb: str = DECODE
    snapshot: bytes | None = None
    described: dict[str, Any] | None = None
    """The description of a snapshot that is generated when it is needed."""
    snapshot_name: bytes = b"snapshot.fsm"
    snapshot_is: str = "file"
    below_out: bool = False
    database: int = 0
    options: dict[str, str] = field(default_factory=dict)
    """Option = value; the empty text if it takes none."""
    out: bytes = b"out"
    """OUT, from the directory above."""
    planted: dict[bytes, Planted] = field(default_factory=dict)
    """Path from the directory above OUT = what is there before the run."""
    during: During | None = None
    disk_bytes: int | None = None
    """Size of the file system that OUT is on; None if it is as large as needed."""

    @property
    def is_for_the_unprivileged(self) -> bool:
        """Predicate: does the scene contain a file that only a privileged program could write to?"""
        return any(planted.mode is not None and not planted.mode & 0o200 for planted in self.planted.values())

    @property
    def hard_link_count(self) -> int:
        """Number of hard links in OUT to files outside."""
        return sum(planted.kind == "hard_link" for planted in self.planted.values())

    @property
    def has_output(self) -> bool:
        """Predicate: does OUT exist before the run?"""
        return self.below_out or any(path == self.out or path.startswith(self.out + b"/") for path in self.planted)


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case."""

    id: str
    chapter: str
    title: str
    clauses: tuple[str, ...]
    level: str
    scene: Scene
    allowed: tuple[Expected, ...]
    twin: Scene | None = None
    """The same scene with its one defect repaired."""
    annotated: str = ""
    """The snapshot as annotated hex; empty if it is generated."""
    generated: dict[str, Any] | None = None
    """Description of a snapshot and a tree that are too long to be shown, as in the fixture."""
    is_big: bool = False
    """Does it take so long that it is run only if it is selected?"""
    limits: dict[str, Any] = field(default_factory=dict)
    """Resource limits that the case overrides."""
    carrier: str = ""
    """The kind of file that the snapshot was carried to (`carriers`); empty if it is as written."""
    family: str = ""
    """The table or the systematic group that the case belongs to; empty for one that stands alone."""
    seed: str = ""
    """What the case was varied with (`variation`); empty if it is as written."""

    @property
    def paths(self) -> set[bytes]:
        """Paths from OUT of all files of a dump of this case, and of all that exist before."""
        out = self.scene.out + b"/"
        planted = {path.removeprefix(out) for path in self.scene.planted if path.startswith(out)}
        return {*self.expected.tree, *self.expected.large, *planted, b"MANIFEST.json", b"CHECKSUMS"}

    @property
    def expected(self) -> Expected:
        """The first permitted outcome."""
        return self.allowed[0]

    @property
    def weight(self) -> int:
        """Size of what has to be read to understand the case, in bytes."""
        scene = self.scene
        if scene.described is not None:
            return MAX_WEIGHT
        return len(scene.snapshot or b"") + sum(len(path) + len(each.data) for path, each in scene.planted.items())


class BrokenCaseError(Exception):
    """Raised for a fixture that is not a valid case; names the file and the problem."""


def load_case(path: Path) -> Case:
    """Read one fixture. Raises `BrokenCaseError`."""
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
        _require_known(words, MEMBERS, "a case")
        _require(words["id"] == path.stem, "the id differs from the name of the file")
        _require(words["level"] in LEVELS, f"level {words['level']!r}")
        _require(bool(words["clauses"]) and bool(words["title"]), "no clauses or no title")
        scene = _scene(words)
        expectations = words["expect"] if isinstance(words["expect"], list) else [words["expect"]]
        _require(
            (len(expectations) > 1) == (words["level"] == "may"),
            "a case must have several outcomes if its level is may, and only then",
        )
        allowed = tuple(_expected(expect, scene.verb) for expect in expectations)
        twin = words.get("twin")
        has_defect = any(expected.outcome in (REFUSED, FINDINGS) for expected in allowed)
        _require(has_defect == (twin is not None), "a case must have a twin if it has a defect, and only then")
        return Case(
            id=words["id"],
            chapter=path.parent.name,
            title=words["title"],
            clauses=tuple(words["clauses"]),
            level=words["level"],
            scene=scene,
            allowed=allowed,
            twin=None if twin is None else _twin(words, twin),
            annotated=words.get("snapshot", ""),
            generated={"described": words["described"], "tree": words["expect"].get("tree", {})}
            if words.get("generated")
            else None,
            is_big=words.get("big", False),
            limits=_limits(words.get("limits", {})),
            family=words.get("family", ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, BadDescriptionError) as error:
        raise BrokenCaseError(f"{path}: {type(error).__name__}: {error}") from error


def _limits(words: dict[str, Any]) -> dict[str, Any]:
    Limits().but(words)
    return words


def _scene(words: dict[str, Any]) -> Scene:
    run = words.get("run", {})
    _require_known(run, RUN, "a run")
    verb = run.get("verb", DECODE)
    kind = run.get("snapshot_is", "file")
    _require(verb in OUTCOMES and kind in SNAPSHOT_KINDS, f"verb {verb!r}, snapshot_is {kind!r}")
    needs_bytes = verb == DECODE and kind in ("file", "symlink")
    generated = words.get("generated", False)
    shown = "described" in words if generated else "snapshot" in words
    _require(shown == needs_bytes, "there must be a snapshot if the run needs one, and only then")
    _require(not (generated and "snapshot" in words), "a generated snapshot must not be shown")
    data = b""
    if generated:
        require_described(words["described"])
    elif "described" in words:
        pieces = describe_snapshot(words["described"])
        data = b"".join(piece.data for piece in pieces)
        _require(words["snapshot"] == render_hex(pieces), "annotated hex and description differ")
    elif needs_bytes:
        data = decode_hex(words["snapshot"])
    options = run.get("options", {})
    _require_known(options, set(OPTIONS), "options")
    return Scene(
        verb=verb,
        snapshot=data if needs_bytes and not generated else None,
        described=words["described"] if generated else None,
        snapshot_name=decode_bytes(run.get("name", "snapshot.fsm")),
        snapshot_is=kind,
        below_out=run.get("below_out", False),
        database=run.get("db", 0),
        options={name: "" if value is True else value for name, value in options.items()},
        out=decode_bytes(run.get("out", "out")),
        planted={decode_bytes(path): decode_planted(what) for path, what in words.get("scene", {}).items()},
        during=_during(words["during"]) if "during" in words else None,
        disk_bytes=run.get("disk_bytes"),
    )


def _during(words: dict[str, Any]) -> During:
    _require(set(words) == {"moment", "scene", "place"}, f"during is {words}")
    _require(words["scene"] in SCENES_OF_CASES, f"a scene {words['scene']!r}")
    return During(decode_when(words["moment"]), words["scene"], words["place"])


def decode_planted(what: str | dict[str, Any]) -> Planted:
    """Return what a member of `[scene]` plants. Raises `ValueError`."""
    words: dict[str, Any] = {"file": what} if isinstance(what, str) else dict(what)
    mode: int | None = words.pop("mode", None)
    has_reader: bool = words.pop("reader", False)
    ((kind, value),) = words.items()
    if kind == "file":
        return Planted(kind, ((decode_bytes(value), 1),), mode=mode)
    if kind == "pieces":
        return Planted("file", _pieces(value), mode=mode)
    if kind in ("symlink", "hard_link"):
        return Planted(kind, target=decode_bytes(value))
    _require(kind in ("directory", "fifo", "socket", "device") and value is True, f"a scene of {what}")
    return Planted(kind, mode=mode, has_reader=has_reader)


def _pieces(value: list[Any]) -> Pieces:
    pieces = [(piece, 1) if isinstance(piece, str) else (piece["text"], piece["times"]) for piece in value]
    return tuple((decode_bytes(text), times) for text, times in pieces)


def _twin(words: dict[str, Any], twin: dict[str, Any]) -> Scene:
    _require_known(twin, TWIN, "a twin")
    repairs = len(twin) > 1 or "during" in words
    _require(bool(twin["why"]) and repairs, "a twin must say what is repaired, and repair it")
    repaired: dict[str, Any] = {name: words[name] for name in ("snapshot", "described", "run") if name in words}
    if "snapshot" in twin:
        repaired.pop("described", None)
    repaired |= {name: twin[name] for name in ("snapshot", "described", "run") if name in twin}
    planted = words.get("scene", {}) | twin.get("scene", {})
    repaired["scene"] = {path: what for path, what in planted.items() if what != {"nothing": True}}
    return _scene(repaired)


def _expected(expect: dict[str, Any], verb: str) -> Expected:
    outcome = expect["outcome"]
    _require(outcome in OUTCOMES[verb], f"outcome {outcome!r} of {verb}")
    _require_known(expect, EXPECTED[outcome], f"an outcome {outcome}")
    if outcome == REFUSED:
        _require({"fault", "clause"} <= set(expect), "a refusal needs a fault and a clause")
        _require(expect["out"] in (UNTOUCHED, UNSEALED), f"out {expect['out']!r}")
    if outcome == FINDINGS:
        _require(bool(expect["findings"]), "no findings")
    tree = expect.get("tree", {})
    strict = frozenset(expect.get("strict", ()))
    _require(strict <= set(TOLERANCES), f"tolerances {sorted(strict)}")
    return Expected(
        outcome,
        expect.get("fault", ""),
        expect.get("clause", ""),
        expect.get("offset"),
        decode_bytes(expect["path"]) if "path" in expect else None,
        expect.get("out"),
        expect.get("exit_status"),
        dict(_iter_tree({path: what for path, what in tree.items() if not _is_large(what)})),
        expect.get("warnings", {}),
        expect.get("manifest", {}),
        expect.get("canonical", False),
        {name: sorted(paths) for name, paths in expect.get("findings", {}).items()},
        strict,
        {decode_bytes(path): _pieces(what["pieces"]) for path, what in tree.items() if _is_large(what)},
    )


def _is_large(what: str | dict[str, Any]) -> bool:
    return not isinstance(what, str) and "pieces" in what


def _iter_tree(tree: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    for path, what in tree.items():
        if isinstance(what, str):
            yield decode_bytes(path), decode_bytes(what)
            continue
        text = what["text"]
        _require_known(what, ("text", "times", "files", "from"), f"a tree with {path}")
        for number in range(what.get("from", 0), what.get("from", 0) + what.get("files", 1)):
            file = (
                "".join(numbered(text, each) for each in range(what["times"]))
                if "times" in what
                else numbered(text, number)
            )
            yield decode_bytes(numbered(path, number) if "files" in what else path), decode_bytes(file)


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(words)


def _require_known(words: dict[str, Any], known: Iterable[str], what: str) -> None:
    unknown = sorted(set(words) - set(known))
    _require(not unknown, f"{what} has no {', '.join(unknown)}")
