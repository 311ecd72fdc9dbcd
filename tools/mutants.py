"""Decoders that are wrong in one way each, and the cases that catch them: `make mutants`.

A mutant is the reference with one small change, run as an ordinary program by
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
import py_compile
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from decoders import COMMAND, COMMAND_THAT_FLUSHES
from ekvconform.campaigns.faults import iter_trials, judge_flush, run_trials
from ekvconform.campaigns.races import record_moments
from ekvconform.cases.golden_cases import Case, load_cases, select_cases
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, VOID
from ekvconform.judge.workers import judge_pairs
from ekvconform.report.terminal import progress_of
from ekvconform.run.profiles import Profile
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
FAILING_CASE: Final = "rstr-expiry-0"
TRIALS_AT_ONCE: Final = 6
"""So many are run, and if one of them catches a mutant, no more."""
NOT_CAUGHT: Final = (PASS, UNSUPPORTED, VOID)
WAYS_OF_FAULTS: Final = "faults: "
LAUNCHER: Final = f"""
import sys

sys.path[0] = {str(REFERENCE_SOURCE.parent)!r}
import ekvdump

ekvdump.__path__.insert(0, __file__.rpartition("/")[0])
from ekvdump.cli import main

raise SystemExit(main())
"""
"""Runs a mutant: a module that lies beside this one is taken before that of the reference."""


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

    def changed(self) -> dict[str, str]:
        """Return module = its text, of what is other than in the reference. Raises `BrokenMutantError`."""
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file) or (REFERENCE_SOURCE / edit.file).read_text(encoding="utf-8")
            if text.count(edit.old) != 1:
                raise BrokenMutantError(f"{self.name}: {edit.file} holds {text.count(edit.old)} times: {edit.old!r}")
            texts[edit.file] = text.replace(edit.old, edit.new)
        return texts

    def build(self, folder: Path, like: Profile = COMMAND) -> Profile:
        """Write the decoder into a folder `program` there; return how it is run, which is `like` the reference.

        It is what is changed, and takes the rest from the reference. Raises `BrokenMutantError`.
        """
        program = folder / "program"
        program.mkdir()
        for name, text in self.changed().items():
            (program / name).write_text(text, encoding="utf-8")
            try:
                py_compile.compile(str(program / name), doraise=True)
            except py_compile.PyCompileError as error:
                raise BrokenMutantError(f"{self.name}: {error}") from error
        (program / "run.py").write_text(LAUNCHER, encoding="utf-8")
        return replace(_run_from(like, program), name=self.name)

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
    """Of what could tell."""

    @property
    def catching(self) -> list[str]:
        """What catches it."""
        return [name for name, verdict in self.verdicts.items() if verdict not in NOT_CAUGHT]

    @property
    def missed(self) -> list[str]:
        """What should have caught it and did not."""
        return [name for name in self._named if name not in self.catching]

    @property
    def first(self) -> str:
        """The first verdict that caught it."""
        return next((self.verdicts[name] for name in self._named if name in self.catching), "-")

    @property
    def _named(self) -> tuple[str, ...]:
        return (*self.mutant.caught_by, *(f"{WAYS_OF_FAULTS}{fault}" for fault in self.mutant.faults))


def try_mutants(mutants: Sequence[Mutant], cases: Sequence[Case], jobs: int, *, wide: bool = False) -> list[Fate]:
    """Run mutants on the cases that could tell, several at once. Raises `BrokenMutantError`."""
    for mutant in mutants:
        mutant.changed()
    tries = [(mutant, case) for mutant in mutants for case in mutant.could_tell(cases, wide=wide)]
    fates = {mutant.name: Fate(mutant, {}) for mutant in mutants}
    for (mutant, case), verdict in zip(tries, _judge(tries, jobs), strict=True):
        fates[mutant.name].verdicts[case.id] = verdict
    for mutant in mutants:
        if mutant.faults:
            fates[mutant.name].verdicts.update(_try_faults(mutant, cases, jobs))
    return list(fates.values())


def _judge(tries: Sequence[tuple[Mutant, Case]], jobs: int) -> list[str]:
    """Return the verdict of each case on its mutant."""
    pairs = [(case, mutant.build) for mutant, case in tries]
    with progress_of(len(pairs)) as advance:
        judgements = judge_pairs(pairs, COMMAND.limits, jobs, strict_reasons=True, on_result=lambda _: advance(PASS))
    for (mutant, case), judgement in zip(tries, judgements, strict=True):
        if judgement.verdict == VOID:
            # It catches nothing, but that is no fault of the cases.
            print(f"VOID {mutant.name}, {case.id}: {judgement.differences[0]}", file=sys.stderr)
    return [judgement.verdict for judgement in judgements]


def _try_faults(mutant: Mutant, cases: Sequence[Case], jobs: int) -> dict[str, str]:
    """Let calls fail under a mutant; return fault = the first verdict that is no pass."""
    case = next(case for case in cases if case.id == mutant.failing)
    with tempfile.TemporaryDirectory(prefix="mutants.") as folder:
        profile = mutant.build(Path(folder), COMMAND_THAT_FLUSHES)
        moments = record_moments(case, profile)
        flushed = judge_flush(moments)
        verdicts = {flushed.trial.fault: flushed.verdict}
        trials = list(iter_trials(case, moments))
        for fault in mutant.faults:
            pending = [trial for trial in trials if trial.fault == fault]
            while pending and verdicts.get(fault, PASS) in NOT_CAUGHT:
                some, pending = pending[:TRIALS_AT_ONCE], pending[TRIALS_AT_ONCE:]
                found = [tried.verdict for tried in run_trials(case, profile, some, jobs, lambda _: None)]
                verdicts[fault] = next((verdict for verdict in found if verdict not in NOT_CAUGHT), PASS)
    return {f"{WAYS_OF_FAULTS}{fault}": verdicts.get(fault, PASS) for fault in mutant.faults}


def main() -> int:
    """Run all mutants, or those whose names begin so, and print the table."""
    parser = argparse.ArgumentParser(description="Run decoders that are wrong in one way; see them caught.")
    parser.add_argument("names", nargs="*", metavar="BEGINNING", help="of the names of mutants; all if none")
    parser.add_argument("--jobs", type=int, default=3, metavar="N", help="cases at once")
    words = "try all cases that stand for what a mutant breaks, and list those that catch none"
    parser.add_argument("--wide", action="store_true", help=words)
    options = parser.parse_args()
    cases = load_cases()
    mutants = [each for each in load_mutants() if not options.names or each.name.startswith(tuple(options.names))]
    fates = try_mutants(mutants, cases, options.jobs, wide=options.wide)
    table = Table("mutant", "breaks", "caught by", "first verdict", title=f"{len(mutants)} mutants")
    for fate in fates:
        more = f" and {len(fate.catching) - 2} more" if len(fate.catching) > 2 else ""
        catching = f"{', '.join(fate.catching[:2])}{more}"
        table.add_row(fate.mutant.name, " ".join(fate.mutant.breaks), catching, fate.first)
    console = Console(width=200)
    console.print(table)
    survivors = [fate for fate in fates if fate.missed]
    for fate in survivors:
        console.print(f"SURVIVED {fate.mutant.name}: {fate.mutant.what}; not caught by {', '.join(fate.missed)}")
        tries = [(fate.mutant, case) for case in select_cases(cases, [])]
        verdicts = zip(tries, _judge(tries, options.jobs), strict=True)
        whole = [case.id for (_, case), verdict in verdicts if verdict not in NOT_CAUGHT]
        console.print(f"    the whole suite: {', '.join(whole) or 'nothing catches it: a case is missing'}")
    if options.wide and not options.names:
        caught = {name for fate in fates for name in fate.catching}
        idle = [case.id for case in select_cases(cases, []) if case.id not in caught]
        IDLE.parent.mkdir(exist_ok=True)
        IDLE.write_text("".join(f"{case_id}\n" for case_id in idle), encoding="utf-8")
        all_count = len(select_cases(cases, []))
        console.print(
            f"{len(idle)} of {all_count} cases catch no mutant that they could tell, in {IDLE.relative_to(ROOT)} too: "
            f"{', '.join(idle) or 'none'}"
        )
    console.print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants are caught by each case that names them")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
