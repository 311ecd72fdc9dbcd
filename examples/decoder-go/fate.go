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
	sidecar   string // applied: where its line goes
}

type choices struct {
	strings, hlls, salvage bool
	collections            bool
}

// judge says what becomes of the records of one user key: the first line of its table
// in FATE whose conditions hold (FATE-1).
func (c choices) judge(g *[4]*record) (f [4]fate) {
	str, bare, hll, ttl := g[tString], g[tBare], g[tHLL], g[tTTL]
	malformed := ttl != nil && !sound(ttl)
	strBody, hllBody := body{}, body{}
	if str != nil {
		strBody = readBody(str)
		f[tString] = c.judgeBody(str, strBody, c.strings, malformed)
	}
	if bare != nil {
		f[tBare] = c.judgeBody(bare, readBody(bare), c.strings, malformed)
		if c.strings && str != nil { // RSTR-4, SALV-4
			f[tBare] = fate{counter: "shadowed"}
		}
	}
	if hll != nil { // beside a string, a TTL record does not decide about the HLL (RTTL-8)
		hllBody = readBody(hll)
		f[tHLL] = c.judgeBody(hll, hllBody, c.hlls, malformed && str == nil && bare == nil)
	}
	if ttl == nil {
		return f
	}
	t := &f[tTTL]
	isString := str != nil || bare != nil
	switch {
	case malformed && !c.salvage: // RTTL-1, whichever key it belongs to
		t.fault = faultAt("invalid-value", "RTTL-1", ttl.bodyAt, "a TTL record that does not have eight bytes").withKey(ttl.storageKey)
	case malformed: // SALV-2
		*t = fate{counter: "unreadable", clause: "RTTL-1", offset: ttl.bodyAt}
	case isString && !c.strings, !isString && hll != nil && !c.hlls: // COMP-2
		t.counter = "excluded"
	case str != nil && strBody.envelope: // RTTL-5
		t.counter = "redundant"
	case isString: // RTTL-6
		*t = fate{counter: "applied", sidecar: "strings_ttl.jsonl", hasExpiry: true, expiry: clamp(ttl.head[:8])}
	case hll != nil && hllBody.envelope: // RTTL-5
		t.counter = "redundant"
	case hll != nil: // RTTL-7
		*t = fate{counter: "applied", sidecar: "hll_ttl.jsonl", hasExpiry: true, expiry: clamp(ttl.head[:8])}
	case c.collections: // RTTL-9
		t.counter = "unclaimed"
	default: // RTTL-10
		t.counter = "orphan"
	}
	return f
}

// judgeBody says what becomes of a string or HLL; malformed is the TTL record that decides about it.
func (c choices) judgeBody(r *record, b body, wanted, malformed bool) fate {
	switch {
	case !wanted: // COMP-2
		return fate{counter: "excluded"}
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
	groups     map[string]map[string]uint64 // counters of COMP-8
	unreadable uint64
}

var counterGroup = [4]string{tHLL: "hlls", tString: "strings", tBare: "strings", tTTL: "ttls"}

// judgeBodies counts the fates of all records, or names the first fault in output order (OUTC-5).
func (s *snapshot) judgeBodies(r *survey, c choices) (*verdict, error) {
	v := &verdict{groups: map[string]map[string]uint64{"strings": {}, "hlls": {}, "ttls": {}}}
	var faults [4]*Fault
	for group, err := range s.byUserKey(r) {
		if err != nil {
			return nil, err
		}
		for t, f := range c.judge(group) {
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
	}
	for _, f := range faults {
		if f != nil {
			return nil, f
		}
	}
	return v, nil
}
