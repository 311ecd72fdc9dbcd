"""Decoders that are wrong in one way each, and the cases that catch them: `make mutants`.

A mutant is a copy of the reference with one small change, run as an ordinary program by
`ekvconform`. They stand in `tests/mutants/<chapter>.toml`:

    member     value
    ---------  -----------------------------------------------------------------------
    name       a slug, begins with the chapter
    breaks     what it is: a MUST clause that it has not, a number of a finding
               ("finding-4"), a divergence of the production decoder ("DIVR-7"); several
    what       the slip, in a few words
    edits      list of { file, old, new }: in that module of the reference, the text
               `old`, which stands there once, is `new`
    caught_by  cases; each of them has to catch it
    faults     faults of `ekvconform faults` that have to catch it, for what only a failing
               file system shows
    failing    the case under which calls fail then, default `FAILING_CASE`

A mutant is tried on the cases that name it. One that a case of `caught_by` does not catch
survives, and is tried on the whole suite, to see which case could be named. With `--wide`
all cases that stand for what it breaks are tried, and those that catch no mutant are
listed in `build/idle-cases.txt`. `tests/mutants/without.toml` names the MUST clauses
that no change of a decoder breaks, with reasons.
"""

import argparse
import compileall
import shutil
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import Case, load_cases, select_cases
from ekvconform.faults import iter_trials, judge_flush, run_trials
from ekvconform.profiles import REFERENCE, REFERENCE_THAT_FLUSHES, Profile
from ekvconform.running import judge_cases
from ekvconform.stepping import record_moments
from ekvconform.terminal import progress_of
from ekvconform.verdicts import PASS, UNSUPPORTED, VOID
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parent.parent
MUTANTS: Final = ROOT / "tests" / "mutants"
REFERENCE_SOURCE: Final = ROOT / "reference" / "ekvdump"
IDLE: Final = ROOT / "build" / "idle-cases.txt"
"""Where the cases are listed that catch no mutant: one may be redundant, or its clause has no mutant yet."""
WITHOUT_NAME: Final = "without.toml"
NO_MUTANTS: Final = (WITHOUT_NAME, "survivors.toml", "generated.toml")
MEMBERS: Final = {"name", "breaks", "what", "edits", "caught_by", "faults", "failing"}
FAILING_CASE: Final = "tree-every-kind-of-file"
NOT_CAUGHT: Final = (PASS, UNSUPPORTED, VOID)
WAYS_OF_FAULTS: Final = "faults: "
LAUNCHER: Final = "from ekvdump.cli import main\n\nraise SystemExit(main())\n"


class BrokenMutantError(Exception):
    """A mutant that is none; says which and why."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a module."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A decoder that is wrong in one way."""

    name: str
    breaks: tuple[str, ...]
    what: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]
    faults: tuple[str, ...]
    failing: str = FAILING_CASE

    def build(self, folder: Path) -> Profile:
        """Write the decoder into a new folder; return how it is run. Raises `BrokenMutantError`."""
        shutil.copytree(REFERENCE_SOURCE, folder / "ekvdump")
        for edit in self.edits:
            path = folder / "ekvdump" / edit.file
            # A change within the second that leaves the size as it was would not be seen by its time and size.
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
                compiled.unlink()
            text = path.read_text(encoding="utf-8")
            if text.count(edit.old) != 1:
                raise BrokenMutantError(f"{self.name}: {edit.file} holds {text.count(edit.old)} times: {edit.old!r}")
            changed = text.replace(edit.old, edit.new)
            compile(changed, str(path), "exec")
            path.write_text(changed, encoding="utf-8")
        # Once, and not in each of its runs.
        compileall.compile_dir(folder / "ekvdump", quiet=2)
        (folder / "run.py").write_text(LAUNCHER, encoding="utf-8")
        return replace(_run_from(REFERENCE, folder), name=self.name)

    def could_tell(self, cases: Iterable[Case], *, wide: bool) -> list[Case]:
        """Return the cases that it names; and all that stand for what it breaks, if that is wanted."""
        found = []
        for case in cases:
            stands_for_it = wide and set(case.clauses) & set(self.breaks) and not case.is_big
            if case.id in self.caught_by or stands_for_it:
                found.append(case)
        return found


def _run_from(profile: Profile, folder: Path) -> Profile:
    """Return the profile of the same decoder in another folder."""
    place = str(folder / "run.py")

    def words(command: Sequence[str]) -> tuple[str, ...]:
        return (command[0], "-B", place, *command[command.index("ekvdump") + 1 :])

    return replace(profile, command=words(profile.command), verify=words(profile.verify))


@cache
def load_mutants(folder: Path = MUTANTS) -> tuple[Mutant, ...]:
    """Read all mutants. Raises `BrokenMutantError`."""
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        if path.name in NO_MUTANTS:
            continue
        for words in tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []):
            found.append(_mutant(path, words))
    if not found:
        raise BrokenMutantError(f"{folder}: no mutants")
    return tuple(found)


def _mutant(path: Path, words: dict[str, Any]) -> Mutant:
    name = words.get("name", "?")
    if unknown := set(words) - MEMBERS:
        raise BrokenMutantError(f"{path.name}, {name}: no member {', '.join(sorted(unknown))}")
    if not name.startswith(f"{path.stem}-"):
        raise BrokenMutantError(f"{path.name}, {name}: the name does not begin with {path.stem}-")
    try:
        edits = tuple(Edit(**edit) for edit in words["edits"])
        mutant = Mutant(
            name,
            tuple(words["breaks"]),
            words["what"],
            edits,
            tuple(words.get("caught_by", ())),
            tuple(words.get("faults", ())),
            words.get("failing", FAILING_CASE),
        )
    except (KeyError, TypeError) as error:
        raise BrokenMutantError(f"{path.name}, {name}: {error}") from error
    if not (mutant.breaks and mutant.edits and (mutant.caught_by or mutant.faults)):
        raise BrokenMutantError(f"{path.name}, {name}: breaks nothing, changes nothing, or nothing catches it")
    return mutant


def load_without(folder: Path = MUTANTS) -> dict[str, str]:
    """Return MUST clause = why no mutant is without it."""
    found: dict[str, str] = tomllib.loads((folder / WITHOUT_NAME).read_text(encoding="utf-8"))["without"]
    return found


@dataclass(slots=True)
class Fate:
    """What became of a mutant."""

    mutant: Mutant
    verdicts: dict[str, str]
    """Of the cases that could tell."""
    missed: list[str]
    """What should have caught it and did not."""

    @property
    def first(self) -> str:
        """The first verdict that caught it."""
        names = (*self.mutant.caught_by, *(f"{WAYS_OF_FAULTS}{fault}" for fault in self.mutant.faults))
        return next((verdict for name in names if (verdict := self.verdicts.get(name, PASS)) not in NOT_CAUGHT), "-")


def try_mutant(mutant: Mutant, cases: Sequence[Case], folder: Path, jobs: int, *, wide: bool = False) -> Fate:
    """Run a mutant on the cases that could tell. Raises `BrokenMutantError`."""
    profile = mutant.build(folder)
    judgements = judge_cases(
        mutant.could_tell(cases, wide=wide), profile, jobs, strict_reasons=True, tell=lambda _: None
    )
    verdicts = {judgement.case.id: judgement.verdict for judgement in judgements}
    if mutant.faults:
        verdicts |= _try_faults(mutant, cases, folder, jobs)
    names = (*mutant.caught_by, *(f"{WAYS_OF_FAULTS}{fault}" for fault in mutant.faults))
    missed = [name for name in names if verdicts.get(name, PASS) in NOT_CAUGHT]
    return Fate(mutant, verdicts, missed)


def _try_faults(mutant: Mutant, cases: Sequence[Case], folder: Path, jobs: int) -> dict[str, str]:
    """Let calls fail under a mutant; return fault = the first verdict that is no pass."""
    profile = _run_from(REFERENCE_THAT_FLUSHES, folder)
    case = next(case for case in cases if case.id == mutant.failing)
    moments = record_moments(case, profile)
    trials = [trial for trial in iter_trials(case, moments) if trial.fault in mutant.faults]
    found = {f"{WAYS_OF_FAULTS}{fault}": PASS for fault in mutant.faults}
    every = [judge_flush(moments), *run_trials(case, profile, trials, jobs, lambda _: None)]
    for tried in every:
        if tried.trial.fault not in mutant.faults:
            continue
        name = f"{WAYS_OF_FAULTS}{tried.trial.fault}"
        if found[name] in NOT_CAUGHT:
            found[name] = tried.verdict
    return found


def main() -> int:
    """Run all mutants, or those whose names begin so, and print the table."""
    parser = argparse.ArgumentParser(description="Run decoders that are wrong in one way; see them caught.")
    parser.add_argument("names", nargs="*", metavar="BEGINNING", help="of the names of mutants; all if none")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at once")
    words = "try all cases that stand for what a mutant breaks, and list those that catch none"
    parser.add_argument("--wide", action="store_true", help=words)
    options = parser.parse_args()
    cases = load_cases()
    mutants = [each for each in load_mutants() if not options.names or each.name.startswith(tuple(options.names))]
    caught: dict[str, list[str]] = defaultdict(list)
    survivors: list[Fate] = []
    table = Table("mutant", "breaks", "caught by", "first verdict", title=f"{len(mutants)} mutants")
    with tempfile.TemporaryDirectory(prefix="mutants.") as base, progress_of(len(mutants)) as tell:
        for number, mutant in enumerate(mutants):
            fate = try_mutant(mutant, cases, Path(base) / str(number), options.jobs, wide=options.wide)
            if fate.missed:
                fate.verdicts |= _whole_suite(mutant, cases, Path(base) / f"{number}.whole", options.jobs)
            for case_id, verdict in fate.verdicts.items():
                if verdict not in NOT_CAUGHT:
                    caught[case_id].append(mutant.name)
            if fate.missed:
                survivors.append(fate)
                print(f"survives: {mutant.name}", flush=True)
            catching = [name for name, verdict in fate.verdicts.items() if verdict not in NOT_CAUGHT]
            more = f" and {len(catching) - 2} more" if len(catching) > 2 else ""
            table.add_row(mutant.name, " ".join(mutant.breaks), f"{', '.join(catching[:2])}{more}", fate.first)
            tell(PASS if not fate.missed else "SURVIVED")
    console = Console(width=200)
    console.print(table)
    for fate in survivors:
        catching = [name for name, verdict in fate.verdicts.items() if verdict not in NOT_CAUGHT]
        console.print(f"SURVIVED {fate.mutant.name}: {fate.mutant.what}; not caught by {', '.join(fate.missed)}")
        console.print(f"    the whole suite: {', '.join(catching) or 'nothing catches it: a case is missing'}")
    if options.wide and not options.names:
        idle = [case.id for case in select_cases(cases, []) if case.id not in caught]
        IDLE.parent.mkdir(exist_ok=True)
        IDLE.write_text("".join(f"{case_id}\n" for case_id in idle), encoding="utf-8")
        all_count = len(select_cases(cases, []))
        console.print(
            f"{len(idle)} of {all_count} cases catch no mutant that they could tell: {IDLE.relative_to(ROOT)}"
        )
    console.print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants are caught by each case that names them")
    return 1 if survivors else 0


def _whole_suite(mutant: Mutant, cases: Sequence[Case], folder: Path, jobs: int) -> dict[str, str]:
    judgements = judge_cases(
        select_cases(cases, []), mutant.build(folder), jobs, strict_reasons=True, tell=lambda _: None
    )
    return {judgement.case.id: judgement.verdict for judgement in judgements}


if __name__ == "__main__":
    sys.exit(main())
