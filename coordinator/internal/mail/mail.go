// Package mail sends text mails to people over SMTP (RFC 5321): alerts to operators, invitations to projects.
//
// There is no queue here: whoever has something to tell keeps it in a row and calls Send again until it succeeds, so
// a mail survives a coordinator. Port 465 is TLS from the first byte (RFC 8314); on every other port the connection is
// upgraded by STARTTLS where the server offers it. Passwords are sent over TLS only, or to the same machine.
package mail

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/smtp"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Server is where mails are handed in.
type Server struct {
	Host string
	Port int
	// Username and Password log in where Username is not empty.
	Username string
	Password cloud.Secret
	// TLS, optional, is for servers whose certificate the machine's authorities did not sign.
	TLS *tls.Config
	// Name is what this machine calls itself; "" is localhost.
	Name string
}

// Message is a text mail.
type Message struct {
	From    string // an address, as a@b.example or Name <a@b.example>
	To      []string
	Subject string
	Body    string // lines end with \n
	Date    time.Time
	// ID, when given, makes the Message-ID, so that a mail sent twice can be known as one.
	ID string
}

// implicitTLS is the port of submission over TLS (RFC 8314).
const implicitTLS = 465

// timeout bounds a whole conversation.
const timeout = 30 * time.Second

// Addresses reads a list of addresses, separated by commas.
func Addresses(text string) ([]string, error) {
	var out []string
	for _, a := range strings.Split(text, ",") {
		if a = strings.TrimSpace(a); a == "" {
			continue
		}
		p, err := netmail.ParseAddress(a)
		if err != nil {
			return nil, cloud.Errorf(cloud.Invalid, "%q is no mail address", a)
		}
		out = append(out, p.Address)
	}
	return out, nil
}

// Undelivered says that the server took a message, but not for all: it will never take these recipients.
type Undelivered struct{ Refused []error }

// Error implements error.
func (e *Undelivered) Error() string {
	return "mailed to all but: " + errors.Join(e.Refused...).Error()
}

// Send hands one message in. It returns nil once the server has taken the responsibility for it. A recipient that the server
// refuses for good does not keep it from the others: then it is *Undelivered.
func (s Server) Send(ctx context.Context, m Message) error {
	text, from, err := m.render()
	if err != nil {
		return fmt.Errorf("render mail: %w", err)
	}
	if len(m.To) == 0 {
		return errors.New("send mail: nobody to send it to")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to mail server %s: %w", s.address(), err)
	}
	defer func() { _ = c.Close() }()
	refused, err := s.converse(c, from, m.To, text)
	switch {
	case err != nil:
		return fmt.Errorf("send mail by %s: %w", s.address(), err)
	case len(refused) > 0:
		return &Undelivered{refused}
	}
	return nil
}

func (s Server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

func (s Server) tls() *tls.Config {
	if s.TLS != nil {
		return s.TLS
	}
	return &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12}
}

// dial connects and greets. The deadline of ctx holds for the whole conversation.
func (s Server) dial(ctx context.Context) (*smtp.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address())
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	if s.Port == implicitTLS {
		conn = tls.Client(conn, s.tls())
	}
	c, err := smtp.NewClient(conn, s.Host)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if s.Name != "" {
		if err := c.Hello(s.Name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// converse hands a text in for all recipients but those that it gives back with the reason.
func (s Server) converse(c *smtp.Client, from string, to []string, text []byte) (refused []error, err error) {
	if err := s.login(c); err != nil {
		return nil, err
	}
	if err := c.Mail(from); err != nil {
		return nil, fmt.Errorf("sender %s: %w", from, err)
	}
	for _, a := range to {
		if err := c.Rcpt(a); err != nil {
			err = fmt.Errorf("recipient %s: %w", a, err)
			if !forGood(err) {
				return nil, err // all get it when it is tried again
			}
			refused = append(refused, err)
		}
	}
	if len(refused) == len(to) {
		return nil, errors.Join(refused...)
	}
	w, err := c.Data()
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	_ = c.Quit() // the mail is taken; how the server says goodbye is its affair
	return refused, nil
}

// forGood tells whether a server's answer is that trying again is of no use (RFC 5321, 4.2.1).
func forGood(err error) bool {
	var answer *textproto.Error
	return errors.As(err, &answer) && answer.Code >= 500
}

func (s Server) login(c *smtp.Client) error {
	if s.Port != implicitTLS {
		if ok, _ := c.Extension("STARTTLS"); ok {
			if err := c.StartTLS(s.tls()); err != nil {
				return fmt.Errorf("start TLS: %w", err)
			}
		}
	}
	if s.Username == "" {
		return nil
	}
	// PlainAuth refuses to send a password in the clear to another machine.
	if err := c.Auth(smtp.PlainAuth("", s.Username, string(s.Password), s.Host)); err != nil {
		return fmt.Errorf("log in as %s: %w", s.Username, err)
	}
	return nil
}

// render makes the message of RFC 5322 and the sender's bare address. No text of the caller can begin a header of its
// own: addresses are parsed, the subject is encoded.
func (m Message) render() (text []byte, from string, err error) {
	sender, err := netmail.ParseAddress(m.From)
	if err != nil {
		return nil, "", fmt.Errorf("sender %q: %w", m.From, err)
	}
	var to []string
	for _, a := range m.To {
		p, err := netmail.ParseAddress(a)
		if err != nil {
			return nil, "", fmt.Errorf("recipient %q: %w", a, err)
		}
		to = append(to, p.String())
	}
	var b bytes.Buffer
	header := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	header("From", sender.String())
	header("To", strings.Join(to, ",\r\n "))
	header("Subject", mime.QEncoding.Encode("utf-8", oneLine(m.Subject)))
	header("Date", m.Date.Format(time.RFC1123Z))
	if m.ID != "" {
		_, domain, _ := strings.Cut(sender.Address, "@")
		header("Message-ID", "<"+oneLine(m.ID)+"@"+domain+">")
	}
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	header("Auto-Submitted", "auto-generated") // RFC 3834: nothing should answer it
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(strings.ReplaceAll(m.Body, "\n", "\r\n"))); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return b.Bytes(), sender.Address, nil
}

// oneLine is a text without control characters.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
