package mail

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Settings are those of one purpose that mails are sent for: <prefix>.smtp.host, .port, .useAuth, .username, .password
// and the sender.
type Settings struct {
	Host, Port, UseAuth, Username, Password, Sender *settings.Def
}

// Define makes the settings of a purpose: Define("alert", "Alert", "alerts").
func Define(prefix, category, what string) Settings {
	def := func(name, doc string) settings.Def {
		return settings.Def{Name: prefix + name, Category: category, Doc: doc}
	}
	port := def(".smtp.port", "Port of that server; 465 is TLS at once, other ports use STARTTLS where it is offered.")
	port.Type, port.Default, port.Min, port.Max = settings.Integer, "465", 1, 65535
	auth := def(".smtp.useAuth", "Whether to log in at that server.")
	auth.Type, auth.Default = settings.Boolean, "false"
	password := def(".smtp.password", "Password to log in with; kept sealed and never shown.")
	password.Category, password.Secret = "Secure", true
	return Settings{
		Host: settings.Define(def(".smtp.host", "Mail server that "+what+" are handed to; none are sent where it is empty.")),
		Port: settings.Define(port), UseAuth: settings.Define(auth),
		Username: settings.Define(def(".smtp.username", "Name to log in with.")),
		Password: settings.Define(password),
		Sender:   settings.Define(def(".email.sender", "Address that "+what+" come from.")),
	}
}

// All lists them for the registry.
func (s Settings) All() []*settings.Def {
	return []*settings.Def{s.Host, s.Port, s.UseAuth, s.Username, s.Password, s.Sender}
}

// Opener opens sealed secrets.
type Opener interface {
	Open(cloud.Sealed) (string, error)
}

// Server reads the mail server and the sender; ok is false where none is configured.
func (s Settings) Server(r store.Reader, k Opener) (to Server, sender string, ok bool, err error) {
	to = Server{Host: s.Host.Text(r), Port: int(s.Port.Int(r))}
	sender = s.Sender.Text(r)
	if to.Host == "" || sender == "" {
		return to, sender, false, nil
	}
	if s.UseAuth.Bool(r) {
		to.Username = s.Username.Text(r)
		if sealed, has := s.Password.Sealed(r); has {
			open, err := k.Open(sealed)
			if err != nil {
				return to, sender, false, fmt.Errorf("open %s: %w", s.Password.Name, err)
			}
			to.Password = cloud.Secret(open)
		}
	}
	return to, sender, true, nil
}
