package password

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxRequest bounds a request's header.
const maxRequest = 4 << 10

var errTooLong = errors.New("request is longer than 4 KiB")

// readRequest reads up to the empty line that ends an HTTP header, or to the end of the stream, and returns the value
// of DomU_Request, empty when there is none.
func readRequest(r io.Reader) (string, error) {
	buf := make([]byte, 0, 512)
	for {
		if end := headerEnd(buf); end >= 0 {
			return domURequest(buf[:end]), nil
		}
		if len(buf) >= maxRequest {
			return "", errTooLong
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, maxRequest), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			if len(buf) == 0 {
				return "", io.ErrUnexpectedEOF
			}
			return domURequest(buf), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// headerEnd is where the first empty line is, however lines end.
func headerEnd(b []byte) int {
	at := -1
	for _, end := range []string{"\n\n", "\n\r\n"} {
		if i := bytes.Index(b, []byte(end)); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	return at
}

// domURequest finds the header, whatever stands in the request line.
func domURequest(header []byte) string {
	for line := range bytes.Lines(header) {
		name, value, ok := strings.Cut(string(line), ":")
		if ok && strings.EqualFold(strings.TrimSpace(name), "DomU_Request") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// response is the whole answer. HTTP/1.0 with a length suits every client; cloud-init compares the body as a whole.
func response(body string) string {
	return fmt.Sprintf("HTTP/1.0 200 OK\r\nServer: wisp\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
		"Connection: close\r\n\r\n%s", len(body), body)
}
