package main

// Chapters SEGM, KMAP and MANI-2, MANI-5: keys as file names, and text.

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxSegment = 240 // SEGM-2

func unreserved(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
}

// percentForm is SEGM-1.
func percentForm(key []byte) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(key))
	for _, c := range key {
		if unreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

// segment gives the segment of a key, and whether it is the fallback form (SEGM-3 to SEGM-7).
func segment(key []byte) (string, bool) {
	if len(key) <= maxSegment {
		p := percentForm(key)
		if len(p) <= maxSegment && !looksFallback(p) && !strings.HasPrefix(p, "b64.") {
			return p, false
		}
	}
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16]) + "__" + percentForm(key[:min(len(key), 64)]), true
}

// looksFallback: 32 hex digits of either case and `__` (SEGM-6, READ-2).
func looksFallback(s string) bool {
	return len(s) >= 34 && isHex(s[:32]) && s[32:34] == "__"
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ttlLine(seg string, expiry uint64) string { // RTTL-14
	return fmt.Sprintf(`{"key":"%s","expire_at_ms":%d}`+"\n", seg, expiry)
}

func keymapLine(seg string, key []byte) string { // KMAP-1
	return fmt.Sprintf(`{"encoded":"%s","original":"%s","kind":"sha-fallback"}`+"\n", seg, b64(key))
}

func unreadableLine(seg string, storageKey []byte, offset int64, clause, kind string) string { // SALV-6
	return fmt.Sprintf(`{"segment":"%s","storage_key":"%s","offset":%d,"clause":"%s","kind":"%s"}`+"\n",
		seg, b64(storageKey), offset, clause, kind)
}

// text writes bytes that are not UTF-8 as \x and two digits (MANI-5).
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// jsonString escapes only what JSON requires to be escaped (MANI-2).
func jsonString(s string) string {
	b := []byte{'"'}
	for _, c := range []byte(s) {
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if c < 0x20 {
				b = fmt.Appendf(b, `\u%04x`, c)
			} else {
				b = append(b, c)
			}
		}
	}
	return string(append(b, '"'))
}
