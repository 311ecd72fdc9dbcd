package main

// Chapter COLL: packed records and elements of streams, which are messages of Protocol Buffers.

import (
	"encoding/binary"
	"iter"
	"math"
	"unicode/utf8"
)

// A field is one of a message (COLL-10).
type field struct {
	number uint64
	wire   uint64
	tagAt  int64  // its offset
	value  []byte // of the wire types 1, 2 and 5
	at     int64  // the offset of the value
}

// fields reads the message that stands at an offset, or finds the field that is at fault (COLL-11).
func fields(rec *record, message []byte, offset int64) iter.Seq2[field, *flaw] {
	return func(yield func(field, *flaw) bool) {
		for at := 0; at < len(message); {
			f := field{tagAt: offset + int64(at)}
			tag, ok := varint(message, &at)
			f.number, f.wire = tag>>3, tag&7
			size := uint64(0)
			switch f.wire {
			case 0:
				if ok {
					_, ok = varint(message, &at)
				}
			case 1:
				size = 8
			case 2:
				if ok {
					size, ok = varint(message, &at)
				}
			case 5:
				size = 4
			default:
				ok = false
			}
			if !ok || f.number < 1 || f.number >= 1<<29 || size > uint64(len(message)-at) {
				yield(field{}, &flaw{rec, "COLL-11", f.tagAt})
				return
			}
			f.value, f.at = message[at:at+int(size)], offset+int64(at)
			at += int(size)
			if !yield(f, nil) {
				return
			}
		}
	}
}

// varint reads at most ten bytes, whose number is below 2^64 (COLL-10).
func varint(b []byte, at *int) (uint64, bool) {
	n, size := binary.Uvarint(b[*at:])
	*at += max(size, 0)
	return n, size > 0
}

// is says whether a field has a number and its wire type; any other is ignored (COLL-12).
func (f field) is(number, wire uint64) bool { return f.number == number && f.wire == wire }

// text judges a text (COLL-14).
func (f field) text(rec *record) *flaw {
	if !utf8.Valid(f.value) {
		return &flaw{rec, "COLL-14", f.tagAt}
	}
	return nil
}

var packedMagic = map[recordType]string{tHash: "\x00RH\x01", tSet: "\x00RS\x01", tZset: "\x00RZ\x01"}

// readPacked gives the elements of a packed record: values of fields, and scores as in the body of an element,
// by name or member; of several, the last one (COLL-15).
func (c *collection) readPacked(w *window) (map[string][]byte, *flaw, error) {
	rec := c.packed
	body, err := w.bytes(rec.bodyAt, int(rec.body))
	if err != nil || len(body) == 0 { // COLL-9
		return nil, nil, err
	}
	magic := packedMagic[c.typ]
	if len(body) < len(magic) || string(body[:len(magic)]) != magic {
		return nil, &flaw{rec, "COLL-9", rec.bodyAt}, nil
	}
	elements := map[string][]byte{}
	for f, bad := range fields(rec, body[len(magic):], rec.bodyAt+int64(len(magic))) {
		if bad != nil {
			return nil, bad, nil
		}
		if !f.is(1, 2) {
			continue
		}
		name, value := f.value, []byte(nil)
		if c.typ == tSet { // RSET-2
			bad = f.text(rec)
		} else {
			name, value, bad = readInner(c.typ, rec, f)
		}
		if bad != nil {
			return nil, bad, nil
		}
		elements[string(name)] = value
	}
	return elements, nil, nil
}

// readInner reads one field of a packed hash (RHAS-2) or one member of a packed zset (RZSE-3).
// What does not come is empty, or 0; the last one counts (COLL-13).
func readInner(typ recordType, rec *record, inner field) (name, value []byte, _ *flaw) {
	if typ == tZset {
		value = make([]byte, 8)
	}
	for f, bad := range fields(rec, inner.value, inner.at) {
		switch {
		case bad != nil:
		case f.is(1, 2):
			name, bad = f.value, f.text(rec)
		case f.is(2, 2) && typ == tHash:
			value, bad = f.value, f.text(rec)
		case f.is(2, 1) && typ == tZset:
			bits := binary.LittleEndian.Uint64(f.value)
			if math.IsNaN(math.Float64frombits(bits)) { // RZSE-2
				bad = &flaw{rec, "RZSE-2", f.tagAt}
			}
			value = binary.BigEndian.AppendUint64(nil, bits)
		}
		if bad != nil {
			return nil, nil, bad
		}
	}
	return name, value, nil
}

const streamMagic = "\x00RXE\x01"

// readStreamElement gives the ID of an element of a stream, and names and values of its fields by turns (RSTM-5, RSTM-6).
func readStreamElement(w *window, rec *record) (id []byte, texts [][]byte, _ *flaw, err error) {
	body, err := w.bytes(rec.bodyAt, int(rec.body))
	if err != nil {
		return nil, nil, nil, err
	}
	if len(body) < len(streamMagic) || string(body[:len(streamMagic)]) != streamMagic {
		return nil, nil, &flaw{rec, "RSTM-6", rec.bodyAt}, nil
	}
	for f, bad := range fields(rec, body[len(streamMagic):], rec.bodyAt+int64(len(streamMagic))) {
		switch {
		case bad != nil:
		case f.is(1, 2):
			id, bad = f.value, f.text(rec)
		case f.is(2, 2):
			texts, bad = append(texts, f.value), f.text(rec)
		}
		if bad != nil {
			return nil, nil, bad, nil
		}
	}
	if len(texts)%2 != 0 {
		return nil, nil, &flaw{rec, "RSTM-6", rec.bodyAt}, nil
	}
	return id, texts, nil, nil
}
