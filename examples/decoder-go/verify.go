//go:build linux

package main

// Chapter VERI: what can be wrong with a dump on a disk.

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

type verifier struct {
	*outDir
	root      *dir
	out       *bufio.Writer
	count     map[string]uint64 // VERI-19
	files     *sorter           // lines of CHECKSUMS and files, by path
	keys      *sorter           // lines and blobs of each database, by segment
	databases map[jsonNumber]bool
	hasSums   bool
	hasMani   bool
	manifest  jsonObject
}

// verify prints findings, and gives their number.
func verify(given string, w io.Writer, stop *atomic.Bool) (total uint64, err error) {
	unnamed := func() (*os.File, error) { // never in <out> (VERI-21)
		f, err := os.CreateTemp("", "ekvdecoder")
		if err == nil {
			err = os.Remove(f.Name())
		}
		return f, err
	}
	v := &verifier{outDir: newOutDir(given, "VERI-22", stop), out: bufio.NewWriter(w), count: map[string]uint64{},
		files: &sorter{create: unnamed}, keys: &sorter{create: unnamed}, databases: map[jsonNumber]bool{}}
	defer func() {
		err = errors.Join(err, v.out.Flush(), v.files.close(), v.keys.close())
		for _, n := range v.count {
			total += n
		}
	}()
	// VERI-1
	root, err := v.open()
	if f, ok := err.(*Fault); ok && f.Clause == "SAFE-3" || err == nil && root == nil {
		return 0, faultIn("io-error", "VERI-1", v.given, "nothing is there")
	}
	if err != nil {
		return 0, v.readFailure(err, "")
	}
	defer root.close()
	v.root = root
	// VERI-24
	isDump := false
	if err := root.names(func(name string) error {
		isDump = isDump || name == manifestName || name == checksumsName || name == "redis"
		return nil
	}); err != nil {
		return 0, v.readFailure(err, "")
	}
	if !isDump {
		v.find("no-manifest", "VERI-4", manifestName)
		v.find("no-seal", "VERI-3", checksumsName)
		return 0, nil
	}
	for _, step := range []func() error{v.readTree, v.readWhole, v.compareFiles, v.compareKeys} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (v *verifier) find(name, clause, path string) {
	v.count[name]++
	fmt.Fprintf(v.out, "finding=%s clause=%s path=%q\n", name, clause, path)
}

// readTree looks at everything in the tree, and reads sidecars.
func (v *verifier) readTree() error {
	return v.walk(v.root, func(d *dir, name string, st *syscall.Stat_t) error {
		rel := d.join(name)
		if f := v.beyondLimits(rel, st); f != nil { // VERI-23
			return f
		}
		switch {
		case isDir(st):
			return nil
		case isSymlink(st): // VERI-6
			v.find("symlink", "VERI-6", rel)
			return nil
		case !isRegular(st):
			v.find("not-regular", "VERI-6", rel)
			return nil
		}
		v.hasSums = v.hasSums || rel == checksumsName
		v.hasMani = v.hasMani || rel == manifestName
		if n, ok := databaseOf(rel); ok {
			v.databases[n] = true
			if err := v.inDatabase(d, name, rel); err != nil {
				return v.readFailure(err, rel)
			}
		}
		return v.sorted(v.files.add(rel, 'w'))
	})
}

// The values of keys: those of blobTag are blobs of keys that are shown, 'k' a line of KEYMAP.jsonl of the kind sha-fallback and 'm' one
// whose key has another segment, '1' and '2' rows of strings_ttl.jsonl and hll_ttl.jsonl, 'u' a blob
// in unreadable and '3' a row of unreadable.jsonl. A key is the database, NUL, and the segment; for
// 'u' and '3' the database, NUL, '/', segment, '.' and kind.
func dbKey(db, seg string) string               { return db + "\x00" + seg }
func unreadableKey(db, seg, kind string) string { return db + "\x00/" + seg + "." + kind }

// blobTag is the value of a blob by its directory.
var blobTag = map[string]byte{"strings": 's', "hll": 'h', "hashes": 'A', "lists": 'L', "sets": 'S', "zsets": 'Z', "streams": 'X'}

var unreadableKinds = []string{"string", "hll", "hash", "list", "set", "zset", "stream", "ttl"} // SALV-6

// inDatabase reads a sidecar or notes a blob of a database.
func (v *verifier) inDatabase(d *dir, name, rel string) error {
	parts := strings.Split(rel, "/") // redis, db_<n>, and what is below
	db := parts[0] + "/" + parts[1]
	if len(parts) == 3 {
		switch name {
		case "KEYMAP.jsonl":
			return v.readKeymap(d, name, rel, db)
		case "strings_ttl.jsonl":
			return v.readRows(d, name, rel, func(line []byte) (string, bool) {
				seg, ok := readTTLRow(line)
				return dbKey(db, seg), ok
			}, '1')
		case "hll_ttl.jsonl":
			return v.readRows(d, name, rel, func(line []byte) (string, bool) {
				seg, ok := readTTLRow(line)
				return dbKey(db, seg), ok
			}, '2')
		case "unreadable.jsonl":
			return v.readRows(d, name, rel, func(line []byte) (string, bool) {
				seg, kind, ok := readUnreadableRow(line)
				return unreadableKey(db, seg, kind), ok
			}, '3')
		}
	}
	if len(parts) != 4 || blobSuffix[parts[2]] == "" {
		return nil
	}
	seg, ok := strings.CutSuffix(name, blobSuffix[parts[2]])
	if !ok {
		return nil
	}
	if parts[2] != "unreadable" {
		v.judgeSegment(seg, rel)
		return v.sorted(v.keys.add(dbKey(db, seg), blobTag[parts[2]]))
	}
	for _, kind := range unreadableKinds {
		if s, ok := strings.CutSuffix(seg, "."+kind); ok {
			v.judgeSegment(s, rel)
			return v.sorted(v.keys.add(unreadableKey(db, s, kind), 'u'))
		}
	}
	v.find("invalid-segment", "VERI-10", rel)
	v.find("blob-without-row", "VERI-17", rel) // no row can name it
	return nil
}

// judgeSegment judges the segment of a blob (READ-1 to READ-4, VERI-10). Fallback forms come later (VERI-11).
func (v *verifier) judgeSegment(seg, rel string) {
	key, f := readSegment(seg)
	switch {
	case f != nil && f.name == "invalid-segment":
		v.find(f.name, f.clause, rel)
	case f == nil:
		if s, _ := segment(key); s != seg {
			v.find("unusual-segment", "VERI-10", rel)
		}
	}
}

// withLines reads the lines of a file.
func (v *verifier) withLines(d *dir, name string, limit int, use func(line []byte, long, hasLF bool) error) error {
	f, _, err := openRegular(d, name)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	err = lines(f, limit, func(line []byte, long, hasLF bool) error {
		if v.stop.Load() {
			return errInterrupted
		}
		return use(line, long, hasLF)
	})
	if err == errSkip {
		return nil
	}
	return err
}

func (v *verifier) readKeymap(d *dir, name, rel, db string) error {
	return v.withLines(d, name, maxLine, func(line []byte, long, _ bool) error {
		f := &finding{"invalid-keymap", "READ-6"}
		var e keymapEntry
		if !long {
			e, f = readKeymapLine(line)
		}
		if f != nil {
			v.find(f.name, f.clause, rel)
			return errSkip // READ-10
		}
		if e.kind != "sha-fallback" {
			return nil
		}
		tag := byte('k')
		if seg, _ := segment(e.original); seg != e.encoded {
			v.find("keymap-mismatch", "VERI-12", rel)
			tag = 'm'
		}
		return v.sorted(v.keys.add(dbKey(db, e.encoded), tag))
	})
}

// readRows reads a sidecar of rows (VERI-14).
func (v *verifier) readRows(d *dir, name, rel string, read func([]byte) (string, bool), tag byte) error {
	return v.withLines(d, name, maxLine, func(line []byte, long, _ bool) error {
		if !long {
			if key, ok := read(line); ok {
				return v.sorted(v.keys.add(key, tag))
			}
		}
		v.find("invalid-row", "VERI-14", rel)
		return nil
	})
}

// readTTLRow reads a line as RTTL-14 says.
func readTTLRow(line []byte) (string, bool) {
	v, ok := parseJSON(line)
	o, _ := v.(jsonObject)
	seg, ok1 := asText(o["key"])
	expiry, ok2 := asUint(o["expire_at_ms"])
	return seg, ok && ok1 && ok2 && len(o) == 2 && expiry <= 1<<63-1 && isSegment(seg)
}

// isSegment says whether a segment has no finding other than needs-keymap. It need not be the one
// that its key would have been given.
func isSegment(seg string) bool {
	_, f := readSegment(seg)
	return f == nil || f.name == "needs-keymap"
}

var clauseID = regexp.MustCompile(`^[A-Z]{4}-[0-9]+$`) // VERI-14

// readUnreadableRow reads a line as SALV-6 says.
func readUnreadableRow(line []byte) (seg, kind string, ok bool) {
	v, ok := parseJSON(line)
	o, _ := v.(jsonObject)
	seg, ok1 := o["segment"].(string)
	encoded, ok2 := o["storage_key"].(string)
	offset, ok3 := o["offset"].(jsonNumber)
	clause, _ := o["clause"].(string)
	kind, _ = o["kind"].(string)
	storageKey, ok4 := readBase64(encoded)
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || len(o) != 5 {
		return "", "", false
	}
	if !offset.whole() || offset[0] == '-' && offset != "-0" || !clauseID.MatchString(clause) {
		return "", "", false
	}
	typ := typeOf(storageKey)
	if typ > tStream || typ == tBare && kind != "string" || typ != tBare && kind != typeNames[typ] {
		return "", "", false
	}
	return seg, kind, isSegmentOf(seg, typ, storageKey)
}

// isSegmentOf says whether a segment is that of the user key of a storage key, which is not a stray's (VERI-14).
func isSegmentOf(seg string, typ recordType, storageKey []byte) bool {
	var userKeys [][]byte
	switch {
	case typ == tBare:
		userKeys = [][]byte{storageKey}
	case typ <= tTTL:
		userKeys = [][]byte{storageKey[len(prefixes[typ][0]):]}
	default:
		for _, body := range []int64{16, 24} { // of a delta and of a meta (TYPE-3)
			if key, _, ok := shapeOf(typ, storageKey, body).takeApart(storageKey); ok {
				userKeys = append(userKeys, key)
			}
		}
	}
	return slices.ContainsFunc(userKeys, func(key []byte) bool {
		s, _ := segment(key)
		return s == seg
	})
}

// readWhole reads CHECKSUMS and MANIFEST.json.
func (v *verifier) readWhole() error {
	if !v.hasSums {
		v.find("no-seal", "VERI-3", checksumsName)
	} else if err := v.readChecksums(); err != nil {
		return v.readFailure(err, checksumsName)
	}
	if !v.hasMani {
		v.find("no-manifest", "VERI-4", manifestName)
		return nil
	}
	f, _, err := openRegular(v.root, manifestName)
	if err != nil || f == nil {
		return v.readFailure(errors.Join(err, syscall.ENOENT), manifestName)
	}
	defer f.Close()
	m, bad, err := readManifest(f)
	if err != nil {
		return v.readFailure(err, manifestName)
	}
	if bad != nil {
		v.find(bad.name, bad.clause, manifestName)
		return nil
	}
	v.judgeDatabases(m)
	return nil
}

// judgeDatabases is VERI-18.
func (v *verifier) judgeDatabases(m jsonObject) {
	adapters, _ := m["adapters"].(jsonObject)
	redis, _ := adapters["redis"].(jsonObject)
	if redis["databases"] == nil {
		return
	}
	said, ok := redis["databases"].([]any)
	if !ok || !slices.EqualFunc(said, ascending(v.databases), func(a any, n jsonNumber) bool { return a == n }) {
		v.find("wrong-databases", "VERI-18", manifestName)
	}
}

// readChecksums reads the lines of CHECKSUMS (READ-25 to READ-29, VERI-7, VERI-8).
func (v *verifier) readChecksums() error {
	var number uint64
	before := "" // the path of the last line that could be read (VERI-8)
	err := v.withLines(v.root, checksumsName, maxChecksumLine+1, func(line []byte, long, hasLF bool) error {
		number++
		f := &finding{"malformed-line", "READ-25"}
		var sum, path string
		if !long {
			sum, path, f = readChecksumLine(string(line))
		}
		if f != nil {
			v.find(f.name, f.clause, checksumsName)
			return nil
		}
		plain := plainPath(path)
		if plain < before {
			v.find("unsorted-line", "VERI-8", checksumsName)
		}
		before = plain
		// A writer would have written it otherwise.
		if !hasLF || checksumLine(sum, path) != string(line)+"\n" || plain != path {
			v.find("unusual-line", "VERI-7", checksumsName)
		}
		digest, _ := hex.DecodeString(sum)
		value := binary.BigEndian.AppendUint64([]byte{'c'}, number)
		return v.sorted(v.files.add(plain, append(value, digest...)...))
	})
	if err == nil && number == 0 {
		v.find("no-line", "READ-29", checksumsName)
	}
	return err
}

// plainPath is a path without its empty parts and parts `.` (VERI-2, VERI-8, VERI-9).
func plainPath(path string) string {
	parts := slices.DeleteFunc(strings.Split(path, "/"), func(p string) bool { return p == "" || p == "." })
	return strings.Join(parts, "/")
}

// compareFiles compares lines and files (READ-30 to READ-33, VERI-5, VERI-9). Items of one path come
// together: its lines in their order, and then the file.
func (v *verifier) compareFiles() error {
	started, path := false, ""
	var sum string // of the file; "" if it has been judged
	for it, err := range v.files.all() {
		if err == nil && v.stop.Load() {
			err = errInterrupted
		}
		if err != nil {
			return v.sorted(err)
		}
		first := !started || path != string(it.key)
		started, path = true, string(it.key)
		if it.value[0] == 'w' {
			if first && v.hasSums && path != checksumsName {
				v.find("foreign-file", "VERI-5", path)
			}
			continue
		}
		if first {
			if sum, err = v.reach(path); err != nil {
				return v.readFailure(err, path)
			}
		} else {
			v.find("repeated-path", "VERI-9", shown(path))
		}
		if digest := string(it.value[9:]); sum != "" && sum != digest {
			v.find("mismatch", "READ-33", shown(path))
			sum = ""
		}
	}
	return nil
}

// shown is the path of a finding about a line, by its plain path (VERI-2).
func shown(path string) string { return cmp.Or(path, ".") }

// reach gives the SHA-256 of a file that has a line, or "" with a finding.
func (v *verifier) reach(path string) (string, error) {
	var parts []string
	if path != "" {
		parts = strings.Split(path, "/")
	}
	f, how, final, err := v.resolve(v.root, parts)
	if err != nil {
		return "", err
	}
	switch {
	case how == reachedFile:
		defer f.Close()
		sum, err := hashFile(f, v.outDir)
		return string(sum), err
	case how == reachedNothing:
		v.find("missing-file", "READ-31", shown(path))
	case final: // VERI-6 has said it
	case how == reachedSymlink:
		v.find("symlink", "READ-30", shown(path))
	default:
		v.find("not-regular", "READ-32", shown(path))
	}
	return "", nil
}

// compareKeys compares sidecars and blobs (VERI-11, VERI-13, VERI-15 to VERI-17).
func (v *verifier) compareKeys() error {
	var key string
	var n map[byte]uint64
	for it, err := range v.keys.all() {
		if err == nil && v.stop.Load() {
			err = errInterrupted
		}
		if err != nil {
			return v.sorted(err)
		}
		if n == nil || key != string(it.key) {
			v.compareKey(key, n)
			key, n = string(it.key), map[byte]uint64{}
		}
		n[it.value[0]]++
	}
	v.compareKey(key, n)
	return nil
}

func (v *verifier) compareKey(key string, n map[byte]uint64) {
	if n == nil {
		return
	}
	db, seg, _ := strings.Cut(key, "\x00")
	_, f := readSegment(seg)
	blobs := uint64(0)
	for dirName, tag := range blobTag {
		if blobs += n[tag]; n[tag] > 0 && f != nil && f.name == "needs-keymap" && n['k'] == 0 {
			v.find("needs-keymap", "VERI-11", db+"/"+dirName+"/"+seg+blobSuffix[dirName])
		}
	}
	if n['k'] > 0 && blobs == 0 {
		v.find("line-without-blob", "VERI-13", db+"/KEYMAP.jsonl")
	}
	for _, row := range []struct {
		tag, blob byte
		sidecar   string
	}{{'1', 's', "strings_ttl.jsonl"}, {'2', 'h', "hll_ttl.jsonl"}, {'3', 'u', "unreadable.jsonl"}} {
		if n[row.tag] > 0 && n[row.blob] == 0 {
			v.find("row-without-blob", "VERI-15", db+"/"+row.sidecar)
		}
		for range max(n[row.tag], 1) - 1 {
			v.find("repeated-row", "VERI-16", db+"/"+row.sidecar)
		}
	}
	if n['u'] > 0 && n['3'] == 0 {
		v.find("blob-without-row", "VERI-17", db+"/unreadable/"+strings.TrimPrefix(seg, "/")+".bin")
	}
}

func parseDatabase(s string) (uint64, bool) {
	digits, negative := strings.CutPrefix(s, "-")
	if digits == "" || len(digits) > 19 || strings.Trim(digits, "0123456789") != "" { // TREE-3
		return 0, false
	}
	if negative { // TREE-2
		return 0, true
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n <= maxDatabase
}
