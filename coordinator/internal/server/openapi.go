package server

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api/reference"
)

// openAPI answers the description of the API, which is the same for everybody and no secret. It is made when it is first
// asked for, and kept packed: a hundredth of its size.
func (s *Server) openAPI(w http.ResponseWriter, r *http.Request) {
	s.described.once.Do(func() {
		plain, err := reference.OpenAPI(s.registry, s.version)
		if err != nil {
			s.log.Error("cannot describe the API", "error", err)
			return
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(plain) // to memory
		_ = z.Close()
		s.described.packed, s.described.plain = b.Bytes(), len(plain)
	})
	if s.described.packed == nil {
		http.Error(w, "the API could not be described; the coordinator's log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		_, _ = w.Write(s.described.packed) // the client is gone
		return
	}
	z, err := gzip.NewReader(bytes.NewReader(s.described.packed))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var b bytes.Buffer
	b.Grow(s.described.plain)
	_, _ = b.ReadFrom(z) // our own bytes
	_, _ = w.Write(b.Bytes())
}
