package netrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// session is what the services of one namespace or system VM are to do and what they last said, and the talk with them
// over whatever stream leads there.
type session struct {
	id     string
	config Config
	wake   chan struct{}

	mu        sync.Mutex
	want      *netspec.NetSpec
	gone      bool
	connected bool
	err       error
	seen      *netspec.Observation
	restarts  uint64
}

// manners are in what the two kinds of services differ. Each function returns why the talk is over, nil to go on.
type manners struct {
	// ended: the services are wanted no more.
	ended func() error
	// restart is asked for by the spec.
	restart func(*specio.Writer) error
	// refused a spec, as the error says: they hold another one.
	refused func(*specio.Writer, error) error
	// odd looks at their version.
	odd func(*specio.Writer, string) error
	// check looks at what a process may get wrong without ending.
	check func() error
	// stuck deals with services that fell silent or did not pass the check.
	stuck func() error
}

type incoming struct {
	message *netspec.FromService
	err     error
}

// talk pushes the spec whenever it changed and takes in what the services say, until something ends it.
func (s *session) talk(ctx context.Context, conn net.Conn, m manners) error {
	messages := make(chan incoming)
	stop := make(chan struct{})
	defer close(stop)
	go receive(conn, messages, stop)
	writer := specio.NewWriter(timedWriter{conn})
	tick := time.NewTicker(s.config.CheckEvery)
	defer tick.Stop()
	if r := s.recall(); r != nil {
		if err := send(writer, &netspec.ToService{Message: &netspec.ToService_Recall{Recall: r}}); err != nil {
			return err
		}
	}
	heard := time.Now()
	var sent *netspec.NetSpec
	for {
		want, gone := s.wanted()
		if gone {
			return m.ended()
		}
		if want != nil && sent != nil && want.GetRestarts() > sent.GetRestarts() && m.restart != nil {
			if err := m.restart(writer); err != nil {
				return err
			}
		}
		if want != nil && !proto.Equal(want, sent) {
			if err := send(writer, &netspec.ToService{Message: &netspec.ToService_Apply{Apply: want}}); err != nil {
				return err
			}
			sent = want
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case in := <-messages:
			if in.err != nil {
				s.count()
				return fmt.Errorf("services ended: %w", in.err)
			}
			heard = time.Now()
			if err := s.hear(in.message, writer, m); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.check(writer, heard, m); err != nil {
				s.count()
				if m.stuck != nil {
					err = errors.Join(err, m.stuck())
				}
				return err
			}
		}
	}
}

func receive(conn net.Conn, messages chan<- incoming, stop <-chan struct{}) {
	reader := specio.NewReader(conn)
	for {
		m := &netspec.FromService{}
		err := reader.Read(m)
		select {
		case messages <- incoming{m, err}:
		case <-stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// timedWriter gives each chunk its own time: a large spec may take long, a peer that reads nothing may not.
type timedWriter struct{ net.Conn }

func (w timedWriter) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

func send(w *specio.Writer, m *netspec.ToService) error {
	if err := w.Write(m); err != nil {
		return fmt.Errorf("send to services: %w", err)
	}
	return nil
}

// hear takes in one message.
func (s *session) hear(message *netspec.FromService, w *specio.Writer, m manners) error {
	if r := message.GetRefusal(); r != nil {
		return m.refused(w, fmt.Errorf("services refused generation %d: %s", r.GetGeneration(), r.GetReason()))
	}
	o := message.GetObservation()
	if o == nil {
		return nil
	}
	if m.odd != nil {
		if err := m.odd(w, o.GetVersion()); err != nil {
			return err
		}
	}
	if err := s.remember(o); err != nil {
		// Told again with the next observation.
		s.config.Log.Error("cannot write down what guests confirmed", "network", s.id, "error", err)
	}
	s.mu.Lock()
	changed := s.seen == nil || !proto.Equal(s.seen, o) || s.err != nil
	s.seen, s.err = o, nil
	s.mu.Unlock()
	if changed {
		s.config.Changed()
	}
	return nil
}

func (s *session) check(w *specio.Writer, heard time.Time, m manners) error {
	if quiet := time.Since(heard); quiet > s.config.Silence {
		return fmt.Errorf("services have said nothing for %s", quiet.Round(time.Second))
	}
	if m.check != nil {
		if err := m.check(); err != nil {
			return err
		}
	}
	return send(w, &netspec.ToService{Message: &netspec.ToService_Observe{Observe: &netspec.Observe{}}})
}

// Memory keeps a line of text per id over the end of the agent.
type Memory interface {
	Get(id string) (string, bool)
	Put(id, text string) error
	Delete(id string) error
}

// recall is what earlier processes reported; nil for nothing.
func (s *session) recall() *netspec.Recall {
	taken := s.taken()
	if len(taken) == 0 {
		return nil
	}
	r := &netspec.Recall{}
	for ip, epoch := range taken {
		r.PasswordsTaken = append(r.PasswordsTaken, &netspec.PasswordTaken{Ip: ip, Epoch: epoch})
	}
	slices.SortFunc(r.PasswordsTaken, func(a, b *netspec.PasswordTaken) int { return strings.Compare(a.GetIp(), b.GetIp()) })
	return r
}

// taken reads the passwords that are known to be confirmed: epochs by address.
func (s *session) taken() map[string]uint64 {
	if s.config.Taken == nil {
		return nil
	}
	text, _ := s.config.Taken.Get(s.id)
	taken := map[string]uint64{}
	for _, word := range strings.Fields(text) {
		ip, number, _ := strings.Cut(word, "=")
		if epoch, err := strconv.ParseUint(number, 10, 64); err == nil {
			taken[ip] = epoch
		}
	}
	return taken
}

// remember adds what an observation reports, and drops what the spec does not know any more.
func (s *session) remember(o *netspec.Observation) error {
	if s.config.Taken == nil {
		return nil
	}
	taken := s.taken()
	for _, t := range o.GetPasswordsTaken() {
		taken[t.GetIp()] = t.GetEpoch()
	}
	if want, _ := s.wanted(); want != nil {
		present := map[string]uint64{}
		for _, g := range want.GetPassword().GetGuests() {
			present[g.GetIp()] = g.GetEpoch()
		}
		for ip, epoch := range taken {
			if now, ok := present[ip]; !ok || now != epoch {
				delete(taken, ip)
			}
		}
	}
	if len(taken) == 0 {
		return s.config.Taken.Delete(s.id)
	}
	words := make([]string, 0, len(taken))
	for ip, epoch := range taken {
		words = append(words, ip+"="+strconv.FormatUint(epoch, 10))
	}
	slices.Sort(words)
	return s.config.Taken.Put(s.id, strings.Join(words, " "))
}

func (s *session) wanted() (*netspec.NetSpec, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want, s.gone
}

func (s *session) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts++
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// status is what the talk has shown: services that are not heard are not spoken for. The caller holds s.mu.
func (s *session) status() Status {
	out := Status{Err: s.err, Restarts: s.restarts}
	if s.connected {
		out.Observation = s.seen
	}
	if out.Observation != nil && s.want != nil {
		out.Answering = s.seen.GetAppliedGeneration() != 0 || s.seen.GetTriedGeneration() != 0
		out.Applied = s.seen.GetAppliedGeneration() >= s.want.GetGeneration()
		if out.Err == nil {
			out.Err = serviceErrors(s.seen)
		}
	}
	return out
}
