"""Infers a profile of an unknown program from its runs on some cases: `ekvconform init`."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ekvconform.cases.data_files import OUTCOMES_TABLE
from ekvconform.cases.golden_cases import COMPLETE, OPTIONS, PARTIAL, REFUSED, SMOKE, Case
from ekvconform.judge.tree_comparison import SEAL_NAMES
from ekvconform.judge.verdicts import command_of, first_line
from ekvconform.judge.workers import PATIENCE_SECONDS, run_in_workers
from ekvconform.run.profiles import CHAPTERS, CLASS_OF_STATUS, REFUSALS, Profile
from ekvconform.run.sandbox import make_sandbox, run_program
from ekvconform.run.time_limit import WALL_FACTOR

PROBES: Final = (
    *SMOKE, "tree-empty-output-folder", "tree-output-not-empty", "file-snapshot-missing", "file-cut-in-key",
    "file-header-v2-too-small", "file-header-unknown-version", "file-key-size-limit", "visi-key-too-short",
    "visi-reserved-bit-4", "rhll-without-flags", "visi-future-version", "rttl-orphans",
)  # fmt: skip
"""Cases that are run: some refusals of each fault, and some that show a feature."""
NAME: Final = r"[a-z]+(?:-[a-z]+)*"
FAULT_TOKENS: Final = {"fault": NAME, "clause": r"[A-Z]{4}-[0-9]+", "offset": r"[0-9]+"}
WARNING_TOKENS: Final = {"warning": NAME, "count": r"[0-9]+"}
A_PATH: Final = "\0"
"""Placeholder for a path of the sandbox."""
MAX_LINE: Final = 500
MAX_LINES: Final = 200
"""Characters of a line, and lines, that are examined."""
MOST: Final = 0.8
"""Share of lines that must contain something before it becomes a part of the pattern."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The behaviour of the program on one case."""

    case: Case
    exit_status: int | None
    sealed: bool
    line: str
    """The first line of stderr, without paths of the sandbox."""
    lines: tuple[str, ...]
    """All lines of stdout and stderr."""


def probe_cases(cases: Sequence[Case], profile: Profile, jobs: int) -> list[Probe]:
    """Run a program on cases and record its behaviour. Raises `OSError`."""

    def probe(case: Case, folder: Path, stop: int) -> Probe:
        box = make_sandbox(folder, case.scene)
        snapshot = box.arrange(case.scene)
        finish = run_program(command_of(profile, case.scene, box, snapshot), box, profile.limits, stop)
        sealed = all(os.path.lexists(os.fsencode(box.out) + b"/" + name) for name in SEAL_NAMES)
        line = first_line(finish.stderr)[:MAX_LINE]
        for path in (snapshot, box.out, box.root):
            line = line.replace(str(path), A_PATH)
        lines = (*finish.stdout.splitlines(), *finish.stderr.splitlines())
        return Probe(case, finish.exit_status, sealed, line, tuple(each[:MAX_LINE] for each in lines[:MAX_LINES]))

    def nothing(case: Case, _error: Exception | None = None) -> Probe:
        return Probe(case, None, False, "", ())

    return run_in_workers(probe, cases, jobs, WALL_FACTOR * profile.limits.seconds + PATIENCE_SECONDS, nothing, nothing)


@dataclass(frozen=True, slots=True)
class Inferred:
    """What was inferred."""

    complete: list[int]
    partial: list[int]
    refused: dict[str, list[int]]
    """Class of a refusal = exit statuses."""
    texts: list[tuple[str, str | None]]
    """Pattern and the fault that it stands for; None if the pattern has a group `fault`."""
    unclear: list[tuple[str, list[str]]]
    """Patterns that match messages of more than one fault."""
    warnings: str | None
    """A pattern for warnings, if the program uses the spec's names."""
    existing_output: bool


def infer_profile(probes: Sequence[Probe]) -> Inferred:
    """Infer a profile from probes."""
    complete = _usual(probe.exit_status for probe in probes if probe.case.expected.outcome == COMPLETE and probe.sealed)
    accepted = {0, *complete}  # 0 never means a refusal
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
    # A status seen for both is taken for a refusal: there are more of them.
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
    return Inferred(complete or [0], partial, by_class, texts, unclear, _warnings(probes), existing)


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
    """Return a pattern for a line; numbers, quoted texts and paths become wildcards."""
    pieces = re.split(r"(\x00[^ :,;]*|\"[^\"]*\"|0x[0-9A-Fa-f]+|[0-9]+)", line)
    return "^" + "".join(_open(piece) if number % 2 else _escaped(piece) for number, piece in enumerate(pieces)) + "$"


def _open(piece: str) -> str:
    """Return a wildcard for a number, a quoted text or a path; none of them backtracks."""
    if piece.startswith(A_PATH):
        return "/[^ :,;]*"
    return '"[^"]*"' if piece.startswith('"') else "0x[0-9A-Fa-f]+" if piece.startswith("0x") else "[0-9]+"


def _escaped(text: str) -> str:
    return re.escape(text).replace("\\ ", " ")


def _speaking_pattern(refusals: Sequence[Probe]) -> str | None:
    """Return one pattern for a program that uses the spec's names of faults, or None."""
    samples = []
    for each in refusals:
        expected = each.case.expected
        words = {"fault": expected.fault, "clause": expected.clause}
        samples.append((each.line, words if expected.offset is None else words | {"offset": str(expected.offset)}))
    return common_pattern(samples, FAULT_TOKENS)


def _warnings(probes: Sequence[Probe]) -> str | None:
    """Return one pattern for a program that uses the spec's names of warnings, or None."""
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
    """Return one pattern for lines that contain given words, or None if most lines lack the first of them.

    A sample is a line and the words that it should contain, by the names of `tokens`. A word that most
    lines contain becomes a group; all groups but the first are optional.
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
        # Text between two words becomes a part of the pattern if it is always the same.
        literal = _escaped(between.pop()) if len(between) == 1 else ".*?"
        piece = f"{literal}(?P<{name}>{tokens[name]})"
        pattern += ("^" if number == 0 and literal != ".*?" else "") + (piece if name == first else f"(?:{piece})?")
    return pattern if all(re.search(pattern, line) for line, _ in holding) else None


def render_profile(command: Sequence[str], inferred: Inferred, name: str) -> str:
    """Render a commented profile."""
    lines = [
        "# Inferred by `ekvconform init`. Review it: it decides what is compared.",
        f"name = {_toml(name)}",
        f"command = [{', '.join(map(_toml, command))}]",
        "# The command that verifies a dump, if there is one; without it those cases are UNSUPPORTED.",
        '# verify = ["decoder", "verify", "{out}"]',
        "# Chapters that the program claims to implement; all if not given.",
        f"# chapters = [{', '.join(map(_toml, CHAPTERS))}]",
        "",
        "# Words that select an option. They replace the word '{options}', which the command then needs;",
        "# cases with an option that is not listed here are UNSUPPORTED.",
        "# [options]",
        *(
            f"# {name} = ['--{name.replace('_', '-')}{'={value}' if has_value else ''}']"
            for name, has_value in OPTIONS.items()
        ),
        "",
        "[exit]",
        f"complete = {inferred.complete}",
        f"partial = {inferred.partial or inferred.complete}"
        + ("" if inferred.partial else "  # no partial dump was observed"),
    ]
    statuses = {tuple(each) for each in inferred.refused.values()}
    if len(statuses) == 1 or not statuses:
        lines.append(f"refused = {list(*statuses) or [1]}" + ("" if statuses else "  # nothing was refused"))
    else:
        lines.append("# Exit statuses distinguish the classes of refusals.")
        lines += [f"{name} = {each}" for name, each in inferred.refused.items()]
        lines += [f"# {name} = [..]  # not observed" for name in REFUSALS if name not in inferred.refused]
    lines += [
        "",
        "[features]",
        f"existing_output = {str(inferred.existing_output).lower()}  # an existing, empty OUT is accepted",
    ]
    lines += ["", "# Messages of refusals, and the faults of the spec that they stand for (spec/13-outcomes.md)."]
    for pattern, fault in inferred.texts:
        lines += ["[[texts]]", f"pattern = {_toml(pattern)}", *([f"fault = {_toml(fault)}"] if fault else []), ""]
    for pattern, faults in inferred.unclear:
        lines += [f"# Observed for {', '.join(faults)}: the message does not distinguish them.", f"# {pattern!r}", ""]
    lines.append("# Messages of warnings; without this they are not compared.")
    if inferred.warnings:
        lines += ["[[warnings]]", f"pattern = {_toml(inferred.warnings)}"]
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
