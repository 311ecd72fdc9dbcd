package main

// Chapters COLL, RHAS, RLIS, RSET, RZSE and RSTM: the blobs of collections.

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A raw value is JSON as it is.
type raw string

// escapedString is a string of collections (COLL-20).
func escapedString(text []byte) raw {
	b := []byte{'"'}
	for _, r := range string(text) {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r < 0x20 || r == '<' || r == '>' || r == '&' || r == 0x2028 || r == 0x2029:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return raw(append(b, '"'))
}

// bytesAsJSON is a string, or an object with base64 (COLL-19).
func bytesAsJSON(b []byte) any {
	if utf8.Valid(b) {
		return escapedString(b)
	}
	return object{{"base64", b64(b)}}
}

// scoreAsJSON gives the decimal with the fewest digits (RZSE-6).
func scoreAsJSON(score float64) any {
	switch abs := math.Abs(score); {
	case math.IsInf(score, 1):
		return "+inf"
	case math.IsInf(score, -1):
		return "-inf"
	case abs == 0 || abs >= 1e-6 && abs < 1e21:
		return raw(strconv.FormatFloat(score, 'f', -1, 64))
	}
	digits, exponent, _ := strings.Cut(strconv.FormatFloat(score, 'e', -1, 64), "e")
	return raw(digits + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0"))
}

// Where the blobs of a collection lie, and the name of its list of elements.
var blobDir = [typeCount]string{tHLL: "hll", tString: "strings", tBare: "strings",
	tHash: "hashes", tList: "lists", tSet: "sets", tZset: "zsets", tStream: "streams"}

// suffixes of blobs by their directory (TREE-4).
var blobSuffix = map[string]string{"strings": ".bin", "hll": ".bin", "hashes": ".json", "lists": ".json",
	"sets": ".json", "zsets": ".json", "streams": ".jsonl", "unreadable": ".bin"}

var listName = [typeCount]string{tHash: "fields", tList: "items", tSet: "members", tZset: "members"}

// itemOf is one element in a document (RHAS-3, RLIS-7, RSET-3, RZSE-5).
func itemOf(typ recordType, name, value []byte) any {
	switch typ {
	case tHash:
		return object{{"name", bytesAsJSON(name)}, {"value", bytesAsJSON(value)}}
	case tSet:
		return bytesAsJSON(name)
	case tZset:
		score := math.Float64frombits(binary.BigEndian.Uint64(value))
		return object{{"member", bytesAsJSON(name)}, {"score", scoreAsJSON(score)}}
	}
	return bytesAsJSON(value) // of a list
}

// items gives the elements of a document in their order (COLL-21, RLIS-5).
func (s *snapshot) items(c *collection) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		w := s.bodies()
		if c.packed != nil {
			elements, _, err := c.readPacked(w)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, name := range sortedKeys(elements) {
				if !yield(itemOf(c.typ, []byte(name), elements[name]), nil) {
					return
				}
			}
			return
		}
		for _, e := range c.elements {
			var body []byte
			var err error
			if c.typ != tSet { // RSET-1
				body, err = w.bytes(e.bodyAt, int(e.body))
			}
			if !yield(itemOf(c.typ, e.suffix, body), err) || err != nil {
				return
			}
		}
	}
}

// expiryAsJSON is a number or null (COLL-4, COLL-5).
func (c *collection) expiryAsJSON() string {
	if !c.mayEnd {
		return "null"
	}
	return strconv.FormatUint(c.expiry, 10)
}

// writeCollection writes the blob of a collection.
func (s *snapshot) writeCollection(w io.Writer, c *collection) error {
	if c.typ == tStream {
		return s.writeStream(w, c)
	}
	return s.writeDocument(w, c)
}

// writeDocument is COLL-18.
func (s *snapshot) writeDocument(w io.Writer, c *collection) error {
	if _, err := fmt.Fprintf(w, "{\n  \"format_version\": 1,\n  \"%s\": [", listName[c.typ]); err != nil {
		return err
	}
	between, end := "", "]"
	for item, err := range s.items(c) {
		if err != nil {
			return err
		}
		var b strings.Builder
		b.WriteString(between + "\n    ")
		render(&b, item, "    ")
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
		between, end = ",", "\n  ]"
	}
	_, err := fmt.Fprintf(w, "%s,\n  \"expire_at_ms\": %s\n}", end, c.expiryAsJSON())
	return err
}

// writeStream writes a line for each element (RSTM-8), and the last line (RSTM-9).
func (s *snapshot) writeStream(w io.Writer, c *collection) error {
	bodies := s.bodies()
	for _, e := range c.elements {
		id, texts, _, err := readStreamElement(bodies, e)
		if err != nil {
			return err
		}
		var b strings.Builder
		fmt.Fprintf(&b, `{"id":%s,"fields":[`, escapedString(id))
		for i := 0; i+1 < len(texts); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"name":%s,"value":%s}`, escapedString(texts[i]), escapedString(texts[i+1]))
		}
		b.WriteString("]}\n")
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, `{"_meta":true,"length":%d,"last_ms":%d,"last_seq":%d,"expire_at_ms":%s}`+"\n",
		c.length, c.last[0], c.last[1], c.expiryAsJSON())
	return err
}
