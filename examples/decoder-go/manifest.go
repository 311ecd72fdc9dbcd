package main

// Chapter MANI: MANIFEST.json.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

type member struct {
	name  string
	value any
}

// JSON with members in order: object, list, string, bool, nil, int and uint64.
type object []member
type list []any

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// render writes one member or item on a line, with two spaces of indent (MANI-1).
func render(b *strings.Builder, v any, indent string) {
	inner := indent + "  "
	switch v := v.(type) {
	case object:
		if len(v) == 0 {
			b.WriteString("{}")
			return
		}
		for i, m := range v {
			b.WriteString([]string{",\n", "{\n"}[btoi(i == 0)] + inner + jsonString(m.name) + ": ")
			render(b, m.value, inner)
		}
		b.WriteString("\n" + indent + "}")
	case list:
		if len(v) == 0 {
			b.WriteString("[]")
			return
		}
		for i, e := range v {
			b.WriteString([]string{",\n", "[\n"}[btoi(i == 0)] + inner)
			render(b, e, inner)
		}
		b.WriteString("\n" + indent + "]")
	case string:
		b.WriteString(jsonString(v))
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, v)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Counters in the order of outcomes.toml (COMP-9).
var (
	entryCounters = strings.Fields("operational future history deleted expired internal unknown undecoded " +
		"string bare hll hash list set zset stream ttl")
	stringCounters     = strings.Fields("written shadowed excluded unreadable") // of HLLs, too
	collectionCounters = strings.Fields("written unread shadowed orphan excluded unreadable")
	collectionTypes    = strings.Fields("hash list set zset stream")
	ttlCounters        = strings.Fields("applied redundant orphan excluded unreadable")
)

func counts(names []string, m map[string]uint64) object {
	var o object
	for _, n := range names {
		o = append(o, member{n, m[n]})
	}
	return o
}

func reasonList(reasons []Reason) list {
	var l list
	for _, r := range reasons {
		l = append(l, object{{"reason", r.Reason}, {"about", r.About}, {"count", r.Count}})
	}
	return l
}

func wallTime(given string) string {
	if given != "" {
		return given
	}
	return time.Now().UTC().Format(time.RFC3339Nano) // MANI-4
}

// manifest gives the text of MANIFEST.json.
func (r *result) manifest(o *options) []byte {
	var top object
	add := func(name string, v any) { top = append(top, member{name, v}) }
	add("format_version", 1)
	add("phase", "phase0-snapshot-decode") // MANI-3
	if o.elastickvVersion != "" {
		add("elastickv_version", text(o.elastickvVersion))
	}
	if o.clusterID != "" {
		add("cluster_id", text(o.clusterID))
	}
	if n, ok := r.snapshot.index(); ok && n != 0 {
		add("snapshot_index", n)
	}
	if r.snapshot.lastCommit != 0 {
		add("last_commit_ts", r.snapshot.lastCommit)
	}
	add("wall_time_iso", wallTime(o.wallTime))
	source := object{{"fsm_path", text(o.snapshot)}} // MANI-5
	if r.snapshot.hasFooter {
		source = append(source, member{"fsm_crc32c", fmt.Sprintf("%08x", r.snapshot.footer)})
	}
	add("source", source)
	add("adapters", r.adapters(o))
	add("exclusions", object{{"include_incomplete_uploads", false}, {"include_orphans", false},
		{"preserve_sqs_visibility", false}, {"include_sqs_side_records", false}}) // MANI-6
	add("checksum_algorithm", "sha256")
	add("checksum_format", "sha256sum")
	add("encoded_filename_charset", "rfc3986-unreserved-plus-percent")
	add("key_segment_max_bytes", maxSegment)
	add("s3_meta_suffix", ".elastickv-meta.json")
	add("s3_collision_strategy", "leaf-data-suffix")
	add("dynamodb_layout", "per-item")
	add("outcome", r.outcome(o))
	var b strings.Builder
	render(&b, top, "")
	return []byte(b.String() + "\n")
}

// adapters are MANI-7 to MANI-10.
func (r *result) adapters(o *options) object {
	types := r.survey.types
	var a object
	if !o.named && types[tDynamoDB] == 0 {
		a = append(a, member{"dynamodb", object{}})
	}
	if !o.named && types[tS3] == 0 {
		a = append(a, member{"s3", object{}})
	}
	if len(r.found.databases) > 0 { // MANI-10
		var databases list
		for _, n := range r.found.databases {
			databases = append(databases, n)
		}
		a = append(a, member{"redis", object{{"databases", databases}}})
	} else if types[tString]+types[tBare]+types[tHLL]+types[tHash]+types[tList]+types[tSet]+types[tZset]+types[tStream] == 0 {
		a = append(a, member{"redis", object{}})
	}
	if !o.named && types[tSQS] == 0 {
		a = append(a, member{"sqs", object{}})
	}
	return a
}

// outcome is MANI-11.
func (r *result) outcome(o *options) object {
	var warnings, earlier list
	for _, w := range r.warnings {
		var about list
		for _, a := range w.About {
			about = append(about, a)
		}
		warnings = append(warnings, object{{"name", w.Name}, {"count", w.Count}, {"about", about}, {"detail", w.Detail}})
	}
	for _, e := range r.earlier {
		said := append(object{{"database", e.database}}, e.part...) // INTO-7
		earlier = append(earlier, append(said, member{"complete", e.complete},
			member{"partial_reasons", reasonList(e.reasons)}, member{"fsm_path", e.fsmPath}))
	}
	var undecoded object
	for t := tDynamoDB; t <= tSQS; t++ {
		undecoded = append(undecoded, member{typeNames[t], r.survey.types[t]})
	}
	groups := r.verdict.groups
	return object{
		{"database", o.database},
		{"complete", len(r.reasons) == 0},
		{"partial_reasons", reasonList(r.reasons)},
		{"warnings", warnings},
		{"counters", object{
			{"entries", counts(entryCounters, r.survey.entries)},
			{"undecoded", undecoded},
			{"strings", counts(stringCounters, groups["strings"])},
			{"hlls", counts(stringCounters, groups["hlls"])},
			{"hashes", counts(collectionCounters, groups["hashes"])},
			{"lists", counts(collectionCounters, groups["lists"])},
			{"sets", counts(collectionCounters, groups["sets"])},
			{"zsets", counts(collectionCounters, groups["zsets"])},
			{"streams", counts(collectionCounters, groups["streams"])},
			{"collections", counts(collectionTypes, groups["collections"])},
			{"ttls", counts(ttlCounters, groups["ttls"])},
		}},
		{"earlier", earlier},
	}
}

// validTime says whether a text is an RFC 3339 time (READ-16); in strict form, in UTC
// with a capital T and Z (MANI-4).
func validTime(s string, strict bool) bool {
	number := func(from, to, low, high int) bool {
		for _, c := range []byte(s[from:to]) {
			if c < '0' || c > '9' {
				return false
			}
		}
		n, err := strconv.Atoi(s[from:to])
		return err == nil && n >= low && n <= high
	}
	const shape = "0000-00-00T00:00:00"
	if len(s) < len(shape)+1 || s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' ||
		s[10] != 'T' && (strict || s[10] != 't') {
		return false
	}
	if !number(0, 4, 1, 9999) || !number(5, 7, 1, 12) || !number(8, 10, 1, 31) ||
		!number(11, 13, 0, 23) || !number(14, 16, 0, 59) || !number(17, 19, 0, 59) {
		return false
	}
	if _, err := time.Parse(time.DateOnly, s[:10]); err != nil { // days of the month
		return false
	}
	at := len(shape)
	if s[at] == '.' {
		from := at + 1
		for at++; at < len(s) && s[at] >= '0' && s[at] <= '9'; at++ {
		}
		if at == from || at-from > 9 {
			return false
		}
	}
	switch zone := s[at:]; {
	case zone == "Z":
		return true
	case strict:
		return false
	case zone == "z":
		return true
	default:
		return len(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':' &&
			number(at+1, at+3, 0, 23) && number(at+4, at+6, 0, 59)
	}
}
