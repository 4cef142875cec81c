// Package imagestore holds the commands of secondary storage.
package imagestore

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{addOld(), add(), list(), update(), remove(), listProviders()}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "imagestore",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			return api.Owner{}, tables.ImageStores.Has(r, id)
		},
	}}
}

// Answer is an image store as clients see it. Sizes are in bytes.
type Answer struct {
	ID            cloud.ID          `json:"id" doc:"the image store"`
	Name          string            `json:"name" doc:"its name"`
	URL           string            `json:"url" doc:"where it is"`
	Protocol      string            `json:"protocol" doc:"how it is reached"`
	ProviderName  string            `json:"providername" doc:"what drives it"`
	Scope         string            `json:"scope" doc:"who uses it: ZONE or REGION (all zones)"`
	ZoneID        cloud.ID          `json:"zoneid,omitempty" doc:"its zone"`
	ZoneName      string            `json:"zonename,omitempty" doc:"name of that zone"`
	ReadOnly      bool              `json:"readonly" doc:"whether nothing new is put there"`
	DiskSizeTotal uint64            `json:"disksizetotal" doc:"size of its file system"`
	DiskSizeUsed  uint64            `json:"disksizeused" doc:"what is used of it"`
	Details       map[string]string `json:"details,omitempty" doc:"further details"`
	api.Remarked  `of:"imagestore"`
}

func view(c *api.Call, s *cloud.ImageStore) Answer {
	a := Answer{
		ID: s.ID, Name: s.Name, URL: s.URL, Protocol: "file", ProviderName: s.Provider, Scope: s.Scope, ZoneID: s.ZoneID,
		DiskSizeTotal: s.Capacity, DiskSizeUsed: s.Used, Details: s.Details, ReadOnly: s.ReadOnly,
	}
	if z, ok := tables.Zones.Get(c.Read, s.ZoneID); ok {
		a.ZoneName = z.Name
	}
	return a
}

type addParams struct {
	URL      string            `api:"url,required" doc:"file:// and a directory, the same on every coordinator"`
	ZoneID   cloud.ID          `api:"zoneid" ref:"zone" doc:"zone it serves; all when absent"`
	Name     string            `api:"name" since:"4.2" doc:"its name; the url when absent"`
	Provider string            `api:"provider" since:"4.2" doc:"what drives it: file"`
	Details  map[string]string `api:"details,map" since:"4.2" doc:"further details"`
}

func put(c *api.Call, tx *store.Tx, p *addParams) (Answer, error) {
	s, err := storage.AddImageStore(tx, p.ZoneID, p.Name, p.URL, p.Provider, p.Details)
	if err != nil {
		return Answer{}, err
	}
	c.Describe(s.ID, "secondary storage "+s.URL)
	return view(c, s), nil
}

func addOld() api.Command {
	return api.Command{
		Name: "addSecondaryStorage", Doc: "Adds a directory of secondary storage.", Roles: api.AdminOnly,
		Event: "IMAGE.STORE.ADD", Entity: "ImageStore", Object: "secondarystorage", Run: api.Change(put),
	}
}

func add() api.Command {
	return api.Command{
		Name: "addImageStore", Doc: "Adds a directory of secondary storage.", Since: "4.2", Roles: api.AdminOnly,
		Event: "IMAGE.STORE.ADD", Entity: "ImageStore", Object: "imagestore", Run: api.Change(put),
	}
}

type updateParams struct {
	ID       cloud.ID `api:"id,required" ref:"imagestore" doc:"the image store"`
	Name     string   `api:"name" since:"4.19" doc:"new name"`
	ReadOnly *bool    `api:"readonly" doc:"true: nothing new is put there, what is there is served"`
}

func update() api.Command {
	return api.Command{
		Name: "updateImageStore", Doc: "Renames an image store, or closes it for what is new.", Since: "4.15", Roles: api.AdminOnly,
		Event: "IMAGE.STORE.UPDATE", Entity: "ImageStore", Object: "imagestore",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (Answer, error) {
			s, err := storage.UpdateImageStore(tx, p.ID, p.Name, p.ReadOnly)
			if err != nil {
				return Answer{}, err
			}
			c.Describe(s.ID, "secondary storage "+s.URL)
			return view(c, s), nil
		}),
	}
}

type removeParams struct {
	ID cloud.ID `api:"id,required" ref:"imagestore" doc:"the image store"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteImageStore", Doc: "Removes an image store that no template is on; its files stay.", Since: "4.2", Roles: api.AdminOnly,
		Event: "IMAGE.STORE.DELETE", Entity: "ImageStore",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *removeParams) error {
			c.Describe(p.ID, "secondary storage "+p.ID.String())
			return storage.RemoveImageStore(tx, p.ID)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID       cloud.ID `api:"id" ref:"imagestore" doc:"this image store only"`
	Name     string   `api:"name" doc:"image stores of this name"`
	ZoneID   cloud.ID `api:"zoneid" ref:"zone" doc:"image stores that serve this zone"`
	Provider string   `api:"provider" doc:"image stores driven by this"`
	Protocol string   `api:"protocol" doc:"image stores reached like this"`
	ReadOnly *bool    `api:"readonly" since:"4.15" doc:"true: only those where nothing new is put"`
}

func list() api.Command {
	return api.Command{
		Name: "listImageStores", Doc: "Lists secondary storage.", Since: "4.2", Roles: api.RootAdmin | api.ResourceAdmin, Object: "imagestore",
		Run: api.List(api.Lister[listParams, cloud.ImageStore, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.ImageStore], error) {
				return func(yield func(*cloud.ImageStore) bool) {
					for s := range tables.ImageStores.By(c.Read, "name", nil) {
						keep := (p.ID.IsZero() || p.ID == s.ID) && (p.Name == "" || p.Name == s.Name) &&
							(p.ZoneID.IsZero() || s.ZoneID.IsZero() || p.ZoneID == s.ZoneID) &&
							(p.Provider == "" || strings.EqualFold(p.Provider, s.Provider)) &&
							(p.Protocol == "" || strings.EqualFold(p.Protocol, "file")) && (p.ReadOnly == nil || *p.ReadOnly == s.ReadOnly)
						if keep && !yield(s) {
							return
						}
					}
				}, nil
			},
			Keyword: func(s *cloud.ImageStore) string { return s.Name + "\n" + s.URL },
			View:    view,
		}),
	}
}
