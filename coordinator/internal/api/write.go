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
	q.begin(len(b), status)
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(b) // a client that went away is no error of ours
	}
}

// begin writes the header of an answer.
func (q *request) begin(length, status int) {
	h := q.w.Header()
	if q.json {
		h["Content-Type"] = jsonType
	} else {
		h["Content-Type"] = xmlType
	}
	h["Content-Length"] = []string{strconv.Itoa(length)}
	q.w.WriteHeader(status)
}

// Values of headers, which are shared by all answers.
var (
	noStore  = []string{"no-store"}
	noSniff  = []string{"nosniff"}
	jsonType = []string{"application/json; charset=UTF-8"}
	xmlType  = []string{"text/xml; charset=UTF-8"}
)

// longAnswer is from how many bytes of rows on an answer is written by its parts. Below it one copy is cheaper.
const longAnswer = 32 << 10

// answer sends what a handler gave.
func (s *Server) answer(q *request, v any) {
	b := buffer()
	defer recycle(b)
	var rows *keptPage // what is to be sent between the first gap bytes of b and the others
	var gap int
	*b = q.wrap((*b)[:0], q.command.envelope(), func(b []byte) []byte {
		l, ok := v.(anyListing)
		if !ok {
			return q.appendObject(b, v)
		}
		b, rows, gap = q.appendList(b, l)
		return b
	})
	if rows == nil {
		q.send(*b, http.StatusOK)
	} else {
		q.begin(len(*b)+rows.size, http.StatusOK)
		rows.parts[ahead-1] = (*b)[:gap]
		rows.add((*b)[gap:])
		q.gathering().writeParts(q.w, rows.parts)
		rows.done()
	}
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

// appendList writes count and rows; an empty list has neither. Rows that are long and can be sent from where they are it
// leaves out: they belong after the first gap bytes.
func (q *request) appendList(b []byte, l anyListing) (_ []byte, rows *keptPage, gap int) {
	count, view, kept := l.list()
	e, p := addressable(view)
	if !q.json {
		if count > 0 {
			b = append(strconv.AppendInt(append(b, "<count>"...), int64(count), 10), "</count>"...)
		}
		return e.appendXML(b, q.command.Object, p), nil, 0
	}
	if count == 0 {
		return append(b, "{}"...), nil, 0
	}
	b = strconv.AppendInt(append(b, `{"count":`...), int64(count), 10)
	switch {
	case kept != nil:
		b = append(append(appendString(append(b, ','), q.command.Object), ':'), '[')
		if kept.size >= longAnswer && q.gathering() != nil {
			return append(b, "]}"...), kept, len(b)
		}
		b = slices.Grow(b, kept.size+len("]}}"))
		for _, part := range kept.parts {
			b = append(b, part...)
		}
		b = append(b, ']')
		kept.done()
	case !e.empty(p):
		b = append(appendString(append(b, ','), q.command.Object), ':')
		b = e.json(b, p)
	}
	return append(b, '}'), nil, 0
}
