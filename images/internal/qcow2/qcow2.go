// Package qcow2 turns a raw disk image into a compressed qcow2 by qemu-img.
package qcow2

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/wispcloud/wisp/images/internal/hosttool"
)

// Tools are the programs this package runs.
var Tools = []hosttool.Tool{{Name: "qemu-img", Package: "qemu-utils"}}

// Compress writes raw as a qcow2 with deflated clusters to out. One coroutine
// (-m 1) writes the clusters in order: with more, which is qemu-img's default,
// their order in the file could depend on timing.
func Compress(ctx context.Context, raw, out string) error {
	_, err := hosttool.Run(ctx, hosttool.Command{Name: "qemu-img", Args: []string{
		"convert", "-m", "1", "-c", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,compression_type=zlib", raw, out,
	}})
	if err != nil {
		return fmt.Errorf("compress %s: %w", raw, err)
	}
	return nil
}

// Info is what qemu-img knows about an image.
type Info struct {
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtual-size"`
}

// Inspect reads an image's header.
func Inspect(ctx context.Context, file string) (Info, error) {
	out, err := hosttool.Run(ctx, hosttool.Command{Name: "qemu-img", Args: []string{"info", "--output=json", "-f", "qcow2", file}})
	if err != nil {
		return Info{}, fmt.Errorf("inspect %s: %w", file, err)
	}
	var info Info
	if err := json.Unmarshal(out, &info); err != nil {
		return Info{}, fmt.Errorf("inspect %s: %w", file, err)
	}
	return info, nil
}
