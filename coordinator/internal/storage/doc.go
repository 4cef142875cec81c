// Package storage is the area of primary storage pools, secondary storage and templates.
//
// Secondary storage is a directory per image store, the same path on every coordinator (a local directory, or a shared
// mount). A file in it is named by the SHA-256 of its content, <store>/images/<sha256>, and appears there whole or not
// at all; what is being downloaded lies in <store>/incoming. A coordinator that lacks a file fetches it from another
// one, so the directories need not be shared.
//
// Templates come from strangers' URLs and are read by QEMU on hosts, so everything is checked before it is admitted:
// where the download connects to (Guard: after name resolution, at every redirect), how much it is, its checksum, and
// that a qcow2 file refers to nothing outside itself (CheckQCOW2). The command that registers a template touches no
// network; the leader's downloader does the work, and starts again where a crashed one stopped.
//
// Invariants:
//   - A template in state Ready has a SHA-256, and its file was whole and checked when the row was written.
//   - A removed template's row and file stay while a volume names its SHA-256: its disks are overlays on that file.
//   - Files that no template or volume names are removed, but not while they are young: the row may be on its way.
package storage

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Counter keeps resource counts and limits: identity.Count.
type Counter func(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error

// EventWriter writes an entry of the audit log that no API call caused.
type EventWriter func(tx *store.Tx, e *cloud.Event) error

// Settings lists the global settings this package honours.
func Settings() []*settings.Def { return []*settings.Def{allowedSites, maxImageSize, PublicTemplates} }

var (
	allowedSites = settings.Define(settings.Def{
		Name: "secstorage.allowed.internal.sites", Category: "Advanced", Type: settings.String,
		Doc: "Comma-separated CIDRs of internal addresses that templates may be downloaded from; all others that are not public are refused",
	})
	maxImageSize = settings.Define(settings.Def{
		Name: "max.template.iso.size", Category: "Advanced", Type: settings.Integer, Default: "50", Min: 1, Max: 65536,
		Doc: "The largest template or ISO that may be downloaded, in GiB",
	})
	// PublicTemplates lets users make templates that everybody sees.
	PublicTemplates = settings.Define(settings.Def{
		Name: "allow.public.user.templates", Category: "Advanced", Type: settings.Boolean, Default: "true",
		Doc: "Whether users may make their templates public",
	})
)

func wrap(verb, noun string, id fmt.Stringer, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %s: %w", verb, noun, id, err)
}

// gib is how storage is counted against limits: begun GiB.
func gib(bytes uint64) int64 { return int64((bytes + 1<<30 - 1) >> 30) }
