"""Works out what it can of an unknown program, and writes it down as a profile: `ekvconform init`."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ekvconform.cases.golden_cases import COMPLETE, OPTIONS, PARTIAL, REFUSED, SMOKE, Case
from ekvconform.judge.tree_comparison import SEAL
from ekvconform.judge.verdicts import command_of, first_line
from ekvconform.judge.workers import PATIENCE_SECONDS, run_watched
from ekvconform.run.profiles import CHAPTERS, CLASS_OF_STATUS, OUTCOMES_TABLE, REFUSALS, Profile
from ekvconform.run.sandbox import make_sandbox, run_program
from ekvconform.run.time_limit import WALL_FACTOR

PROBES: Final = (
    *SMOKE, "tree-empty-output-folder", "tree-output-not-empty", "file-snapshot-missing", "file-cut-in-key",
    "file-header-v2-too-small", "file-header-unknown-version", "file-key-size-limit", "visi-key-too-short",
    "visi-reserved-bit-4", "rhll-without-flags", "visi-future-version", "rttl-orphans",
)  # fmt: skip
"""Some refusals of each fault, and what shows a feature."""
NAME: Final = r"[a-z]+(?:-[a-z]+)*"
FAULT_TOKENS: Final = {"fault": NAME, "clause": r"[A-Z]{4}-[0-9]+", "offset": r"[0-9]+"}
WARNING_TOKENS: Final = {"warning": NAME, "count": r"[0-9]+"}
A_PATH: Final = "\0"
"""Stands for a path of the sandbox."""
MAX_LINE: Final = 500
MAX_LINES: Final = 200
"""Characters of a line, and lines, that are looked at."""
MOST: Final = 0.8
"""Share of lines that have to hold something before it is taken for a habit."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a program did with one case."""

    case: Case
    exit_status: int | None
    sealed: bool
    line: str
    """The first line that it told on stderr, without names of the sandbox."""
    lines: tuple[str, ...]
    """Everything that it told."""


def probe_cases(cases: Sequence[Case], profile: Profile, jobs: int) -> list[Probe]:
    """Run a program on cases, and look. Raises `OSError`."""

    def probe(case: Case, folder: Path, stop: int) -> Probe:
        box = make_sandbox(folder, case.scene)
        snapshot = box.arrange(case.scene)
        finish = run_program(command_of(profile, case.scene, box, snapshot), box, profile.limits, stop)
        sealed = all(os.path.lexists(os.fsencode(box.out) + b"/" + name) for name in SEAL)
        line = first_line(finish.stderr)[:MAX_LINE]
        for path in (snapshot, box.out, box.root):
            line = line.replace(str(path), A_PATH)
        lines = (*finish.stdout.splitlines(), *finish.stderr.splitlines())
        return Probe(case, finish.exit_status, sealed, line, tuple(each[:MAX_LINE] for each in lines[:MAX_LINES]))

    def nothing(case: Case, _error: Exception | None = None) -> Probe:
        return Probe(case, None, False, "", ())

    return run_watched(probe, cases, jobs, WALL_FACTOR * profile.limits.seconds + PATIENCE_SECONDS, nothing, nothing)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was worked out."""

    complete: list[int]
    partial: list[int]
    refused: dict[str, list[int]]
    """Class of a refusal = exit statuses."""
    texts: list[tuple[str, str | None]]
    """Pattern, and the fault that it stands for; None if the pattern says it itself."""
    unclear: list[tuple[str, list[str]]]
    """Patterns of texts that stand for more than one fault."""
    warnings: str | None
    """A pattern for warnings, if it uses the spec's names for them."""
    existing_output: bool


def work_out(probes: Sequence[Probe]) -> Findings:
    """Draw conclusions from probes."""
    complete = _usual(probe.exit_status for probe in probes if probe.case.expected.outcome == COMPLETE and probe.sealed)
    accepted = {0, *complete}  # 0 refuses nothing, whatever else it does
    refusals = [
        probe
        for probe in probes
        if probe.case.expected.outcome == REFUSED and not probe.sealed and probe.exit_status not in accepted
    ]
    by_class: dict[str, list[int]] = {}
    for name in REFUSALS:
        statuses = _usual(probe.exit_status for probe in refusals if _class_of(probe) == name)
        if statuses:
            by_class[name] = statuses
    # A status that says both is taken for a refusal: there are more of them.
    refused = {status for statuses in by_class.values() for status in statuses}
    partial = [
        status
        for status in _usual(
            probe.exit_status for probe in probes if probe.case.expected.outcome == PARTIAL and probe.sealed
        )
        if status not in refused
    ]
    texts, unclear = _texts(refusals)
    there = next((each for each in probes if each.case.id == "tree-empty-output-folder"), None)
    existing = there is None or there.exit_status in (complete or [0])
    return Findings(complete or [0], partial, by_class, texts, unclear, _warnings(probes), existing)


def _usual(statuses: Iterable[int | None]) -> list[int]:
    return [status for status, _ in Counter(each for each in statuses if each is not None).most_common()]


def _class_of(probe: Probe) -> str:
    return str(CLASS_OF_STATUS[OUTCOMES_TABLE["faults"][probe.case.expected.fault]])


def _texts(refusals: Sequence[Probe]) -> tuple[list[tuple[str, str | None]], list[tuple[str, list[str]]]]:
    if pattern := _speaking_pattern(refusals):
        return [(pattern, None)], []
    faults: dict[str, set[str]] = {}
    for each in refusals:
        faults.setdefault(_pattern_of(each.line), set()).add(each.case.expected.fault)
    texts: list[tuple[str, str | None]] = [(each, name) for each, (name, *more) in faults.items() if not more]
    return texts, [(each, sorted(names)) for each, names in faults.items() if len(names) > 1]


def _pattern_of(line: str) -> str:
    """Return a pattern for a line, with numbers, quoted texts and paths left open."""
    pieces = re.split(r"(\x00[^ :,;]*|\"[^\"]*\"|0x[0-9A-Fa-f]+|[0-9]+)", line)
    return "^" + "".join(_open(piece) if number % 2 else _escaped(piece) for number, piece in enumerate(pieces)) + "$"


def _open(piece: str) -> str:
    """Return a pattern for a number, a quoted text or a path, whatever it is; none of them goes back and forth."""
    if piece.startswith(A_PATH):
        return "/[^ :,;]*"
    return '"[^"]*"' if piece.startswith('"') else "0x[0-9A-Fa-f]+" if piece.startswith("0x") else "[0-9]+"


def _escaped(text: str) -> str:
    return re.escape(text).replace("\\ ", " ")


def _speaking_pattern(refusals: Sequence[Probe]) -> str | None:
    """Return one pattern for a program that uses the spec's own names of faults, or None."""
    samples = []
    for each in refusals:
        expected = each.case.expected
        words = {"fault": expected.fault, "clause": expected.clause}
        samples.append((each.line, words if expected.offset is None else words | {"offset": str(expected.offset)}))
    return common_pattern(samples, FAULT_TOKENS)


def _warnings(probes: Sequence[Probe]) -> str | None:
    """Return one pattern for a program that uses the spec's own names of warnings, or None."""
    samples = []
    for each in probes:
        for name, count in each.case.expected.warnings.items():
            line = next((line for line in each.lines if _span(name, line)), "")
            samples.append((line, {"warning": name, "count": str(count)}))
    return common_pattern(samples, WARNING_TOKENS)


def _span(word: str, line: str) -> tuple[int, int] | None:
    inside = "[0-9]" if word.isdigit() else r"[\w-]"
    match = re.search(rf"(?<!{inside}){re.escape(word)}(?!{inside})", line)
    return match.span() if match else None


def common_pattern(samples: Sequence[tuple[str, dict[str, str]]], tokens: dict[str, str]) -> str | None:
    """Return one pattern for lines that hold given words, or None where most lines do not hold the first of them.

    A sample is a line, and what it should hold by the names of `tokens`. What most lines hold becomes a
    group; all but the first may be missing.
    """
    first = next(iter(tokens))
    spans = [
        (line, {name: span for name, word in words.items() if (span := _span(word, line))}) for line, words in samples
    ]
    usual = {
        name
        for name in tokens
        if sum(name in found for _, found in spans) >= MOST * sum(name in words for _, words in samples) > 0
    }
    holding = [(line, found) for line, found in spans if first in found]
    if first not in usual:
        return None
    orders = Counter(tuple(sorted(usual & set(found), key=lambda name: found[name])) for _, found in holding)
    order = max(orders, key=lambda each: (len(each), orders[each]))
    pattern = ""
    for number, name in enumerate(order):
        between = {
            line[found[order[number - 1]][1] if number else 0 : found[name][0]]
            for line, found in holding
            if set(order) <= set(found)
        }
        # What stands between two words is theirs if it is always the same.
        literal = _escaped(between.pop()) if len(between) == 1 else ".*?"
        piece = f"{literal}(?P<{name}>{tokens[name]})"
        pattern += ("^" if number == 0 and literal != ".*?" else "") + (piece if name == first else f"(?:{piece})?")
    return pattern if all(re.search(pattern, line) for line, _ in holding) else None


def render_profile(command: Sequence[str], findings: Findings, name: str) -> str:
    """Write a commented profile."""
    lines = [
        "# What `ekvconform init` worked out. Look it through: what it says decides what is compared.",
        f"name = {_toml(name)}",
        f"command = [{', '.join(map(_toml, command))}]",
        "# How it looks for what is wrong with a dump, if it can; without this those cases are UNSUPPORTED.",
        '# verify = ["decoder", "verify", "{out}"]',
        "# Chapters that it claims to keep; all without this.",
        f"# chapters = [{', '.join(map(_toml, CHAPTERS))}]",
        "",
        "# Words that ask for an option. They take the place of a word '{options}', which the command then needs;",
        "# cases that need an option without words here are UNSUPPORTED.",
        "# [options]",
        *(
            f"# {name} = ['--{name.replace('_', '-')}{'={value}' if has_value else ''}']"
            for name, has_value in OPTIONS.items()
        ),
        "",
        "[exit]",
        f"complete = {findings.complete}",
        f"partial = {findings.partial or findings.complete}"
        + ("" if findings.partial else "  # no partial dump was seen"),
    ]
    statuses = {tuple(each) for each in findings.refused.values()}
    if len(statuses) == 1 or not statuses:
        lines.append(f"refused = {list(*statuses) or [1]}" + ("" if statuses else "  # nothing was refused"))
    else:
        lines.append("# Refusals are told apart by their exit status.")
        lines += [f"{name} = {each}" for name, each in findings.refused.items()]
        lines += [f"# {name} = [..]  # not seen" for name in REFUSALS if name not in findings.refused]
    lines += [
        "",
        "[features]",
        f"existing_output = {str(findings.existing_output).lower()}  # an OUT that is there and empty",
    ]
    lines += ["", "# Texts of refusals, and the faults of the spec that they stand for (spec/13-outcomes.md)."]
    for pattern, fault in findings.texts:
        lines += ["[[texts]]", f"pattern = {_toml(pattern)}", *([f"fault = {_toml(fault)}"] if fault else []), ""]
    for pattern, faults in findings.unclear:
        lines += [f"# Seen for {', '.join(faults)}: these cannot be told apart by their text.", f"# {pattern!r}", ""]
    lines.append("# What it says of warnings; without this they are not compared.")
    if findings.warnings:
        lines += ["[[warnings]]", f"pattern = {_toml(findings.warnings)}"]
    else:
        lines += ["# [[warnings]]", "# pattern = '^warning: (?P<warning>[a-z-]+): (?P<count>[0-9]+)'"]
    lines += [
        "",
        "[limits]",
        "seconds = 20",
        "memory_mib = 1024",
    ]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    if "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
