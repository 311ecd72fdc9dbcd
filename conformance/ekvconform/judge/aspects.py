"""The aspects by which a run is judged. All are looked at; none ends the look at the others.

    aspect      what is compared                                            whose business
    ----------  ----------------------------------------------------------  ----------------
    outside     files outside OUT                                           every case's
    ending      an end by itself, with a documented exit status             every case's
    outcome     complete, partial or refused; whole or findings             every case's
    status      the exit status, in cases about the number itself           every case's
    words       that a refusal says anything at all                         every case's
    reason      fault, clause, offset, path and class of a refusal          every case's
    findings    what `verify` reports                                       every case's
    files       which blobs there are, and of what kind                     every case's
    payloads    bytes of blobs                                              every case's
    expiries    lines of the two TTL sidecars                               every case's
    unreadable  lines of unreadable.jsonl                                   every case's
    manifest    members of MANIFEST.json that the case specifies            every case's
    counters    the same, below `outcome.counters`                          every case's
    leftovers   what a refusal leaves in OUT                                that of its rule
    warnings    names and counts                                            that of its rule
    keymap      lines of KEYMAP.jsonl                                       that of its rule
    form        how MANIFEST.json is written                                that of its rule
    checksums   lines of CHECKSUMS                                          that of its rule
    seal        whether both files of the seal are there                    that of its rule
    modes       permission bits, and directories without a file             that of its rule

An aspect of the first kind is compared only as far as a case expects something of it, and then the
case is about it. An aspect of the second kind is compared in every run, under the clause that rules it:
a case fails for it only if it names this clause, or belongs to its chapter. In any other case
it is a *deviation*, which is reported once for all cases.
"""

from typing import Final

from ekvconform.cases.golden_cases import Case
from ekvconform.judge.differences import Difference

OUTSIDE: Final = "outside"
ENDING: Final = "ending"
OUTCOME: Final = "outcome"
STATUS: Final = "status"
WORDS: Final = "words"
REASON: Final = "reason"
FINDING: Final = "findings"
FILES: Final = "files"
PAYLOADS: Final = "payloads"
EXPIRIES: Final = "expiries"
UNREADABLE: Final = "unreadable"
MANIFEST: Final = "manifest"
COUNTERS: Final = "counters"
LEFTOVERS: Final = "leftovers"
WARNINGS: Final = "warnings"
KEYMAP: Final = "keymap"
FORM: Final = "form"
CHECKSUMS: Final = "checksums"
SEAL: Final = "seal"
MODES: Final = "modes"
RULED: Final = (LEFTOVERS, WARNINGS, KEYMAP, FORM, CHECKSUMS, SEAL, MODES)
"""Aspects of the second kind."""
ASPECTS: Final = (
    OUTSIDE, ENDING, OUTCOME, STATUS, WORDS, REASON, FINDING, FILES, PAYLOADS, EXPIRIES, UNREADABLE, MANIFEST, COUNTERS,
    *RULED,
)  # fmt: skip
"""The first that differs says most about the cause."""
WIDE_CHAPTERS: Final = ("tree", "safe", "into", "conv")
"""Chapters with so many rules that a case is only about those that it names."""


def is_about(case: Case, difference: Difference) -> bool:
    """Predicate: does the case fail for this difference?"""
    if difference.aspect not in RULED or difference.clause in case.clauses:
        return True
    return difference.clause[:4].lower() == case.chapter and case.chapter not in WIDE_CHAPTERS
