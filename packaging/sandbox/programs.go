package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// programs are those that go on running. A sandbox has copies, so that building
// anew does not change, or mix with, what runs.
var programs = []string{"wisp-coordinator", "wisp-agent", "wisp-netsvc", "wisp"}

func (c Config) program(name string) string { return filepath.Join(c.Dir, "bin", name) }

// copyPrograms copies what the sandbox does not have yet.
func (c Config) copyPrograms() error {
	if err := os.MkdirAll(filepath.Join(c.Dir, "bin"), 0o755); err != nil {
		return fmt.Errorf("copy programs: %w", err)
	}
	for _, name := range programs {
		if _, err := os.Stat(c.program(name)); err == nil {
			continue
		}
		err := copyProgram(filepath.Join(c.Bin, name), c.program(name))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copy programs: %w: run make build", err)
		}
		if err != nil {
			return fmt.Errorf("copy programs: %w", err)
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
