"""Mutants that a tool generates from both decoders, and whether tests and cases catch them; part of `make nightly`.

mutmut changes each function of a copy of the reference, or of the command, in every way that it
knows, and runs the golden cases and the decoder's own tests on each, in process. It takes an hour and
more; with `--go-on` only what has yet to be caught or explained is tried. What survives is either

    wording     a text for people in other letters, or between X: no clause states it
    codec       the name of an encoding in capital letters: the same encoding
    explained   in `generated.toml`, one by one, with a reason
    anything    red: a test or a case is missing
    else

An explanation of what does not survive, or is not generated any more, is stale, and red too.

    member    value
    --------  ---------------------------------------------------------------------------
    reason    why nothing can notice
    changes   list of { function, old, new }: in "package.module.function" or
              "package.module.Class.method" the lines `old` are `new`, without the blanks around them
"""

import argparse
import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mutants import ROOT
from rich.console import Console
from rich.table import Table

COPY: Final = ROOT / "build" / "generated-mutants"
EXPLAINED: Final = Path(__file__).resolve().parent / "generated.toml"


@dataclass(frozen=True, slots=True)
class Group:
    """Modules that the same tests judge."""

    name: str
    modules: tuple[str, ...]
    """Full names."""
    tests: tuple[str, ...]
    """Paths from the root of the repository."""
    without: tuple[str, ...] = ()
    """Words of test names: what they name is slow, or reaches nothing of these modules that others do not."""

    @property
    def copy(self) -> Path:
        """Where mutmut works on them."""
        return COPY / self.name


def modules_of(package: str) -> tuple[str, ...]:
    """Return the full names of a package's modules that have a function, but for those of `COLD`."""
    root = SOURCES[package]
    paths = [path for path in sorted(root.rglob("*.py")) if "def " in path.read_text(encoding="utf-8")]
    names = (".".join((package, *path.relative_to(root).with_suffix("").parts)) for path in paths)
    return tuple(name for name in names if name not in COLD)


def tests_in(directory: str, *, but: Sequence[str]) -> tuple[str, ...]:
    """Return the modules of tests in a directory, but for some."""
    paths = sorted((ROOT / "tests" / directory).glob("test_*.py"))
    return tuple(str(path.relative_to(ROOT)) for path in paths if path.stem not in but)


SOURCES: Final = {"ekvformat": ROOT / "reference" / "ekvformat", "ekvdump": ROOT / "command" / "ekvdump"}
"""Package = where it is. A copy has all of them, since the command imports the reference."""
COLD: Final = ("ekvdump.cli.signals", "ekvdump.cli.streams")
"""What only a process of its own shows: it is the command that is started there, not its mutant."""
PROGRAMS: Final = ("test_golden_cases_by_path", "test_installed", "test_interruption", "test_readme", "test_resources")
"""Modules of tests that start the command."""
GROUPS: Final = (
    Group(
        "reference",
        modules_of("ekvformat"),
        # Texts and contracts are of the sources, not of what they do; the golden cases come in batches.
        ("tests/mutation/batches.py", *tests_in("reference", but=("test_contracts", "test_golden_cases", "test_spec"))),
        ("test_by_the_command",),
    ),
    Group(
        "command",
        modules_of("ekvdump"),
        (
            "tests/mutation/batches.py",
            *tests_in("command", but=PROGRAMS),
        ),
        ("test_as_run", "test_as_bytes", "is_the_command", "do_no_harm", "into_a_pipe", "program_too",
         "no_text_is_shown", "waits_for_its_reader"),
    ),
)  # fmt: skip
"""The two decoders."""
MODULES: Final = tuple(name for group in GROUPS for name in group.modules)
CONFIG: Final = """\
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{modules}]
also_copy = ["spec", "fixtures", "conformance", "command", "explain", "reference", "tools"]
pytest_add_cli_args_test_selection = [{tests}]
pytest_add_cli_args = ["-n0", "-p", "hang_guard", "-k", "{chosen}"]
use_git_change_detection = false
timeout_multiplier = 3.0
timeout_constant = 30.0

[tool.pytest]
strict = true
pythonpath = ["src", "tests/support", "tests/mutation", "tools"]
# What caught the mutant before is likely to catch the next one.
addopts = ["-q", "--failed-first", "--hypothesis-profile=short"]
"""
CAUGHT: Final = ("killed", "timeout", "segfault", "suspicious", "check was interrupted by user")
"""What mutmut calls a test that fails, one that takes too long, and one whose process or run a signal ends."""
LIVE: Final = ("survived", "no tests")
NOT_TRIED: Final = "not checked"
CODECS: Final = ("ascii", "utf-8")
NO_TESTS: Final = 5
"""How pytest ends where nothing is chosen."""
MEMORY: Final = Path("/dev/shm")
"""Where a file system is that need not wait for a disk, for trees that are made and flushed a thousand times."""
SKIPPED: Final = shutil.ignore_patterns("__pycache__")
TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """What is other in a mutant."""

    function: str
    old: str
    new: str

    @property
    def kind(self) -> str:
        """What is other, where that needs no explanation: `wording` or `codec`; else nothing."""
        if "\n" in self.old + self.new or TEXT.sub("", self.old) != TEXT.sub("", self.new):
            return ""
        old_texts, new_texts = TEXT.findall(self.old), TEXT.findall(self.new)
        if len(old_texts) != len(new_texts):
            return ""
        pairs = [pair for pair in zip(old_texts, new_texts, strict=True) if len(set(pair)) > 1]
        if all(" " in old and _letters(old) == _letters(new) for old, new in pairs):
            return "wording"
        if all(old in CODECS and old.upper() == new for old, new in pairs):
            return "codec"
        return ""


def _letters(text: str) -> str:
    return text.removeprefix("XX").removesuffix("XX").casefold()


def make_copy(group: Group, modules: Sequence[str]) -> None:
    """Lay out what mutmut wants to see: the reference in `src`, and what its tests need beside it."""
    shutil.rmtree(group.copy, ignore_errors=True)
    for package, source in SOURCES.items():
        shutil.copytree(source, group.copy / "src" / package, ignore=SKIPPED)
    for name, text in iter_sources():
        (group.copy / "src" / name).write_text(text, encoding="utf-8")
    for name in ("spec", "fixtures", "conformance", "command", "explain", "reference", "README.md"):
        (group.copy / name).symlink_to(ROOT / name)
    lists = {
        "modules": [f"src/{path_of(name)}" for name in modules],
        "tests": group.tests,
    }
    words = {name: ", ".join(f'"{value}"' for value in values) for name, values in lists.items()}
    chosen = f"not ({' or '.join(group.without)})" if group.without else ""
    text = CONFIG.format(**words, chosen=chosen)
    (group.copy / "pyproject.toml").write_text(text, encoding="utf-8")
    renew_tests(group)


def renew_tests(group: Group) -> None:
    """Bring the tests of a copy up to date, and let mutmut find out again which of them reach what."""
    for place in (group.copy, group.copy / "mutants"):
        for name in ("tests", "tools"):
            shutil.rmtree(place / name, ignore_errors=True)
    for name in ("tests", "tools"):
        shutil.copytree(ROOT / name, group.copy / name, ignore=SKIPPED)
    (group.copy / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)


def is_of_today(group: Group) -> bool:
    """Return True if the copy's decoders are those that are there now."""
    root = group.copy / "src"
    copied = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    return copied == dict(iter_sources())


def iter_sources() -> Iterator[tuple[str, str]]:
    """Yield path and text of each module, as mutmut is to see it."""
    for source in SOURCES.values():
        for path in source.rglob("*.py"):
            yield str(path.relative_to(source.parent)), decorated_behind(path.read_text(encoding="utf-8"))


def decorated_behind(text: str) -> str:
    """Call decorators of functions behind them, which comes to the same: what has one above it mutmut leaves alone."""
    lines = text.splitlines(keepends=True)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    # From the end on, so that the lines above keep their numbers.
    for node in sorted(functions, key=lambda node: node.lineno, reverse=True):
        names = [ast.unparse(each) for each in node.decorator_list]
        if names:
            called = f"{'('.join([*names, node.name])}{')' * len(names)}"
            lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {called}\n")
            del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "".join(lines)


def mutmut(group: Group, *words: str) -> str:
    """Run a command of mutmut in the group's copy; return what it prints."""
    command = [sys.executable, "-m", "mutmut", *words]
    with tempfile.TemporaryDirectory(prefix="mutants.", dir=MEMORY if MEMORY.is_dir() else None) as directory:
        reported = subprocess.run(
            command, cwd=group.copy, env={**os.environ, "TMPDIR": directory}, check=False, stdout=subprocess.PIPE
        )  # fmt: skip
    text = reported.stdout.decode()
    if reported.returncode:
        # Its spinner draws one line again and again.
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
        sys.exit(f"mutmut {words[0]} failed in {group.copy.relative_to(ROOT)}:\n" + "\n".join(lines[-40:]))
    return text


def report_without_mutant(group: Group) -> str:
    """Return what the tests that caught mutants last, run first as they are then, say of the reference itself."""
    command = [sys.executable, "-m", "pytest", "-n0", "--last-failed", "--last-failed-no-failures=none"]
    directory, environment = group.copy / "mutants", {**os.environ, "MUTANT_UNDER_TEST": ""}
    reported = subprocess.run(
        [*command, *group.tests], cwd=directory, env=environment, check=False, capture_output=True, text=True
    )
    return "" if reported.returncode in (0, NO_TESTS) else reported.stdout[-2000:]


def iter_results(group: Group, modules: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each mutant's name and what became of it, of those modules."""
    for line in mutmut(group, "results", "--all", "true").splitlines():
        name, colon, fate = line.strip().rpartition(": ")
        if colon and "__mutmut_" in name and module_of(function_of(name)) in modules:
            yield name, fate


def iter_changes(group: Group, names: Sequence[str]) -> Iterator[Change]:
    """Yield what is other in each mutant."""
    diff_of = importlib.import_module("mutmut.mutation.diff_apply").get_diff_for_mutant
    before = Path.cwd()
    os.chdir(group.copy)
    try:
        for name in names:
            lines: dict[str, list[str]] = {"-": [], "+": []}
            # With the path, since it looks only into what it was configured for first.
            path = Path("src", path_of(module_of(function_of(name))))
            for line in diff_of(name, path=path).splitlines()[2:]:
                if line[:1] in lines:
                    lines[line[0]].append(line[1:].strip())
            yield Change(function_of(name), "\n".join(lines["-"]), "\n".join(lines["+"]))
    finally:
        os.chdir(before)


def unsettled(group: Group, modules: Sequence[str], explained: Mapping[Change, str]) -> list[str]:
    """Return the names of the mutants that the last run neither caught nor left with a reason."""
    fates = dict(iter_results(group, modules))
    live = [name for name, fate in fates.items() if fate in LIVE]
    changes = zip(live, iter_changes(group, live), strict=True)
    settled = {name for name, change in changes if change.kind or change in explained}
    return [name for name, fate in fates.items() if fate not in CAUGHT and name not in settled]


def function_of(name: str) -> str:
    """Return "package.module.function" of what mutmut calls `package.module.x_function__mutmut_1`."""
    module, _, rest = name.rpartition(".")
    function = rest.rpartition("__mutmut_")[0].removeprefix("x").removeprefix("_").removeprefix("ǁ")
    return f"{module}.{function.replace('ǁ', '.')}"


def module_of(function: str) -> str:
    """Return "package.module" of "package.module.function". Raises `StopIteration` for no module of these."""
    return next(name for name in MODULES if function.startswith(f"{name}."))


def path_of(module: str) -> str:
    """Return the path of a module, from where its package is."""
    return f"{module.replace('.', '/')}.py"


def load_explained() -> dict[Change, str]:
    """Return change = why nothing notices it."""
    groups = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explained"]
    return {Change(**change): group["reason"] for group in groups for change in group["changes"]}


def main() -> int:
    """Run mutmut, or read what its last run left, and print what survives."""
    parser = argparse.ArgumentParser(description="Let mutmut change the decoders; see what nothing catches.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as ekvformat.keys, or keys; all if none")
    parser.add_argument("--last", action="store_true", help="do not run; read what the last run left")
    words = "try with the tests of today what the last run of these modules neither caught nor left with a reason"
    parser.add_argument("--go-on", action="store_true", help=words)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants at once")
    options = parser.parse_args()
    chosen_modules = [
        name for name in MODULES if not options.modules or {name, name.rpartition(".")[2]} & set(options.modules)
    ]
    if not chosen_modules:
        parser.error(f"no such module: {' '.join(options.modules)}")
    console = Console(width=160, highlight=False, markup=False, emoji=False, soft_wrap=True)
    explained = {
        change: reason for change, reason in load_explained().items() if module_of(change.function) in chosen_modules
    }
    results: list[tuple[str, str]] = []
    survived: list[Change] = []
    for group in GROUPS:
        modules = [name for name in group.modules if name in chosen_modules]
        if not modules:
            continue
        chosen: list[str] = []
        if options.go_on:
            if not is_of_today(group):
                parser.error(f"{group.copy.relative_to(ROOT)} is of other decoders; run it without --go-on")
            renew_tests(group)
            chosen = unsettled(group, modules, explained)
        elif not options.last:
            make_copy(group, modules)
        if chosen or not (options.go_on or options.last):
            # Its spinner is for a terminal.
            mutmut(group, "run", "--max-children", str(options.jobs), *chosen)
            if untrue := report_without_mutant(group):
                console.print(f"what catches mutants fails without one too, so nothing is proved: {untrue}")
                return 1
        found = list(iter_results(group, modules))
        results += found
        survived += iter_changes(group, [name for name, fate in found if fate in LIVE])
    # Of a module that was left in the middle nothing is known to be stale.
    unfinished = {module_of(function_of(name)) for name, fate in results if fate == NOT_TRIED}
    counts: dict[str, Counter[str]] = {}
    for name, fate in results:
        kind = "caught" if fate in CAUGHT else "live" if fate in LIVE else fate
        counts.setdefault(module_of(function_of(name)), Counter())[kind] += 1
    unexplained = []
    for change in survived:
        kind = "explained" if change in explained else change.kind or "unexplained"
        counts[module_of(change.function)][kind] += 1
        if kind == "unexplained":
            unexplained.append(change)
    other = sorted({fate for _, fate in results} - {*CAUGHT, *LIVE})
    columns = ("caught", "wording", "codec", "explained", "unexplained", *other)
    table = Table("module", *columns, title=f"{len(results)} generated mutants", title_justify="left")
    for module, row in sorted(counts.items()):
        table.add_row(module, *(str(row[column] or "-") for column in columns))
    console.print(table)
    for change in sorted(unexplained):
        console.print(f"survived: {change.function}\n  - {change.old}\n  + {change.new}")
    stale = sorted(each for each in set(explained) - set(survived) if module_of(each.function) not in unfinished)
    for change in stale:
        console.print(f"stale: {change.function} is caught, or gone: {change.old} -> {change.new}")
    total = sum((row for row in counts.values()), Counter[str]())
    console.print(
        f"{len(results)} generated, {total['caught']} caught, {total['wording']} of wording, "
        f"{total['codec']} of codecs, {total['explained']} explained, {len(unexplained)} unexplained, "
        f"{len(stale)} explanations stale"
    )
    return 1 if unexplained or stale or other or not results else 0


if __name__ == "__main__":
    sys.exit(main())
