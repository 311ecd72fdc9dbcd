"""Shows, prepares and writes cases: `ekvconform list`, `show`, `repro`, `snapshot` and `export`."""

import argparse
import json
import shlex
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from ekvexplain.clauses import load_clauses, render_clause

from ekvconform.cases.carriers import carry
from ekvconform.cases.data_files import FATE_PATH, FIXTURES
from ekvconform.cases.errors import UsageError
from ekvconform.cases.export import iter_lines, render_case
from ekvconform.cases.families.fault_pairs import FAULT_PAIRS_NAME
from ekvconform.cases.families.places import PLACES_NAME
from ekvconform.cases.golden_cases import DECODE, Case
from ekvconform.cases.loading import CASES_NAME, load_cases
from ekvconform.cases.snapshots import BadDescriptionError, describe_snapshot, render_bytes, render_hex, write_snapshot
from ekvconform.cases.suite import load_suite
from ekvconform.cases.variation import varied_cases
from ekvconform.cli.selection import EXIT_AS_EXPECTED, one_case, profile_of, selected_cases
from ekvconform.judge.verdicts import command_of
from ekvconform.report.records import (
    describe_expected,
)
from ekvconform.run.sandbox import environment, make_sandbox

TABLES_OF_FAMILIES: Final = {
    "places": FIXTURES / PLACES_NAME, "fault-pairs": FIXTURES / FAULT_PAIRS_NAME, "fates": FATE_PATH,
}  # fmt: skip
"""Family = the table that its cases are made from."""


def list_cases(options: argparse.Namespace) -> int:
    """List cases."""
    for case in selected_cases(options.words, load_cases()):
        print(f"{case.id:<44} {case.level:<6} {' '.join(case.clauses):<24} {case.title}")
    return EXIT_AS_EXPECTED


def show(options: argparse.Namespace) -> int:
    """Print one case with its clauses, or one clause with its cases."""
    clauses = load_clauses()
    if clause := clauses.get(options.case.upper()):
        print(render_clause(clause))
        for case in load_cases():
            if clause.id in case.clauses:
                print(f"{case.id:<44} {case.title}")
        return EXIT_AS_EXPECTED
    case = one_case(options.case)
    for name in case.clauses:
        if name in clauses:
            print(f"# {render_clause(clauses[name])}")
    path = FIXTURES / CASES_NAME / case.chapter / f"{case.id}.toml"
    if path.is_file():
        print(path.read_text(encoding="utf-8"), end="")
    else:
        table = TABLES_OF_FAMILIES[case.family]
        print(f"# Made from {table}; as exported, but with contents as text:")
        print(json.dumps(render_case(case, render_bytes), indent=1))
    return EXIT_AS_EXPECTED


def _given(case_id: str, options: argparse.Namespace) -> Case:
    """Return a case as a program is given it."""
    (case,) = varied_cases([one_case(case_id)], options.vary)
    return carry(case, options.carrier)


def repro(options: argparse.Namespace) -> int:
    """Prepare the run of one case, and print the command."""
    case, profile = _given(options.case, options), profile_of(options)
    if lack := profile.lacks(case):
        raise UsageError(f"{case.id} is UNSUPPORTED: {lack}")
    if options.directory is None:
        root = Path(tempfile.mkdtemp(prefix=f"ekvconform.{case.id}."))
    else:
        root = options.directory.resolve()
        root.mkdir()
    box = make_sandbox(root, case.scene)
    command = command_of(profile, case.scene, box, box.arrange(case.scene))
    variables = [f"{name}={value}" for name, value in environment(box).items()]
    expected = " or ".join(describe_expected(each) for each in case.allowed)
    if during := case.scene.during:
        print(f"# Tampering, to be done by hand: {during.when.words}, {during.scene} at {during.place}.")
    if size := case.scene.disk_bytes:
        work = shlex.quote(str(root / "work"))
        print(f"# Its disk is small. Before the run: mount -t tmpfs -o size={size} tmpfs {work}")
    print(f"# {case.id}: {case.title}. Expected: {expected}; `ekvconform show {case.id}` prints the case.")
    print(f"# It is prepared in {root}, for one run, and is not removed.")
    print(f"cd {shlex.quote(str(root / 'work'))} && umask 022 && env -i {shlex.join([*variables, *command])}")
    return EXIT_AS_EXPECTED


def snapshot(options: argparse.Namespace) -> int:
    """Write the snapshot of a case or a description."""
    source = Path(options.source)
    if source.suffix == ".toml":
        if options.twin:
            raise UsageError("--twin needs a case")
        try:
            description = tomllib.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadDescriptionError(f"{source}: {error}") from error
        pieces = describe_snapshot(description)
        text, data = render_hex(pieces), b"".join(piece.data for piece in pieces)
    else:
        case = _given(options.source, options)
        scene = case.twin if options.twin else case.scene
        if scene is not None and scene.described is not None:
            if options.output is None:
                raise UsageError(f"the snapshot of {case.id} is too long to be shown: -o FILE writes it")
            with options.output.open("wb") as file:
                write_snapshot(scene.described, file)
            return EXIT_AS_EXPECTED
        if scene is None or scene.snapshot is None or scene.verb != DECODE:
            raise UsageError(f"{case.id} has no {'repaired ' if options.twin else ''}snapshot")
        text = case.annotated if scene is case.scene else scene.snapshot.hex(" ").upper() + "\n"
        data = scene.snapshot
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_bytes(data)
    return EXIT_AS_EXPECTED


def export(options: argparse.Namespace) -> int:
    """Write all cases as JSON lines."""
    suite, cases = load_suite(), load_cases()
    options.file.write_text("".join(iter_lines(cases)), encoding="utf-8")
    print(f"wrote {options.file}: {len(cases)} cases of suite {suite.version}")
    return EXIT_AS_EXPECTED
