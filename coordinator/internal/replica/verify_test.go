package replica

import (
	"context"
	"errors"
	"testing"
)

// TestVerifierSharesQuestions has many callers come while a question is on its way:
// they share the next one, and none is told an answer that was asked for before.
func TestVerifierSharesQuestions(t *testing.T) {
	asked := make(chan chan error)
	v := &verifier{ask: func() error {
		answer := make(chan error)
		asked <- answer
		return <-answer
	}}
	first := v.join()
	one := <-asked
	second := v.join()
	if second == first {
		t.Fatal("a caller joins a question that was asked before it came")
	}
	for range 50 {
		if v.join() != second {
			t.Fatal("callers who come together do not share a question")
		}
	}
	lost := errors.New("lost")
	one <- nil
	<-first.done
	two := <-asked
	select {
	case <-second.done:
		t.Error("answered before it was asked")
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error)
	go func() { cancelled <- v.verify(ctx) }()
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	two <- lost
	<-second.done
	if first.err != nil || !errors.Is(second.err, lost) {
		t.Errorf("answers: %v, %v", first.err, second.err)
	}
	third := v.join() // the one the cancelled caller joined, or the one after it
	for done := false; !done; {
		select {
		case answer := <-asked:
			answer <- nil
		case <-third.done:
			done = true
		}
	}
	if third.err != nil {
		t.Errorf("third answer: %v", third.err)
	}
}
