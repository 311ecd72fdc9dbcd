"""One run: from a snapshot to its dump.

No chapter of its own. Data runs one way, and this module is the order of it:
snapshot bytes, entries, visible records, decoded values, outputs, tree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ekvdump import keys
from ekvdump.conventions import Source
from ekvdump.keymap import render_keymap_line
from ekvdump.manifest import Provenance, render_manifest
from ekvdump.outcomes import Counters, DumpWarning, Fault, Outcome, PartialReason
from ekvdump.redis_hlls import ENVELOPE_PREFIX as HLL_ENVELOPE
from ekvdump.redis_hlls import decode_hll_value
from ekvdump.redis_strings import ENVELOPE_PREFIX as STRING_ENVELOPE
from ekvdump.redis_strings import Value, decode_string_value
from ekvdump.redis_ttls import MAX_ORPHAN_EXAMPLES, decode_ttl_value, render_expiry_row
from ekvdump.segments import encode_percent, encode_segment, is_fallback
from ekvdump.snapshot_file import SnapshotFile, decode_snapshot_name
from ekvdump.survey import Survey, iter_section, survey
from ekvdump.tree import Blob, Folder, Row, Tree, redis_folder
from ekvdump.visibility import InStep, Record

STRINGS: Final = "strings"
HLLS: Final = "hll"
SELECTABLE: Final = (STRINGS, HLLS)
"""The types that a caller can name. [OUTC-13]"""

KEYMAP_NAME: Final = "KEYMAP.jsonl"
STRINGS_TTL_NAME: Final = "strings_ttl.jsonl"
HLL_TTL_NAME: Final = "hll_ttl.jsonl"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller wants."""

    database: int = 0
    """The database index. [TREE-1]"""
    only: frozenset[str] | None = None
    """The types wanted, of `SELECTABLE`; None for all. [OUTC-13]"""
    sync: bool = True
    """Whether everything is flushed to disk before the seal. [TREE-21]"""

    def wants(self, selectable: str) -> bool:
        """Say whether a type is wanted. [OUTC-13]"""
        return self.only is None or selectable in self.only


def decode(snapshot_path: str, out: str, options: Options = Options(), provenance: Provenance | None = None) -> Outcome:
    """Decode a snapshot file into the folder `out`, which is absent or empty.

    Raises a `Fault`: of the snapshot, the tree or the disk. After one there is no seal in
    `out` [TREE-23], and nothing at all if it came before the first write [TREE-9].
    """
    tree = Tree(out)
    tree.judge_out()  # [OUTC-5]
    with SnapshotFile(snapshot_path) as source:
        found = survey(source)  # [FILE-19]
        outputs = Outputs(source, found, options)
        try:
            databases = False
            for output in outputs:
                tree.write(output)
                databases = True
            source.check_unchanged()  # [FILE-20]
            index = decode_snapshot_name(snapshot_path)
            outcome = judge_outcome(found, outputs, index, options)
            provenance = replace(
                provenance or Provenance(snapshot_path),
                fsm_crc32c=found.fsm_crc32c,
                snapshot_index=index,
                last_commit_ts=found.start.last_commit_ts,
            )
            found_databases = [max(0, options.database)] if databases else []
            manifest = render_manifest(provenance, outcome, found_databases, only=options.only is not None)
            tree.seal(manifest, sync=options.sync)
        except Fault as fault:
            fault.also += tuple(tree.abandon())  # [TREE-23] [TREE-27]
            raise
        except BaseException:
            tree.abandon()
            raise
    return outcome


class Outputs:
    """The outputs of one run, in output order [OUTC-4], and what was counted while they were made."""

    def __init__(self, source: Source, found: Survey, options: Options) -> None:
        self._source = source
        self._found = found
        self._options = options
        self._folder: Folder = redis_folder(options.database)
        self.counters: Counters = found.counters
        self.orphan_examples: list[str] = []

    def __iter__(self) -> Iterator[Blob | Row]:
        yield from self._hlls()
        yield from self._strings()
        yield from self._bare_strings()
        yield from self._ttl_rows()

    # ---- sections ----

    def _records(self, type_: str) -> Iterator[Record]:
        return iter_section(self._source, self._found, type_)

    def _in_step(self, type_: str) -> InStep:
        prefix = keys.PREFIXES[type_][0] if type_ in keys.PREFIXES else b""
        return InStep(self._records(type_), prefix)

    def _body(self, record: Record) -> bytes:
        return self._source.read(record.body_offset, record.body_size)

    def _has_prefix(self, record: Record, prefix: bytes) -> bool:
        size = min(len(prefix), record.body_size)
        return self._source.read(record.body_offset, size) == prefix

    # ---- values ----

    def _hlls(self) -> Iterator[Blob | Row]:
        counts = self.counters.hlls
        if not self._options.wants(HLLS):
            counts["excluded"] = self.counters.entries[keys.HLL]
            return
        for record in self._records(keys.HLL):
            value = decode_hll_value(self._body(record), record.body_offset, record.storage_key)
            user_key = record.storage_key[len(keys.HLL_PREFIX) :]  # [RHLL-1]
            counts["written"] += 1
            yield from self._shown("hll", HLL_TTL_NAME, user_key, value, in_keymap=False)  # [RHLL-12]

    def _strings(self) -> Iterator[Blob | Row]:
        counts = self.counters.strings
        if not self._options.wants(STRINGS):
            counts["excluded"] += self.counters.entries[keys.STRING]
            return
        hlls = self._written_hlls()
        for record in self._records(keys.STRING):
            value = decode_string_value(self._body(record), record.body_offset, record.storage_key)
            user_key = record.storage_key[len(keys.STRING_PREFIX) :]  # [RSTR-1]
            counts["written"] += 1
            yield from self._shown_string(user_key, value, hlls)

    def _bare_strings(self) -> Iterator[Blob | Row]:
        counts = self.counters.strings
        if not self._options.wants(STRINGS):
            counts["excluded"] += self.counters.entries[keys.BARE]
            return
        hlls = self._written_hlls()
        strings = self._in_step(keys.STRING)
        for record in self._records(keys.BARE):
            user_key = record.storage_key  # [RSTR-12]
            # [RSTR-13]
            if strings.find(user_key) is not None:
                counts["shadowed"] += 1
                continue
            value = Value(self._body(record), None)  # [RSTR-17]
            counts["written"] += 1
            yield from self._shown_string(user_key, value, hlls)

    def _written_hlls(self) -> InStep | None:
        return self._in_step(keys.HLL) if self._options.wants(HLLS) else None

    def _shown_string(self, user_key: bytes, value: Value, hlls: InStep | None) -> Iterator[Blob | Row]:
        # [KMAP-2] [KMAP-3] A long key that is an HLL as well has its line already. Only such keys are looked up.
        segment = encode_segment(user_key)
        in_keymap = is_fallback(segment) and hlls is not None and hlls.find(user_key) is not None
        return self._shown("strings", STRINGS_TTL_NAME, user_key, value, in_keymap=in_keymap)

    def _shown(
        self, folder: str, sidecar: str, user_key: bytes, value: Value, *, in_keymap: bool
    ) -> Iterator[Blob | Row]:
        """Yield what one key becomes: a blob, a KEYMAP line and a row, as far as it has them."""
        segment = encode_segment(user_key)
        yield Blob((*self._folder, folder), segment, value.payload)
        # [SEGM-9]
        if is_fallback(segment) and not in_keymap:
            yield Row(self._folder, KEYMAP_NAME, render_keymap_line(segment, user_key))
        # [RSTR-16] [RHLL-13] [RTTL-13]
        if value.expiry_ms is not None:
            yield Row(self._folder, sidecar, render_expiry_row(segment, value.expiry_ms))

    # ---- TTL rows ----

    def _ttl_rows(self) -> Iterator[Row]:
        """Decide what each TTL row is. [RTTL-14]"""
        counts = self.counters.ttls
        strings, bares, hlls = map(self._in_step, (keys.STRING, keys.BARE, keys.HLL))
        without_owner = "unclaimed" if self._found.has_collections else "orphan"  # [RTTL-8] [RTTL-9]
        for record in self._records(keys.TTL):
            expiry_ms = decode_ttl_value(self._body(record), record.body_offset, record.storage_key)
            user_key = record.storage_key[len(keys.TTL_PREFIX) :]

            # [RTTL-7] The string alone decides if there is one; a prefixed one before a bare one. [RSTR-13]
            if (string := strings.find(user_key)) is not None:
                selectable, sidecar = STRINGS, STRINGS_TTL_NAME
                redundant = self._has_prefix(string, STRING_ENVELOPE)
            elif bares.find(user_key) is not None:
                selectable, sidecar, redundant = STRINGS, STRINGS_TTL_NAME, False
            elif (hll := hlls.find(user_key)) is not None:
                selectable, sidecar = HLLS, HLL_TTL_NAME
                redundant = self._has_prefix(hll, HLL_ENVELOPE)
            else:
                # [RTTL-9] [RTTL-10] Counted; only a few are kept, and of these only the segments.
                counts[without_owner] += 1
                if without_owner == "orphan" and len(self.orphan_examples) < MAX_ORPHAN_EXAMPLES:
                    self.orphan_examples.append(encode_segment(user_key))
                continue

            if not self._options.wants(selectable):
                counts["excluded"] += 1  # [OUTC-17]
            elif redundant:
                counts["redundant"] += 1  # [RTTL-4]
            else:
                counts["applied"] += 1  # [RTTL-5] [RTTL-6]
                yield Row(self._folder, sidecar, render_expiry_row(encode_segment(user_key), expiry_ms))


def judge_outcome(found: Survey, outputs: Outputs, index: int | None, options: Options) -> Outcome:
    """Say how a run ended whose tree is whole: warnings, and why it is partial. [OUTC-9] [OUTC-12]"""
    counters = outputs.counters
    entries = counters.entries
    warnings: list[DumpWarning] = []
    reasons: list[PartialReason] = []

    # [OUTC-11] In the order of the spec's table.
    if found.fsm_crc32c is None:
        detail = "the file has no footer and cannot prove that it is whole"
        warnings.append(DumpWarning("no-footer", 1, (), detail))
    if index is not None and found.applied_index is not None and index < found.applied_index:
        detail = f"the name says applied index {index}, the file {found.applied_index}"
        warnings.append(DumpWarning("index-behind", 1, (), detail))
    if count := entries["future"]:
        warnings.append(DumpWarning("future-version", count, (), "versions above the last commit; not shown"))
    if options.only is None:  # [OUTC-13]
        if count := entries[keys.UNKNOWN]:
            about = tuple(map(encode_percent, found.beginnings))  # [KEYS-9]
            detail = "records whose keys begin with none of the known prefixes; not shown"
            warnings.append(DumpWarning("unknown-prefix", count, about, detail))
            reasons.append(PartialReason("unknown-prefix", keys.UNKNOWN, count))
        for type_ in keys.UNDECODED:
            if count := counters.undecoded[type_]:
                detail = "records of a type that this version cannot show"  # [KEYS-10]
                warnings.append(DumpWarning("undecoded-type", count, (type_,), detail))
                reasons.append(PartialReason("undecoded-type", type_, count))
    if count := counters.ttls["orphan"]:
        about = tuple(outputs.orphan_examples)  # [RTTL-15]
        warnings.append(DumpWarning("orphan-ttl", count, about, "TTL rows of keys that do not exist"))
    return Outcome(counters, tuple(warnings), tuple(reasons))
