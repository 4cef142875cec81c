package mail_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/mail"
	"github.com/wispcloud/wisp/coordinator/internal/mail/mailtest"
)

var message = mail.Message{
	From: "Wisp <cloud@example.org>", To: []string{"ops@example.org", "night@example.org"}, ID: "alert-1",
	Subject: "Host hält nicht", Body: "Erste Zeile\n.\nletzte\n", Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

func TestSend(t *testing.T) {
	for _, x := range []struct {
		name string
		cfg  mailtest.Config
		user string
	}{
		{"plain", mailtest.Config{}, ""},
		{"STARTTLS", mailtest.Config{TLS: true}, ""},
		{"login over TLS", mailtest.Config{TLS: true, Username: "wisp", Password: "secret"}, "wisp"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := mailtest.Start(t, x.cfg)
			to := mail.Server{Host: s.Host, Port: s.Port, Username: x.user, Password: cloud.Secret(x.cfg.Password), TLS: s.Client}
			if err := to.Send(t.Context(), message); err != nil {
				t.Fatal(err)
			}
			got := s.Mails()
			want := []mailtest.Mail{{
				From: "cloud@example.org", To: message.To, TLS: x.cfg.TLS, Username: x.user,
				Header: map[string][]string{
					"From": {`"Wisp" <cloud@example.org>`}, "To": {"<ops@example.org>, <night@example.org>"},
					"Subject": {"=?utf-8?q?Host_h=C3=A4lt_nicht?="}, "Date": {"Fri, 02 Jan 2026 03:04:05 +0000"},
					"Message-Id": {"<alert-1@example.org>"}, "Mime-Version": {"1.0"}, "Content-Type": {"text/plain; charset=utf-8"},
					"Content-Transfer-Encoding": {"quoted-printable"}, "Auto-Submitted": {"auto-generated"},
				},
				Body: "Erste Zeile\n.\nletzte\n",
			}}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	s := mailtest.Start(t, mailtest.Config{TLS: true, Username: "wisp", Password: "secret", Refuse: "550 nobody here"})
	good := mail.Server{Host: s.Host, Port: s.Port, Username: "wisp", Password: "secret", TLS: s.Client}
	wrong, stranger := good, good
	wrong.Password, stranger.TLS = "guess", nil
	bad := message
	bad.From = "x@example.org>\r\nBcc: <all@example.org"
	for _, x := range []struct {
		name, want string
		to         mail.Server
		m          mail.Message
	}{
		{"recipient", "recipient ops@example.org: 550", good, message},
		{"password", "log in as wisp: 535", wrong, message},
		{"certificate", "start TLS", stranger, message},
		{"sender", "render mail", good, bad},
		{"nobody", "nobody to send", good, mail.Message{From: "a@example.org"}},
	} {
		err := x.to.Send(t.Context(), x.m)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "guess")) {
			t.Errorf("%s: the error tells the password: %v", x.name, err)
		}
	}
	if n := len(s.Mails()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}

// A recipient who is refused for good does not keep a mail from the others; one who may be taken later has all wait.
func TestOneRefused(t *testing.T) {
	for refuse, want := range map[string][]string{"550 nobody here": {"night@example.org"}, "451 later": nil} {
		s := mailtest.Start(t, mailtest.Config{Refuse: refuse, Only: "ops@example.org"})
		err := (mail.Server{Host: s.Host, Port: s.Port}).Send(t.Context(), message)
		var some *mail.Undelivered
		if err == nil || errors.As(err, &some) != (want != nil) || !strings.Contains(err.Error(), "recipient ops@example.org: "+refuse[:3]) {
			t.Errorf("%s: %v", refuse, err)
		}
		var got []string
		for _, m := range s.Mails() {
			got = append(got, m.To...)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", refuse, d)
		}
	}
}

// A text cannot begin a header of its own.
func TestNoHeaderInjection(t *testing.T) {
	s := mailtest.Start(t, mailtest.Config{})
	m := message
	m.Subject, m.ID = "hello\r\nBcc: all@example.org", "x>\r\nBcc: all@example.org\r\n"
	if err := (mail.Server{Host: s.Host, Port: s.Port}).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if h := s.Mails()[0].Header; h.Get("Bcc") != "" || len(s.Mails()[0].To) != 2 {
		t.Errorf("a header was injected: %v", h)
	}
}
