//go:build linux

package main

// Chapter SAFE, SAFE-5, SAFE-6 and SAFE-13: handles. Every name is looked at, opened and changed relative to the
// handle of its directory, and no symlink is followed.

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

// Flags of Linux that package syscall does not have.
const (
	oPath    = 0x200000
	oTmpfile = 0x400000 | syscall.O_DIRECTORY
)

func again[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != syscall.EINTR {
			return v, err
		}
	}
}

func openat(fd int, name string, flags int, mode uint32) (int, error) {
	return again(func() (int, error) {
		return syscall.Openat(fd, name, flags|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, mode)
	})
}

func fstat(fd int) (*syscall.Stat_t, error) {
	var st syscall.Stat_t
	_, err := again(func() (int, error) { return 0, syscall.Fstat(fd, &st) })
	return &st, err
}

// pin opens what lies at a name without any effect on it, whatever it is, and keeps its inode from being used again.
func pin(fd int, name string) (int, *syscall.Stat_t, error) {
	h, err := openat(fd, name, oPath, 0)
	if err != nil {
		return -1, nil, err
	}
	st, err := fstat(h)
	if err != nil {
		syscall.Close(h)
		return -1, nil, err
	}
	return h, st, nil
}

// look says what lies at a name.
func look(fd int, name string) (*syscall.Stat_t, error) {
	h, st, err := pin(fd, name)
	if err == nil {
		err = syscall.Close(h)
	}
	return st, err
}

func sameFile(a, b *syscall.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

func isDir(st *syscall.Stat_t) bool     { return st.Mode&syscall.S_IFMT == syscall.S_IFDIR }
func isRegular(st *syscall.Stat_t) bool { return st.Mode&syscall.S_IFMT == syscall.S_IFREG }
func isSymlink(st *syscall.Stat_t) bool { return st.Mode&syscall.S_IFMT == syscall.S_IFLNK }

// What a place in the tree is for: the columns of the table "What may lie at a path".
type place int

const (
	forBlob place = iota
	forSidecar
	forDir
)

// misplaced judges what lies at a place.
func misplaced(st *syscall.Stat_t, p place, path string) *Fault {
	switch {
	case isSymlink(st):
		return faultIn("unsafe-path", "SAFE-11", path, "a symlink is there")
	case !isDir(st) && !isRegular(st): // at a blob this is what SAFE-12 permits, too
		return faultIn("unsafe-path", "SAFE-12", path, "a FIFO, socket or device is there")
	case isDir(st) && p != forDir:
		return faultIn("unsafe-path", "SAFE-16", path, "a directory is there")
	case isRegular(st) && p == forDir:
		return faultIn("unsafe-path", "SAFE-17", path, "a file is there")
	case isRegular(st) && p == forSidecar && st.Nlink > 1:
		return faultIn("unsafe-path", "SAFE-14", path, "a file with another name is there")
	}
	return nil
}

// failure is a failed system call (SAFE-28, SAFE-29).
func failure(err error, path string) error { return failureBy(err, "SAFE-29", path) }

func failureBy(err error, clause, path string) error {
	var f *Fault
	if errors.As(err, &f) || errors.Is(err, errInterrupted) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return faultIn("disk-full", "SAFE-28", path, err.Error())
	}
	return faultIn("io-error", clause, path, err.Error())
}

// An outDir is <out> as the caller gave it, and how it is reached.
type outDir struct {
	given      string // without slashes at its end (OUTC-2)
	parent     string // the directory above, whose symlinks are followed
	name       string // of <out> in it, never followed
	readClause string // the clause of a failure to read: SAFE-29 or VERI-22
	stop       *atomic.Bool
}

func newOutDir(given, readClause string, stop *atomic.Bool) *outDir {
	s := strings.TrimRight(given, "/")
	o := &outDir{given: cmp.Or(s, "/"), readClause: readClause, stop: stop}
	switch i := strings.LastIndexByte(s, '/'); {
	case s == "":
		o.parent, o.name = "/", "."
	case i < 0:
		o.parent, o.name = ".", s
	default:
		o.name = s[i+1:]
		if o.parent = strings.TrimRight(s[:i], "/"); o.parent == "" {
			o.parent = "/"
		}
	}
	return o
}

// path is the path of a fault (OUTC-2).
func (o *outDir) path(below string) string {
	if below == "" {
		return o.given
	}
	return strings.TrimRight(o.given, "/") + "/" + below
}

// readFailure is a failure to read what lies at a path below <out>.
func (o *outDir) readFailure(err error, below string) error {
	return failureBy(err, o.readClause, o.path(below))
}

// sorted is a failure of a sorter: of its temporary file, not of the tree.
func (o *outDir) sorted(err error) error {
	if err != nil {
		return failure(err, o.given)
	}
	return nil
}

// beyondLimits judges the depth of a directory and the size of a path (INTO-1, VERI-23).
func (o *outDir) beyondLimits(rel string, st *syscall.Stat_t) *Fault {
	const maxDirs, maxPath = 512, 4000
	switch {
	case len(rel) > maxPath:
		return faultIn("unsafe-path", "INTO-1", o.path(rel), "a path of more than 4 000 bytes")
	case isDir(st) && strings.Count(rel, "/") >= maxDirs:
		return faultIn("unsafe-path", "INTO-1", o.path(rel), "more than 512 directories below one another")
	}
	return nil
}

// A dir is an open directory of the tree.
type dir struct {
	fd   int
	rel  string // below <out>
	up   *dir   // nil for <out>
	stat *syscall.Stat_t
}

func (d *dir) join(name string) string { return path.Join(d.rel, name) }
func (d *dir) close() error            { return syscall.Close(d.fd) }

// gone says whether the directory was removed.
func (d *dir) gone() bool {
	st, err := fstat(d.fd)
	return err == nil && st.Nlink == 0
}

// openParent opens the directory above <out> (SAFE-3).
func (o *outDir) openParent() (int, error) {
	fd, err := again(func() (int, error) {
		return syscall.Open(o.parent, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	})
	switch err {
	case nil:
		return fd, nil
	case syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP:
		return -1, faultIn("io-error", "SAFE-3", o.parent, "the directory above the output directory: "+err.Error())
	}
	return -1, failure(err, o.parent)
}

// open opens <out>; nil if it is absent.
func (o *outDir) open() (*dir, error) {
	parent, err := o.openParent()
	if err != nil {
		return nil, err
	}
	defer syscall.Close(parent)
	st, err := look(parent, o.name)
	if err == syscall.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, o.readFailure(err, "")
	}
	if f := misplaced(st, forDir, o.given); f != nil {
		return nil, f
	}
	return openDir(parent, o.name, "", nil, o)
}

// openDir opens a directory and judges it by its handle.
func openDir(fd int, name, rel string, up *dir, o *outDir) (*dir, error) {
	h, err := openat(fd, name, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err == syscall.ENOTDIR || err == syscall.ELOOP {
		if st, err := look(fd, name); err == nil {
			if f := misplaced(st, forDir, o.path(rel)); f != nil {
				return nil, f
			}
		}
	}
	if err != nil {
		return nil, err
	}
	st, err := fstat(h)
	if err != nil {
		syscall.Close(h)
		return nil, err
	}
	return &dir{fd: h, rel: rel, up: up, stat: st}, nil
}

// names gives the names in a directory, some at a time.
func (d *dir) names(use func(name string) error) error {
	fd, err := openat(d.fd, ".", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	for {
		names, err := f.Readdirnames(512)
		if len(names) == 0 {
			if err != nil && err != io.EOF {
				return err
			}
			return nil
		}
		for _, n := range names {
			if err := use(n); err != nil {
				return err
			}
		}
	}
}

// errSkip, returned by a visit, keeps the walk out of a directory.
var errSkip = errors.New("skip")

// walk visits everything below a directory, a directory before what is in it. What is gone is passed over.
func (o *outDir) walk(d *dir, visit func(d *dir, name string, st *syscall.Stat_t) error) error {
	err := d.names(func(name string) error {
		if o.stop.Load() {
			return errInterrupted
		}
		rel := d.join(name)
		st, err := look(d.fd, name)
		if err == syscall.ENOENT {
			return nil
		}
		if err != nil {
			return o.readFailure(err, rel)
		}
		if err := visit(d, name, st); err == errSkip {
			return nil
		} else if err != nil || !isDir(st) {
			return err
		}
		sub, err := openDir(d.fd, name, rel, d, o)
		if err == syscall.ENOENT {
			return nil
		}
		if err != nil {
			return o.readFailure(err, rel)
		}
		err = o.walk(sub, visit)
		if cerr := sub.close(); err == nil && cerr != nil {
			err = o.readFailure(cerr, rel)
		}
		return err
	})
	if err != nil {
		return o.readFailure(err, d.rel)
	}
	return nil
}

// openRegular opens a regular file for reading; nil if there is none.
func openRegular(d *dir, name string) (*os.File, *syscall.Stat_t, error) {
	st, err := look(d.fd, name)
	if err == syscall.ENOENT || err == nil && !isRegular(st) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	fd, err := openat(d.fd, name, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == syscall.ENOENT || err == syscall.ELOOP {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	st, err = fstat(fd)
	if err != nil || !isRegular(st) {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

// unnamed makes a file without a name in a directory.
func (d *dir) unnamed() (*os.File, error) {
	fd, err := openat(d.fd, ".", oTmpfile|syscall.O_RDWR, 0o600)
	if err != nil { // a file system that cannot: a file whose name is gone at once
		if fd, err = openat(d.fd, tempName, syscall.O_CREAT|syscall.O_EXCL|syscall.O_RDWR, 0o600); err != nil {
			return nil, err
		}
		if err := syscall.Unlinkat(d.fd, tempName); err != nil {
			syscall.Close(fd)
			return nil, err
		}
	}
	return os.NewFile(uintptr(fd), "unnamed"), nil
}

// flushAll flushes the file system of a directory: one flush for all files (SAFE-22).
func (d *dir) flushAll() error {
	number := map[string]uintptr{"amd64": 306, "arm64": 267}[runtime.GOARCH]
	if number == 0 {
		syscall.Sync()
		return nil
	}
	_, err := again(func() (int, error) {
		if _, _, e := syscall.Syscall(number, uintptr(d.fd), 0, 0); e != 0 {
			return 0, e
		}
		return 0, nil
	})
	return err
}
