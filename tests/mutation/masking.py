"""Measures what a further fault changes on a decoder that has faults already: `make masking`.

A baseline is a decoder with several mutants of `by_clause/` applied together, as `masking.toml` lists
them: the reference, or, for what only reads a dump, the command. Every other mutant of that decoder
is applied on top, one at a time, and the cases that reach a changed line are judged again, in the
carrier that the baseline reads:

    fate         of a further fault
    -----------  ----------------------------------------------------------------------
    noticed      a case has another verdict, or fails or deviates by another form
    gone         the baseline has changed the very lines that it would change
    no effect    no case reaches these lines in the baseline, or it decodes `SNAPSHOTS` generated
                 snapshots as before
    missed       none of these
    broken       the measurement itself failed: it says nothing, and is red

A gate that compares a run with a list of known failures is red for what is noticed. The causes that
a report of the baseline tells are counted too; they should be about as many as its faults.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import random
import resource
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

import coverage
from ekvconform.cases.carriers import CARRIERS, FOOTER, HEADER, PARTS, PROBE, carried_cases
from ekvconform.cases.data_files import OUTCOMES_TABLE
from ekvconform.cases.golden_cases import Case
from ekvconform.judge.aspects import REASON
from ekvconform.judge.carrier_probes import DECISIVE, Carriers
from ekvconform.judge.causes import Cause, find_causes
from ekvconform.judge.known_failures import Form, form_of
from ekvconform.judge.verdicts import FAIL, HANG, PASS, Judgement, judge_case
from ekvconform.judge.workers import run_in_workers
from ekvconform.report.terminal import progress_of
from ekvconform.run.profiles import Profile, make_profile
from ekvexplain.clauses import load_clauses
from mutants import ROOT, Mutant, load_mutants
from rich.console import Console
from rich.table import Table

# What is run as a program has only its own directory on its path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
import golden
from decoders import PROFILES
from in_process import Main, runner_of
from stores import corrupted, framed, hostile_store, mixed_store
from writer import HEADER_V1, snapshot

BASELINES: Final = Path(__file__).resolve().parent / "masking.toml"
REFERENCE: Final = "ekvformat"
COMMAND: Final = "ekvdump"
PROFILE_NAMES: Final = {REFERENCE: "reference.toml", COMMAND: "command.toml"}
"""Package = the profile of its program."""
MODULE_OF_MAIN: Final = {REFERENCE: "ekvformat.__main__", COMMAND: "ekvdump.cli.main"}
WANTED: Final = 0.95
"""Share of the further faults that can be noticed, and have to be."""
CAUSES_PER_FAULT: Final = 2
SECONDS_OF_A_CASE: Final = 30
SECONDS: Final = 900.0
SECONDS_OF_A_BASELINE: Final = 4 * SECONDS
"""Each line is noted then, and cases of a program that hangs take their time."""
MEMORY: Final = 4 << 30
"""Address space of a worker, in bytes."""
NOTICED: Final = "noticed"
GONE: Final = "gone"
NO_EFFECT: Final = "no effect"
MISSED: Final = "missed"
BROKEN: Final = "broken"
FATES: Final = (NOTICED, GONE, NO_EFFECT, MISSED, BROKEN)
WHEN_IMPORTED: Final = ""
"""Stands for what runs once for all cases."""
GENERATED: Final = "generated snapshots"
"""Stands for the runs that show whether a further fault has any effect."""
WALL_TIME: Final = "2026-08-22T12:00:00Z"
SNAPSHOTS: Final = 2000
"""Generated snapshots that show whether a further fault has any effect."""

Seen = dict[str, tuple[str, frozenset[Form]]]
"""Case = its verdict, and what it fails and deviates by."""
Reached = dict[str, dict[int, set[str]]]
"""File = each line that ran = the cases that ran it, or `WHEN_IMPORTED`."""
Texts = dict[str, str]
"""File, from the root of the repository = its text, of the modules that are changed."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A decoder that is wrong in several ways."""

    name: str
    what: str
    mutants: tuple[Mutant, ...]
    texts: Texts
    profile: Profile
    salvages: bool = True
    """Does the program have the option --salvage?"""

    @property
    def package(self) -> str:
        """The package that is changed."""
        return self.mutants[0].package

    def cases(self, carriers: Carriers) -> list[Case]:
        """Return the cases that run in this process, in the carriers that the baseline reads."""
        return carried_cases(golden.CASES if self.package == REFERENCE else golden.READING, carriers.read)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of a baseline without a further fault."""

    seen: Seen
    carriers: Carriers
    reached: Reached
    causes: tuple[Cause, ...]
    answers: tuple[str, ...]
    """What it decodes generated snapshots to."""


@dataclass(slots=True)
class Masking:
    """What became of the further faults of a baseline."""

    baseline: Baseline
    measured: Measured
    fates: dict[str, str] = field(default_factory=dict)
    """Mutant = its fate."""

    @property
    def share(self) -> float:
        """Share of what is noticed among what can be."""
        counts = Counter(self.fates.values())
        return counts[NOTICED] / max(1, counts[NOTICED] + counts[MISSED])


# ---- baselines ----


def load_baselines(names: Sequence[str] = ()) -> list[Baseline]:
    """Read the baselines, all or those named."""
    found = []
    for words in tomllib.loads(BASELINES.read_text(encoding="utf-8"))["baseline"]:
        if not names or words["name"] in names:
            package = words.get("package", REFERENCE)
            every = {mutant.name: mutant for mutant in load_mutants() if mutant.package == package}
            profile = tomllib.loads((PROFILES / PROFILE_NAMES[package]).read_text(encoding="utf-8"))
            found.append(_baseline(words, every, profile))
    return found


def _baseline(words: dict[str, Any], every: dict[str, Mutant], profile: dict[str, Any]) -> Baseline:
    if "mutants" in words:
        wanted = [every[name] for name in words["mutants"]]
    elif "breaks" in words:
        rules = sorted({rule for each in every.values() for rule in each.breaks if rule.startswith(words["breaks"])})
        wanted = _first_of_each(rules, every)
    else:
        musts = [clause.id for clause in load_clauses().values() if clause.level == "MUST"]
        wanted = _first_of_each(musts[:: words["every"]], every)
    texts: Texts = {}
    applied = []
    for mutant in dict.fromkeys(wanted):
        changed = changed_text(mutant, texts)
        if changed is not None:
            texts[mutant.file] = changed
            applied.append(mutant)
    profile |= {name: words[name] for name in ("exit", "texts") if name in words}
    return Baseline(
        words["name"],
        words["what"],
        tuple(applied),
        texts,
        make_profile(profile).located(),
        words.get("salvages", True),
    )


def _first_of_each(rules: Sequence[str], every: dict[str, Mutant]) -> list[Mutant]:
    firsts = (next((each for each in every.values() if rule in each.breaks), None) for rule in rules)
    return [each for each in firsts if each is not None]


def changed_text(mutant: Mutant, texts: Texts) -> str | None:
    """Return the text of a mutant's module on top of other changes, or None if these have changed its lines."""
    text = texts.get(mutant.file) or (ROOT / mutant.file).read_text(encoding="utf-8")
    for edit in mutant.edits:
        if text.count(edit.old) != 1:
            return None
        text = text.replace(edit.old, edit.new)
    try:
        compile(text, mutant.file, "exec")
    except SyntaxError:
        return None
    return text


# ---- running a changed reference in this process ----


class _Changed(MetaPathFinder, Loader):
    """Imports changed modules from their texts."""

    def __init__(self, texts: Texts) -> None:
        self._files = {".".join(Path(file).with_suffix("").parts[1:]): file for file in texts}
        self._texts = texts

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name in self._files:
            return importlib.util.spec_from_loader(name, self, origin=self._files[name])
        return None

    def exec_module(self, module: ModuleType) -> None:
        file = self._files[module.__name__]
        exec(compile(self._texts[file], str(ROOT / file), "exec"), module.__dict__)  # noqa: S102 - our own


def import_changed(package: str, texts: Texts) -> Main:
    """Return `main` of a decoder with changed modules. Only for a process of its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Changed(texts))
    main: Main = importlib.import_module(MODULE_OF_MAIN[package]).main
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    return main


class TimedOutError(BaseException):
    """Raised in a case that does not end."""


def _time_out(_signal: int, _frame: FrameType | None) -> None:
    raise TimedOutError


class Decoder:
    """A baseline, or one with a further fault, which judges cases one after the other."""

    def __init__(self, baseline: Baseline, directory: Path, further: Texts | None = None) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGALRM, _time_out)
        main = import_changed(baseline.package, baseline.texts | (further or {}))
        self._run = runner_of(main, baseline.package)
        self._baseline = baseline
        self._directory = directory

    def answers(self, carriers: Carriers) -> tuple[str, ...]:
        """Return what the decoder makes of generated snapshots, each in short; nothing if it only reads dumps."""
        if self._baseline.package != REFERENCE:
            return ()
        module = importlib.import_module(f"{REFERENCE}.decode")
        manifest = importlib.import_module(f"{REFERENCE}.manifest")
        fault = importlib.import_module(f"{REFERENCE}.outcomes").Fault
        salvages, provenance = self._baseline.salvages, manifest.Provenance("x.fsm", wall_time=WALL_TIME)
        found: list[str] = []
        for data, name, words in generated_snapshots(carriers.richest):
            signal.alarm(SECONDS_OF_A_CASE)
            try:
                database, only, salvage = words
                dump = module.decode(data, name, module.Options(database, only, salvage and salvages))
                databases = [database] if dump.blobs or dump.sidecars else []
                text = manifest.render_manifest(dump.summary, provenance, dump.summary.warnings, databases, b"")
                answer: object = dump.blobs, dump.sidecars, text
            except fault as error:
                answer = error.name, error.clause, error.offset, error.path, error.key
            except TimedOutError:
                return (*found, HANG)
            except Exception as error:
                answer = type(error).__name__
            finally:
                signal.alarm(0)
            found.append(hashlib.sha256(repr(answer).encode()).hexdigest()[:16])
        return tuple(found)

    def judge(self, case: Case) -> Judgement | None:
        """Judge a case; return None if the decoder does not end."""
        with tempfile.TemporaryDirectory(dir=self._directory, ignore_cleanup_errors=True) as directory:
            signal.alarm(SECONDS_OF_A_CASE)
            try:
                return judge_case(case, self._baseline.profile, Path(directory), run=self._run)
            except (TimedOutError, MemoryError):
                return None
            finally:
                signal.alarm(0)


@cache
def generated_snapshots(carrier: str) -> list[tuple[bytes, str, tuple[int, frozenset[str] | None, bool]]]:
    """Return snapshots that are built to break a decoder, most in one carrier; each with a file name and options."""
    parts, found = PARTS[carrier], []
    for seed in range(SNAPSHOTS):
        dice = random.Random(seed)
        entries = mixed_store(dice) if seed % 3 else hostile_store(dice)
        last_commit = dice.choice([3, 9, 12, 2**64 - 1])
        header = HEADER_V1 if HEADER in parts else b""
        data = snapshot(entries, last_commit=last_commit, header=header, with_footer=FOOTER in parts)
        if seed % 5 == 0:
            data = framed(dice, entries, last_commit)
        if seed % 4 == 0:
            data = corrupted(dice, data)
        only = dice.choice([None, None, frozenset({"strings"}), frozenset({"hll"})])
        name = dice.choice(["x.fsm", "0000000000000005.fsm", "0000000000000009.fsm", "00000000000000FF.fsm"])
        found.append((data, name, (dice.choice([0, 5]), only, dice.random() < 0.5)))
    return found


def seen_of(judgement: Judgement | None) -> tuple[str, frozenset[Form]]:
    """Return what a gate compares of a case."""
    if judgement is None:
        return HANG, frozenset()
    return judgement.verdict, frozenset(form_of(each) for each in judgement.differences)


# ---- measuring ----


def _reached(recorder: coverage.Coverage) -> Reached:
    """Return which lines ran in which cases."""
    data = recorder.get_data()
    return {
        str(Path(file).relative_to(ROOT)): {line: set(cases) for line, cases in data.contexts_by_lineno(file).items()}
        for file in data.measured_files()
    }


def measure(baseline: Baseline, directory: Path, _stop: int) -> Measured:
    """Run a baseline on all cases, and note which of its lines run."""
    root = next(each for each in (ROOT / "reference", ROOT / "command") if (each / baseline.package).is_dir())
    recorder = coverage.Coverage(data_file=None, config_file=False, include=[str(root / baseline.package / "*")])
    judged = {}
    recorder.start()
    try:
        # The bodies of modules and classes run once, whichever case would be the first to need them.
        recorder.switch_context(WHEN_IMPORTED)
        decoder = Decoder(baseline, directory)
        carriers = _carriers(decoder) if baseline.package == REFERENCE else Carriers(CARRIERS[:1], {})
        for case in baseline.cases(carriers):
            recorder.switch_context(case.id)
            judged[case.id] = decoder.judge(case)
        recorder.switch_context(GENERATED)
        answers = decoder.answers(carriers)
    finally:
        recorder.stop()
    check_reasons([each for each in judged.values() if each is not None])
    causes = find_causes([each for each in judged.values() if each is not None], clauses=carriers.clauses)
    seen = {name: seen_of(each) for name, each in judged.items()}
    return Measured(seen, carriers, _reached(recorder), tuple(causes), answers)


def check_reasons(judgements: Sequence[Judgement]) -> None:
    """Raise `ValueError` if a baseline's profile takes a word of its messages for a fault that the spec does not have.

    Whatever a further fault does to the reason of a refusal would go unnoticed then.
    """
    differences = (each for judgement in judgements for each in judgement.differences)
    found = {each.found for each in differences if (each.aspect, each.place) == (REASON, "fault")}
    if unknown := found - set(OUTCOMES_TABLE["faults"]):
        raise ValueError(f"the profile reads as faults: {', '.join(sorted(unknown))}")


def _carriers(decoder: Decoder) -> Carriers:
    read, unread = [], {}
    for case in carried_cases([case for case in golden.CASES if case.id == PROBE], CARRIERS):
        carrier = case.id.partition("@")[2] or CARRIERS[0]
        judgement = decoder.judge(case)
        decisive = [each for each in judgement.differences if each.aspect in DECISIVE] if judgement else []
        if judgement is not None and not decisive:
            read.append(carrier)
        elif decisive:
            unread[carrier] = decisive[0].form
    return Carriers(tuple(read), unread if read else {})


def fate_of(mutant: Mutant, baseline: Baseline, measured: Measured, directory: Path) -> str:
    """Return what becomes of a further fault."""
    before = baseline.texts.get(mutant.file) or (ROOT / mutant.file).read_text(encoding="utf-8")
    text = changed_text(mutant, baseline.texts)
    if text is None:
        return GONE
    reaching = _cases_that_reach(mutant, before, measured.reached.get(mutant.file, {}))
    if not reaching - {GENERATED}:
        return NO_EFFECT
    try:
        decoder = Decoder(baseline, directory, {mutant.file: text})
    except Exception:
        return NOTICED  # it does not even start
    for case in _likeliest_first(mutant, baseline.cases(measured.carriers)):
        # Where the baseline does not end, no further fault can be seen.
        if (WHEN_IMPORTED not in reaching and case.id not in reaching) or measured.seen[case.id][0] == HANG:
            continue
        if seen_of(decoder.judge(case)) != measured.seen[case.id]:
            return NOTICED
    # How files are written, and how a dump is read, no generated snapshot shows.
    is_shown = baseline.package == REFERENCE and bool(reaching & {WHEN_IMPORTED, GENERATED})
    return NO_EFFECT if is_shown and decoder.answers(measured.carriers) == measured.answers else MISSED


def _cases_that_reach(mutant: Mutant, text: str, reached: dict[int, set[str]]) -> set[str]:
    found: set[str] = set()
    statements = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.stmt)]
    for edit in mutant.edits:
        # The second edit of a mutant may be about what the first one wrote.
        first = text.count("\n", 0, max(0, text.find(edit.old))) + 1
        last = first + edit.old.rstrip("\n").count("\n")
        # A statement over several lines may be noted at another line than that of the edit.
        around = (each for each in statements if each.lineno <= last and (each.end_lineno or 0) >= first)
        lines = {line for each in around if not hasattr(each, "body") for line in _lines_of(each)}
        found.update(*(reached.get(line, ()) for line in lines | set(range(first, last + 1))))
    return found


def _lines_of(statement: ast.stmt) -> range:
    return range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)


def _likeliest_first(mutant: Mutant, cases: Sequence[Case]) -> list[Case]:
    chapter = mutant.name.partition("-")[0]
    return sorted(cases, key=lambda case: (case.id not in mutant.caught_by, case.chapter != chapter))


def measure_all(
    baselines: Sequence[Baseline], jobs: int, share: int = 1, names: Sequence[str] = ()
) -> Iterator[Masking]:
    """Yield what becomes of each `share`th further fault of each baseline."""

    def failed(_item: object, error: Exception) -> Any:
        raise RuntimeError(f"a baseline could not be run: {error!r}") from error

    def ended(_item: object) -> Any:
        raise RuntimeError("a baseline did not end")

    in_process = {case.id for case in golden.IN_PROCESS}
    for baseline in baselines:
        (measured,) = run_in_workers(measure, [baseline], 1, SECONDS_OF_A_BASELINE, ended, failed)
        others = [
            mutant
            for mutant in load_mutants()
            if mutant.name.startswith(tuple(names) or "")
            and mutant.package == baseline.package
            and mutant not in baseline.mutants
            and set(mutant.caught_by) & in_process
        ][::share]

        def work(
            mutant: Mutant, directory: Path, _stop: int, baseline: Baseline = baseline, measured: Measured = measured
        ) -> str:
            return fate_of(mutant, baseline, measured, directory)

        with progress_of(len(others)) as advance:
            # A mutant that ends its worker is noticed; an error of the measurement is not.
            on_fate = partial(advance_by, advance)
            fates = run_in_workers(work, others, jobs, SECONDS, lambda _: NOTICED, report_broken, on_fate)
        yield Masking(baseline, measured, dict(zip((each.name for each in others), fates, strict=True)))


def advance_by(advance: Callable[[str], None], fate: str) -> None:
    """Advance a progress bar of verdicts by a fate."""
    advance(FAIL if fate in (MISSED, BROKEN) else PASS)


def report_broken(mutant: Mutant, error: Exception) -> str:
    """Report an error of the measurement itself."""
    print(f"{mutant.name}: {type(error).__name__}: {error}", file=sys.stderr)
    return BROKEN


def print_maskings(maskings: Sequence[Masking]) -> None:
    """Print the table, and what was missed."""
    console = Console(width=120)
    table = Table("baseline", title="further faults on decoders that have faults", title_justify="left")
    for name in ("faults", "causes", *FATES, "share"):
        table.add_column(name, justify="right")
    for each in maskings:
        counts = Counter(each.fates.values())
        row = [len(each.baseline.mutants), len(each.measured.causes), *(counts[fate] for fate in FATES)]
        table.add_row(each.baseline.name, *map(str, row), f"{each.share:.1%}")
    console.print(table)
    for each in maskings:
        missed = [name for name, fate in each.fates.items() if fate == MISSED]
        if missed:
            console.print(f"missed on {each.baseline.name}: {', '.join(missed)}")


def main() -> int:
    """Measure all baselines, or those named; return 1 if too little is noticed."""
    parser = argparse.ArgumentParser(description="Measure what a further fault changes on a faulty decoder.")
    parser.add_argument("names", nargs="*", metavar="BASELINE", help="all if none")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="workers at once")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="try only each Nth further fault")
    parser.add_argument("--mutant", action="append", default=[], metavar="BEGINNING", help="of the further faults")
    parser.add_argument("--causes", action="store_true", help="print the causes of each baseline")
    options = parser.parse_args()
    maskings = []
    with contextlib.suppress(BrokenPipeError):
        for each in measure_all(load_baselines(options.names), options.jobs, options.share, options.mutant):
            maskings.append(each)
            if options.causes:
                for cause in each.measured.causes:
                    words = f"{len(cause.cases)} {cause.aspect} {cause.forms[:3]} [{cause.clause}]"
                    print(f"{each.baseline.name}: {words}, for example {cause.example}")
        print_maskings(maskings)
    return 1 if any(each.share < WANTED or BROKEN in each.fates.values() for each in maskings) else 0


if __name__ == "__main__":
    sys.exit(main())
