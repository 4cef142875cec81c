package api

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// run decodes the parameters and calls the handler.
func (s *Server) run(q *request, who *caller, at store.Reader) error {
	h := &q.command.Run
	switch h.kind {
	case query, list:
		c := s.call(q, who, at, s.cfg.Now())
		c.reads = true
		p, err := c.parameters(q)
		if err != nil {
			return err
		}
		answer, err := h.read(c, p)
		if err != nil {
			return err
		}
		s.answer(q, answer)
		return nil
	case raw:
		c := s.call(q, who, at, s.cfg.Now())
		p, err := c.parameters(q)
		if err != nil {
			return err
		}
		x := &Exchange{Request: q.r, Header: q.w.Header(), Update: func(f func(*store.Tx) error) error { return s.update(q, f) }}
		answer, err := h.raw(c, x, p)
		if err != nil {
			return err
		}
		s.answer(q, answer)
		return nil
	}
	var answer, prepared any
	var err error
	if h.prepare != nil {
		c := s.call(q, who, at, s.cfg.Now())
		p, err := c.parameters(q)
		if err != nil {
			return err
		}
		if prepared, err = h.prepare(c, p); err != nil {
			q.refused = c
			s.noteFailure(q, who, err)
			return err
		}
	}
	err = s.update(q, func(tx *store.Tx) (err error) {
		answer, err = s.change(q, who, tx, prepared)
		return err
	})
	if err != nil {
		s.noteFailure(q, who, err)
		return err
	}
	s.answer(q, answer)
	return nil
}

// update runs a transaction that does not end when the client goes away.
func (s *Server) update(q *request, f func(tx *store.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.r.Context()), updateTimeout)
	defer cancel()
	return s.cfg.Cluster.Update(ctx, f)
}

func (s *Server) call(q *request, who *caller, at store.Reader, now time.Time) *Call {
	c := &Call{
		Command: q.command, Read: at, Now: now, RequestID: q.id, Settings: s.cfg.Settings.View(at), Seal: s.cfg.Seal,
		Log: q.log, ctx: q.r.Context(), registry: s.cfg.Registry, json: q.json,
	}
	if who != nil {
		c.User, c.Account, c.Domain = who.user, who.account, who.domain
	}
	return c
}

// parameters decodes what was sent into a new parameter struct and resolves its references.
func (c *Call) parameters(q *request) (any, error) {
	pl, err := planOf(q.command.Run.params)
	if err != nil {
		return nil, err
	}
	p := reflect.New(pl.typ)
	role := NoLogin
	if c.Account != nil {
		role = RoleOf(c.Account.Type)
	}
	if err := pl.decode(strings.ToLower(q.command.Name), p.UnsafePointer(), q.values, role); err != nil {
		return nil, err
	}
	if err := pl.resolve(c, p.UnsafePointer()); err != nil {
		return nil, err
	}
	return p.Interface(), nil
}

// change is one run of a writing command's transaction. Everything is read anew from it: the caller may have been
// disabled, and what a parameter refers to removed, since the request was looked at.
func (s *Server) change(q *request, who *caller, tx *store.Tx, prepared any) (any, error) {
	who, err := who.again(tx)
	if err != nil {
		return nil, err
	}
	if !permitted(tx, who.account, q.command) {
		return nil, errUnavailable(q.command, who) // its role was changed a moment ago
	}
	c := s.call(q, who, tx, tx.Now())
	q.refused = nil
	c.Prepared = prepared
	p, err := c.parameters(q)
	if err != nil {
		return nil, err
	}
	q.refused = c
	h := &q.command.Run
	if h.kind == change {
		answer, err := h.write(c, tx, p)
		if err != nil {
			return nil, err
		}
		if q.command.Event != "" {
			_, err = c.writeEvent(tx, cloud.EventCompleted, "Successfully completed "+c.eventText())
		}
		return answer, err
	}
	start, err := h.start(c, tx, p)
	if err != nil {
		return nil, err
	}
	return c.submit(tx, start)
}

// submit writes a job's row and its first event.
func (c *Call) submit(tx *store.Tx, start *Start) (any, error) {
	args, err := start.marshalArgs()
	if err != nil {
		return nil, fmt.Errorf("write arguments of %s: %w", c.Command.Name, err)
	}
	owner := start.Owner
	switch {
	case !owner.Account.IsZero():
	case c.project != Owner{}:
		owner = c.project
	default:
		owner = c.Own()
	}
	deadline := start.Deadline
	if deadline == 0 {
		deadline = time.Duration(JobTimeout.Int(c.Read)) * time.Minute
	}
	j := &cloud.Job{
		ID: tx.NewID(), Command: c.Command.Name, UserID: c.User.ID, AccountID: owner.Account, DomainID: owner.Domain,
		InstanceType: c.Command.Entity, InstanceID: start.InstanceID, Created: tx.Now(), Args: args,
		Deadline: tx.Now().Add(deadline), RequestID: c.RequestID,
	}
	if c.Command.Event != "" {
		if c.note.resource.IsZero() {
			c.note.resource = start.InstanceID
		}
		if c.note.owner.Account.IsZero() {
			c.note.owner = owner
		}
		state, text := cloud.EventScheduled, "Scheduled async job for "+c.eventText()
		if c.Command.Creates() {
			state, text = cloud.EventCreated, "Successfully created entity for "+c.eventText()
		}
		if j.EventID, err = c.writeEvent(tx, state, text); err != nil {
			return nil, err
		}
		// The engine steps the job as soon as this is committed.
		if _, err = c.writeFollowing(tx, j.EventID, cloud.EventStarted, "Starting job for "+c.eventText()); err != nil {
			return nil, err
		}
	}
	if err := tables.Jobs.Put(tx, j); err != nil {
		return nil, fmt.Errorf("submit job: %w", err)
	}
	answer := &Started{JobID: j.ID}
	if c.Command.Creates() {
		answer.ID = start.InstanceID
	}
	return answer, nil
}

// eventText is what the call does, as its events say it.
func (c *Call) eventText() string {
	if c.note.text != "" {
		return c.note.text
	}
	return strings.TrimSuffix(c.Command.Doc, ".")
}

func (c *Call) writeEvent(tx *store.Tx, state cloud.EventState, text string) (cloud.ID, error) {
	return c.writeFollowing(tx, cloud.ID{}, state, text)
}

// writeFollowing writes an event that goes on with what parent began.
func (c *Call) writeFollowing(tx *store.Tx, parent cloud.ID, state cloud.EventState, text string) (cloud.ID, error) {
	owner := c.eventOwner()
	return job.WriteEvent(tx, cloud.Event{
		Type: c.Command.Event, State: state, Description: text, UserID: c.User.ID, AccountID: owner.Account,
		DomainID: owner.Domain, ResourceID: c.note.resource, RequestID: c.RequestID, ParentID: parent,
	})
}

// noteFailure writes the event of a call that its handler refused. One whose parameters cannot be read, or name what the
// caller may not touch, is none of an action: it is answered, and nothing is written.
func (s *Server) noteFailure(q *request, who *caller, err error) {
	c := q.refused
	if q.command.Event == "" || c == nil || clusterTrouble(err) != "" {
		return
	}
	werr := s.update(q, func(tx *store.Tx) error {
		who, gone := who.again(tx)
		if gone != nil {
			return gone
		}
		owner := c.eventOwner()
		if !tables.Accounts.Has(tx, owner.Account) { // which the refused call would have made
			owner = Owner{who.account.ID, who.account.DomainID}
		}
		_, werr := job.WriteEvent(tx, cloud.Event{
			Type: q.command.Event, Level: cloud.EventError, State: cloud.EventCompleted, UserID: who.user.ID,
			AccountID: owner.Account, DomainID: owner.Domain, ResourceID: c.note.resource, RequestID: q.id,
			Description: "Error while " + c.eventText() + ": " + errorOf(err, q.id).Text,
		})
		return werr
	})
	if werr != nil {
		q.log.Warn("cannot write the event of a refused call", "error", werr)
	}
}

// touchEvery is how often the use of a session is written down.
const touchEvery = time.Minute

// touch keeps a session alive.
func (s *Server) touch(q *request, who *caller) {
	if who.session == nil || s.cfg.Now().Sub(who.session.LastUsed) < touchEvery {
		return
	}
	err := s.update(q, func(tx *store.Tx) error {
		err := tables.Sessions.Edit(tx, who.session.ID, func(r *cloud.Session) error {
			r.LastUsed = tx.Now()
			return nil
		})
		return err
	})
	if err != nil {
		q.log.Warn("cannot keep a session alive", "error", err)
	}
}
