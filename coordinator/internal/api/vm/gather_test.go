package vm_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
)

// A long answer that is written from where its rows are kept has the bytes and the header of one that was joined, one
// after the other on one connection, and HEAD tells its length.
func TestGatheredAnswersAreTheSame(t *testing.T) {
	w := newWorld(t)
	w.fill(300)
	u := w.Users["root"]
	page := func(size int) string {
		v := url.Values{
			"command": {"listVirtualMachines"}, "response": {"json"}, "listall": {"true"}, "page": {"1"}, "pagesize": {strconv.Itoa(size)},
			"apiKey": {u.APIKey},
		}
		v.Set("signature", api.Sign(v, u.Secret))
		return "?" + v.Encode()
	}
	// Without ConnContext this server knows nothing of its connections, and joins.
	joined := httptest.NewServer(w.Server)
	defer joined.Close()
	secure := httptest.NewUnstartedServer(w.Server)
	secure.Listener, secure.Config.ConnContext = api.Gather(secure.Listener), api.ConnContext
	secure.StartTLS()
	defer secure.Close()
	for range 2 { // the second time from rows that are kept
		for _, size := range []int{1, 2, 40, 299, 300} {
			want := body(t, joined.URL+page(size))
			if got := body(t, w.URL+page(size)); !bytes.Equal(got, want) {
				t.Errorf("a page of %d: %d bytes, joined %d", size, len(got), len(want))
			}
			res, err := secure.Client().Get(secure.URL + page(size))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("a page of %d over TLS: %d bytes, joined %d: %v", size, len(got), len(want), err)
			}
			res, err = http.Head(w.URL + page(size))
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.ContentLength != int64(len(want)) {
				t.Errorf("HEAD of a page of %d tells %d bytes, not %d", size, res.ContentLength, len(want))
			}
		}
	}
}

// Who goes away in the middle of an answer, or sends the next request before it has read the last answer, disturbs nobody.
func TestGatheredAnswersCutShort(t *testing.T) {
	w := newWorld(t)
	w.fill(500)
	u := w.Users["root"]
	v := url.Values{
		"command": {"listVirtualMachines"}, "response": {"json"}, "listall": {"true"}, "page": {"1"}, "pagesize": {"500"}, "apiKey": {u.APIKey},
	}
	v.Set("signature", api.Sign(v, u.Secret))
	want := body(t, w.URL+"?"+v.Encode())
	at, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	request := "GET " + at.Path + "?" + v.Encode() + " HTTP/1.1\r\nHost: " + at.Host + "\r\n\r\n"
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	for range 5 {
		c := dial()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	c := dial()
	defer func() { _ = c.Close() }()
	const pipelined = 4
	if _, err := io.WriteString(c, strings.Repeat(request, pipelined)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for range pipelined {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d: %v", len(got), len(want), err)
		}
	}
}
