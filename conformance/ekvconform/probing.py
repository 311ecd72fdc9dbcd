"""Works out what it can of an unknown program, and writes it down as a profile: `ekvconform init`."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ekvconform.cases import COMPLETE, PARTIAL, REFUSED, SMOKE, Case
from ekvconform.profiles import CLASS_OF_STATUS, OUTCOMES_TABLE, REFUSALS, Profile
from ekvconform.sandbox import run_program, sandbox
from ekvconform.verdicts import SEAL, command_of, first_line

PROBES: Final = (
    *SMOKE, "tree-empty-output-folder", "tree-output-not-empty", "file-snapshot-missing", "file-cut-in-key",
    "file-header-v2-too-small", "file-header-unknown-version", "file-key-size-limit", "visi-key-too-short",
    "visi-reserved-bit-4", "rhll-without-flags", "visi-future-version", "rttl-orphans",
)  # fmt: skip
"""Some refusals of each fault, and what shows a feature."""
CLAUSE: Final = r"[A-Z]{4}-[0-9]+"
TOKENS: Final = {"fault": r"[a-z]+(?:-[a-z]+)*", "clause": CLAUSE, "offset": r"[0-9]+"}
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


def probe(case: Case, profile: Profile) -> Probe:
    """Run a program on one case, and look."""
    with sandbox(case.scene) as box:
        snapshot = box.arrange(case.scene)
        finish = run_program(command_of(profile, case.scene, box, snapshot), box, profile.limits)
        sealed = all(os.path.lexists(os.fsencode(box.out) + b"/" + name) for name in SEAL)
        line = first_line(finish.stderr)
        for path, words in ((str(snapshot), "\x00"), (str(box.out), "\x00"), (str(box.root), "\x00")):
            line = line.replace(path, words)
        return Probe(case, finish.exit_status, sealed, line)


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
    existing_output: bool


def work_out(probes: Sequence[Probe]) -> Findings:
    """Draw conclusions from probes."""
    complete = _usual(probe.exit_status for probe in probes if probe.case.expected.outcome == COMPLETE and probe.sealed)
    accepted = set(complete)
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
    partial = _usual(probe.exit_status for probe in probes if probe.case.expected.outcome == PARTIAL and probe.sealed)
    texts, unclear = _texts(refusals)
    there = next((each for each in probes if each.case.id == "tree-empty-output-folder"), None)
    return Findings(
        complete or [0], partial, by_class, texts, unclear, there is None or there.exit_status in (complete or [0])
    )


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
    return "^" + "".join(".*?" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)) + "$"


def _speaking_pattern(refusals: Sequence[Probe]) -> str | None:
    """Return one pattern for a program that uses the spec's own names, or None."""
    found = []
    for each in refusals:
        expected = each.case.expected
        spans = {
            name: match.span()
            for name, text in (("fault", expected.fault), ("clause", expected.clause), ("offset", expected.offset))
            if text not in (None, "") and (match := re.search(rf"(?<![\w-]){re.escape(str(text))}(?![\w-])", each.line))
        }
        found.append((each.line, spans))
    usual = {
        name: sum(name in spans for _, spans in found) >= MOST * sum(_has(each, name) for each in refusals)
        for name in TOKENS
    }
    speaking = [(line, spans) for line, spans in found if "fault" in spans]
    if not usual["fault"] or not speaking:
        return None
    orders = Counter(
        tuple(sorted((name for name in spans if usual[name]), key=lambda name: spans[name])) for _, spans in speaking
    )
    order = max(orders, key=lambda each: (len(each), orders[each]))
    pattern = ""
    for number, name in enumerate(order):
        before = {
            line[spans[order[number - 1]][1] if number else 0 : spans[name][0]]
            for line, spans in speaking
            if all(each in spans for each in order)
        }
        literal = re.escape(before.pop()) if len(before) == 1 else ".*?"
        token = f"{literal}(?P<{name}>{TOKENS[name]})"
        pattern += ("^" if number == 0 and literal != ".*?" else "") + (token if name == "fault" else f"(?:{token})?")
    return pattern if all(re.search(pattern, line) for line, _ in speaking) else None


def _has(probe: Probe, name: str) -> bool:
    return getattr(probe.case.expected, name) not in (None, "")


def render_profile(command: Sequence[str], findings: Findings, name: str) -> str:
    """Write a commented profile."""
    lines = [
        "# What `ekvconform init` worked out. Look it through: what it says decides what is compared.",
        f"name = {_toml(name)}",
        f"command = [{', '.join(map(_toml, command))}]",
        "# How it looks for what is wrong with a dump, if it can; without this those cases are UNSUPPORTED.",
        '# verify = ["decoder", "verify", "{out}"]',
        "# Chapters that it claims to keep; all without this.",
        '# chapters = ["file", "visi", "keys", "rstr", "rhll", "rttl", "segm", "tree", "kmap", "mani", "outc"]',
        "",
        "# Words that ask for an option; they take the place of a word {options} in the command. Cases that need an",
        "# option without words here are UNSUPPORTED.",
        "# [options]",
        '# only = ["--only", "{value}"]        # of strings, hll',
        '# salvage = ["--salvage"]',
        '# into_existing = ["--into-existing"]',
        '# wall_time = ["--wall-time", "{value}"]',
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
    lines += [
        "# What it says of warnings; without this they are not compared.",
        "# [[warnings]]",
        "# pattern = '^warning: (?P<warning>[a-z-]+): (?P<count>[0-9]+)'",
        "",
        "[limits]",
        "seconds = 20",
        "memory_mib = 1024",
    ]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return f"'{text}'" if "'" not in text and text.isprintable() else json.dumps(text)
