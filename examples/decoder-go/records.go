package main

// Chapters VISI and KEYS: from entries to records, types, canonical order.

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
)

type recordType int

// The first four are of records that are alone; types without a chapter stand in the order of the table of KEYS.
const (
	tHLL recordType = iota
	tString
	tBare
	tTTL
	tHash
	tList
	tSet
	tZset
	tStream
	tDynamoDB
	tS3
	tSQS
	tInternal
	tUnknown
	typeCount
)

var typeNames = [typeCount]string{"hll", "string", "bare", "ttl", "hash", "list", "set", "zset",
	"stream", "dynamodb", "s3", "sqs", "internal", "unknown"}

// Prefixes by type. Those of strings, HLLs and TTL records are alone.
var prefixes = [typeCount][]string{
	tHLL:      {"!redis|hll|"},
	tString:   {"!redis|str|"},
	tTTL:      {"!redis|ttl|"},
	tHash:     {"!hs|meta|d|", "!hs|meta|", "!hs|fld|", "!redis|hash|"},
	tList:     {"!lst|meta|d|", "!lst|meta|", "!lst|itm|", "!lst|claim|"},
	tSet:      {"!st|meta|d|", "!st|meta|", "!st|mem|", "!redis|set|"},
	tZset:     {"!zs|meta|d|", "!zs|meta|", "!zs|mem|", "!zs|scr|", "!redis|zset|"},
	tStream:   {"!stream|meta|", "!stream|entry|", "!redis|stream|"},
	tDynamoDB: {"!ddb|meta|table|", "!ddb|meta|gen|", "!ddb|item|", "!ddb|gsi|"},
	tS3: {"!s3|bucket|meta|", "!s3|obj|head|", "!s3|upload|meta|", "!s3|upload|part|",
		"!s3|blob|", "!s3|chunkref|", "!s3|chunkblob|"},
	tSQS: {"!sqs|queue|meta|", "!sqs|queue|gen|", "!sqs|queue|seq|", "!sqs|queue|tombstone|",
		"!sqs|msg|data|", "!sqs|msg|vis|", "!sqs|msg|byage|", "!sqs|msg|dedup|", "!sqs|msg|group|"},
	tInternal: {"!txn|", "!dist|", "!encryption|", "!s3route|", "!s3|bucket|gen|", "!s3|gc|upload|",
		"!redis|txn-wide-hash|", "!redis|txn-wide-set|", "!redis|txn-wide-list|", "!redis|txn-wide-zset|"},
}

// typeOf gives the type of the longest prefix that a storage key begins with (KEYS-1, KEYS-3, KEYS-8).
func typeOf(storageKey []byte) recordType {
	if len(storageKey) == 0 || storageKey[0] != '!' {
		return tBare
	}
	found, longest := tUnknown, 0
	for t, list := range prefixes {
		for _, p := range list {
			if len(p) > longest && len(storageKey) >= len(p) && string(storageKey[:len(p)]) == p {
				found, longest = recordType(t), len(p)
			}
		}
	}
	return found
}

// beginning is what the warning about an unknown key says of it (KEYS-9).
func beginning(key []byte) string {
	head := key[:min(len(key), 64)]
	if i := bytes.IndexByte(head, '|'); i >= 0 {
		if j := bytes.IndexByte(head[i+1:], '|'); j >= 0 {
			head = head[:i+1+j+1]
		}
	}
	return percentForm(head)
}

const (
	metaAppliedIndex = "_meta_applied_index"
	writersPrefix    = "!encryption|writers|"
)

// operational says whether an entry is one of the node's own (VISI-7, VISI-8, VISI-10).
func operational(e *entry) bool {
	switch string(e.key) {
	case "_meta_last_commit_ts", "_meta_min_retained_ts", "_meta_pending_min_retained_ts", metaAppliedIndex:
		return e.valueSz == 8
	}
	return len(e.key) == 27 && strings.HasPrefix(string(e.key), writersPrefix) && e.key[24] == '|' && e.valueSz == 12
}

// judgeEntry finds faults of version suffix and value header, in the order of VISI-1 to VISI-5 (VISI-6).
func judgeEntry(e *entry) *Fault {
	if len(e.key) < 8 {
		return faultAt("too-short", "VISI-1", e.keyAt, "an encoded key without room for its version suffix")
	}
	if e.valueSz < 9 {
		return faultAt("too-short", "VISI-2", e.valueAt, "an encoded value without room for its value header")
	}
	flags := e.head[0]
	if flags&0xF8 != 0 {
		return faultAt("reserved-bits", "VISI-3", e.valueAt, "flag bits without a meaning")
	}
	if flags&0x04 != 0 {
		return faultAt("reserved-bits", "VISI-4", e.valueAt, "an encryption state without a meaning")
	}
	if flags&0x02 != 0 {
		return faultAt("encrypted", "VISI-5", e.valueAt, "an encrypted entry").withKey(e.key[:len(e.key)-8])
	}
	return nil
}

// split gives the storage key and the commit timestamp of an encoded key (VISI-1).
func split(encoded []byte) ([]byte, uint64) {
	n := len(encoded) - 8
	return encoded[:n], ^binary.BigEndian.Uint64(encoded[n:])
}

// A version is the one that counts of an open key.
type version struct {
	size         int // of the storage key
	tombstone    bool
	expired      bool
	bodyAt, body int64
	head         [11]byte // the first bytes of the body
}

func (s *snapshot) version(e *entry, keySize int) version {
	v := version{size: keySize, bodyAt: e.valueAt + 9, body: e.valueSz - 9}
	v.tombstone = e.head[0]&1 != 0 // VISI-12
	expireAt := binary.LittleEndian.Uint64(e.head[1:9])
	v.expired = expireAt != 0 && expireAt <= s.lastCommit // VISI-13
	copy(v.head[:], e.head[9:])
	return v
}

// openKeys are those that can get further versions. All begin with one another, so the bytes
// of the longest and the sizes of the others are enough (VISI-21).
type openKeys struct {
	longest []byte
	stack   []version // by size
}

// leave takes the keys off that the encoded key at hand does not begin with, the longest first (VISI-18, VISI-20).
// emit may be nil.
func (o *openKeys) leave(encoded []byte, emit func([]byte, version) bool) bool {
	common := 0
	for common < min(len(encoded), len(o.longest)) && encoded[common] == o.longest[common] {
		common++
	}
	return o.leaveAbove(common, emit)
}

func (o *openKeys) leaveAbove(size int, emit func([]byte, version) bool) bool {
	for n := len(o.stack); n > 0 && o.stack[n-1].size > size; n-- {
		v := o.stack[n-1]
		o.stack = o.stack[:n-1]
		if emit != nil && !emit(o.longest[:v.size], v) {
			return false
		}
	}
	if n := len(o.stack); n > 0 {
		o.longest = o.longest[:o.stack[n-1].size]
	} else {
		o.longest = o.longest[:0]
	}
	return true
}

// arrive opens a key at its place by size (VISI-19), or says that it is open already:
// its versions stand newest first, so the first one counts (VISI-11).
func (o *openKeys) arrive(storageKey []byte, v version) bool {
	i, found := slices.BinarySearchFunc(o.stack, len(storageKey), func(v version, size int) int { return v.size - size })
	if found {
		return false
	}
	if i == len(o.stack) {
		o.longest = append(o.longest[:0], storageKey...)
	}
	o.stack = slices.Insert(o.stack, i, v)
	return true
}

// A survey is what one look at the whole file finds (FILE-21).
type survey struct {
	entries      map[string]uint64
	types        [typeCount]uint64
	spans        [typeCount]struct{ from, to int64 } // where the entries of a type stand
	appliedIndex uint64
	beginnings   []string  // of unknown keys, the first 16
	pieces       []*record // of collections, by user key
	strays       [typeCount]uint64
}

func (s *snapshot) survey() (*survey, error) {
	if err := s.readHeader(); err != nil {
		return nil, err
	}
	r := &survey{entries: map[string]uint64{}}
	var open openKeys
	var header *Fault // the first of its class (OUTC-3, OUTC-4)
	end := s.first
	for e, err := range s.entries(s.first, s.size) {
		if err != nil {
			return nil, err
		}
		end = e.end()
		if operational(e) { // VISI-9
			r.entries["operational"]++
			if string(e.key) == metaAppliedIndex {
				r.appliedIndex = binary.LittleEndian.Uint64(e.head)
			}
			continue
		}
		if f := judgeEntry(e); f != nil {
			if header == nil {
				header = f
			}
			continue
		}
		s.count(e, &open, r)
	}
	if err := s.readFooter(end); err != nil {
		return nil, err
	}
	if header != nil {
		return nil, header
	}
	return r, nil
}

// count counts an entry as one thing, the first that fits (COMP-7).
func (s *snapshot) count(e *entry, open *openKeys, r *survey) {
	open.leave(e.key, nil)
	key, commit := split(e.key)
	v := s.version(e, len(key))
	switch {
	case commit > s.lastCommit: // VISI-14: nothing opens
		r.entries["future"]++
		return
	case !open.arrive(key, v):
		r.entries["history"]++
		return
	}
	t := typeOf(key)
	if span := &r.spans[t]; span.to == 0 {
		span.from, span.to = e.offset, e.end()
	} else {
		span.to = e.end()
	}
	switch {
	case v.tombstone:
		r.entries["deleted"]++
		return
	case v.expired:
		r.entries["expired"]++
		return
	}
	r.types[t]++
	switch {
	case t >= tDynamoDB && t <= tSQS:
		r.entries["undecoded"]++ // KEYS-5
	default:
		r.entries[typeNames[t]]++
	}
	if t == tUnknown && len(r.beginnings) < 16 {
		if b := beginning(key); !slices.Contains(r.beginnings, b) {
			r.beginnings = append(r.beginnings, b)
		}
	}
}

// A record is good until the next one; those of collections are good for ever, without a head.
type record struct {
	typ          recordType
	kind         kind // of collections
	storageKey   []byte
	userKey      []byte
	suffix       []byte // of collections
	bodyAt, body int64
	head         []byte
}

// records gives the records of one type in canonical order (VISI-17). Those of collections have no user key yet.
func (s *snapshot) records(t recordType, from, to int64) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		var open openKeys
		prefix := 0
		if t == tString || t == tHLL || t == tTTL { // RSTR-1, RSTR-2, RHLL-1, RTTL-4
			prefix = len(prefixes[t][0])
		}
		emit := func(key []byte, v version) bool {
			if v.tombstone || v.expired {
				return true
			}
			r := &record{typ: t, storageKey: key, userKey: key[prefix:], bodyAt: v.bodyAt, body: v.body}
			r.head = v.head[:min(v.body, int64(len(v.head)))]
			return yield(r, nil)
		}
		for e, err := range s.entries(from, to) {
			if err != nil {
				yield(nil, err)
				return
			}
			if operational(e) || judgeEntry(e) != nil {
				continue
			}
			if !open.leave(e.key, emit) {
				return
			}
			key, commit := split(e.key)
			if typeOf(key) == t && commit <= s.lastCommit { // KEYS-2
				open.arrive(key, s.version(e, len(key)))
			}
		}
		open.leaveAbove(-1, emit)
	}
}

// canonical compares two keys as if the end of a key were greater than every byte (VISI-17).
func canonical(a, b []byte) int {
	n := min(len(a), len(b))
	if c := bytes.Compare(a[:n], b[:n]); c != 0 {
		return c
	}
	return len(b) - len(a)
}

// byUserKey merges the records of strings, HLLs, collections and TTLs: all those of one user key at a time,
// in canonical order.
func (s *snapshot) byUserKey(r *survey) iter.Seq2[*keyGroup, error] {
	return func(yield func(*keyGroup, error) bool) {
		var next [4]func() (*record, error, bool)
		var head [4]*record
		for t := range next {
			pull, stop := iter.Pull2(s.records(recordType(t), r.spans[t].from, r.spans[t].to))
			defer stop()
			next[t] = pull
		}
		advance := func(t int) error {
			record, err, ok := next[t]()
			if !ok {
				record = nil
			}
			head[t] = record
			return err
		}
		for t := range next {
			if err := advance(t); err != nil {
				yield(nil, err)
				return
			}
		}
		for pieces := r.pieces; ; {
			var first *record
			if len(pieces) > 0 {
				first = pieces[0]
			}
			for _, h := range head {
				if h != nil && (first == nil || canonical(h.userKey, first.userKey) < 0) {
					first = h
				}
			}
			if first == nil {
				return
			}
			g := &keyGroup{userKey: first.userKey}
			for t, h := range head {
				if h != nil && bytes.Equal(h.userKey, first.userKey) {
					g.records[t] = h
				}
			}
			n := 0
			for n < len(pieces) && bytes.Equal(pieces[n].userKey, first.userKey) {
				n++
			}
			g.pieces, pieces = pieces[:n], pieces[n:]
			g.typ = g.keyType()
			if !yield(g, nil) {
				return
			}
			for t := range g.records {
				if g.records[t] != nil {
					if err := advance(t); err != nil {
						yield(nil, err)
						return
					}
				}
			}
		}
	}
}
