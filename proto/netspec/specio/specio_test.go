package specio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/proto/netspec"
)

func apply(userData int) *netspec.ToService {
	return &netspec.ToService{Message: &netspec.ToService_Apply{Apply: &netspec.NetSpec{
		NetworkId:  "n1",
		Generation: 7,
		Metadata: &netspec.Metadata{Guests: []*netspec.GuestData{
			{Ip: "10.1.1.5", UserData: bytes.Repeat([]byte{'x'}, userData)},
		}},
	}}}
}

func TestRoundTrip(t *testing.T) {
	messages := []*netspec.ToService{
		{},
		apply(0),
		apply(MaxChunk - 1),
		apply(MaxChunk),
		apply(5*MaxChunk + 17),
		{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{KeepState: true}}},
	}
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for i, m := range messages {
		if err := w.Write(m); err != nil {
			t.Fatalf("write message %d: %v", i, err)
		}
	}
	r := NewReader(iotest.OneByteReader(&stream))
	for i, want := range messages {
		var got netspec.ToService
		if err := r.Read(&got); err != nil {
			t.Fatalf("read message %d: %v", i, err)
		}
		if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
	}
	if err := r.Read(&netspec.ToService{}); !errors.Is(err, io.EOF) {
		t.Errorf("after the last message: %v, want io.EOF", err)
	}
}

func TestReadRefuses(t *testing.T) {
	tests := []struct {
		name   string
		stream string
		want   error
	}{
		{"nothing", "", io.EOF},
		{"half a header", "\x00\x00", io.ErrUnexpectedEOF},
		{"half a chunk", "\x00\x00\x00\x04ab", io.ErrUnexpectedEOF},
		{"no chunk body at all", "\x00\x00\x00\x04", io.ErrUnexpectedEOF},
		{"announced chunk is missing", "\x80\x00\x00\x01a", io.ErrUnexpectedEOF},
		{"chunk too long", "\x00\x01\x00\x01", ErrChunkTooLong},
		{"text instead of frames", "GET / HTTP/1.0\r\n", ErrChunkTooLong},
		{"empty chunk announcing more", "\x80\x00\x00\x00", ErrEmptyChunk},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := NewReader(strings.NewReader(tt.stream)).Read(&netspec.ToService{})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestReadStopsAtMessageLimit(t *testing.T) {
	chunk := append([]byte{0x80, 0, 0, 4}, "abcd"...)
	r := NewReader(bytes.NewReader(bytes.Repeat(chunk, 10)))
	r.max = 16
	if err := r.Read(&netspec.ToService{}); !errors.Is(err, ErrMessageTooLong) {
		t.Errorf("got %v, want %v", err, ErrMessageTooLong)
	}
}

func TestReadGoesOnAfterDecodeError(t *testing.T) {
	var stream bytes.Buffer
	stream.WriteString("\x00\x00\x00\x02\xff\xff")
	if err := NewWriter(&stream).Write(apply(3)); err != nil {
		t.Fatal(err)
	}
	r := NewReader(&stream)
	var decode *DecodeError
	if err := r.Read(&netspec.ToService{}); !errors.As(err, &decode) {
		t.Fatalf("got %v, want a DecodeError", err)
	}
	var got netspec.ToService
	if err := r.Read(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(apply(3), &got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWritersDoNotInterleave(t *testing.T) {
	pr, pw := io.Pipe()
	w := NewWriter(pw)
	const writers, each = 4, 8
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := w.Write(apply(3 * MaxChunk)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); pw.Close() }()
	r := NewReader(pr)
	for n := 0; ; n++ {
		var got netspec.ToService
		err := r.Read(&got)
		if errors.Is(err, io.EOF) && n == writers*each {
			return
		}
		if err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		if !proto.Equal(&got, apply(3*MaxChunk)) {
			t.Fatalf("message %d is not what was sent", n)
		}
	}
}

// FuzzRead feeds arbitrary streams: the reader must end, never hold more than its limit, and what it accepts must
// survive being written and read again.
func FuzzRead(f *testing.F) {
	var seed bytes.Buffer
	w := NewWriter(&seed)
	for _, n := range []int{0, 10, MaxChunk + 5} {
		if err := w.Write(apply(n)); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(seed.Bytes()))
	}
	f.Add([]byte("\x80\x00\x00\x01a\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		r.max = 1 << 20
		for {
			var m netspec.ToService
			err := r.Read(&m)
			var decode *DecodeError
			if errors.As(err, &decode) {
				continue
			}
			if err != nil {
				return
			}
			if len(r.buf) > r.max {
				t.Fatalf("holds %d bytes", len(r.buf))
			}
			var out bytes.Buffer
			if err := NewWriter(&out).Write(&m); err != nil {
				t.Fatalf("write what was read: %v", err)
			}
			var again netspec.ToService
			if err := NewReader(&out).Read(&again); err != nil {
				t.Fatalf("read what was written: %v", err)
			}
		}
	})
}
