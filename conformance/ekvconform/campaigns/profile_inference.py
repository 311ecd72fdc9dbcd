"""Infers a profile of an unknown program from its runs on some cases: `ekvconform init`."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Final

from ekvconform.cases.data_files import OUTCOMES_TABLE
from ekvconform.cases.golden_cases import COMPLETE, DECODE, OPTIONS, PARTIAL, REFUSED, Case
from ekvconform.cases.loading import SMOKE
from ekvconform.judge.tree_comparison import SEAL_NAMES
from ekvconform.judge.verdicts import bad_ending, command_of, first_line
from ekvconform.judge.workers import PATIENCE_SECONDS, run_in_workers
from ekvconform.run.looks import iter_below
from ekvconform.run.profiles import CHAPTERS, CLASS_OF_STATUS, REFUSALS, Profile
from ekvconform.run.sandbox import make_sandbox, run_program
from ekvconform.run.time_limit import WALL_FACTOR

PROBES: Final = (
    *SMOKE, "safe-empty-output-directory", "safe-output-not-empty", "file-snapshot-missing", "file-cut-in-key",
    "file-header-v2-too-small", "file-header-unknown-version", "file-key-size-limit", "visi-key-too-short",
    "visi-reserved-bit-4", "envl-hll-without-flags", "visi-future-version", "rttl-orphans",
    "veri-no-seal", "veri-foreign-file", "veri-row-without-blob", "veri-symlink",
)  # fmt: skip
"""Cases that are run: some refusals of each fault, and some that show a feature."""
NAME: Final = r"[a-z]+(?:-[a-z]+)*"
PATH: Final = r"[^\s:,;'\"]+"
FAULT_TOKENS: Final = {"fault": NAME, "clause": r"[A-Z]{4}-[0-9]+", "offset": r"[0-9]+", "path": PATH}
FINDING_TOKENS: Final = {"fault": NAME, "clause": FAULT_TOKENS["clause"], "path": PATH}
WARNING_TOKENS: Final = {"warning": NAME, "count": r"[0-9]+"}
A_PATH: Final = "\0"
"""Placeholder for a path of the sandbox."""
THE_PATH: Final = "\1"
"""Placeholder for the path that a case expects."""
CONVENTION: Final[dict[str, tuple[str, ...]]] = {
    name: (f"--{name.replace('_', '-')}={{value}}" if has_value else f"--{name.replace('_', '-')}",)
    for name, has_value in OPTIONS.items()
}
"""Words that are tried for each option."""
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
    dumped: bool
    """Is there a file below `redis`?"""
    crashed: bool
    """Nothing is inferred from such a run."""
    line: str
    """The first line of stderr, without paths of the sandbox."""
    lines: tuple[str, ...]
    """All lines of stdout and stderr."""


def probe_cases(cases: Sequence[Case], profile: Profile, jobs: int) -> list[Probe]:
    """Run a program on cases and record its behaviour. Raises `OSError`."""

    def probe(case: Case, directory: Path, stop: int) -> Probe:
        box = make_sandbox(directory, case.scene)
        snapshot = box.arrange(case.scene)
        finish = run_program(command_of(profile, case.scene, box, snapshot), box, profile.limits, stop)
        sealed = all(os.path.lexists(os.fsencode(box.out) + b"/" + name) for name in SEAL_NAMES)
        dumped = any(path.startswith(b"redis/") for path, _ in iter_below(box.out))
        crashed = bad_ending(finish, profile, case.scene.verb) is not None
        names = {str(snapshot): A_PATH, str(box.out): A_PATH, str(box.root): A_PATH}
        if (path := case.expected.path) is not None:
            wanted = snapshot if path == b"{snapshot}" else box.root / "work" / os.fsdecode(path)
            names = {str(wanted): THE_PATH} | names | {str(wanted): THE_PATH}
        lines = [first_line(finish.stderr), *finish.stdout.splitlines(), *finish.stderr.splitlines()]
        for old, new in names.items():
            lines = [line[:MAX_LINE].replace(old, new) for line in lines[:MAX_LINES]]
        return Probe(case, finish.exit_status, sealed, dumped, crashed, lines[0], tuple(lines[1:]))

    def nothing(case: Case, _error: Exception | None = None) -> Probe:
        return Probe(case, None, False, False, True, "", ())

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
    seals: bool
    """Did any run write both MANIFEST.json and CHECKSUMS?"""
    options: dict[str, tuple[str, ...]]
    findings: str | None
    """A pattern for findings, if the program uses the spec's names."""


def infer_profile(every: Sequence[Probe]) -> Inferred:
    """Infer a profile from probes."""
    seals = any(probe.sealed for probe in every)
    # A young decoder writes no seal yet; then a dump is what has any file in it.
    every = [each if seals else replace(each, sealed=each.dumped) for each in every if not each.crashed]
    probes = [each for each in every if each.case.scene.verb == DECODE and not each.case.scene.options]
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
    taken = {*(complete or [0]), *partial}
    return Inferred(
        complete or [0],
        partial,
        by_class,
        texts,
        unclear,
        _warnings(probes),
        _takes_existing_output(probes, taken),
        seals,
        _options(every, taken),
        _findings(every),
    )


def _takes_existing_output(probes: Sequence[Probe], taken: set[int]) -> bool:
    """Return False only if the program refuses an empty OUT for a reason of its own."""
    there = next((each for each in probes if each.case.id == "safe-empty-output-directory"), None)
    elsewhere = {each.line for each in probes if not each.case.scene.has_output}
    return there is None or there.exit_status in taken or there.line in elsewhere


def _options(every: Sequence[Probe], taken: set[int]) -> dict[str, tuple[str, ...]]:
    """Return the options that a run with their conventional words showed, and what the program always does."""
    found: dict[str, tuple[str, ...]] = {
        name: CONVENTION[name]
        for each in every
        for name in each.case.scene.options
        if each.exit_status in taken and each.sealed
    }
    always = next((each for each in every if each.case.id == "safe-output-not-empty"), None)
    if always is not None and always.exit_status in taken and "into_existing" not in found:
        found["into_existing"] = ()
    return found


def _findings(every: Sequence[Probe]) -> str | None:
    """Return one pattern for findings, if a verifier uses the spec's names, or None."""
    samples = []
    for each in every:
        for name, paths in each.case.expected.findings.items():
            line = next((line for line in each.lines if _span(name, line)), "")
            words = {"fault": name}
            # What clause a finding has is not expected, but where it stands can be seen.
            if clause := re.search(FINDING_TOKENS["clause"], line):
                words["clause"] = clause[0]
            if len(paths) == 1 and paths[0]:
                words["path"] = paths[0]
            samples.append((line, words))
    return common_pattern(samples, FINDING_TOKENS)


def option_probes(cases: Sequence[Case]) -> list[Case]:
    """Return for each option the smallest case that completes with it alone."""
    found = []
    for name in OPTIONS:
        alone = [
            case
            for case in cases
            if list(case.scene.options) == [name]
            and case.expected.outcome in (COMPLETE, PARTIAL)
            and case.scene.during is None
            and not case.scene.database
        ]
        found += sorted(alone, key=lambda case: (case.weight, case.id))[:1]
    return found


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
    pieces = re.split(r"([\x00\x01][^ :,;]*|\"[^\"]*\"|0x[0-9A-Fa-f]+|[0-9]+)", line)
    return "^" + "".join(_open(piece) if number % 2 else _escaped(piece) for number, piece in enumerate(pieces)) + "$"


def _open(piece: str) -> str:
    """Return a wildcard for a number, a quoted text or a path; none of them backtracks."""
    if piece.startswith((A_PATH, THE_PATH)):
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
        if expected.offset is not None:
            words["offset"] = str(expected.offset)
        if expected.path is not None:
            words["path"] = THE_PATH
        samples.append((each.line, words))
    return common_pattern(samples, FAULT_TOKENS)


def _warnings(probes: Sequence[Probe]) -> str | None:
    """Return one pattern for a program that uses the spec's names of warnings, or None."""
    samples = []
    for each in probes:
        for name, count in each.case.expected.warnings.items():
            line = next((line for line in each.lines if _span(name, line)), "")
            samples.append((line, {"warning": name, "count": str(count)}))
    return common_pattern(samples, WARNING_TOKENS)


def _places(word: str, line: str) -> list[tuple[int, int]]:
    inside = "[0-9]" if word.isdigit() else r"[\w-]"
    return [match.span() for match in re.finditer(rf"(?<!{inside}){re.escape(word)}(?!{inside})", line)]


def _span(word: str, line: str) -> tuple[int, int] | None:
    return next(iter(_places(word, line)), None)


Spans = dict[str, tuple[int, int]]
"""Name of a word = where it stands in a line."""


def _is_before(name: str, first: str, holding: Sequence[tuple[str, Spans]]) -> bool:
    """Predicate: does a word stand before the first in most lines that have it?"""
    sides = [found[name] < found[first] for _, found in holding if name in found]
    return name != first and sum(sides) > len(sides) / 2


def _look(name: str, token: str, holding: Sequence[tuple[str, Spans]]) -> str:
    """Return the pattern that looks ahead for a word, which need not be there."""
    starts = {line[: found[name][0]] for line, found in holding if name in found}
    ends = {line[found[name][1] : found[name][1] + 1] for line, found in holding if name in found}
    has_placeholder = any(A_PATH in start or THE_PATH in start for start in starts)
    is_constant = len(starts) == 1 and sum(name in found for _, found in holding) > 1 and not has_placeholder
    ahead = _escaped(starts.pop()) if is_constant else f".*?{_escaped(_common_end(starts))}"
    return f"(?=(?:{ahead}(?P<{name}>{token}){_escaped(ends.pop()) if len(ends) == 1 else ''})?)"


def _common_end(texts: Collection[str]) -> str:
    """Return the last word that all texts end in, or the part of it that they share, and the spaces after it."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*(text[::-1] for text in texts), strict=False))
    shared = "".join(column[0] for column in columns)[::-1]
    return re.findall(r"\S*\s*$", shared)[0] if shared else ""


def common_pattern(samples: Sequence[tuple[str, dict[str, str]]], tokens: dict[str, str]) -> str | None:
    """Return one pattern for lines that contain given words, or None if most lines lack the first of them.

    A sample is a line and the words that it should contain, by the names of `tokens`. A word that most
    lines contain becomes a group; all groups but the first are optional. Groups before the first are looked
    for from the beginning of the line.
    """
    first = next(iter(tokens))
    # Which of several places is meant cannot be told.
    clear = [each for each in samples if len(_places(each[1][first], each[0])) < 2]
    spans = [
        (line, {name: span for name, word in words.items() if (span := _span(word, line))}) for line, words in clear
    ]
    usual = {
        name
        for name in tokens
        if sum(name in found for _, found in spans) >= MOST * sum(name in words for _, words in clear) > 0
    }
    holding = [(line, found) for line, found in spans if first in found]
    if first not in usual:
        return None
    before = [name for name in tokens if name in usual and _is_before(name, first, holding)]
    looks = "".join(_look(name, tokens[name], holding) for name in before)
    usual -= set(before)
    holding = [(line, {name: span for name, span in found.items() if name in usual}) for line, found in holding]
    orders = Counter(tuple(sorted(usual & set(found), key=lambda name: found[name])) for _, found in holding)
    order = max(orders, key=lambda each: (len(each), orders[each]))
    pattern = ""
    # What stands in the place of another word comes last: an offset or a path.
    for name in (*order, *(name for name in tokens if name in usual and name not in order)):
        between = set()
        for line, found in holding:
            if name in found and (name not in order or set(order) <= set(found)):
                start = max((end for _, end in found.values() if end <= found[name][0]), default=0)
                between.add(line[start : found[name][0]])
        # Text between two words becomes a part of the pattern if it is always the same, or what is at its end.
        is_constant = len(between) == 1
        literal = _escaped(between.pop()) if is_constant else f".*?{_escaped(_common_end(between).strip())}"
        piece = f"{literal}(?P<{name}>{tokens[name]})"
        if not pattern:
            pattern = f"^{looks}" if is_constant or looks else ""
        pattern += piece if name == first else f"(?:{piece})?"
    for line, words in samples:
        match = re.search(pattern, line)
        if _span(words[first], line) and (match is None or match[first] != words[first]):
            return None
    return pattern


def render_profile(command: Sequence[str], verify: Sequence[str], inferred: Inferred, name: str) -> str:
    """Render a commented profile."""
    lines = [
        "# Inferred by `ekvconform init`. Review it: it decides what is compared.",
        f"name = {_toml(name)}",
        f"command = [{', '.join(map(_toml, command))}]",
        "# The command that verifies a dump, if there is one; without it those cases are UNSUPPORTED.",
        f"verify = [{', '.join(map(_toml, verify))}]" if verify else '# verify = ["decoder", "verify", "{out}"]',
        "# Chapters that the program claims to implement; all if not given.",
        f"# chapters = [{', '.join(map(_toml, CHAPTERS))}]",
        "",
        "# Words that select an option. They replace the word '{options}', which the command then needs;",
        "# cases with an option that is not listed here are UNSUPPORTED.",
        "# An empty list: the program always does it.",
        "[options]" if inferred.options else "# [options]",
        *(
            f"{'' if option in inferred.options else '# '}{option} = "
            f"[{', '.join(map(_toml, inferred.options.get(option, CONVENTION[option])))}]"
            for option in OPTIONS
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
        *(["without = ['seal']  # no run wrote both MANIFEST.json and CHECKSUMS"] if not inferred.seals else []),
    ]
    lines += [
        "",
        "# Messages of refusals, and the faults of the spec that they stand for (spec/format/02-outcomes.md).",
    ]
    for pattern, fault in inferred.texts:
        lines += ["[[texts]]", f"pattern = {_toml(pattern)}", *([f"fault = {_toml(fault)}"] if fault else []), ""]
    for pattern, faults in inferred.unclear:
        lines += [f"# Observed for {', '.join(faults)}: the message does not distinguish them.", f"# {pattern!r}", ""]
    lines.append("# Messages of warnings; without this they are not compared.")
    if inferred.warnings:
        lines += ["[[warnings]]", f"pattern = {_toml(inferred.warnings)}"]
    else:
        lines += ["# [[warnings]]", "# pattern = '^warning: (?P<warning>[a-z-]+): (?P<count>[0-9]+)'"]
    lines += ["", "# Findings of `verify`; without this it is only compared whether there are some."]
    if inferred.findings:
        lines += ["[[findings]]", f"pattern = {_toml(inferred.findings)}"]
    else:
        lines += ["# [[findings]]", "# pattern = '^(?P<fault>[a-z-]+) .* at (?P<path>[^ :]+)'"]
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
