package specio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/proto/netspec"
)

// record writes down what a Splitter finds; data that arrives in pieces is one.
type record struct{ events []string }

func (r *record) add(s string) error {
	r.events = append(r.events, s)
	return nil
}

func (r *record) marks() Marks {
	return Marks{
		Data: func(b []byte) error {
			if n := len(r.events); n > 0 && strings.HasPrefix(r.events[n-1], "data ") {
				r.events[n-1] += string(b)
				return nil
			}
			return r.add("data " + string(b))
		},
		Begin:  func(id SessionID) error { return r.add(fmt.Sprintf("begin %q", id[:])) },
		Call:   func() error { return r.add("call") },
		Broken: func() error { return r.add("broken") },
	}
}

func TestSplitter(t *testing.T) {
	id := SessionID([]byte("ab\x1b\x00\x01\x02cd"))
	tests := []struct {
		name   string
		stream []byte
		want   []string
	}{
		{"nothing", nil, nil},
		{"data", AppendData(nil, []byte("a\x1b\x1bb\x00")), []string{"data a\x1b\x1bb\x00"}},
		{"a session", AppendData(AppendBegin([]byte("old"), id), []byte("new")), []string{"data old", fmt.Sprintf("begin %q", id[:]), "data new"}},
		{"a call", AppendCall([]byte("x")), []string{"data x", "call"}},
		{"marks in data do not count", AppendData(nil, AppendCall(AppendBegin(nil, id))), []string{"data " + string(AppendCall(AppendBegin(nil, id)))}},
		{"an escape that was cut off", AppendBegin([]byte("x\x1b"), id), []string{"data x", fmt.Sprintf("begin %q", id[:])}},
		{"a beginning that was cut off", AppendBegin([]byte("\x1b\x01abc"), id), []string{fmt.Sprintf("begin %q", id[:])}},
		{"a beginning cut off inside an escape", AppendBegin([]byte("\x1b\x01ab\x1b"), id), []string{fmt.Sprintf("begin %q", id[:])}},
		{"noise", []byte("a\x1bzb"), []string{"data a", "broken", "data b"}},
	}
	for _, tt := range tests {
		for _, size := range []int{1, 2, 3, 1000} {
			t.Run(fmt.Sprintf("%s, %d at a time", tt.name, size), func(t *testing.T) {
				var s Splitter
				var r record
				for rest := tt.stream; len(rest) > 0; {
					n := min(size, len(rest))
					if err := s.Feed(rest[:n], r.marks()); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if diff := cmp.Diff(tt.want, r.events); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// answer plays the guest: it reads the host's beginning from conn and answers with the bytes made from it.
func answer(conn net.Conn, text func(SessionID) []byte) error {
	b := make([]byte, 64)
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	var s Splitter
	var reply []byte
	marks := (&record{}).marks()
	marks.Begin = func(id SessionID) error { reply = text(id); return nil }
	if err := s.Feed(b[:n], marks); err != nil {
		return err
	}
	_, err = conn.Write(reply)
	return err
}

func TestHostPort(t *testing.T) {
	var frame bytes.Buffer
	want := apply(100)
	if err := NewWriter(&frame).Write(want); err != nil {
		t.Fatal(err)
	}
	good := func(id SessionID) []byte { return AppendData(AppendBegin(nil, id), frame.Bytes()) }
	tests := []struct {
		name  string
		reply func(SessionID) []byte
		want  error
	}{
		{"as it should be", good, nil},
		{"after the rest of a dead session", func(id SessionID) []byte {
			return append([]byte("\xff\xff\x1b\x77rest\x1b\x01abcdefghrest\x1b"), good(id)...)
		}, nil},
		{"the guest asks for another session", func(id SessionID) []byte { return append(AppendCall(nil), good(id)...) }, ErrNoSession},
		{"and so in the middle of a message", func(id SessionID) []byte {
			return AppendCall(AppendData(AppendBegin(nil, id), frame.Bytes()[:20]))
		}, ErrNoSession},
		{"another session begins", func(id SessionID) []byte { return AppendBegin(AppendBegin(nil, id), SessionID{}) }, errBroken},
		{"noise inside the session", func(id SessionID) []byte { return append(AppendBegin(nil, id), "\x1b\x77"...) }, errBroken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host, guest := net.Pipe()
			defer host.Close()
			defer guest.Close()
			answered := make(chan error, 1)
			go func() {
				answered <- answer(guest, tt.reply)
			}()
			session, err := Begin(host)
			if err != nil {
				t.Fatal(err)
			}
			var got netspec.ToService
			err = NewReader(session).Read(&got)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err := <-answered; err != nil {
				t.Fatal(err)
			}
			if tt.want != nil {
				return
			}
			if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzSplitter: whatever stood on the port before, a session that begins is seen, and its data is what was sent.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\x1b"), []byte("x\x1b\x01y"), uint8(3))
	f.Add([]byte("\x1b\x01abcdefg\x1b"), []byte("\x1b\x1b"), uint8(1))
	f.Fuzz(func(t *testing.T, before, data []byte, size uint8) {
		id := SessionID{0x1b, 1, 2, 0x1b, 0, 0x1b, 0x1b, 9}
		stream := AppendData(AppendBegin(bytes.Clone(before), id), data)
		var last []byte
		var seen SessionID
		marks := Marks{
			Data:   func(b []byte) error { last = append(last, b...); return nil },
			Begin:  func(id SessionID) error { seen, last = id, nil; return nil },
			Call:   func() error { return nil },
			Broken: func() error { return nil },
		}
		var s Splitter
		for r := bytes.NewReader(stream); ; {
			b := make([]byte, int(size)+1)
			n, err := r.Read(b)
			if err == io.EOF {
				break
			}
			if err := s.Feed(b[:n], marks); err != nil {
				t.Fatal(err)
			}
		}
		if seen != id || !bytes.Equal(last, data) {
			t.Errorf("after session %x: %q, want session %x: %q", seen, last, id, data)
		}
	})
}
