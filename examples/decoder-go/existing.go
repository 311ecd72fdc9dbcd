//go:build linux

package main

// Chapter INTO, and SAFE-1: what <out> may hold.

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// judge judges <out> without creating or changing anything (OUTC-6). It is open if it exists.
func (t *tree) judge() (*dir, error) {
	root, err := t.open()
	if err != nil {
		return nil, failure(err, t.given)
	}
	if root == nil {
		_, err := t.openParentAndClose()
		return nil, err
	}
	if t.existing {
		err = t.lookThrough(root)
	} else if err = root.names(func(string) error { return errSkip }); err == errSkip {
		err = faultIn("not-empty", "SAFE-1", t.given, "the output directory holds something")
	}
	if err != nil {
		root.close()
		return nil, failure(err, t.given)
	}
	return root, nil
}

func (o *outDir) openParentAndClose() (bool, error) {
	fd, err := o.openParent()
	if err == nil {
		err = syscall.Close(fd)
	}
	return err == nil, err
}

// lookThrough looks <out> through before the first write (INTO-1). Of several faults, it names
// the one with the first path in bytewise order.
func (t *tree) lookThrough(root *dir) error {
	var first *Fault
	err := t.walk(root, func(d *dir, name string, st *syscall.Stat_t) error {
		rel := d.join(name)
		f := misplaced(st, t.placeOf(rel, st), t.path(rel))
		if f == nil {
			f = t.beyondLimits(rel, st)
		}
		if f == nil {
			return nil
		}
		if first == nil || f.Path < first.Path {
			first = f
		}
		return errSkip
	})
	if err == nil && first != nil {
		err = first
	}
	return err
}

// placeOf says what a path is for in a run with this database index. Anything else is as it is,
// and a hard link at a sidecar of the database is found when that is written (SAFE-14).
func (t *tree) placeOf(rel string, st *syscall.Stat_t) place {
	below, inDB := strings.CutPrefix(rel, t.db+"/")
	switch {
	case rel == manifestName || rel == checksumsName:
		return forSidecar
	case rel == "redis" || rel == t.db || inDB && slices.Contains(blobDirNames, below):
		return forDir
	case inDB && slices.Contains(sidecarNames, below), rel == tempName:
		return forBlob
	case inDB && strings.HasSuffix(below, "/"+tempName) && slices.Contains(blobDirNames, strings.TrimSuffix(below, "/"+tempName)):
		return forBlob
	case isDir(st):
		return forDir
	}
	return forBlob
}

// holdsSnapshot refuses a snapshot that lies below <out> (INTO-2).
func (t *tree) holdsSnapshot(root *dir, snapshotPath string) error {
	real, err := filepath.EvalSymlinks(snapshotPath)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil // it cannot be opened either
	}
	for d := filepath.Dir(real); ; d = filepath.Dir(d) {
		var st syscall.Stat_t
		if syscall.Stat(d, &st) == nil && sameFile(&st, root.stat) {
			return faultIn("unsafe-path", "INTO-2", snapshotPath, "the snapshot lies below the output directory")
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// makeReady removes what an earlier run has left: its seal (INTO-4) and temporary files (INTO-3);
// and notes the files that were there before (INTO-6).
func (t *tree) makeReady() error {
	t.started = true
	for _, name := range []string{checksumsName, manifestName} {
		if err := t.unlink(t.root, name); err != nil {
			return err
		}
	}
	return t.walk(t.root, func(d *dir, name string, st *syscall.Stat_t) error {
		if !isRegular(st) {
			return nil
		}
		rel := d.join(name)
		if name == tempName {
			return t.unlink(d, name)
		}
		if strings.HasPrefix(rel, t.db+"/") {
			return t.sorted(t.files.add(rel, 'b'))
		}
		return nil
	})
}

// An earlierDump is what an earlier manifest says about another database index (INTO-7).
type earlierDump struct {
	database jsonNumber
	part     object // nothing, or the member part
	complete any    // bool or nil
	reasons  []Reason
	fsmPath  any // string or nil
}

// readEarlier takes from the earlier MANIFEST.json what is valid, by database index (INTO-8).
func (t *tree) readEarlier() (map[jsonNumber]earlierDump, error) {
	f, _, err := openRegular(t.root, manifestName)
	if err != nil {
		return nil, failure(err, t.path(manifestName))
	}
	if f == nil {
		return nil, nil
	}
	defer f.Close()
	data, err := readLimited(f, maxManifest)
	if err != nil {
		return nil, failure(err, t.path(manifestName))
	}
	v, ok := parseJSON(data)
	top, isObject := v.(jsonObject)
	if len(data) > maxManifest || !ok || !isObject || top["format_version"] != jsonNumber("1") {
		return nil, nil
	}
	outcome, ok := top["outcome"].(jsonObject)
	if !ok {
		return nil, nil
	}
	source, _ := top["source"].(jsonObject)
	own := jsonObject{"database": outcome["database"], "part": outcome["part"], "complete": outcome["complete"],
		"partial_reasons": outcome["partial_reasons"], "fsm_path": source["fsm_path"]}
	list, _ := outcome["earlier"].([]any)
	said := map[jsonNumber]earlierDump{}
	for _, v := range append(list, own) { // what comes last counts
		o, _ := v.(jsonObject)
		if _, ok := asUint(o["database"]); !ok {
			continue
		}
		e := earlierDump{database: o["database"].(jsonNumber)}
		if c, ok := o["complete"].(bool); ok {
			e.complete = c
		}
		if p, ok := asText(o["fsm_path"]); ok {
			e.fsmPath = p
		}
		e.reasons, _ = asReasons(o["partial_reasons"])
		e.part = asPart(o["part"])
		said[e.database] = e
	}
	return said, nil
}

// asPart takes an object with one member, as in COMP-11; nil for anything else.
func asPart(v any) object {
	o, _ := v.(jsonObject)
	for _, name := range []string{"key", "prefix"} {
		s, isText := asText(o[name])
		if _, ok := readBase64(s); isText && ok && len(o) == 1 {
			return object{{"part", object{{name, s}}}}
		}
	}
	return nil
}

// asReasons takes a list of objects of the type of COMP-6, all or nothing. By INTO-8 each counts or not
// for itself: that is in the list of known failures.
func asReasons(v any) ([]Reason, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	reasons := []Reason{}
	for _, e := range list {
		o, _ := e.(jsonObject)
		reason, ok1 := asText(o["reason"])
		about, ok2 := asText(o["about"])
		count, ok3 := asUint(o["count"])
		if !ok1 || !ok2 || !ok3 {
			return nil, false
		}
		reasons = append(reasons, Reason{reason, about, count})
	}
	return reasons, true
}

// earlierOf gives what was said about each other database (INTO-7).
func earlierOf(said map[jsonNumber]earlierDump, databases []jsonNumber, own uint64) []earlierDump {
	var list []earlierDump
	for _, n := range databases {
		if n == jsonNumber(strconv.FormatUint(own, 10)) {
			continue
		}
		e := said[n]
		e.database = n
		list = append(list, e)
	}
	return list
}

// readLimited reads at most one byte more than the limit.
func readLimited(f *os.File, limit int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(f, limit+1))
}
