package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/wispcloud/wisp/packaging/process"
)

// recordDir is in /run because a record says what runs since boot.
const recordDir = "/run/wisp-lab"

// record is what removing a lab needs when the process that made it is gone.
// It is written before anything it names exists.
type record struct {
	Name       string       `json:"name"`
	Dir        string       `json:"dir"`
	Hosts      int          `json:"hosts"`
	Mgmt       netip.Prefix `json:"mgmt"`
	Public     netip.Prefix `json:"public"`
	AttachRoot bool         `json:"attach_root"`
	MTU        int          `json:"mtu"`
	Persistent bool         `json:"persistent"`
	Owner      processName  `json:"owner"`
	Agent      agentCommand `json:"agent"`
	Shared     []string     `json:"shared,omitempty"`
	CacheDir   string       `json:"cache_dir"`
	// Guarded is set before the first change to the machine's own network.
	Guarded bool `json:"guarded,omitempty"`
	// Whole is set when the network is made.
	Whole      bool `json:"whole,omitempty"`
	CreatedDir bool `json:"created_dir"`
}

type agentCommand struct {
	Binary string   `json:"binary,omitempty"`
	Args   []string `json:"args,omitempty"`
}

// processName names a process since boot.
type processName struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

func (p processName) alive() bool {
	start, err := process.StartTime(p.PID)
	return err == nil && start == p.Start
}

func recordPath(name string) string { return filepath.Join(recordDir, name+".json") }

// loadRecord returns fs.ErrNotExist when there is no lab of the name.
func loadRecord(name string) (record, error) {
	var r record
	text, err := os.ReadFile(recordPath(name))
	if err != nil {
		return r, fmt.Errorf("read record of lab %s: %w", name, err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read record of lab %s: %w", name, err)
	}
	return r, nil
}

func (r record) save() error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write record of lab %s: %w", r.Name, err)
	}
	if err := os.MkdirAll(recordDir, 0o700); err != nil {
		return fmt.Errorf("write record of lab %s: %w", r.Name, err)
	}
	// Renamed into place, so that a record is whole or absent.
	tmp := recordPath(r.Name) + ".new"
	err = os.WriteFile(tmp, text, 0o600)
	if err == nil {
		err = os.Rename(tmp, recordPath(r.Name))
	}
	if err != nil {
		return fmt.Errorf("write record of lab %s: %w", r.Name, err)
	}
	return nil
}

func (r record) remove() error {
	if err := os.Remove(recordPath(r.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of lab %s: %w", r.Name, err)
	}
	// Fails while other labs have records, as it should.
	_ = os.Remove(recordDir)
	return nil
}
