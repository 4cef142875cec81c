package api

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// buffers are kept for the next answer unless an answer made them huge.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

const keepBuffer = 4 << 20

func buffer() *[]byte { return buffers.Get().(*[]byte) }

func recycle(b *[]byte) {
	if cap(*b) <= keepBuffer {
		buffers.Put(b)
	}
}

// wrap writes an envelope around what inner appends: a JSON value, or XML elements.
func (q *request) wrap(b []byte, envelope string, inner func([]byte) []byte) []byte {
	if q.json {
		b = append(append(append(b, `{"`...), envelope...), `":`...)
		return append(inner(b), '}')
	}
	b = append(b, `<?xml version="1.0" encoding="UTF-8"?><`...)
	b = append(append(b, envelope...), ` cloud-stack-version="`+CompatVersion+`">`...)
	b = inner(b)
	return append(append(append(b, "</"...), envelope...), '>')
}

// send writes a whole answer.
func (q *request) send(b []byte, status int) {
	h := q.w.Header()
	if q.json {
		h["Content-Type"] = jsonType
	} else {
		h["Content-Type"] = xmlType
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	q.w.WriteHeader(status)
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(b) // a client that went away is no error of ours
	}
}

var (
	jsonType = []string{"application/json; charset=UTF-8"}
	xmlType  = []string{"text/xml; charset=UTF-8"}
)

// answer sends what a handler gave.
func (s *Server) answer(q *request, v any) {
	b := buffer()
	defer recycle(b)
	*b = q.wrap((*b)[:0], q.command.envelope(), func(b []byte) []byte {
		if l, ok := v.(anyListing); ok {
			return q.appendList(b, l)
		}
		return q.appendObject(b, v)
	})
	q.send(*b, http.StatusOK)
	s.done(q, http.StatusOK)
}

// appendObject writes an answer under the command's object key, or flat.
func (q *request) appendObject(b []byte, v any) []byte {
	e, p := addressable(v)
	key := q.command.Object
	switch v.(type) {
	case *Success, *Started:
		key = ""
	}
	switch {
	case !q.json && key == "":
		return e.appendXMLFields(b, p)
	case !q.json:
		return e.appendXML(b, key, p)
	case key == "":
		return e.json(b, p)
	}
	b = append(appendString(append(b, '{'), key), ':')
	return append(e.json(b, p), '}')
}

// appendList writes count and rows; an empty list has neither.
func (q *request) appendList(b []byte, l anyListing) []byte {
	count, rows, encoded := l.list()
	e, p := addressable(rows)
	if !q.json {
		if count > 0 {
			b = append(strconv.AppendInt(append(b, "<count>"...), int64(count), 10), "</count>"...)
		}
		return e.appendXML(b, q.command.Object, p)
	}
	if count == 0 {
		return append(b, "{}"...)
	}
	b = strconv.AppendInt(append(b, `{"count":`...), int64(count), 10)
	switch {
	case len(encoded) > 0:
		b = append(append(appendString(append(b, ','), q.command.Object), ':'), '[')
		size := len(b) + 8
		for _, part := range encoded {
			size += len(part)
		}
		b = slices.Grow(b, size-len(b))
		for _, part := range encoded {
			b = append(b, part...)
		}
		b = append(b, ']')
	case !e.empty(p):
		b = append(appendString(append(b, ','), q.command.Object), ':')
		b = e.json(b, p)
	}
	return append(b, '}')
}
