package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

const (
	maxUserData = 2 << 20 // CloudStack allows 1 MiB; the rest is for encodings
	maxValue    = 64 << 10
	maxKeys     = 64
	// linkLocal is where the metadata of a machine is on most clouds.
	linkLocal = "169.254.169.254"
	latest    = "/latest/"
	// dataServer is the name CloudStack's DNS has for it.
	dataServer = "data-server"
)

// metadata is what one pass over the metadata service brought.
type metadata struct {
	Source   string
	UserData []byte
	Values   map[string]string
}

// client reads from the services of the guest's network.
type client struct {
	metadataPort string
	passwordPort string
}

func newClient() *client {
	return &client{metadataPort: "80", passwordPort: "8080"}
}

// read tries the sources in order and takes everything from the first one that
// answers. A service without user-data is an answer too.
func (c *client) read(ctx context.Context, sources []string) (metadata, error) {
	var errs []error
	for _, s := range sources {
		m, err := c.readFrom(ctx, s)
		if err == nil {
			return m, nil
		}
		errs = append(errs, err)
	}
	return metadata{}, errors.Join(errs...)
}

func (c *client) readFrom(ctx context.Context, source string) (metadata, error) {
	address := net.JoinHostPort(source, c.metadataPort)
	m := metadata{Source: source, Values: map[string]string{}}
	data, err := httpGet(ctx, address, latest+"user-data", nil, maxUserData)
	if err != nil && !errors.Is(err, errAbsent) {
		return m, err
	}
	m.UserData = data
	list, err := httpGet(ctx, address, latest+"meta-data/", nil, maxValue)
	if err != nil && !errors.Is(err, errAbsent) {
		return m, err
	}
	for _, key := range keysOf(string(list)) {
		value, err := httpGet(ctx, address, latest+"meta-data/"+key, nil, maxValue)
		if errors.Is(err, errAbsent) {
			continue
		}
		if err != nil {
			return m, err
		}
		m.Values[key] = strings.TrimSpace(string(value))
	}
	if err := readPublicKeys(ctx, address, &m); err != nil {
		return m, err
	}
	return m, nil
}

// readPublicKeys asks for keys by their well-known path even if the list lacks
// them. A value of the form 0=name is EC2's: an index of keys, not a key.
func readPublicKeys(ctx context.Context, address string, m *metadata) error {
	const key = "public-keys"
	if _, ok := m.Values[key]; !ok {
		value, err := httpGet(ctx, address, latest+"meta-data/"+key, nil, maxValue)
		if errors.Is(err, errAbsent) {
			return nil
		}
		if err != nil {
			return err
		}
		m.Values[key] = strings.TrimSpace(string(value))
	}
	var keys []string
	for line := range strings.Lines(m.Values[key]) {
		number, _, isIndex := strings.Cut(strings.TrimSpace(line), "=")
		if !isIndex || strings.Trim(number, "0123456789") != "" || number == "" || len(keys) == maxKeys {
			continue
		}
		value, err := httpGet(ctx, address, latest+"meta-data/"+key+"/"+number+"/openssh-key", nil, maxValue)
		if err != nil {
			return err
		}
		keys = append(keys, strings.TrimSpace(string(value)))
	}
	if keys != nil {
		m.Values[key] = strings.Join(keys, "\n")
	}
	return nil
}

// keysOf picks the names out of a listing; directories are left out.
func keysOf(list string) []string {
	var keys []string
	for line := range strings.Lines(list) {
		k := strings.TrimSpace(line)
		if k == "" || len(keys) == maxKeys || strings.Trim(k, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			continue
		}
		keys = append(keys, k)
	}
	return keys
}

// Answers of CloudStack's password server that are not passwords.
const (
	passwordSaved = "saved_password"
	passwordBad   = "bad_request"
)

// askPassword gets the password that waits for this machine, or "" if none does.
func (c *client) askPassword(ctx context.Context, server string) (string, error) {
	answer, err := c.passwordRequest(ctx, server, "send_my_password")
	if err != nil {
		return "", err
	}
	switch answer {
	case "", passwordSaved, passwordBad:
		return "", nil
	}
	if strings.ContainsAny(answer, "\r\n\x00") || len(answer) > 512 {
		return "", fmt.Errorf("ask %s for a password: the answer is not one", server)
	}
	return answer, nil
}

// confirmPassword tells the server to forget a password that has been set.
func (c *client) confirmPassword(ctx context.Context, server string) error {
	_, err := c.passwordRequest(ctx, server, "saved_password")
	return err
}

// passwordRequest spells the header as the protocol's scripts always did.
func (c *client) passwordRequest(ctx context.Context, server, request string) (string, error) {
	b, err := httpGet(ctx, net.JoinHostPort(server, c.passwordPort), "/", []string{"DomU_Request: " + request}, maxValue)
	if errors.Is(err, errAbsent) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
