"""Carries what a snapshot holds from one kind of file to another.

A rule about values holds whatever file the values come in, so a decoder that cannot read a node's
own file is judged by plainer ones:

    carrier              header  operational entries  footer
    -------------------  ------  -------------------  ------
    node-file            yes     yes                  yes
    header-and-footer    yes     as written           yes
    payload-with-footer  no      as written           yes
    bare-payload         no      as written           no

What a case is about stays as it is written: a header, the operational entries or a footer, if a clause
of the case rules them. Offsets, warnings and counters of its expectations are those of the new file.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ekvconform.cases.contents import is_operational
from ekvconform.cases.golden_cases import COMPLETE, DECODE, PARTIAL, Case, Expected, Scene
from ekvconform.cases.parts import Parts, iter_pieces, take_apart
from ekvconform.cases.snapshots import HEADERS, render_hex
from ekvconform.cases.writer import encoded_entry, operational, writers_row

NODE_FILE: Final = "node-file"
PAYLOAD_WITH_FOOTER: Final = "payload-with-footer"
BARE_PAYLOAD: Final = "bare-payload"
HEADER_AND_FOOTER: Final = "header-and-footer"
"""What nearly all fixtures are written as."""
CARRIERS: Final = (NODE_FILE, HEADER_AND_FOOTER, PAYLOAD_WITH_FOOTER, BARE_PAYLOAD)
"""Richest first."""
RULE_OF_CARRIER: Final = {
    NODE_FILE: "VISI-9", HEADER_AND_FOOTER: "FILE-1", PAYLOAD_WITH_FOOTER: "FILE-17", BARE_PAYLOAD: "FILE-20",
}  # fmt: skip
"""The rule that a program does not follow if it reads the next carrier and not this one."""
HEADER: Final = "header"
ROWS: Final = "rows"
FOOTER: Final = "footer"
PARTS: Final = {
    NODE_FILE: frozenset((HEADER, ROWS, FOOTER)), HEADER_AND_FOOTER: frozenset((HEADER, FOOTER)),
    PAYLOAD_WITH_FOOTER: frozenset((FOOTER,)), BARE_PAYLOAD: frozenset[str](),
}  # fmt: skip
RULES: Final = {
    HEADER: re.compile("FILE-(1|2|3|4|5|8|9|10|19)"),
    FOOTER: re.compile("FILE-(17|18|19|20)"),
    ROWS: re.compile("FILE-.*|VISI-(7|8|9|10)"),
}
"""Part of a file = the clauses that rule it."""
ROWS_OF_A_NODE: Final = (
    writers_row(), operational(b"_meta_applied_index", 1), operational(b"_meta_last_commit_ts", 1000),
)  # fmt: skip
"""The rows that a node's file holds; an index of 1 is behind no file name."""
ONE_A_CHAPTER: Final = (
    "visi-newest-counts", "keys-undecoded-types", "rstr-envelope", "rhll-envelope", "rttl-orphans", "segm-escapes",
    "kmap-find-12-fallback-has-a-line", "salv-string",
)  # fmt: skip
"""Cases that run in every carrier that the program reads, and have to give the same dump."""
PROBE: Final = "rstr-envelope"
"""The case that shows which carriers a program reads."""
UNREADABLE_END: Final = b"/unreadable.jsonl"
OFFSET: Final = re.compile(rb'"offset":(\d+)')
CRC: Final = "source.fsm_crc32c"
ENTRIES: Final = "outcome.counters.entries"
NO_FOOTER: Final = "no-footer"
"""The warning about a file without a footer. [FILE-20]"""


def carry(case: Case, carrier: str) -> Case:
    """Return a case in another kind of file, as far as it is not about the file."""
    scene = case.scene
    if scene.verb != DECODE or (scene.snapshot is None and scene.described is None) or _expects(case, CRC):
        return case
    kept = {part for part, clauses in RULES.items() if any(map(clauses.fullmatch, case.clauses))}
    wanted = PARTS[carrier]
    if scene.snapshot is None:
        return _carry_described(case, carrier, kept)
    parts = take_apart(scene.snapshot)
    # Only a node's file can become another one: what has no header is about that.
    if parts is None or not parts.header:
        return case
    carried = _changed(parts, wanted, kept, case)
    if carried == parts:
        return case
    data = carried.joined()
    moved = _moves(parts, carried)
    twin = case.twin if case.twin is None else _carry_twin(case.twin, wanted, kept, case)
    return replace(
        case,
        carrier=carrier,
        scene=replace(scene, snapshot=data),
        twin=twin,
        annotated=render_hex(iter_pieces(carried)),
        allowed=tuple(_expect(each, parts, carried, moved) for each in case.allowed),
    )


def _changed(parts: Parts, wanted: frozenset[str], kept: set[str], case: Case) -> Parts:
    """Return the parts of the new file."""
    if HEADER not in wanted and HEADER not in kept:
        parts = replace(parts, header=b"")
        if FOOTER not in wanted and FOOTER not in kept:
            parts = replace(parts, has_footer=False)
    if ROWS in wanted and ROWS not in kept and parts.is_sound and parts.has_footer and not _counts_rows(case):
        rows = [row for row in ROWS_OF_A_NODE if row[0] not in {key for key, _ in parts.entries}]
        parts = replace(parts, entries=tuple(sorted([*parts.entries, *rows])))
    return parts


def _expects(case: Case, *names: str) -> bool:
    """Predicate: does the case expect something of one of these members of MANIFEST.json?"""
    return any(name in each.manifest for each in case.allowed for name in names)


def _counts_rows(case: Case) -> bool:
    """Predicate: does the case hold operational entries, or expect a number of them?"""
    parts = take_apart(case.scene.snapshot or b"")
    holds = parts is not None and any(map(is_operational, parts.entries))
    return holds or _expects(case, f"{ENTRIES}.operational")


def _carry_twin(twin: Scene, wanted: frozenset[str], kept: set[str], case: Case) -> Scene:
    parts = take_apart(twin.snapshot) if twin.snapshot is not None else None
    if parts is None or not parts.header:
        return twin
    return replace(twin, snapshot=_changed(parts, wanted, kept, case).joined())


def _carry_described(case: Case, carrier: str, kept: set[str]) -> Case:
    """Return a case whose snapshot is generated without header, and without footer; rows are not added."""
    described, wanted = dict(case.scene.described or {}), PARTS[carrier]
    if (
        HEADER in wanted
        or HEADER in kept
        or described.get("header", "v1") == "none"
        or not described.get("footer", True)
    ):
        return case
    shift = -len(HEADERS[described.get("header", "v1")])
    described["header"] = "none"
    expected = tuple(_moved_by(each, shift) for each in case.allowed)
    if FOOTER not in wanted and FOOTER not in kept:
        described["footer"] = False
        expected = tuple(map(_without_footer, expected))
    return replace(case, carrier=carrier, scene=replace(case.scene, described=described), allowed=expected)


# ---- expectations ----


def _moved_by(expected: Expected, shift: int) -> Expected:
    """Return the expectation for a snapshot whose entries stand elsewhere, by so many bytes."""

    def moved(path: bytes, data: bytes) -> bytes:
        return _move_lines(data, lambda offset: offset + shift) if path.endswith(UNREADABLE_END) else data

    tree = {path: moved(path, data) for path, data in expected.tree.items()}
    large = {
        path: tuple((moved(path, text), times) for text, times in pieces) for path, pieces in expected.large.items()
    }
    return replace(expected, tree=tree, large=large)


def _move_lines(lines: bytes, moved: Callable[[int], int]) -> bytes:
    return OFFSET.sub(lambda match: b'"offset":%d' % moved(int(match[1])), lines)


def _moves(parts: Parts, carried: Parts) -> Callable[[int], int]:
    """Return a function that maps an offset in one file to that in the other."""
    old, new = len(parts.header) + 16, len(carried.header) + 16
    starts: list[tuple[int, int]] = []
    places = {}
    for entry in carried.entries:
        places[entry[0]] = new
        new += len(encoded_entry(entry))
    for entry in parts.entries:
        starts.append((old, places[entry[0]] - old))
        old += len(encoded_entry(entry))
    starts.append((old, new - old))

    def moved(offset: int) -> int:
        shift = len(carried.header) - len(parts.header)
        for start, by in starts:
            # The end of a value belongs to it: a field of which nothing is there is cut there. [ENVL-10]
            if offset > start:
                shift = by
        return offset + shift

    return moved


def _expect(expected: Expected, parts: Parts, carried: Parts, moved: Callable[[int], int]) -> Expected:
    offset = None if expected.offset is None else moved(expected.offset)
    tree = {
        path: _move_lines(data, moved) if path.endswith(UNREADABLE_END) else data
        for path, data in expected.tree.items()
    }
    manifest = dict(expected.manifest)
    if isinstance(counts := manifest.get(ENTRIES), dict):
        more = len(carried.entries) - len(parts.entries)
        manifest[ENTRIES] = counts | {"operational": counts["operational"] + more}
    expected = replace(expected, offset=offset, tree=tree, manifest=manifest)
    return expected if carried.has_footer or not parts.has_footer else _without_footer(expected)


def _without_footer(expected: Expected) -> Expected:
    """Return the expectation for the same file without its footer. [FILE-20]"""
    if expected.outcome not in (COMPLETE, PARTIAL):
        return expected
    return replace(expected, warnings=expected.warnings | {NO_FOOTER: 1}, carriers_warnings=frozenset((NO_FOOTER,)))


# ---- choosing ----


def carried_cases(cases: Sequence[Case], read: Sequence[str], *, is_whole: bool = True) -> list[Case]:
    """Return cases in the richest carrier that a program reads.

    In a run of the whole suite, those of `ONE_A_CHAPTER` come in the others too.
    """
    richest, *others = read or (HEADER_AND_FOOTER,)
    found = []
    for case in cases:
        found.append(carry(case, richest))
        if is_whole and case.id in ONE_A_CHAPTER:
            found += [replace(carry(case, other), id=f"{case.id}@{other}") for other in others]
    return found
