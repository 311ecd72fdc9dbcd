package main

// Chapters OUTC and COMP: faults, warnings, exit statuses.

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Fault says what is wrong, which clause is broken, and where (OUTC-1).
type Fault struct {
	Name, Clause string
	Offset       int64  // -1 where there is none
	Path         string // "" where there is none
	Key          []byte // nil where it is not about one key
	Words        string
}

// The exit status of each fault (OUTC-7).
var exitStatus = map[string]int{
	"truncated": 4, "bad-magic": 4, "bad-header": 4, "unsupported": 4, "too-large": 4,
	"out-of-order": 4, "footer-mismatch": 4, "too-short": 4, "encrypted": 4,
	"reserved-bits": 4, "invalid-value": 4, "changed": 4,
	"not-empty": 5, "unsafe-path": 5, "disk-full": 6, "io-error": 7,
}

const (
	exitComplete    = 0
	exitFindings    = 1
	exitUsage       = 2
	exitPartial     = 3
	exitIOError     = 7
	exitInterrupted = 130
)

// errInterrupted ends a run that the user ended; it is no fault (SAFE-24).
var errInterrupted = errors.New("interrupted")

func faultAt(name, clause string, offset int64, words string) *Fault {
	return &Fault{Name: name, Clause: clause, Offset: offset, Words: words}
}

func faultIn(name, clause, path, words string) *Fault {
	return &Fault{Name: name, Clause: clause, Offset: -1, Path: path, Words: words}
}

func (f *Fault) withKey(key []byte) *Fault {
	f.Key = append([]byte{}, key...)
	return f
}

func (f *Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fault=%s clause=%s", f.Name, f.Clause)
	if f.Offset >= 0 {
		fmt.Fprintf(&b, " offset=%d", f.Offset)
	}
	if f.Path != "" {
		fmt.Fprintf(&b, " path=%q", f.Path)
	}
	if f.Key != nil {
		fmt.Fprintf(&b, " key=%s", base64.RawURLEncoding.EncodeToString(f.Key))
	}
	return b.String() + ": " + f.Words
}

// A Warning has a name, a count, what it is about, and words (COMP-3).
type Warning struct {
	Name   string
	Count  uint64
	About  []string
	Detail string
}

func (w Warning) String() string {
	about := make([]string, len(w.About))
	for i, a := range w.About {
		about[i] = jsonString(a)
	}
	return "warning=" + w.Name + " count=" + strconv.FormatUint(w.Count, 10) + " about=[" + strings.Join(about, ",") + "]"
}

// A Reason is why a dump is partial (COMP-6).
type Reason struct {
	Reason, About string
	Count         uint64
}
