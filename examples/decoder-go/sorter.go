package main

// SUMS-6, VERI-20: sorting with bounded memory, in a temporary file without a name.

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"io"
	"iter"
	"os"
	"slices"
)

const sorterMemory = 16 << 20

// An item is a key and a value; items are sorted by key, then by value.
type item struct{ key, value []byte }

func (a item) compare(b item) int {
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c
	}
	return bytes.Compare(a.value, b.value)
}

type sorter struct {
	create func() (*os.File, error) // makes a file without a name
	file   *os.File
	size   int64
	runs   []int64 // where each run begins
	items  []item
	memory int
}

func (s *sorter) add(key string, value ...byte) error {
	s.items = append(s.items, item{[]byte(key), value})
	s.memory += len(key) + len(value) + 80
	if s.memory > sorterMemory {
		return s.spill()
	}
	return nil
}

func (s *sorter) spill() error {
	slices.SortFunc(s.items, item.compare)
	if s.file == nil {
		f, err := s.create()
		if err != nil {
			return err
		}
		s.file = f
	}
	s.runs = append(s.runs, s.size)
	w := bufio.NewWriter(io.NewOffsetWriter(s.file, s.size))
	for _, it := range s.items {
		var head [2 * binary.MaxVarintLen64]byte
		n := binary.PutUvarint(head[:], uint64(len(it.key)))
		n += binary.PutUvarint(head[n:], uint64(len(it.value)))
		for _, part := range [][]byte{head[:n], it.key, it.value} {
			w.Write(part) // an error stays until Flush
			s.size += int64(len(part))
		}
	}
	s.items, s.memory = nil, 0
	return w.Flush()
}

func (s *sorter) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// all gives the items in order; it can be called again, but not between calls of add.
func (s *sorter) all() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		slices.SortFunc(s.items, item.compare)
		h := &runHeap{&sortedRun{items: s.items}}
		for i, from := range s.runs {
			to := s.size
			if i+1 < len(s.runs) {
				to = s.runs[i+1]
			}
			*h = append(*h, &sortedRun{file: bufio.NewReader(io.NewSectionReader(s.file, from, to-from))})
		}
		live := (*h)[:0]
		for _, r := range *h {
			ok, err := r.next()
			if err != nil {
				yield(item{}, err)
				return
			}
			if ok {
				live = append(live, r)
			}
		}
		*h = live
		heap.Init(h)
		for h.Len() > 0 {
			r := (*h)[0]
			if !yield(r.head, nil) {
				return
			}
			ok, err := r.next()
			if err != nil {
				yield(item{}, err)
				return
			}
			if ok {
				heap.Fix(h, 0)
			} else {
				heap.Pop(h)
			}
		}
	}
}

// A sortedRun is sorted items, in memory or in the file.
type sortedRun struct {
	items []item
	file  *bufio.Reader
	head  item
}

func (r *sortedRun) next() (bool, error) {
	if r.file == nil {
		if len(r.items) == 0 {
			return false, nil
		}
		r.head, r.items = r.items[0], r.items[1:]
		return true, nil
	}
	keySize, err := binary.ReadUvarint(r.file)
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	valueSize, err := binary.ReadUvarint(r.file)
	if err != nil {
		return false, err
	}
	b := make([]byte, keySize+valueSize)
	if _, err := io.ReadFull(r.file, b); err != nil {
		return false, err
	}
	r.head = item{b[:keySize], b[keySize:]}
	return true, nil
}

type runHeap []*sortedRun

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return h[i].head.compare(h[j].head) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*sortedRun)) }
func (h *runHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	*h = old[:len(old)-1]
	return r
}
