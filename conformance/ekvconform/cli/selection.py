"""What most commands begin with: the program that is judged, and the cases."""

import argparse
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from ekvconform.cases.carriers import CARRIERS, ONE_A_CHAPTER
from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.run.profiles import Profile, bare_profile, load_profile

EXIT_AS_EXPECTED: Final = 0
EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_BROKEN_SUITE: Final = 3
EXIT_INTERRUPTED: Final = 130
NO_PROGRAM: Final = (
    "no program to judge: name one, as in `ekvconform {command} -- ./my-decoder {{snapshot}} {{out}}`, "
    "or a profile with --profile; `ekvconform init -- ..` writes ./ekvconform.toml, which is used without being named"
)
PROFILE_NAME: Final = "ekvconform.toml"
KNOWN_NAME: Final = "ekvconform-known-failures.txt"


def selected_cases(words: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    """Return the cases that any word selects. Raises `UsageError` for a word that selects none."""
    for word in words:
        if not select_cases(cases, [word]):
            raise UsageError(f"no case matches {word}{_hint(word, cases)}")
    return select_cases(cases, words)


def _hint(word: str, cases: Sequence[Case]) -> str:
    if os.sep in word or "{" in word:
        return ": a program must follow --"
    close = get_close_matches(word, [case.id for case in cases], 3)
    return f": did you mean {', '.join(close)}?" if close else "; `ekvconform list` lists all"


def one_case(case_id: str) -> Case:
    """Return the case of an id. Raises `UsageError`."""
    cases = load_cases()
    for case in cases:
        if case.id == case_id:
            return case
    raise UsageError(f"case {case_id} does not exist{_hint(case_id, cases)}")


def profile_of(options: argparse.Namespace) -> Profile:
    """Return the profile of the program that is judged: the one named, or `./ekvconform.toml`. Raises `UsageError`."""
    if options.profile is None and not options.program and Path(PROFILE_NAME).is_file():
        options.profile = Path(PROFILE_NAME)
        known = options.profile.with_name(KNOWN_NAME)
        if getattr(options, "known_failures", known) is None and known.is_file():
            options.known_failures = known
    if options.profile is not None:
        return load_profile(options.profile, options.program).located()
    if options.program:
        return bare_profile(options.program).located()
    raise UsageError(NO_PROGRAM.format(command=options.command))


def program_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments that name the program, to repeat a run."""
    profile = ["--profile", str(options.profile)] if options.profile else []
    return [*profile, *(["--", *options.program] if options.program else [])]


def ids_of(cases: Sequence[Case]) -> list[str]:
    """Return the ids that a list of known failures may name."""
    others = [f"{case_id}@{carrier}" for case_id in ONE_A_CHAPTER for carrier in CARRIERS]
    return [case.id for case in cases] + others
