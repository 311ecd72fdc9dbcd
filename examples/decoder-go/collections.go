package main

// Chapters TYPE, COLL, RLIS and RSTM: which records belong to a user key, which type it has, and what its collection is.

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"sort"
	"strings"
)

// A kind is what a record is to its collection. Those that are judged stand in the order of COLL-17.
type kind int

const (
	kMeta kind = iota
	kDelta
	kElement
	kPacked
	kIndex
	kClaim
)

// A shape is a line of the first table of TYPE; a suffix of -1 has any size.
type shape struct {
	prefix string
	kind   kind
	sized  bool
	suffix int
}

// Of prefixes that begin with one another, the longest comes first (KEYS-1).
var shapes = [typeCount][]shape{
	tHash: {{"!hs|meta|d|", kDelta, true, 12}, {"!hs|meta|", kMeta, true, 0},
		{"!hs|fld|", kElement, true, -1}, {"!redis|hash|", kPacked, false, 0}},
	tList: {{"!lst|meta|d|", kDelta, true, 12}, {"!lst|meta|", kMeta, false, 0},
		{"!lst|itm|", kElement, false, 8}, {"!lst|claim|", kClaim, true, 8}},
	tSet: {{"!st|meta|d|", kDelta, true, 12}, {"!st|meta|", kMeta, true, 0},
		{"!st|mem|", kElement, true, -1}, {"!redis|set|", kPacked, false, 0}},
	tZset: {{"!zs|meta|d|", kDelta, true, 12}, {"!zs|meta|", kMeta, true, 0},
		{"!zs|mem|", kElement, true, -1}, {"!zs|scr|", kIndex, true, -1}, {"!redis|zset|", kPacked, false, 0}},
	tStream: {{"!stream|meta|", kMeta, true, 0}, {"!stream|entry|", kElement, true, 16},
		{"!redis|stream|", kPacked, false, 0}},
}

// shapeOf gives the shape of a collection's record. A list's prefix of deltas is also that of
// the metas of lists whose keys begin with `d|`; the size of the body tells (TYPE-3).
func shapeOf(t recordType, storageKey []byte, body int64) shape {
	for _, s := range shapes[t] {
		ofMeta := t == tList && s.kind == kDelta && (body == 24 || body == 32)
		if strings.HasPrefix(string(storageKey[:min(len(storageKey), len(s.prefix))]), s.prefix) && !ofMeta {
			return s
		}
	}
	panic("a type without this prefix")
}

// takeApart gives the user key and the suffix of a storage key (TYPE-1); ok is false for a stray (TYPE-2).
func (s shape) takeApart(storageKey []byte) (userKey, suffix []byte, ok bool) {
	rest := storageKey[len(s.prefix):]
	size := len(rest) - s.suffix
	if s.sized {
		if len(rest) < 4 {
			return nil, nil, false
		}
		said := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		if uint64(said) > uint64(len(rest)) {
			return nil, nil, false
		}
		size = int(said)
	}
	if size < 0 || s.suffix >= 0 && len(rest)-size != s.suffix {
		return nil, nil, false
	}
	return rest[:size], rest[size:], true
}

// readCollections reads where the records of all collections stand, and sorts them by user key, type, kind and suffix.
// Storage keys are held in memory, bodies are not.
func (s *snapshot) readCollections(r *survey) error {
	for t := tHash; t <= tStream; t++ {
		for rec, err := range s.records(t, r.spans[t].from, r.spans[t].to) {
			if err != nil {
				return err
			}
			sh := shapeOf(t, rec.storageKey, rec.body)
			p := &record{typ: t, kind: sh.kind, storageKey: bytes.Clone(rec.storageKey), bodyAt: rec.bodyAt, body: rec.body}
			var ok bool
			if p.userKey, p.suffix, ok = sh.takeApart(p.storageKey); !ok {
				r.strays[t]++
				continue
			}
			r.pieces = append(r.pieces, p)
		}
	}
	slices.SortFunc(r.pieces, func(a, b *record) int {
		if c := canonical(a.userKey, b.userKey); c != 0 {
			return c
		}
		if a.typ != b.typ {
			return int(a.typ - b.typ)
		}
		if a.kind != b.kind {
			return int(a.kind - b.kind)
		}
		return bytes.Compare(a.suffix, b.suffix)
	})
	return nil
}

// A keyGroup is all records of one user key. It is good until the next one.
type keyGroup struct {
	userKey []byte
	records [4]*record // at tHLL, tString, tBare and tTTL
	pieces  []*record  // of collections
	typ     recordType // of the user key: tBare where a bare string counts; tNone where it does not exist
}

const tNone recordType = -1

// precedence is the second table of TYPE.
var precedence = []struct {
	typ   recordType
	kinds []kind
}{
	{tString, nil}, {tHLL, nil}, {tBare, nil},
	{tList, []kind{kMeta, kDelta}},
	{tHash, []kind{kMeta, kDelta, kElement}},
	{tSet, []kind{kMeta, kDelta, kElement}},
	{tZset, []kind{kMeta, kDelta, kElement}},
	{tHash, []kind{kPacked}}, {tSet, []kind{kPacked}}, {tZset, []kind{kPacked}},
	{tStream, []kind{kMeta}}, {tStream, []kind{kPacked}},
}

// keyType gives the type of the user key: the first line that fits (TYPE-4).
func (g *keyGroup) keyType() recordType {
	for _, line := range precedence {
		if line.kinds == nil && g.records[line.typ] != nil {
			return line.typ
		}
		for _, k := range line.kinds {
			if len(g.of(line.typ, k)) > 0 {
				return line.typ
			}
		}
	}
	return tNone
}

// of gives the pieces of one type and kind, by suffix.
func (g *keyGroup) of(t recordType, k kind) []*record {
	from := sort.Search(len(g.pieces), func(i int) bool { p := g.pieces[i]; return p.typ > t || p.typ == t && p.kind >= k })
	to := sort.Search(len(g.pieces), func(i int) bool { p := g.pieces[i]; return p.typ > t || p.typ == t && p.kind > k })
	return g.pieces[from:to]
}

// own gives the first piece of the collection of one kind, or nil.
func (g *keyGroup) own(k kind) *record {
	if list := g.of(g.typ, k); len(list) > 0 {
		return list[0]
	}
	return nil
}

// Where a meta has its fields `length` and `expiry` (COLL, RLIS, RSTM).
var (
	lengthAt = [typeCount]int64{tList: 16}
	expiryAt = [typeCount]int64{tHash: 8, tList: 24, tSet: 8, tZset: 8, tStream: 24}
)

// hasExpiry says whether the meta of the collection has the field `expiry`, also an unreadable one (RTTL-4).
func (g *keyGroup) hasExpiry() bool {
	m := g.own(kMeta)
	return m != nil && m.body >= expiryAt[g.typ]+8
}

// A flaw is why a record is unreadable: the clause that is broken, and the offset.
type flaw struct {
	rec    *record
	clause string
	at     int64
}

func (f *flaw) fault() *Fault { // COLL-16
	return faultAt("invalid-value", f.clause, f.at, "a collection that no client could read").withKey(f.rec.storageKey)
}

// A collection is what the meta and the deltas of a user key say, and which of its records are read.
type collection struct {
	typ        recordType
	expiry     uint64
	mayEnd     bool // there is an expiry
	elements   []*record
	packed     *record // where the elements are, if it is not nil
	length     uint64  // of streams
	last       [2]uint64
	trimmed    *[2]uint64 // nil without these fields
	begin, end *big.Int   // the window of a list
}

// collection reads meta and deltas (COLL-17), and finds the elements.
func (s *snapshot) collection(g *keyGroup) (*collection, *flaw, error) {
	c := &collection{typ: g.typ, begin: new(big.Int), end: new(big.Int)}
	w := s.bodies()
	if ttl := g.records[tTTL]; ttl != nil && sound(ttl) && !g.hasExpiry() { // COLL-5, RTTL-17
		c.mayEnd, c.expiry = true, clamp(ttl.head[:8])
	}
	if m := g.own(kMeta); m != nil {
		if bad, err := c.readMeta(w, m); bad != nil || err != nil {
			return c, bad, err
		}
	}
	if c.typ == tList { // the bodies of other deltas are not judged (COLL-3)
		if bad, err := c.readDeltas(w, g.of(tList, kDelta)); bad != nil || err != nil {
			return c, bad, err
		}
	}
	for _, e := range g.of(g.typ, kElement) {
		if c.reads(e) {
			c.elements = append(c.elements, e)
		}
	}
	if c.typ != tStream && len(c.elements) == 0 { // COLL-6, RSTM-7; lists have none
		c.packed = g.own(kPacked)
	}
	return c, nil, nil
}

// firstRecord is the first record of the collection in the order of COLL-17.
func (g *keyGroup) firstRecord() *record {
	for k := kMeta; k < kPacked; k++ {
		if rec := g.own(k); rec != nil {
			return rec
		}
	}
	return g.own(kPacked)
}

// metaSizes are the sizes that the body of a meta can have, and the clause that says so.
var metaSizes = [typeCount]struct {
	clause string
	sizes  []int64
}{
	tHash: {"COLL-1", []int64{8, 16}}, tSet: {"COLL-1", []int64{8, 16}}, tZset: {"COLL-1", []int64{8, 16}},
	tList: {"RLIS-1", []int64{24, 32}}, tStream: {"RSTM-1", []int64{24, 32, 48}},
}

// readMeta reads and judges a meta (COLL-1, COLL-2, RLIS-1, RSTM-1).
func (c *collection) readMeta(w *window, m *record) (*flaw, error) {
	if want := metaSizes[c.typ]; !slices.Contains(want.sizes, m.body) {
		return &flaw{m, want.clause, m.bodyAt}, nil
	}
	b, err := w.bytes(m.bodyAt, int(m.body))
	if err != nil {
		return nil, err
	}
	u64 := func(at int64) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	c.length = u64(lengthAt[c.typ])
	if c.length > math.MaxInt64 { // COLL-2
		return &flaw{m, "COLL-2", m.bodyAt + lengthAt[c.typ]}, nil
	}
	if at := expiryAt[c.typ]; m.body > at { // COLL-4
		c.expiry = clamp(b[at : at+8])
		c.mayEnd = c.expiry != 0
	}
	switch c.typ {
	case tList: // RLIS-1, RLIS-3
		c.begin.SetInt64(int64(u64(0)))
		c.end.Add(c.begin, new(big.Int).SetUint64(c.length))
		if c.end.Cmp(big.NewInt(int64(u64(8)))) != 0 {
			return &flaw{m, "RLIS-1", m.bodyAt + 8}, nil
		}
	case tStream:
		c.last = [2]uint64{u64(8), u64(16)}
		if m.body == 48 {
			c.trimmed = &[2]uint64{u64(32), u64(40)}
		}
	}
	return nil, nil
}

// readDeltas moves the window of a list (RLIS-2, RLIS-3).
func (c *collection) readDeltas(w *window, deltas []*record) (*flaw, error) {
	for _, d := range deltas {
		if d.body != 16 {
			return &flaw{d, "RLIS-2", d.bodyAt}, nil
		}
		b, err := w.bytes(d.bodyAt, 16)
		if err != nil {
			return nil, err
		}
		head := big.NewInt(int64(binary.BigEndian.Uint64(b)))
		c.begin.Add(c.begin, head)
		c.end.Add(c.end, head).Add(c.end, big.NewInt(int64(binary.BigEndian.Uint64(b[8:]))))
	}
	return nil, nil
}

// reads says whether a client reads an element (RLIS-5, RSTM-3).
func (c *collection) reads(e *record) bool {
	switch c.typ {
	case tList: // RLIS-4
		n := big.NewInt(int64(binary.BigEndian.Uint64(e.suffix) ^ 1<<63))
		return n.Cmp(c.begin) >= 0 && n.Cmp(c.end) < 0
	case tStream: // RSTM-2
		ms, seq := binary.BigEndian.Uint64(e.suffix), binary.BigEndian.Uint64(e.suffix[8:])
		t := c.trimmed
		return c.length > 0 && (t == nil || ms > t[0] || ms == t[0] && seq > t[1])
	}
	return true
}

// judgeElements judges the elements, or the packed record that they are in (COLL-17).
func (s *snapshot) judgeElements(c *collection) (*flaw, error) {
	w := s.bodies()
	if c.packed != nil {
		_, bad, err := c.readPacked(w)
		return bad, err
	}
	for _, e := range c.elements {
		switch c.typ {
		case tZset: // RZSE-1, RZSE-2
			if e.body != 8 {
				return &flaw{e, "RZSE-1", e.bodyAt}, nil
			}
			b, err := w.bytes(e.bodyAt, 8)
			if err != nil {
				return nil, err
			}
			if math.IsNaN(math.Float64frombits(binary.BigEndian.Uint64(b))) {
				return &flaw{e, "RZSE-2", e.bodyAt}, nil
			}
		case tStream:
			if _, _, bad, err := readStreamElement(w, e); bad != nil || err != nil {
				return bad, err
			}
		}
	}
	return nil, nil
}

// judgeCollection gives the collection of a user key, and why it is unreadable, if it is; nil where the user key
// is no collection that is wanted.
func (c choices) judgeCollection(s *snapshot, g *keyGroup) (*collection, *flaw, error) {
	if g.typ < tHash || g.typ > tStream || !c.wanted[g.typ] {
		return nil, nil, nil
	}
	// SALV-11; without salvage its bodies are judged, and the TTL record itself is refused behind them (OUTC-5, FATE-2).
	if ttl := g.records[tTTL]; c.salvage && ttl != nil && !sound(ttl) && !g.hasExpiry() {
		first := g.firstRecord()
		return &collection{}, &flaw{first, "RTTL-1", first.bodyAt}, nil
	}
	coll, bad, err := s.collection(g)
	if bad == nil && err == nil {
		bad, err = s.judgeElements(coll)
	}
	return coll, bad, err
}

// counterOf says what becomes of one record: the table of collections in FATE.
func (c choices) counterOf(p *record, g *keyGroup, coll *collection, bad *flaw) string {
	switch {
	case !c.wanted[p.typ]: // COMP-12
		return "excluded"
	case g.typ == tNone: // TYPE-6
		return "orphan"
	case p.typ != g.typ: // TYPE-5
		return "shadowed"
	case p.kind == kPacked && p.typ != tStream && g.own(kElement) != nil: // COLL-7
		return "shadowed"
	case bad != nil: // COLL-16
		return "unreadable"
	case p.kind == kClaim || p.kind == kIndex || p.kind == kElement && !coll.reads(p): // RLIS-6, RZSE-4, RSTM-4
		return "unread"
	case p.kind == kPacked && p.typ == tStream && g.own(kMeta) != nil: // RSTM-7
		return "unread"
	}
	return "written"
}
