package sandbox

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/wispcloud/wisp/packaging/api"
)

// keyPairName is what the cloud calls the sandbox's ssh key.
const keyPairName = "sandbox"

func (s *Sandbox) keyPath() string { return filepath.Join(s.cfg.Dir, "ssh-key") }

// registerKey makes an ssh key for the guest and tells the cloud its public
// half; a key that is there stays.
func (s *Sandbox) registerKey(ctx context.Context) error {
	public, err := loadOrMakeKey(s.keyPath())
	if err != nil {
		return err
	}
	known, err := s.named(ctx, "listSSHKeyPairs", "sshkeypair", keyPairName, nil)
	if err != nil || known != nil {
		return err
	}
	return s.api.Call(ctx, "registerSSHKeyPair", api.Params{"name": keyPairName, "publickey": public}, nil)
}

// loadOrMakeKey returns the public key as authorized_keys has it.
func loadOrMakeKey(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(path)
	}
	if err != nil {
		return "", fmt.Errorf("make ssh key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return "", fmt.Errorf("read ssh key %s: %w", path, err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

func makeKey(path string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "wisp sandbox")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	// Whole or not at all: half a key would be found by the next run.
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return nil, err
	}
	return text, os.Rename(path+".new", path)
}
