package main

// Chapter FILE: file header, payload part, entries, footer.

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
)

const (
	maxKeySize   = 1_048_584   // FILE-12
	maxValueSize = 268_435_499 // FILE-13
	windowSize   = 256 << 10
)

const (
	magicHeader1 = "EKVTHLC1"
	magicHeader2 = "EKVTHLC2"
	magicPayload = "EKVPBBL1"
	magicIngest  = "EKVSSTI1"
)

type snapshot struct {
	path  string
	file  *os.File
	start os.FileInfo
	size  int64
	stop  *atomic.Bool

	hasHeader  bool
	hasFooter  bool
	footer     uint32
	lastCommit uint64
	first      int64 // where the entries begin
}

// openSnapshot follows symlinks and never blocks (FILE-24).
func openSnapshot(path string, stop *atomic.Bool) (*snapshot, error) {
	refuse := func(words string) error { return faultIn("io-error", "FILE-24", path, words) }
	info, err := os.Stat(path) // a look before the open, because to open a device can have an effect
	if err != nil {
		return nil, refuse(err.Error())
	}
	if !info.Mode().IsRegular() {
		return nil, refuse("not a regular file")
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refuse(err.Error())
	}
	info, err = file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file")
	}
	if err != nil {
		file.Close()
		return nil, refuse(err.Error())
	}
	return &snapshot{path: path, file: file, start: info, size: info.Size(), stop: stop}, nil
}

// changed says whether the path leads to another file, or the file was changed (FILE-22).
func (s *snapshot) changed() *Fault {
	now, err := os.Stat(s.path)
	if err == nil && os.SameFile(now, s.start) && now.Size() == s.size && now.ModTime().Equal(s.start.ModTime()) {
		return nil
	}
	return faultIn("changed", "FILE-22", s.path, "the snapshot changed while it was read")
}

// index is what the file name says (FILE-25).
func (s *snapshot) index() (uint64, bool) {
	name := filepath.Base(s.path)
	if len(name) != 20 || name[16:] != ".fsm" {
		return 0, false
	}
	for _, c := range []byte(name[:16]) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(name[:16], 16, 64)
	return n, err == nil
}

// readAt fills p. Nothing is mapped (FILE-23).
func (s *snapshot) readAt(p []byte, offset int64) error {
	if s.stop.Load() {
		return errInterrupted
	}
	if _, err := s.file.ReadAt(p, offset); err != nil {
		return faultIn("io-error", "FILE-24", s.path, "cannot be read: "+err.Error())
	}
	return nil
}

// copyTo writes a part of the snapshot in pieces.
func (s *snapshot) copyTo(w io.Writer, offset, size int64) error {
	buf := make([]byte, min(size, windowSize))
	for size > 0 {
		piece := buf[:min(size, int64(len(buf)))]
		if err := s.readAt(piece, offset); err != nil {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		offset, size = offset+int64(len(piece)), size-int64(len(piece))
	}
	return nil
}

// A window gives bytes of the snapshot; they are good until the next call.
type window struct {
	s     *snapshot
	buf   []byte
	at    int64
	ahead int64 // how much it reads at once at least
}

// bodies is a window for bodies that lie apart.
func (s *snapshot) bodies() *window { return &window{s: s, ahead: 4 << 10} }

func (w *window) bytes(offset int64, n int) ([]byte, error) {
	if offset < w.at || offset+int64(n) > w.at+int64(len(w.buf)) {
		size := min(max(int64(n), cmp.Or(w.ahead, windowSize)), w.s.size-offset)
		if int64(cap(w.buf)) < size {
			w.buf = make([]byte, size)
		}
		w.buf, w.at = w.buf[:size], offset
		if err := w.s.readAt(w.buf, offset); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	i := offset - w.at
	return w.buf[i : i+int64(n)], nil
}

func (s *snapshot) readHeader() error {
	w := &window{s: s}
	magic, err := s.readMagic(w, 0, magicHeader1, magicHeader2, magicPayload, magicIngest)
	if err != nil {
		return err
	}
	payload := int64(0)
	switch magic {
	case magicHeader1: // FILE-1
		payload = 16
		if s.size < payload {
			return faultAt("truncated", "FILE-9", 8, "the file header is cut")
		}
	case magicHeader2: // FILE-2
		if s.size < 10 {
			return faultAt("truncated", "FILE-9", 8, "the file header is cut")
		}
		b, err := w.bytes(8, 2)
		if err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint16(b))
		if size < 16 || size > 1024 {
			return faultAt("bad-header", "FILE-4", 8, "an impossible size in the file header")
		}
		payload = 10 + size // the extension is skipped (FILE-3)
		if s.size < payload {
			return faultAt("truncated", "FILE-9", 10, "the file header is cut")
		}
	}
	if payload > 0 {
		s.hasHeader = true
		if magic, err = s.readMagic(w, payload, magicPayload, magicIngest); err != nil {
			return err
		}
	}
	if magic == magicIngest {
		return faultAt("unsupported", "FILE-7", payload, "an ingest stream")
	}
	if s.size < payload+16 {
		return faultAt("truncated", "FILE-9", payload+8, "the last commit is cut")
	}
	b, err := w.bytes(payload+8, 8) // FILE-6
	if err != nil {
		return err
	}
	s.lastCommit = binary.LittleEndian.Uint64(b)
	s.first = payload + 16
	return nil
}

// readMagic reads one of the magics that may stand at an offset (FILE-8, FILE-10).
func (s *snapshot) readMagic(w *window, offset int64, magics ...string) (string, error) {
	b, err := w.bytes(offset, int(min(8, s.size-offset)))
	if err != nil {
		return "", err
	}
	for _, m := range magics {
		if string(b) == m {
			return m, nil
		}
		if len(b) < 8 && m[:len(b)] == string(b) {
			return "", faultAt("truncated", "FILE-9", offset, "the magic is cut")
		}
	}
	if offset == 0 && len(b) == 8 && string(b[:7]) == magicHeader1[:7] {
		return "", faultAt("unsupported", "FILE-5", 7, "a file header of an unknown version")
	}
	return "", faultAt("bad-magic", "FILE-8", offset, "not a snapshot")
}

// An entry is good until the next one.
type entry struct {
	offset           int64
	key              []byte // the encoded key
	keyAt            int64
	valueAt, valueSz int64
	head             []byte // the first bytes of the encoded value, at most 20
}

func (e *entry) end() int64 { return e.valueAt + e.valueSz }

// entries gives the entries that begin in [from, to), or a fault of structure.
func (s *snapshot) entries(from, to int64) iter.Seq2[*entry, error] {
	return func(yield func(*entry, error) bool) {
		w := &window{s: s}
		var key, previous []byte
		for pos := from; pos < to; {
			left := s.size - pos
			if left == 4 { // the footer (FILE-17)
				return
			}
			e := &entry{offset: pos}
			// FILE-14: the limit first, then what is left, and then the bytes.
			size, err := s.readSize(w, pos, maxKeySize, "FILE-12", "key")
			if err != nil {
				yield(nil, err)
				return
			}
			e.keyAt = pos + 8
			b, err := w.bytes(e.keyAt, int(size))
			if err != nil {
				yield(nil, err)
				return
			}
			key, previous = append(previous[:0], b...), key
			if pos != from && bytes.Compare(key, previous) <= 0 {
				yield(nil, faultAt("out-of-order", "FILE-16", pos, "the encoded key is not greater than the one before"))
				return
			}
			e.key = key
			e.valueSz, err = s.readSize(w, e.keyAt+size, maxValueSize, "FILE-13", "value")
			if err != nil {
				yield(nil, err)
				return
			}
			e.valueAt = e.keyAt + size + 8
			if e.head, err = w.bytes(e.valueAt, int(min(e.valueSz, 20))); err != nil {
				yield(nil, err)
				return
			}
			if !yield(e, nil) {
				return
			}
			pos = e.end()
		}
	}
}

// readSize reads a size field and judges it and what it counts (FILE-12 to FILE-15).
func (s *snapshot) readSize(w *window, at int64, limit uint64, clause, what string) (int64, error) {
	if s.size-at < 8 {
		return 0, faultAt("truncated", "FILE-15", at, "the "+what+" size is cut")
	}
	b, err := w.bytes(at, 8)
	if err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b)
	if n > limit {
		return 0, faultAt("too-large", clause, at, "the "+what+" size is above its limit")
	}
	if int64(n) > s.size-at-8 {
		return 0, faultAt("truncated", "FILE-15", at+8, "the "+what+" is cut")
	}
	return int64(n), nil
}

// readFooter judges what stands behind the last entry (FILE-17 to FILE-19).
func (s *snapshot) readFooter(end int64) error {
	if end == s.size {
		if s.hasHeader {
			return faultAt("truncated", "FILE-19", s.size, "a file header, but no footer")
		}
		return nil
	}
	s.hasFooter = true
	var b [4]byte
	if err := s.readAt(b[:], end); err != nil {
		return err
	}
	s.footer = binary.BigEndian.Uint32(b[:])
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if err := s.copyTo(sum, 0, end); err != nil {
		return err
	}
	if sum.Sum32() != s.footer {
		return faultAt("footer-mismatch", "FILE-18", end, "the bytes are not those that the footer was made from")
	}
	return nil
}
