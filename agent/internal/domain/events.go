package domain

import (
	"context"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
)

const reconnectEvery = time.Second

// Watch calls wake after everything that may have changed a domain, until ctx ends: lifecycle events, and the daemon's
// going and coming. An event is only a reason to look again.
func (l *Libvirt) Watch(ctx context.Context, wake func()) {
	for ctx.Err() == nil {
		if err := l.watchOnce(ctx, wake); err != nil && ctx.Err() == nil {
			l.log.Warn("libvirt events are interrupted", "error", err)
		}
		wake()
		select {
		case <-ctx.Done():
		case <-time.After(reconnectEvery):
		}
	}
}

func (l *Libvirt) watchOnce(ctx context.Context, wake func()) error {
	var client *libvirt.Libvirt
	var events <-chan libvirt.DomainEventLifecycleMsg
	subscribe, cancel := context.WithCancel(ctx)
	defer cancel()
	deadline, done := context.WithTimeout(ctx, askDeadline)
	defer done()
	err := l.events.call(deadline, func(v *libvirt.Libvirt) error {
		channel, err := v.LifecycleEvents(subscribe)
		client, events = v, channel
		return err
	})
	if err != nil {
		return err
	}
	// The client hands events over without a buffer and stalls when nobody takes them: drain to the end.
	defer func() {
		cancel()
		go func() {
			for range events {
				continue
			}
		}()
	}()
	wake()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-client.Disconnected():
			return nil
		case e, ok := <-events:
			if !ok {
				return nil
			}
			l.note(e)
			wake()
		}
	}
}

// note keeps the one thing an event knows that the state does not: that a signal ended qemu.
func (l *Libvirt) note(e libvirt.DomainEventLifecycleMsg) {
	id := uuid.UUID(e.Dom.UUID).String()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch libvirt.DomainEventType(e.Event) {
	case libvirt.DomainEventShutdown:
		if libvirt.DomainEventShutdownDetailType(e.Detail) == libvirt.DomainEventShutdownHost {
			l.signalled[id] = true
		}
	case libvirt.DomainEventStarted, libvirt.DomainEventUndefined:
		delete(l.signalled, id)
		delete(l.live, id)
	case libvirt.DomainEventDefined:
		delete(l.live, id)
	}
}
