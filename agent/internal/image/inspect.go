package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	inspectDeadline = 20 * time.Second
	inspectMemory   = "1073741824"
	nobody          = 65534
)

// info is the part of `qemu-img info --output=json` that matters.
type info struct {
	Format         string `json:"format"`
	VirtualSize    uint64 `json:"virtual-size"`
	Backing        string `json:"backing-filename"`
	FullBacking    string `json:"full-backing-filename"`
	FormatSpecific struct {
		Data struct {
			DataFile string `json:"data-file"`
			Corrupt  bool   `json:"corrupt"`
		} `json:"data"`
	} `json:"format-specific"`
}

// inspect lets QEMU itself read the image, as nobody, with little memory and time and no right to write: a second
// opinion on what ReadHeader found, from the very parser the guest's disk will meet.
func inspect(ctx context.Context, path, format string) (info, error) {
	f, err := os.Open(path)
	if err != nil {
		return info{}, fmt.Errorf("inspect image: %w", err)
	}
	defer func() { _ = f.Close() }()
	ctx, cancel := context.WithTimeout(ctx, inspectDeadline)
	defer cancel()
	// The image is handed over as standard input: nobody need not be able to walk to it.
	cmd := exec.CommandContext(ctx, "prlimit", "--as="+inspectMemory, "--cpu=10", "--fsize=0", "--nproc=64", "--core=0", "--",
		"qemu-img", "info", "--output=json", "-U", "-f", format, "/dev/stdin")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdin = f
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(complaint.String())
		return info{}, fmt.Errorf("qemu-img cannot read the image: %w: %s", err, text[:min(len(text), 300)])
	}
	var i info
	if err := json.Unmarshal(out.Bytes(), &i); err != nil {
		return info{}, fmt.Errorf("read answer of qemu-img: %w", err)
	}
	return i, nil
}

// judge compares QEMU's opinion with what was promised.
func (i info) judge(format string) error {
	switch {
	case i.Format != format:
		return fmt.Errorf("image is %s, not %s", i.Format, format)
	case i.Backing != "" || i.FullBacking != "":
		return errors.New("image names a backing file")
	case i.FormatSpecific.Data.DataFile != "":
		return errors.New("image names an external data file")
	case i.FormatSpecific.Data.Corrupt:
		return errors.New("image is marked corrupt")
	case i.VirtualSize == 0 || i.VirtualSize > maxVirtualBytes:
		return fmt.Errorf("virtual size of %d bytes is not usable", i.VirtualSize)
	}
	return nil
}

// Judge checks the file of an image before anything uses it.
func Judge(ctx context.Context, path, format string) error {
	if format == "qcow2" {
		h, err := ReadFileHeader(path)
		if err != nil {
			return err
		}
		if err := h.Judge(); err != nil {
			return err
		}
	}
	i, err := inspect(ctx, path, format)
	if err != nil {
		return err
	}
	return i.judge(format)
}
