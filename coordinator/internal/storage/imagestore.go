package storage

import (
	"path"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// AddImageStore adds a directory of secondary storage. A zero zone serves all zones.
func AddImageStore(tx *store.Tx, zone cloud.ID, name, url, provider string, details map[string]string) (*cloud.ImageStore, error) {
	d, err := storeDir(url)
	if err != nil {
		return nil, err
	}
	if provider != "" && !strings.EqualFold(provider, "file") {
		return nil, cloud.Errorf(cloud.Invalid, "Image store provider %s is not supported; supported is file (a directory, or a mounted share, on every coordinator)", provider)
	}
	for s := range tables.ImageStores.All(tx) {
		if dir(s) == d && s.ZoneID == zone {
			return nil, cloud.Errorf(cloud.Invalid, "Image store %s already exists (id %s)", "file://"+d, s.ID)
		}
	}
	if name == "" {
		name = "file://" + d
	}
	s := &cloud.ImageStore{
		ID: tx.NewID(), Name: name, ZoneID: zone, URL: "file://" + d, Provider: "file", Created: tx.Now(), Scope: "ZONE", Details: details,
	}
	if zone.IsZero() {
		s.Scope = "REGION"
	}
	return s, wrap("add", "image store", s.ID, tables.ImageStores.Put(tx, s))
}

// storeDir reads the URL of an image store.
func storeDir(url string) (string, error) {
	rest, ok := strings.CutPrefix(url, "file://")
	if !ok {
		return "", cloud.Errorf(cloud.Invalid, "Image store url %.100q is not supported: mount the share on every coordinator and give file:///its/directory", url)
	}
	if rest == "" || rest[0] != '/' || path.Clean(rest) != strings.TrimSuffix(rest, "/") || path.Clean(rest) == "/" || strings.ContainsAny(rest, "\x00\n?#%") {
		return "", cloud.Errorf(cloud.Invalid, "Image store url %.100q must be file:// and an absolute path without . and .. parts", url)
	}
	return path.Clean(rest), nil
}

// RemoveImageStore removes an image store that no template needs.
func RemoveImageStore(tx *store.Tx, id cloud.ID) error {
	for t := range tables.Templates.All(tx) {
		if t.ImageStoreID == id && t.State != cloud.TemplateFailed && (t.State != cloud.TemplateRemoved || usedBy(tx, t)) {
			return cloud.Errorf(cloud.InUse, "Image store %s cannot be removed: template %s (%s) is on it", id, t.Name, t.ID)
		}
	}
	return wrap("remove", "image store", id, tables.ImageStores.Delete(tx, id))
}

// storeFor finds the image store a template of a zone goes to.
func storeFor(r store.Reader, zone cloud.ID) (*cloud.ImageStore, bool) {
	var everywhere *cloud.ImageStore
	for s := range tables.ImageStores.All(r) {
		if s.ReadOnly {
			continue
		}
		if s.ZoneID == zone || zone.IsZero() {
			return s, true
		}
		if s.ZoneID.IsZero() && everywhere == nil {
			everywhere = s
		}
	}
	return everywhere, everywhere != nil
}
