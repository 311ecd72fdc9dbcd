//go:build linux

package main

// Chapters SAFE, TREE and SUMS: how files appear, and the seal.

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

const (
	tempName      = ".ekvdump.tmp" // SAFE-21
	manifestName  = "MANIFEST.json"
	checksumsName = "CHECKSUMS"
)

var sidecarNames = []string{"strings_ttl.jsonl", "hll_ttl.jsonl", "KEYMAP.jsonl", "unreadable.jsonl"}
var blobDirNames = sortedKeys(blobSuffix)

// A tree is the dump that a run writes.
type tree struct {
	*outDir
	db       string // redis/db_<n>
	existing bool
	root     *dir
	dirs     map[string]*dir    // by path below <out>
	sidecars map[string]*output // by name
	written  []*output          // sidecars, and then the manifest: SAFE-8
	files    *sorter            // what the run wrote, and what is there
	temp     *output            // the temporary file of the moment
	started  bool               // the first write may have been done
}

// The values of files: 'b' was there before; 'r' and device, inode and SHA-256: the run wrote it;
// 'w' and device and inode: a walk has found it.
func inode(tag byte, st *syscall.Stat_t) []byte {
	b := binary.BigEndian.AppendUint64([]byte{tag}, st.Dev)
	return binary.BigEndian.AppendUint64(b, st.Ino)
}

// start makes <out> ready, judged again (OUTC-6, SAFE-2).
func (t *tree) start() error {
	root, err := t.judge()
	if err != nil {
		return err
	}
	if root == nil {
		parent, err := t.openParent()
		if err != nil {
			return err
		}
		defer syscall.Close(parent)
		t.started = true
		if err := syscall.Mkdirat(parent, t.name, 0o755); err != nil && err != syscall.EEXIST {
			return failure(err, t.given)
		}
		if root, err = t.judge(); err == nil && root == nil {
			err = faultIn("unsafe-path", "SAFE-8", t.given, "the directory is gone")
		}
		if err != nil {
			return err
		}
	}
	t.root, t.dirs, t.sidecars = root, map[string]*dir{"": root}, map[string]*output{}
	t.files = &sorter{create: root.unnamed}
	return nil
}

// dir opens a directory of the run, and creates it (TREE-5, TREE-8).
func (t *tree) dir(rel string) (*dir, error) {
	if d := t.dirs[rel]; d != nil {
		return d, nil
	}
	i := strings.LastIndexByte(rel, '/')
	up, err := t.dir(rel[:max(i, 0)])
	if err != nil {
		return nil, err
	}
	d, err := openDir(up.fd, rel[i+1:], rel, up, t.outDir)
	if err == syscall.ENOENT {
		t.started = true
		if err := syscall.Mkdirat(up.fd, rel[i+1:], 0o755); err != nil && err != syscall.EEXIST {
			return nil, t.failed(err, up, rel)
		}
		d, err = openDir(up.fd, rel[i+1:], rel, up, t.outDir)
	}
	if err != nil {
		return nil, t.failed(err, up, rel)
	}
	t.dirs[rel] = d
	return d, nil
}

// failed names a failure at a path in a directory, which may be gone (SAFE-8).
func (t *tree) failed(err error, d *dir, rel string) error {
	if err == syscall.ENOENT {
		if d.gone() {
			return faultIn("unsafe-path", "SAFE-8", t.path(d.rel), "the directory is gone")
		}
		return faultIn("unsafe-path", "SAFE-8", t.path(rel), "it is gone")
	}
	return failure(err, t.path(rel))
}

// An output is a file that the run writes.
type output struct {
	t    *tree
	dir  *dir
	name string
	rel  string
	temp bool // under the name of a temporary file until it appears
	fd   int
	pin  int // keeps the inode
	stat *syscall.Stat_t
	sum  hash.Hash
	buf  []byte
}

// create makes a temporary file (SAFE-19 to SAFE-21).
func (t *tree) create(d *dir, name string) (*output, error) {
	o := &output{t: t, dir: d, name: name, rel: d.join(name), temp: true, pin: -1, sum: sha256.New()}
	t.started = true
	if err := t.unlink(d, tempName); err != nil {
		return nil, err
	}
	fd, err := openat(d.fd, tempName, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY, 0o600)
	if err == syscall.EEXIST {
		return nil, faultIn("unsafe-path", "SAFE-10", t.path(o.rel), "something else takes the place of the temporary file")
	}
	if err != nil {
		return nil, t.failed(err, d, o.rel)
	}
	t.temp, o.fd = o, fd
	return o, o.opened()
}

// sidecar opens a file of lines, which is truncated after all checks.
func (t *tree) sidecar(name string) (*output, error) {
	if o := t.sidecars[name]; o != nil {
		return o, nil
	}
	d, err := t.dir(t.db)
	if err != nil {
		return nil, err
	}
	o := &output{t: t, dir: d, name: name, rel: d.join(name), pin: -1, sum: sha256.New()}
	st, err := look(d.fd, name)
	flags := syscall.O_WRONLY | syscall.O_NONBLOCK // SAFE-13
	switch {
	case err == syscall.ENOENT:
		flags |= syscall.O_CREAT | syscall.O_EXCL
	case err != nil:
		return nil, t.failed(err, d, o.rel)
	default:
		if f := misplaced(st, forSidecar, t.path(o.rel)); f != nil {
			return nil, f
		}
	}
	t.started = true
	o.fd, err = openat(d.fd, name, flags, 0o600)
	switch err {
	case nil:
	case syscall.EEXIST, syscall.ELOOP, syscall.ENXIO, syscall.EISDIR: // it appeared behind the look
		if st, lerr := look(d.fd, name); lerr == nil {
			if f := misplaced(st, forSidecar, t.path(o.rel)); f != nil {
				return nil, f
			}
		}
		return nil, faultIn("unsafe-path", "SAFE-11", t.path(o.rel), "something has appeared there")
	default:
		return nil, t.failed(err, d, o.rel)
	}
	if err := o.opened(); err != nil {
		return nil, err
	}
	if err := syscall.Ftruncate(o.fd, 0); err != nil {
		return nil, errors.Join(failure(err, t.path(o.rel)), o.discard())
	}
	t.sidecars[name] = o
	return o, nil
}

// opened judges a file by its own handle and gives it its mode (SAFE-6, TREE-7).
func (o *output) opened() error {
	st, err := fstat(o.fd)
	if err == nil {
		if f := misplaced(st, forSidecar, o.t.path(o.rel)); f != nil {
			return errors.Join(f, o.discard())
		}
		o.stat = st
		err = syscall.Fchmod(o.fd, 0o600)
	}
	if err != nil {
		return errors.Join(failure(err, o.t.path(o.rel)), o.discard())
	}
	return nil
}

func (o *output) Write(p []byte) (int, error) {
	o.sum.Write(p)
	o.buf = append(o.buf, p...)
	if len(o.buf) >= 64<<10 {
		return len(p), o.flush()
	}
	return len(p), nil
}

func (o *output) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

// flush goes on after a write that took only some of the bytes (SAFE-30).
func (o *output) flush() error {
	rest := o.buf
	o.buf = o.buf[:0]
	for len(rest) > 0 {
		if o.t.stop.Load() {
			return errInterrupted
		}
		n, err := again(func() (int, error) { return syscall.Write(o.fd, rest) })
		if err == nil && n == 0 {
			err = syscall.EIO
		}
		if err != nil {
			return failure(err, o.t.path(o.rel))
		}
		rest = rest[n:]
	}
	return nil
}

// whole flushes and closes the file; the inode stays pinned.
func (o *output) whole() error {
	if err := o.flush(); err != nil {
		return err
	}
	name := o.name
	if o.temp {
		name = tempName
	}
	h, st, err := pin(o.dir.fd, name)
	if err == syscall.ENOENT || err == nil && !sameFile(st, o.stat) {
		if err == nil {
			syscall.Close(h)
		}
		if err == nil && o.temp {
			return faultIn("unsafe-path", "SAFE-10", o.t.path(o.rel), "something else is in the place of the temporary file")
		}
		return o.t.failed(syscall.ENOENT, o.dir, o.rel)
	}
	if err != nil {
		return failure(err, o.t.path(o.rel))
	}
	o.pin = h
	fd := o.fd
	o.fd = -1
	if err := syscall.Close(fd); err != nil {
		return failure(err, o.t.path(o.rel))
	}
	return nil
}

// appear renames the temporary file (SAFE-10, SAFE-19).
func (o *output) appear(p place) error {
	path := o.t.path(o.rel)
	st, err := look(o.dir.fd, o.name)
	if err == nil {
		if f := misplaced(st, p, path); f != nil {
			return f
		}
	} else if err != syscall.ENOENT {
		return failure(err, path)
	}
	st, err = look(o.dir.fd, tempName)
	if err == nil && !sameFile(st, o.stat) {
		return faultIn("unsafe-path", "SAFE-10", path, "something else is in the place of the temporary file")
	}
	if err == nil {
		err = syscall.Renameat(o.dir.fd, tempName, o.dir.fd, o.name)
	}
	if err == syscall.EISDIR {
		return faultIn("unsafe-path", "SAFE-16", path, "a directory is there")
	}
	if err != nil {
		return o.t.failed(err, o.dir, o.rel)
	}
	o.t.temp = nil
	if st, err = look(o.dir.fd, o.name); err == nil && !sameFile(st, o.stat) {
		syscall.Unlinkat(o.dir.fd, o.name)
		return faultIn("unsafe-path", "SAFE-10", path, "something else was in the place of the temporary file")
	}
	return nil // if it is gone, SAFE-9 finds it
}

// discard closes what is open.
func (o *output) discard() error {
	var err error
	for _, fd := range []int{o.fd, o.pin} {
		if fd >= 0 {
			if cerr := syscall.Close(fd); cerr != nil {
				err = failure(cerr, o.t.path(o.rel))
			}
		}
	}
	o.fd, o.pin = -1, -1
	return err
}

// record notes a file of the run for SAFE-9 and SUMS-1.
func (o *output) record() error {
	return o.t.sorted(o.t.files.add(o.rel, append(inode('r', o.stat), o.sum.Sum(nil)...)...))
}

// blob writes one blob (RSTR-6, RHLL-2, SALV-7).
func (t *tree) blob(dirName, name string, fill func(io.Writer) error) error {
	d, err := t.dir(t.db + "/" + dirName)
	if err != nil {
		return err
	}
	o, err := t.create(d, name)
	if err != nil {
		return err
	}
	if err = fill(o); err == nil {
		if err = o.whole(); err == nil {
			if err = o.appear(forBlob); err == nil {
				err = o.record()
			}
		}
	}
	return errors.Join(err, o.discard())
}

// line adds a line to a sidecar; without a line there is no sidecar (RTTL-13, KMAP-4).
func (t *tree) line(sidecar, line string) error {
	o, err := t.sidecar(sidecar)
	if err == nil {
		_, err = o.WriteString(line)
	}
	return err
}

// unlink removes a name, if it is not a directory.
func (t *tree) unlink(d *dir, name string) error {
	err := syscall.Unlinkat(d.fd, name)
	if err == nil || err == syscall.ENOENT {
		return nil
	}
	if st, lerr := look(d.fd, name); lerr == nil && isDir(st) {
		return faultIn("unsafe-path", "SAFE-16", t.path(d.join(name)), "a directory is there")
	}
	return failure(err, t.path(d.join(name)))
}

// closeSidecars makes the sidecars whole.
func (t *tree) closeSidecars() error {
	for _, name := range sidecarNames {
		if o := t.sidecars[name]; o != nil {
			if err := o.whole(); err != nil {
				return err
			}
			if err := o.record(); err != nil {
				return err
			}
			t.written = append(t.written, o)
		}
	}
	return nil
}

// What a look at the whole tree has found, right before the manifest.
type found struct {
	databases []jsonNumber // MANI-10
	stale     uint64       // INTO-6
	staleHead []string
}

// lookOver compares what is there with what the run wrote (SAFE-9).
func (t *tree) lookOver() (*found, error) {
	err := t.walk(t.root, func(d *dir, name string, st *syscall.Stat_t) error {
		rel := d.join(name)
		if !isRegular(st) || rel == manifestName || rel == checksumsName {
			return nil
		}
		return t.sorted(t.files.add(rel, inode('w', st)...))
	})
	if err != nil {
		return nil, err
	}
	f := &found{}
	databases := map[jsonNumber]bool{}
	for g, err := range t.groups() {
		if err != nil {
			return nil, err
		}
		if g.ours != nil && (g.there == nil || string(g.ours[1:17]) != string(g.there[1:17])) {
			if err := t.checkPlaces(); err != nil {
				return nil, err
			}
			return nil, faultIn("unsafe-path", "SAFE-9", t.path(g.rel), "this file of the run is not there under its own name")
		}
		if g.there == nil {
			continue
		}
		if n, ok := databaseOf(g.rel); ok {
			databases[n] = true
		}
		if g.before && g.ours == nil {
			if f.stale++; f.stale <= 16 {
				f.staleHead = append(f.staleHead, text(g.rel))
			}
		}
	}
	f.databases = ascending(databases)
	return f, nil
}

// A group is all that is known of one path.
type group struct {
	rel         string
	before      bool
	ours, there []byte
}

func (t *tree) groups() func(yield func(*group, error) bool) {
	return func(yield func(*group, error) bool) {
		var g *group
		for it, err := range t.files.all() {
			if err == nil && t.stop.Load() {
				err = errInterrupted
			}
			if err != nil {
				yield(nil, t.sorted(err))
				return
			}
			if g == nil || g.rel != string(it.key) {
				if g != nil && !yield(g, nil) {
					return
				}
				g = &group{rel: string(it.key)}
			}
			switch it.value[0] {
			case 'b':
				g.before = true
			case 'r':
				g.ours = it.value
			case 'w':
				g.there = it.value
			}
		}
		if g != nil {
			yield(g, nil)
		}
	}
}

// checkPlaces finds a directory or sidecar of the run to which its path does not lead any more (SAFE-8).
func (t *tree) checkPlaces() error {
	lost := func(rel string) error {
		return faultIn("unsafe-path", "SAFE-8", t.path(rel), "the path does not lead to what the run has written any more")
	}
	again, err := t.open()
	if err != nil || again == nil {
		return lost("")
	}
	same := sameFile(again.stat, t.root.stat)
	again.close()
	if !same {
		return lost("")
	}
	for _, rel := range sortedKeys(t.dirs) {
		d := t.dirs[rel]
		if d.up == nil {
			continue
		}
		if st, err := look(d.up.fd, rel[strings.LastIndexByte(rel, '/')+1:]); err != nil || !sameFile(st, d.stat) {
			return lost(rel)
		}
	}
	for _, o := range t.written {
		if st, err := look(o.dir.fd, o.name); err != nil || !sameFile(st, o.stat) {
			return lost(o.rel)
		}
	}
	return nil
}

// writeWhole writes MANIFEST.json or CHECKSUMS up to the moment before it appears (SAFE-20).
func (t *tree) writeWhole(name string, fill func(*output) error) (*output, error) {
	o, err := t.create(t.root, name)
	if err != nil {
		return nil, err
	}
	if err = fill(o); err == nil {
		err = o.whole()
	}
	if err != nil {
		return nil, errors.Join(err, o.discard())
	}
	return o, nil
}

// manifest writes MANIFEST.json (SAFE-23).
func (t *tree) manifest(content []byte) error {
	o, err := t.writeWhole(manifestName, func(o *output) error {
		_, err := o.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	t.written = append(t.written, o)
	if err := o.appear(forSidecar); err != nil {
		return err
	}
	if err := o.record(); err != nil {
		return err
	}
	return t.sorted(t.files.add(manifestName, inode('w', o.stat)...))
}

// seal writes CHECKSUMS. lastly is what has to be judged right before it appears.
func (t *tree) seal(flush bool, lastly func() error) error {
	o, err := t.writeWhole(checksumsName, t.writeChecksums)
	if err != nil {
		return err
	}
	t.written = append(t.written, o)
	if flush { // SAFE-22
		if err := t.root.flushAll(); err != nil {
			return failure(err, t.path(checksumsName)) // OUTC-2
		}
	}
	if err := lastly(); err != nil {
		return err
	}
	t.written = t.written[:len(t.written)-1]
	err = t.checkPlaces()
	t.written = append(t.written, o)
	if err != nil {
		return err
	}
	if err := o.appear(forSidecar); err != nil {
		return err
	}
	if flush {
		if _, err := again(func() (int, error) { return 0, syscall.Fsync(t.root.fd) }); err != nil {
			return failure(err, t.given)
		}
	}
	return nil
}

// writeChecksums writes a line for every regular file (SUMS-1, SUMS-3).
func (t *tree) writeChecksums(o *output) error {
	for g, err := range t.groups() {
		if err != nil {
			return err
		}
		if g.there == nil {
			continue
		}
		var sum []byte
		if g.ours != nil {
			sum = g.ours[17:]
		} else if sum, err = t.hash(g.rel); err != nil {
			return err
		}
		if sum == nil {
			continue
		}
		if _, err := o.WriteString(checksumLine(hex.EncodeToString(sum), g.rel)); err != nil {
			return err
		}
	}
	return nil
}

var escapePath = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`)

// checksumLine is SUMS-1 and SUMS-2.
func checksumLine(sum, rel string) string {
	if e := escapePath.Replace(rel); e != rel {
		return "\\" + sum + "  " + e + "\n"
	}
	return sum + "  " + rel + "\n"
}

// hash hashes a file that the run did not write; nil if it is gone.
func (t *tree) hash(rel string) ([]byte, error) {
	f, how, _, err := t.resolve(t.root, strings.Split(rel, "/"))
	if err != nil {
		return nil, failure(err, t.path(rel))
	}
	if how != reachedFile {
		return nil, nil
	}
	defer f.Close()
	sum, err := hashFile(f, t.outDir)
	if err != nil {
		return nil, failure(err, t.path(rel))
	}
	return sum, nil
}

func hashFile(f *os.File, o *outDir) ([]byte, error) {
	sum := sha256.New()
	buf := make([]byte, windowSize)
	for {
		if o.stop.Load() {
			return nil, errInterrupted
		}
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if err == io.EOF {
			return sum.Sum(nil), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// databaseOf gives the database index of a path below redis/db_<n>, however large (TREE-1, MANI-10).
func databaseOf(rel string) (jsonNumber, bool) {
	rest, ok := strings.CutPrefix(rel, "redis/db_")
	digits, _, below := strings.Cut(rest, "/")
	if !ok || !below || digits == "" || len(digits) > 1 && digits[0] == '0' || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	return jsonNumber(digits), true
}

// ascending sorts database indexes of any number of digits.
func ascending(databases map[jsonNumber]bool) []jsonNumber {
	return slices.SortedFunc(maps.Keys(databases), func(a, b jsonNumber) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}

// end closes everything. After a failure behind the first write, no seal, no manifest and
// no temporary file is left (SAFE-24, SAFE-27).
func (t *tree) end(failed bool) (problems []error) {
	report := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	if t.root == nil {
		return nil
	}
	if failed && t.started {
		if t.temp != nil {
			report(t.unlink(t.temp.dir, tempName))
		}
		report(t.unlink(t.root, checksumsName))
		report(t.unlink(t.root, manifestName))
	}
	for _, o := range t.sidecars {
		report(o.discard())
	}
	for _, o := range t.written {
		report(o.discard())
	}
	report(t.sorted(t.files.close()))
	for rel, d := range t.dirs {
		if err := d.close(); err != nil {
			report(failure(err, t.path(rel)))
		}
	}
	return problems
}
