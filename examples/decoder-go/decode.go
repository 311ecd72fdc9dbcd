//go:build linux

package main

// A run that decodes: judge everything, write, seal.

import (
	"errors"
	"io"
	"strconv"
	"sync/atomic"
)

type options struct {
	database         uint64
	named            bool // the caller names the types wanted (COMP-1)
	wanted           [typeCount]bool
	salvage          bool
	existing         bool
	noFlush          bool
	wallTime         string
	clusterID        string
	elastickvVersion string
	snapshot, out    string
}

// A result is what a run has found out so far.
type result struct {
	snapshot *snapshot
	survey   *survey
	verdict  *verdict
	found    *found
	earlier  []earlierDump
	warnings []Warning
	reasons  []Reason

	unreadable, orphans []string // segments for the warnings (SALV-9, RTTL-11)
}

func decode(o *options, stop *atomic.Bool) (*result, error) {
	t := &tree{outDir: newOutDir(o.out, "SAFE-29", stop), existing: o.existing,
		db: "redis/db_" + strconv.FormatUint(o.database, 10)}
	root, err := t.judge() // OUTC-6
	if err == nil && root != nil {
		err = errors.Join(t.holdsSnapshot(root, o.snapshot), root.close())
	}
	if err != nil {
		return nil, failure(err, t.given)
	}
	s, err := openSnapshot(o.snapshot, stop)
	if err != nil {
		return nil, err
	}
	defer s.file.Close()
	r := &result{snapshot: s}
	err = r.run(o, t)
	problems := t.end(err != nil)
	var f *Fault
	if errors.As(err, &f) && (exitStatus[f.Name] == 4 || f.Clause == "FILE-24") {
		if c := s.changed(); c != nil { // FILE-22: before anything else
			err = c
		}
	}
	return r, errors.Join(append([]error{err}, problems...)...)
}

func (r *result) run(o *options, t *tree) (err error) {
	s := r.snapshot
	if r.survey, err = s.survey(); err != nil {
		return err
	}
	if err = s.readCollections(r.survey); err != nil {
		return err
	}
	c := choices{wanted: o.wanted, salvage: o.salvage}
	if r.verdict, err = s.judgeBodies(r.survey, c); err != nil {
		return err
	}
	if err := t.start(); err != nil {
		return err
	}
	var said map[jsonNumber]earlierDump
	if o.existing {
		if err := t.holdsSnapshot(t.root, o.snapshot); err != nil {
			return err
		}
		if said, err = t.readEarlier(); err != nil {
			return err
		}
		if err := t.makeReady(); err != nil {
			return err
		}
	}
	const collections = tHash                                                   // stands for all of them
	for _, typ := range []recordType{tHLL, tString, tBare, collections, tTTL} { // output order (OUTC-5)
		for g, err := range s.byUserKey(r.survey) {
			if err != nil {
				return err
			}
			if typ == collections {
				err = r.writeCollection(t, g, c)
			} else if g.records[typ] != nil {
				err = r.write(t, typ, g.records[typ], c.judge(g)[typ])
			}
			if err != nil {
				return err
			}
		}
	}
	if err := t.closeSidecars(); err != nil {
		return err
	}
	if r.found, err = t.lookOver(); err != nil {
		return err
	}
	r.earlier = earlierOf(said, r.found.databases, o.database)
	r.conclude(o, t)
	content := r.manifest(o)
	if len(content) > maxManifest {
		return faultIn("unsafe-path", "INTO-9", t.path(manifestName), "too large, because of what the earlier one says")
	}
	if err := t.manifest(content); err != nil {
		return err
	}
	return t.seal(!o.noFlush, func() error {
		if c := s.changed(); c != nil {
			return c
		}
		return nil
	})
}

// write does what the fate of a record says.
func (r *result) write(t *tree, typ recordType, rec *record, f fate) error {
	seg, _ := segment(rec.userKey)
	sidecar := "strings_ttl.jsonl"
	if typ == tHLL {
		sidecar = "hll_ttl.jsonl"
	}
	switch f.counter {
	case "written":
		if err := r.show(t, typ, rec.userKey, func(w io.Writer) error {
			return r.snapshot.copyTo(w, f.payloadAt, rec.bodyAt+rec.body-f.payloadAt)
		}); err != nil {
			return err
		}
		if f.hasExpiry { // RSTR-7, RHLL-3
			return t.line(sidecar, ttlLine(seg, f.expiry))
		}
	case "unreadable":
		return r.writeUnreadable(t, rec, f.offset, f.clause)
	case "applied":
		if f.sidecar != "" {
			return t.line(f.sidecar, ttlLine(seg, f.expiry))
		}
	case "orphan":
		if len(r.orphans) < 8 { // RTTL-12
			r.orphans = append(r.orphans, seg)
		}
	}
	return nil
}

// writeCollection writes the collection of a user key, if it is one that is wanted.
func (r *result) writeCollection(t *tree, g *keyGroup, c choices) error {
	coll, bad, err := c.judgeCollection(r.snapshot, g)
	switch {
	case err != nil || coll == nil:
		return err
	case bad != nil: // SALV-10
		return r.writeUnreadable(t, bad.rec, bad.at, bad.clause)
	}
	return r.show(t, g.typ, g.userKey, func(w io.Writer) error { return r.snapshot.writeCollection(w, coll) })
}

// show writes the blob of a user key (TREE-4) and its line of KEYMAP.jsonl (KMAP-1, KMAP-3).
func (r *result) show(t *tree, typ recordType, userKey []byte, fill func(io.Writer) error) error {
	seg, fallback := segment(userKey)
	if err := t.blob(blobDir[typ], seg+blobSuffix[blobDir[typ]], fill); err != nil {
		return err
	}
	if fallback {
		return t.line("KEYMAP.jsonl", keymapLine(seg, userKey))
	}
	return nil
}

// writeUnreadable writes the blob (SALV-7) and the line (SALV-6) of an unreadable record.
func (r *result) writeUnreadable(t *tree, rec *record, offset int64, clause string) error {
	seg, _ := segment(rec.userKey)
	kind := typeNames[rec.typ]
	if rec.typ == tBare {
		kind = "string"
	}
	if len(r.unreadable) < 16 { // SALV-9
		r.unreadable = append(r.unreadable, seg)
	}
	if err := t.blob("unreadable", seg+"."+kind+".bin", func(w io.Writer) error {
		return r.snapshot.copyTo(w, rec.bodyAt, rec.body)
	}); err != nil {
		return err
	}
	return t.line("unreadable.jsonl", unreadableLine(seg, rec.storageKey, offset, clause, kind))
}

// conclude gives the warnings and reasons in the order of the table of COMP (COMP-5, COMP-6).
func (r *result) conclude(o *options, t *tree) {
	warn := func(name string, count uint64, about []string, detail string) {
		r.warnings = append(r.warnings, Warning{name, count, about, detail})
	}
	because := func(reason, about string, count uint64) {
		r.reasons = append(r.reasons, Reason{reason, about, count})
	}
	if !r.snapshot.hasFooter { // FILE-20
		warn("no-footer", 1, nil, "the snapshot cannot prove that it is whole")
	}
	if index, ok := r.snapshot.index(); ok && index < r.survey.appliedIndex { // FILE-26
		warn("index-behind", 1, nil, "the index in the file name is below the one in the snapshot")
	}
	if n := r.survey.entries["future"]; n > 0 { // VISI-14
		warn("future-version", n, nil, "versions above the last commit")
	}
	if n := r.survey.types[tUnknown]; n > 0 && !o.named { // KEYS-9, KEYS-10
		warn("unknown-prefix", n, r.survey.beginnings, "records of an unknown type")
		because("unknown-prefix", "unknown", n)
	}
	for typ := tDynamoDB; typ <= tSQS; typ++ {
		if n := r.survey.types[typ]; n > 0 && !o.named { // KEYS-6, KEYS-7
			warn("undecoded-type", n, []string{typeNames[typ]}, "records of a type that this version cannot show")
			because("undecoded-type", typeNames[typ], n)
		}
	}
	if n := r.verdict.groups["ttls"]["orphan"]; n > 0 { // RTTL-11
		warn("orphan-ttl", n, r.orphans, "TTL records of keys that do not exist")
	}
	if n := r.verdict.unreadable; n > 0 { // SALV-9
		warn("unreadable-value", n, r.unreadable, "records that no client could read")
		because("unreadable-value", t.db, n)
	}
	if n := r.found.stale; n > 0 { // INTO-6
		warn("stale-file", n, r.found.staleHead, "files that were there before and that the run did not write")
		because("stale-file", t.db, n)
	}
}
