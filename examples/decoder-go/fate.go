package main

// Chapters ENVL, RSTR, RHLL, RTTL, COMP, SALV and FATE: what becomes of a record.

import (
	"encoding/binary"
	"math"
)

// A body is what ENVL says about the body of a string or HLL.
type body struct {
	envelope  bool
	broken    string // the clause of an unreadable envelope
	cutAt     int64  // the offset of the field that is cut
	hasExpiry bool
	expiry    uint64
	payloadAt int64
}

func readBody(r *record) body {
	kind := byte(0x01)
	if r.typ == tHLL {
		kind = 0x02
	}
	if r.typ == tBare || len(r.head) < 2 || r.head[0] != 0xFF || r.head[1] != kind { // RSTR-3, ENVL-1 to ENVL-3
		return body{payloadAt: r.bodyAt}
	}
	b := body{envelope: true, payloadAt: r.bodyAt + 3}
	switch {
	case len(r.head) < 3:
		b.broken, b.cutAt = "ENVL-4", r.bodyAt+2
	case r.head[2]&1 == 0: // ENVL-6: the other bits carry no meaning
	case len(r.head) < 11:
		b.broken, b.cutAt = "ENVL-5", r.bodyAt+3
	default: // ENVL-5, ENVL-7, ENVL-8
		b.hasExpiry, b.expiry, b.payloadAt = true, clamp(r.head[3:11]), r.bodyAt+11
	}
	return b
}

// clamp reads an expiry; one above 2^63 - 1 counts as that number (ENVL-7, RTTL-2).
func clamp(b []byte) uint64 { return min(binary.BigEndian.Uint64(b), math.MaxInt64) }

func sound(ttl *record) bool { return ttl.body == 8 }

// A fate is the result for one record: a counter of COMP-8, or a fault.
type fate struct {
	counter   string
	fault     *Fault
	clause    string // unreadable: the clause and offset of its line (SALV-6)
	offset    int64
	hasExpiry bool // written: the expiry of its envelope; applied: that of the TTL record
	expiry    uint64
	payloadAt int64
	sidecar   string // applied: where its line goes, if it has one
}

type choices struct {
	wanted  [typeCount]bool // COMP-1
	salvage bool
}

// judge says what becomes of the strings, the HLL and the TTL record of one user key: the first line of its table
// in FATE whose conditions hold (FATE-1).
func (c choices) judge(g *keyGroup) (f [4]fate) {
	ttl := g.records[tTTL]
	malformed := ttl != nil && !sound(ttl)
	envelope := false // of the record that the TTL record would decide about
	for _, t := range []recordType{tString, tBare, tHLL} {
		r := g.records[t]
		if r == nil {
			continue
		}
		b := readBody(r)
		switch {
		case !c.wanted[t]: // COMP-2
			f[t].counter = "excluded"
		case t != g.typ: // RSTR-4, RHLL-4, SALV-4
			f[t].counter = "shadowed"
		default:
			f[t] = c.judgeBody(r, b, malformed)
		}
		if t == g.typ {
			envelope = b.envelope
		}
	}
	if ttl != nil {
		f[tTTL] = c.judgeTTL(ttl, g, envelope)
	}
	return f
}

// judgeTTL says what becomes of a TTL record (RTTL-4).
func (c choices) judgeTTL(ttl *record, g *keyGroup, envelope bool) fate {
	switch {
	case !sound(ttl) && !c.salvage: // RTTL-1, whichever key it belongs to
		return fate{fault: faultAt("invalid-value", "RTTL-1", ttl.bodyAt, "a TTL record that does not have eight bytes").withKey(ttl.storageKey)}
	case !sound(ttl): // SALV-2
		return fate{counter: "unreadable", clause: "RTTL-1", offset: ttl.bodyAt}
	case g.typ == tNone: // RTTL-10, whatever is wanted
		return fate{counter: "orphan"}
	case !c.wanted[g.typ]: // COMP-2
		return fate{counter: "excluded"}
	}
	applied := fate{counter: "applied", hasExpiry: true, expiry: clamp(ttl.head[:8])}
	switch {
	case envelope: // RTTL-5
		return fate{counter: "redundant"}
	case g.typ == tString || g.typ == tBare: // RTTL-6
		applied.sidecar = "strings_ttl.jsonl"
	case g.typ == tHLL: // RTTL-7
		applied.sidecar = "hll_ttl.jsonl"
	case g.hasExpiry(): // RTTL-16
		return fate{counter: "redundant"}
	}
	return applied // RTTL-17: it is in the blob
}

// judgeBody says what becomes of a string or HLL; malformed is the TTL record that decides about it.
func (c choices) judgeBody(r *record, b body, malformed bool) fate {
	switch {
	case b.broken != "" && !c.salvage: // ENVL-10
		return fate{fault: faultAt("invalid-value", b.broken, b.cutAt, "an envelope that is cut").withKey(r.storageKey)}
	case b.broken != "": // SALV-1
		return fate{counter: "unreadable", clause: b.broken, offset: b.cutAt}
	case b.envelope || !malformed: // ENVL-11, SALV-3
		return fate{counter: "written", hasExpiry: b.hasExpiry, expiry: b.expiry, payloadAt: b.payloadAt}
	default: // SALV-2; without salvage, the TTL record itself is refused (FATE-2)
		return fate{counter: "unreadable", clause: "RTTL-1", offset: r.bodyAt}
	}
}

// A verdict is what one look at all bodies finds.
type verdict struct {
	groups     map[string]map[string]uint64 // counters of COMP-8, COMP-12 and COMP-13
	unreadable uint64                       // lines of unreadable.jsonl
}

// counterGroup is the group of counters of each type (COMP-9).
var counterGroup = [typeCount]string{tHLL: "hlls", tString: "strings", tBare: "strings", tTTL: "ttls",
	tHash: "hashes", tList: "lists", tSet: "sets", tZset: "zsets", tStream: "streams"}

// judgeBodies counts the fates of all records, or names the first fault in output order (OUTC-5).
func (s *snapshot) judgeBodies(r *survey, c choices) (*verdict, error) {
	v := &verdict{groups: map[string]map[string]uint64{"collections": {}}}
	for _, name := range counterGroup {
		v.groups[name] = map[string]uint64{}
	}
	var faults [4]*Fault
	var ofCollection *Fault
	for g, err := range s.byUserKey(r) {
		if err != nil {
			return nil, err
		}
		for t, f := range c.judge(g) {
			if f.fault != nil && faults[t] == nil {
				faults[t] = f.fault
			}
			if f.counter != "" {
				v.groups[counterGroup[t]][f.counter]++
			}
			if f.counter == "unreadable" {
				v.unreadable++
			}
		}
		coll, bad, err := c.judgeCollection(s, g)
		if err != nil {
			return nil, err
		}
		for _, p := range g.pieces { // COMP-12
			v.groups[counterGroup[p.typ]][c.counterOf(p, g, coll, bad)]++
		}
		switch {
		case bad != nil && !c.salvage && ofCollection == nil:
			ofCollection = bad.fault()
		case bad != nil: // SALV-10
			v.unreadable++
		case coll != nil: // COMP-13
			v.groups["collections"][typeNames[g.typ]]++
		}
	}
	for t := tHash; t <= tStream; t++ { // COMP-12
		counter := "orphan"
		if !c.wanted[t] {
			counter = "excluded"
		}
		v.groups[counterGroup[t]][counter] += r.strays[t]
	}
	for _, f := range []*Fault{faults[tHLL], faults[tString], faults[tBare], ofCollection, faults[tTTL]} {
		if f != nil {
			return nil, f
		}
	}
	return v, nil
}
