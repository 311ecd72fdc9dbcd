//go:build linux

package main

// Chapter READ: how a reader takes segments, lines and MANIFEST.json.

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
)

const (
	maxManifest     = 16_777_216 // READ-12
	maxLine         = 4_194_304  // READ-6, VERI-14
	maxChecksumLine = 8_192      // READ-25, without its LF
)

// A finding is a fault that a reader of a dump finds in it.
type finding struct{ name, clause string }

// readSegment gives the key of a segment (READ-1 to READ-5).
func readSegment(s string) (key []byte, f *finding) {
	if len(s) > maxSegment {
		return nil, &finding{"invalid-segment", "READ-1"}
	}
	if looksFallback(s) {
		return nil, &finding{"needs-keymap", "READ-2"}
	}
	if rest, ok := strings.CutPrefix(s, "b64."); ok {
		if key, ok = readBase64(rest); !ok {
			return nil, &finding{"invalid-segment", "READ-3"}
		}
		return key, nil
	}
	for i := 0; i < len(s); i++ {
		switch {
		case unreserved(s[i]):
			key = append(key, s[i])
		case s[i] == '%' && len(s)-i > 2 && isHex(s[i+1:i+3]):
			b, _ := hex.DecodeString(s[i+1 : i+3])
			key = append(key, b...)
			i += 2
		default:
			return nil, &finding{"invalid-segment", "READ-4"}
		}
	}
	return key, nil
}

// readBase64 reads base64url without padding, and nothing else: package base64 passes over CR and LF.
// Bits that are left over play no part (READ-3).
func readBase64(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	return b, err == nil
}

// lines gives the lines of a file without their LF; of a line above the limit (which counts the LF), long is true and nothing
// is given. hasLF is false for a last line without LF.
func lines(f io.Reader, limit int, use func(line []byte, long, hasLF bool) error) error {
	r := bufio.NewReaderSize(f, 64<<10)
	var line []byte
	size := 0
	for {
		piece, err := r.ReadSlice('\n')
		size += len(piece)
		if size <= limit {
			line = append(line, piece...)
		}
		switch err {
		case bufio.ErrBufferFull:
			continue
		case nil, io.EOF:
		default:
			return err
		}
		if size > 0 {
			hasLF := err == nil
			over := size > limit
			if over {
				line = line[:0]
			}
			if uerr := use(line[:len(line)-btoi(hasLF && !over)], over, hasLF); uerr != nil {
				return uerr
			}
		}
		if err == io.EOF {
			return nil
		}
		line, size = line[:0], 0
	}
}

type keymapEntry struct {
	encoded, kind string
	original      []byte
}

// readKeymapLine is READ-7 to READ-9.
func readKeymapLine(line []byte) (e keymapEntry, f *finding) {
	v, ok := parseJSON(line)
	o, isObject := v.(jsonObject)
	if !ok || !isObject {
		return e, &finding{"invalid-keymap", "READ-7"}
	}
	encoded, ok1 := asText(o["encoded"])
	original, ok2 := asText(o["original"])
	kind, ok3 := asText(o["kind"])
	if !ok1 || !ok2 || !ok3 {
		return e, &finding{"invalid-keymap", "READ-7"}
	}
	if encoded == "" || kind == "" {
		return e, &finding{"invalid-keymap", "READ-8"}
	}
	e = keymapEntry{encoded: encoded, kind: kind}
	if e.original, ok = readBase64(original); !ok {
		return e, &finding{"invalid-keymap", "READ-9"}
	}
	return e, nil
}

// readManifest gives the manifest, or its one finding (READ-24).
func readManifest(f *os.File) (jsonObject, *finding, error) {
	data, err := readLimited(f, maxManifest)
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxManifest {
		return nil, &finding{"invalid-manifest", "READ-12"}, nil
	}
	v, ok := parseJSON(data)
	m, isObject := v.(jsonObject)
	if !ok || !isObject {
		return nil, &finding{"invalid-manifest", "READ-13"}, nil
	}
	version, ok := m["format_version"].(jsonNumber)
	if !ok || !version.whole() {
		return nil, &finding{"invalid-manifest", "READ-14"}, nil
	}
	if version != "1" {
		return nil, &finding{"unsupported-manifest", "READ-14"}, nil
	}
	if clause := judgeManifest(m); clause != "" {
		return nil, &finding{"invalid-manifest", clause}, nil
	}
	return m, nil, nil
}

// judgeManifest names the first clause that is broken (READ-15 to READ-22).
func judgeManifest(m jsonObject) string {
	phase := m["phase"]
	if phase != "phase0-snapshot-decode" && phase != "phase1-live-pinned" {
		return "READ-15"
	}
	if t, ok := m["wall_time_iso"].(string); !ok || !validTime(t, false) {
		return "READ-16"
	}
	_, ok1 := m["adapters"].(jsonObject)
	exclusions, ok2 := m["exclusions"].(jsonObject)
	if !ok1 || !ok2 {
		return "READ-17"
	}
	for _, name := range []string{"include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records"} {
		if _, ok := exclusions[name].(bool); !ok {
			return "READ-18"
		}
	}
	for _, name := range []string{"checksum_algorithm", "checksum_format", "encoded_filename_charset",
		"s3_meta_suffix", "s3_collision_strategy", "dynamodb_layout"} {
		if s, ok := asText(m[name]); !ok || s == "" {
			return "READ-19"
		}
	}
	if n, ok := m["key_segment_max_bytes"].(jsonNumber); !ok || !n.whole() || n.zero() || n[0] == '-' {
		return "READ-19"
	}
	if phase == "phase0-snapshot-decode" {
		if m["live"] != nil {
			return "READ-20"
		}
		return ""
	}
	if m["source"] != nil {
		return "READ-21"
	}
	live, _ := m["live"].(jsonObject)
	if n, ok := live["read_ts"].(jsonNumber); !ok || n.zero() { // that 1.5 passes is in the list of known failures
		return "READ-22"
	}
	return ""
}

// readChecksumLine is READ-25 to READ-28.
func readChecksumLine(line string) (sum, path string, f *finding) {
	sum, path, ok := splitChecksumLine(line)
	switch {
	case !ok || len(line) > maxChecksumLine:
		return "", "", &finding{"malformed-line", "READ-25"}
	case path == "":
		return "", "", &finding{"empty-path", "READ-26"}
	case path[0] == '/':
		return "", "", &finding{"absolute-path", "READ-27"}
	case slices.Contains(strings.Split(path, "/"), ".."):
		return "", "", &finding{"parent-path", "READ-28"}
	}
	return sum, path, nil
}

// splitChecksumLine gives the hash (in lower case) and the path of a line.
func splitChecksumLine(line string) (sum, path string, ok bool) {
	escaped := strings.HasPrefix(line, "\\")
	if escaped {
		line = line[1:]
	}
	if len(line) < 66 || !isHex(line[:64]) || line[64:66] != "  " && line[64:66] != " *" {
		return "", "", false
	}
	sum, path = strings.ToLower(line[:64]), line[66:]
	if strings.IndexByte(path, 0) >= 0 {
		return "", "", false
	}
	if !escaped {
		return sum, path, true
	}
	var b []byte // SUMS-2 undone
	for i := 0; i < len(path); i++ {
		if path[i] != '\\' {
			b = append(b, path[i])
			continue
		}
		if i++; i == len(path) {
			return "", "", false
		}
		switch path[i] {
		case '\\':
			b = append(b, '\\')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		default:
			return "", "", false
		}
	}
	return sum, string(b), true
}

// What stands at the end of a path, or on the way to it.
type reached int

const (
	reachedFile reached = iota
	reachedNothing
	reachedSymlink
	reachedOther // a directory at the end, or a FIFO, socket or device
)

// resolve walks a path below a directory without following a symlink (READ-30 to READ-32). final says
// whether what was reached stands at the end of the path, and is no directory.
func (o *outDir) resolve(root *dir, parts []string) (f *os.File, how reached, final bool, err error) {
	d := root
	defer func() {
		if d != root {
			d.close()
		}
	}()
	for i, name := range parts {
		last := i == len(parts)-1
		st, err := look(d.fd, name)
		switch {
		case err == syscall.ENOENT || err == syscall.ENAMETOOLONG:
			return nil, reachedNothing, false, nil
		case err != nil:
			return nil, 0, false, err
		case isSymlink(st):
			return nil, reachedSymlink, last, nil
		case isRegular(st) && !last: // READ-31
			return nil, reachedNothing, false, nil
		case isRegular(st):
			f, _, err := openRegular(d, name)
			if err == nil && f == nil {
				return nil, reachedNothing, false, nil
			}
			return f, reachedFile, last, err
		case !isDir(st):
			return nil, reachedOther, last, nil
		case last:
			return nil, reachedOther, false, nil
		}
		sub, err := openDir(d.fd, name, d.join(name), d, o)
		if err != nil {
			return nil, 0, false, err
		}
		if d != root {
			d.close()
		}
		d = sub
	}
	return nil, reachedOther, false, nil
}
