package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// One resolver gets this long; stub resolvers in guests give up after 5 s.
	forwardTimeout = 1500 * time.Millisecond
	forwardTries   = 3
	maxMessage     = 0xffff
	// Open questions to others, of all guests and of one.
	forwardsTotal    = 1024
	forwardsPerGuest = 128
)

// forwarder asks other resolvers.
type forwarder struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

// take reserves room for one question of a guest.
func (f *forwarder) take(guest netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= forwardsTotal || f.open[guest] >= forwardsPerGuest {
		return false
	}
	f.all++
	f.open[guest]++
	return true
}

func (f *forwarder) give(guest netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.open[guest]--; f.open[guest] == 0 {
		delete(f.open, guest)
	}
}

// ask sends the question to the resolvers in turn until one answers with something better than "cannot". The answer
// has the client's id again. network is the client's own: what it asked over TCP did not fit in a datagram.
func (f *forwarder) ask(ctx context.Context, network string, resolvers []string, q *query) ([]byte, error) {
	var last []byte
	var errs []error
	for i := range min(forwardTries, 2*len(resolvers)) {
		resolver := resolvers[i%len(resolvers)]
		answer, err := f.try(ctx, network, resolver, q)
		if err != nil {
			errs = append(errs, fmt.Errorf("ask %s: %w", resolver, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		copy(answer, q.raw[:2])
		if rcode := answer[3] & 0xf; rcode != rcodeServFail && rcode != rcodeRefused {
			return answer, nil
		}
		last = answer
		if i+1 == len(resolvers) {
			break // each was asked once and at least one could say so
		}
	}
	if last != nil {
		return last, nil
	}
	return nil, errors.Join(errs...)
}

// try asks one resolver once, from a new socket: with a random port and a random id a forger has to guess 32 bits
// (RFC 5452).
func (f *forwarder) try(ctx context.Context, network, resolver string, q *query) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	conn, err := f.dial(ctx, network, resolver)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	message := append([]byte{0, 0}, q.raw...) // the length, for TCP
	binary.BigEndian.PutUint16(message, uint16(len(q.raw)))
	if _, err := rand.Read(message[2:4]); err != nil {
		return nil, err
	}
	asked := message[2:]
	if network == "udp4" {
		message = asked
	}
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		var answer []byte
		if network == "udp4" {
			n, err := conn.Read(buf)
			if err != nil {
				return nil, err
			}
			answer = buf[:n]
		} else if answer, err = readTCP(conn, nil); err != nil {
			return nil, err
		}
		if answers(answer, asked, q.questionEnd) {
			return answer, nil
		}
	}
}

// answers says whether a message answers a question: same id, same question, letter by letter.
func answers(answer, asked []byte, questionEnd int) bool {
	return len(answer) >= questionEnd && answer[2]&0x80 != 0 && answer[2]>>3&0xf == 0 &&
		bytes.Equal(answer[:2], asked[:2]) && binary.BigEndian.Uint16(answer[4:]) == 1 &&
		bytes.Equal(answer[headerLen:questionEnd], asked[headerLen:questionEnd])
}

// readTCP reads one message with its length before it, into buf if that is large enough.
func readTCP(r io.Reader, buf []byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < headerLen {
		return nil, errFormat
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}
