package main

// CONV-11: JSON as a reader takes it.

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const maxDepth = 64

// A jsonNumber is the number as written, so that it can have any number of digits.
type jsonNumber string

type jsonObject = map[string]any // of a repeated member, the last one

// parseJSON gives nil, bool, jsonNumber, string, []any or jsonObject; ok is false for what is not JSON.
// A lone surrogate becomes three bytes that are not UTF-8.
func parseJSON(data []byte) (v any, ok bool) {
	if !utf8.Valid(data) {
		return nil, false
	}
	p := &jsonParser{data: data}
	v, ok = p.value(0)
	p.space()
	return v, ok && p.at == len(data)
}

type jsonParser struct {
	data []byte
	at   int
}

func (p *jsonParser) peek() byte {
	if p.at < len(p.data) {
		return p.data[p.at]
	}
	return 0
}

func (p *jsonParser) take(c byte) bool {
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *jsonParser) space() {
	for p.take(' ') || p.take('\t') || p.take('\n') || p.take('\r') {
	}
}

func (p *jsonParser) word(w string) bool {
	if len(p.data)-p.at >= len(w) && string(p.data[p.at:p.at+len(w)]) == w {
		p.at += len(w)
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) (any, bool) {
	p.space()
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if depth == maxDepth {
			return nil, false
		}
		if c == '{' {
			return p.object(depth)
		}
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == 't':
		return true, p.word("true")
	case c == 'f':
		return false, p.word("false")
	case c == 'n':
		return nil, p.word("null")
	}
	return p.number()
}

func (p *jsonParser) object(depth int) (any, bool) {
	o := jsonObject{}
	p.at++
	if p.space(); p.take('}') {
		return o, true
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, false
		}
		name, ok := p.str()
		if p.space(); !ok || !p.take(':') {
			return nil, false
		}
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		o[name.(string)] = v
		p.space()
		if p.take('}') {
			return o, true
		}
		if !p.take(',') {
			return nil, false
		}
	}
}

func (p *jsonParser) array(depth int) (any, bool) {
	a := []any{}
	p.at++
	if p.space(); p.take(']') {
		return a, true
	}
	for {
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		a = append(a, v)
		p.space()
		if p.take(']') {
			return a, true
		}
		if !p.take(',') {
			return nil, false
		}
	}
}

func (p *jsonParser) digits() bool {
	from := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > from
}

func (p *jsonParser) number() (any, bool) {
	from := p.at
	p.take('-')
	if !p.take('0') && !p.digits() {
		return nil, false
	}
	if p.take('.') && !p.digits() {
		return nil, false
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if !p.digits() {
			return nil, false
		}
	}
	return jsonNumber(p.data[from:p.at]), true
}

func (p *jsonParser) str() (any, bool) {
	p.at++
	var b []byte
	for p.at < len(p.data) {
		c := p.data[p.at]
		p.at++
		switch {
		case c == '"':
			return string(b), true
		case c < 0x20:
			return nil, false
		case c != '\\':
			b = append(b, c)
			continue
		}
		c = p.peek()
		p.at++
		switch c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := p.hex4()
			if !ok {
				return nil, false
			}
			if utf16.IsSurrogate(r) {
				rest := p.at
				low, pair := rune(0), p.word(`\u`)
				if pair {
					low, pair = p.hex4()
				}
				if both := utf16.DecodeRune(r, low); pair && both != utf8.RuneError {
					b = utf8.AppendRune(b, both)
				} else { // a lone surrogate
					p.at = rest
					b = append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
				}
				continue
			}
			b = utf8.AppendRune(b, r)
		default:
			return nil, false
		}
	}
	return nil, false
}

func (p *jsonParser) hex4() (rune, bool) {
	if len(p.data)-p.at < 4 || !isHex(string(p.data[p.at:p.at+4])) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.data[p.at:p.at+4]), 16, 32)
	p.at += 4
	return rune(n), err == nil
}

// whole says whether a number has neither a fraction nor an exponent (READ-14).
func (n jsonNumber) whole() bool {
	for _, c := range []byte(n) {
		if c == '.' || c == 'e' || c == 'E' {
			return false
		}
	}
	return true
}

// zero says whether a number is 0, however it is written.
func (n jsonNumber) zero() bool {
	for _, c := range []byte(n) {
		if c == 'e' || c == 'E' {
			break
		}
		if c >= '1' && c <= '9' {
			return false
		}
	}
	return true
}

// asUint gives a whole number from 0 to 2^64 - 1 (INTO-8); `-0` is 0 (READ-14).
func asUint(v any) (uint64, bool) {
	n, ok := v.(jsonNumber)
	if !ok {
		return 0, false
	}
	if n == "-0" {
		return 0, true
	}
	u, err := strconv.ParseUint(string(n), 10, 64)
	return u, err == nil
}

// asText gives a string; one with a lone surrogate does not count (CONV-11).
func asText(v any) (string, bool) {
	s, ok := v.(string)
	return s, ok && utf8.ValidString(s)
}
