// Package specio carries netspec messages over a byte stream: the unix socket between the host agent and wisp-netsvc,
// or the virtio-serial port between a host and a system VM.
//
// A message is split into chunks of at most 64 KiB, each preceded by a big-endian uint32 whose top bit says that more
// chunks of this message follow and whose other bits are the chunk's length. Chunks exist because a virtio-serial
// port moves data in small buffers and has no notion of a connection: a reader that meets a length above the limit
// knows at once that the stream is out of step, instead of waiting for gigabytes.
//
// The package lives beside the messages so that both ends (agent and netsvc) may import it.
package specio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
)

const (
	// MaxChunk is the largest payload of one chunk.
	MaxChunk = 64 << 10
	// MaxMessage bounds what one message may make a reader hold: 20,000 guests with DHCP, DNS and metadata need
	// about 16 MiB, user-data of 32 KiB each would be the rest.
	MaxMessage = 256 << 20

	headerLen = 4
	moreBit   = uint32(1) << 31
)

var (
	// ErrChunkTooLong means the stream is out of step or the peer does not speak this protocol.
	ErrChunkTooLong = errors.New("chunk is longer than 64 KiB")
	// ErrMessageTooLong means the peer sent more chunks of one message than a reader accepts.
	ErrMessageTooLong = errors.New("message is longer than 256 MiB")
	// ErrEmptyChunk is a chunk of length zero that announces more: a peer could send such for ever.
	ErrEmptyChunk = errors.New("empty chunk inside a message")
)

// Reader reads messages from one stream. It is for one goroutine.
type Reader struct {
	r   *bufio.Reader
	buf []byte
	max int
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 4096), max: MaxMessage}
}

// Read reads the next message into m. It returns io.EOF when the stream ends between two messages and
// io.ErrUnexpectedEOF when it ends inside one. After any other error than a *DecodeError the stream is out of step
// and must be closed.
func (r *Reader) Read(m proto.Message) error {
	r.buf = r.buf[:0]
	for first := true; ; first = false {
		more, err := r.chunk(first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	err := proto.Unmarshal(r.buf, m)
	if cap(r.buf) > 4*MaxChunk {
		r.buf = nil // do not keep what one large message needed
	}
	if err != nil {
		return &DecodeError{Err: err}
	}
	return nil
}

func (r *Reader) chunk(first bool) (more bool, err error) {
	var header [headerLen]byte
	if _, err := io.ReadFull(r.r, header[:]); err != nil {
		if !first && errors.Is(err, io.EOF) {
			return false, io.ErrUnexpectedEOF
		}
		return false, err
	}
	word := binary.BigEndian.Uint32(header[:])
	more = word&moreBit != 0
	n := int(word &^ moreBit)
	switch {
	case n > MaxChunk:
		return false, ErrChunkTooLong
	case n == 0 && more:
		return false, ErrEmptyChunk
	case len(r.buf)+n > r.max:
		return false, ErrMessageTooLong
	}
	start := len(r.buf)
	r.buf = slices.Grow(r.buf, n)[:start+n]
	if _, err := io.ReadFull(r.r, r.buf[start:]); err != nil {
		if errors.Is(err, io.EOF) {
			return false, io.ErrUnexpectedEOF
		}
		return false, err
	}
	return more, nil
}

// DecodeError is a message whose frame was whole but whose content is not the expected protobuf message. The stream
// is still in step; the next Read works.
type DecodeError struct{ Err error }

func (e *DecodeError) Error() string { return fmt.Sprintf("decode message: %v", e.Err) }
func (e *DecodeError) Unwrap() error { return e.Err }

// Writer writes messages to one stream. It may be used by several goroutines: messages are not interleaved.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write sends m. After an error the stream is out of step and must be closed.
func (w *Writer) Write(m proto.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := proto.Size(m)
	if size > MaxMessage {
		return ErrMessageTooLong
	}
	body, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(w.buf[:0], m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	w.buf = body
	if cap(w.buf) > 4*MaxChunk {
		w.buf = nil
	}
	for {
		n := min(len(body), MaxChunk)
		word := uint32(n)
		if n < len(body) {
			word |= moreBit
		}
		frame := binary.BigEndian.AppendUint32(make([]byte, 0, headerLen+n), word)
		if _, err := w.w.Write(append(frame, body[:n]...)); err != nil {
			return fmt.Errorf("write chunk: %w", err)
		}
		body = body[n:]
		if len(body) == 0 {
			return nil
		}
	}
}
