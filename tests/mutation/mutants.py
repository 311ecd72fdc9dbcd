"""Decoders that are wrong in one way each, and the cases that catch them: `make mutants`.

A mutant is the reference, or the command, with one small change, run as an ordinary
program by `ekvconform`. Mutants are listed in `by_clause/<chapter>.toml`:

    member     value
    ---------  -----------------------------------------------------------------------
    name       a slug that begins with the chapter
    breaks     what it violates: MUST clauses, numbers of findings ("finding-4"),
               divergences of the production decoder ("DIVR-7")
    what       the mistake, in a few words
    file       the one module that is changed, from the root of the repository: the
               reference where it implements the clause, else the command
    edits      list of { old, new }: the text `old`, which occurs there once, becomes
               `new`
    caught_by  cases; each of them has to catch the mutant
    faults     faults of `ekvconform faults` that have to catch it, for what only a failing
               file system shows
    failing    the case under which calls fail then, default `FAILING_CASE`

A mutant is run on the cases that name it. One that a case of `caught_by` does not catch
survives, and is run on the whole suite, to see which case could be named. With `--wide`
it is run on all cases that stand for what it breaks, and the cases that catch no mutant
are listed in `build/idle-cases.txt`. `without.toml` names the MUST clauses that no change
of a decoder breaks, with reasons.
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

from ekvconform.campaigns.faults import iter_trials, judge_flush, run_trials
from ekvconform.campaigns.races import record_moments
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.limits import Limits
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, VOID
from ekvconform.judge.workers import judge_pairs
from ekvconform.report.terminal import progress_of
from ekvconform.run.profiles import Profile
from rich.console import Console
from rich.table import Table

# What is run as a program has only its own directory on its path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from decoders import COMMAND, REFERENCE, that_flushes

ROOT: Final = Path(__file__).resolve().parents[2]
BY_CLAUSE: Final = Path(__file__).resolve().parent / "by_clause"
WITHOUT: Final = BY_CLAUSE.parent / "without.toml"
PROFILES: Final = {"ekvformat": REFERENCE, "ekvdump": COMMAND}
"""Package = the profile of its program."""
IDLE: Final = ROOT / "build" / "idle-cases.txt"
"""Lists the cases that catch no mutant: one may be redundant, or its clause has no mutant yet."""
MEMBERS: Final = {"name", "breaks", "what", "file", "edits", "caught_by", "faults", "failing"}
FAILING_CASE: Final = "envl-expiry-0"
TRIALS_AT_ONCE: Final = 6
"""Trials that are run before the next ones are, if none of them catches the mutant."""
NOT_CAUGHT: Final = (PASS, UNSUPPORTED, VOID)
DEVIATES: Final = "DEVIATES"
"""The verdict on a mutant that passes, but for something that the case is not about."""
PREFIX_OF_FAULTS: Final = "faults: "
LAUNCHER: Final = """
import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location


class Changed(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return spec_from_file_location(name, {file!r}) if name == {module!r} else None


sys.meta_path.insert(0, Changed())
sys.path[0] = {root!r}
runpy.run_module({package!r}, run_name="__main__", alter_sys=True)
"""
"""Runs a mutant: the package as it is, but for one module, which is read from another file."""


class BrokenMutantError(Exception):
    """A mutant that is none; says which and why."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a module."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A decoder that is wrong in one way."""

    name: str
    breaks: tuple[str, ...]
    what: str
    file: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]
    faults: tuple[str, ...] = ()
    failing: str = FAILING_CASE

    @property
    def package(self) -> str:
        """The package that is changed."""
        return Path(self.file).parts[1]

    @property
    def module(self) -> str:
        """The full name of the module that is changed."""
        return ".".join(Path(self.file).with_suffix("").parts[1:])

    @property
    def profile(self) -> Profile:
        """The profile of the decoder without the change."""
        return PROFILES[self.package]

    def text(self) -> str:
        """Return the text of the changed module. Raises `BrokenMutantError`."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        for edit in self.edits:
            if text.count(edit.old) != 1:
                raise BrokenMutantError(f"{self.name}: {self.file} holds {text.count(edit.old)} times: {edit.old!r}")
            text = text.replace(edit.old, edit.new)
        return text

    def build(self, directory: Path, *, flushes: bool = False) -> Profile:
        """Write the changed module and what runs it into `directory`; return the profile of the mutant.

        Raises `BrokenMutantError`.
        """
        program = directory / "program"
        program.mkdir()
        file = program / "changed.py"
        file.write_text(self.text(), encoding="utf-8")
        try:
            py_compile.compile(str(file), doraise=True)
        except py_compile.PyCompileError as error:
            raise BrokenMutantError(f"{self.name}: {error}") from error
        root = str(ROOT / Path(self.file).parts[0])
        launcher = LAUNCHER.format(file=str(file), module=self.module, root=root, package=self.package)
        (program / "run.py").write_text(launcher, encoding="utf-8")
        profile = that_flushes(self.profile) if flushes else self.profile
        return replace(_run_from(profile, program / "run.py"), name=self.name)

    def could_tell(self, cases: Iterable[Case], *, wide: bool) -> list[Case]:
        """Return the cases that it names; and all that stand for what it breaks, if that is wanted."""
        found = []
        for case in cases:
            stands_for_it = wide and set(case.clauses) & set(self.breaks) and not case.is_big
            if case.id in self.caught_by or stands_for_it:
                found.append(case)
        return found


def _run_from(profile: Profile, launcher: Path) -> Profile:
    """Return the profile of a program that a launcher runs instead of `python -m`."""

    def words(command: Sequence[str]) -> tuple[str, ...]:
        if "-m" not in command:
            return tuple(command)
        module = command.index("-m")
        return (*command[:module], "-B", str(launcher), *command[module + 2 :])

    return replace(profile, command=words(profile.command), verify=words(profile.verify))


@cache
def load_mutants(directory: Path = BY_CLAUSE) -> tuple[Mutant, ...]:
    """Read all mutants. Raises `BrokenMutantError`."""
    found: list[Mutant] = []
    for path in sorted(directory.glob("*.toml")):
        for words in tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []):
            found.append(_mutant(path, words))
    if not found:
        raise BrokenMutantError(f"{directory}: no mutants")
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
            words["file"],
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


def load_without(path: Path = WITHOUT) -> dict[str, str]:
    """Return MUST clause = why no mutant breaks it."""
    found: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8"))["without"]
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
        return (*self.mutant.caught_by, *(f"{PREFIX_OF_FAULTS}{fault}" for fault in self.mutant.faults))


def try_mutants(mutants: Sequence[Mutant], cases: Sequence[Case], jobs: int, *, wide: bool = False) -> list[Fate]:
    """Run mutants on the cases that could tell, several at once. Raises `BrokenMutantError`."""
    for mutant in mutants:
        mutant.text()
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
        judgements = judge_pairs(pairs, Limits(), jobs, strict_reasons=True, on_result=lambda _: advance(PASS))
    for (mutant, case), judgement in zip(tries, judgements, strict=True):
        if judgement.verdict == VOID:
            # It catches nothing, but that is no fault of the cases.
            print(f"VOID {mutant.name}, {case.id}: {judgement.differences[0]}", file=sys.stderr)
    # What a case is not about makes a run red too.
    return [DEVIATES if each.verdict == PASS and each.deviations else each.verdict for each in judgements]


def _try_faults(mutant: Mutant, cases: Sequence[Case], jobs: int) -> dict[str, str]:
    """Let calls fail under a mutant; return fault = the first verdict that is no pass."""
    case = next(case for case in cases if case.id == mutant.failing)
    with tempfile.TemporaryDirectory(prefix="mutants.") as directory:
        profile = mutant.build(Path(directory), flushes=True)
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
    return {f"{PREFIX_OF_FAULTS}{fault}": verdicts.get(fault, PASS) for fault in mutant.faults}


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
