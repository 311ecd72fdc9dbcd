//go:build linux

// Command ekvdecoder decodes a snapshot of elastickv into a logical dump, and verifies dumps.
//
// It follows the chapters of the ekvdump format; comments name the clauses. It runs on Linux.
//
// A server's own lookup can miss a key whose versions have entries of another key among them (VISI-15).
// The dump shows such a key, because it is committed data (VISI-16).
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
)

const maxDatabase = 2_147_483_647 // TREE-3

const usage = `usage: ekvdecoder decode [--db N] [--only TYPE,..] [--salvage] [--into-existing] [--no-sync]
                         [--wall-time T] [--cluster-id S] [--elastickv-version S] [--] SNAPSHOT OUT
       ekvdecoder verify [--] OUT

TYPE is strings, hll, hashes, lists, sets, zsets or streams.
`

// wantedNames are the types that a caller can name (COMP-1).
var wantedNames = map[string][]recordType{"strings": {tString, tBare}, "hll": {tHLL}, "hashes": {tHash},
	"lists": {tList}, "sets": {tSet}, "zsets": {tZset}, "streams": {tStream}}

func main() {
	var stop atomic.Bool
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} { // SAFE-24
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		<-signals
		stop.Store(true)
	}()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, &stop))
}

func run(args []string, stdout, stderr io.Writer, stop *atomic.Bool) int {
	o := &options{}
	for t := range o.wanted {
		o.wanted[t] = true
	}
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	paths, err := parseArgs(command, args, o)
	if err != nil {
		fmt.Fprintf(stderr, "ekvdecoder: %v\n%s", err, usage)
		return exitUsage
	}
	if command == "verify" {
		n, err := verify(paths[0], stdout, stop)
		switch {
		case err != nil:
			return report(err, stderr)
		case n > 0:
			return exitFindings
		}
		return exitComplete
	}
	o.snapshot, o.out = paths[0], paths[1]
	r, err := decode(o, stop)
	if r != nil {
		for _, w := range r.warnings {
			fmt.Fprintln(stderr, w)
		}
	}
	switch {
	case err != nil:
		return report(err, stderr)
	case len(r.reasons) > 0:
		return exitPartial
	}
	return exitComplete
}

// report prints every fault (SAFE-31); the first one gives the exit status (OUTC-8).
func report(err error, stderr io.Writer) int {
	status := -1
	var each func(error)
	each = func(err error) {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				each(e)
			}
			return
		}
		this := exitIOError
		var f *Fault
		if errors.As(err, &f) {
			this = exitStatus[f.Name]
		} else if errors.Is(err, errInterrupted) {
			this = exitInterrupted
		}
		if status < 0 {
			status = this
		}
		fmt.Fprintln(stderr, err)
	}
	each(err)
	return status
}

// parseArgs reads the options of CONV-6.
func parseArgs(command string, args []string, o *options) (paths []string, err error) {
	want, ok := map[string]int{"decode": 2, "verify": 1}[command]
	if !ok {
		return nil, errors.New("unknown command")
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			paths, args = append(paths, args...), nil
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			paths = append(paths, arg)
			continue
		}
		if command == "verify" {
			return nil, fmt.Errorf("unknown option %q", arg)
		}
		name, value, given := strings.Cut(arg, "=")
		switch name {
		case "--salvage", "--into-existing", "--no-sync":
			if given {
				return nil, fmt.Errorf("%s takes no value", name)
			}
		case "--db", "--only", "--wall-time", "--cluster-id", "--elastickv-version":
			if !given {
				if len(args) == 0 {
					return nil, fmt.Errorf("%s needs a value", name)
				}
				value, args = args[0], args[1:]
			}
		}
		switch name {
		case "--salvage":
			o.salvage = true
		case "--into-existing":
			o.existing = true
		case "--no-sync":
			o.noFlush = true
		case "--db":
			if o.database, ok = parseDatabase(value); !ok {
				return nil, fmt.Errorf("not a database index: %q", value)
			}
		case "--only":
			o.named, o.wanted = true, [typeCount]bool{}
			for _, name := range strings.Split(value, ",") {
				types, ok := wantedNames[name]
				if !ok {
					return nil, fmt.Errorf("not a type: %q", name)
				}
				for _, t := range types {
					o.wanted[t] = true
				}
			}
		case "--wall-time":
			if o.wallTime = value; !validTime(value, true) { // MANI-4
				return nil, fmt.Errorf("not an RFC 3339 time in UTC: %q", value)
			}
		case "--cluster-id":
			o.clusterID = value
		case "--elastickv-version":
			o.elastickvVersion = value
		default:
			return nil, fmt.Errorf("unknown option %q", arg)
		}
	}
	if len(paths) != want {
		return nil, fmt.Errorf("%s takes %d paths", command, want)
	}
	for _, p := range paths {
		if p == "" {
			return nil, errors.New("an empty path")
		}
	}
	return paths, nil
}
