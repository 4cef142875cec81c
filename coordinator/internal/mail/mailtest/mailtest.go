// Package mailtest is a mail server for tests: it speaks SMTP (RFC 5321) on loopback, with STARTTLS and logging in, and
// keeps what it is given.
package mailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// Mail is one message as it was handed in.
type Mail struct {
	From     string
	To       []string
	Header   mail.Header
	Body     string // as sent, encoded
	TLS      bool
	Username string // who logged in
}

// Config says how the server behaves.
type Config struct {
	// Username and Password must be given when Username is not empty.
	Username, Password string
	// TLS offers STARTTLS.
	TLS bool
	// Refuse answers every recipient with this line (as "550 no such user"); with Only, that one.
	Refuse, Only string
}

// Server is the running server.
type Server struct {
	Host   string
	Port   int
	Client *tls.Config // trusts its certificate

	cfg    Config
	server *tls.Config
	l      net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	refuse string
	mails  []Mail
}

// Start serves until the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, cfg: cfg, l: l, refuse: cfg.Refuse}
	if cfg.TLS {
		s.certify(t)
	}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		s.wg.Wait()
	})
	return s
}

func (s *Server) certify(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(s.Host)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	s.server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	s.Client = &tls.Config{RootCAs: pool, ServerName: s.Host, MinVersion: tls.VersionTLS12}
}

// Mails are those it took so far.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Refuse changes what recipients are answered with; "" takes them.
func (s *Server) Refuse(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = line
}

func (s *Server) accept() {
	for {
		conn, err := s.l.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			(&session{s: s}).run(conn)
		})
	}
}

// session is one connection.
type session struct {
	s   *Server
	r   *bufio.Reader
	w   io.Writer
	now Mail
}

func (c *session) use(conn net.Conn) { c.r, c.w = bufio.NewReader(conn), conn }

func (c *session) say(line string) { _, _ = io.WriteString(c.w, line+"\r\n") }

func (c *session) run(conn net.Conn) {
	c.use(conn)
	c.say("220 mailtest ESMTP")
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		switch verb, rest, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "EHLO":
			c.hello()
		case "STARTTLS":
			c.say("220 go ahead")
			t := tls.Server(conn, c.s.server)
			if t.Handshake() != nil {
				return
			}
			c.use(t)
			c.now = Mail{TLS: true}
		case "AUTH":
			c.auth(rest)
		case "MAIL":
			c.now.From = address(rest)
			if c.s.cfg.Username != "" && c.now.Username == "" {
				c.say("530 log in first")
				continue
			}
			c.say("250 ok")
		case "RCPT":
			c.rcpt(rest)
		case "DATA":
			c.data()
		case "QUIT":
			c.say("221 bye")
			return
		default:
			c.say("500 what?")
		}
	}
}

func (c *session) hello() {
	c.say("250-mailtest")
	if c.s.cfg.TLS && !c.now.TLS {
		c.say("250-STARTTLS")
	}
	if c.s.cfg.Username != "" {
		c.say("250-AUTH PLAIN")
	}
	c.say("250 8BITMIME")
}

func (c *session) auth(rest string) {
	_, code, _ := strings.Cut(rest, " ")
	raw, _ := base64.StdEncoding.DecodeString(code)
	part := strings.Split(string(raw), "\x00")
	if len(part) == 3 && part[1] == c.s.cfg.Username && part[2] == c.s.cfg.Password {
		c.now.Username = part[1]
		c.say("235 welcome")
		return
	}
	c.say("535 wrong name or password")
}

func (c *session) rcpt(rest string) {
	c.s.mu.Lock()
	refuse := c.s.refuse
	c.s.mu.Unlock()
	if only := c.s.cfg.Only; refuse != "" && (only == "" || only == address(rest)) {
		c.say(refuse)
		return
	}
	c.now.To = append(c.now.To, address(rest))
	c.say("250 ok")
}

func (c *session) data() {
	c.say("354 go on")
	m, err := mail.ReadMessage(textproto.NewReader(c.r).DotReader())
	if err != nil {
		c.say("554 that is no message")
		return
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return
	}
	c.now.Header, c.now.Body = m.Header, string(body)
	c.s.mu.Lock()
	c.s.mails = append(c.s.mails, c.now)
	c.s.mu.Unlock()
	c.now = Mail{TLS: c.now.TLS, Username: c.now.Username}
	c.say("250 taken")
}

func address(rest string) string {
	_, a, _ := strings.Cut(rest, "<")
	a, _, _ = strings.Cut(a, ">")
	return a
}
