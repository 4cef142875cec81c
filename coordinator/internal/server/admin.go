package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// AdminFile is where the first administrator's credentials are, in the data directory of the coordinator that made the
// cloud. It may be removed once they are kept elsewhere.
const AdminFile = "admin.env"

// bootstrap makes the first rows of a new cloud. It runs on every new leader; where there are any, it only adds offerings
// that are new in this version.
//
// The credentials are on disk before they are in use, so a crash between the two cannot lose them: they are written
// under another name first, and a later start looks whether the cloud knows them.
func (s *Server) bootstrap(ctx context.Context) error {
	pending := filepath.Join(s.cfg.DataDir, AdminFile+".new")
	if identity.Root(s.replica.DB().Current()) == nil {
		admin := identity.NewAdmin()
		if err := writeFile(pending, adminEnv(admin, s.cfg)); err != nil {
			return err
		}
		made := false
		err := s.replica.Update(ctx, func(tx *store.Tx) (err error) {
			if made, err = identity.Bootstrap(tx, admin, s.seal); err != nil || !made {
				return err
			}
			return s.seed(tx)
		})
		if err != nil {
			return fmt.Errorf("make the first rows of the cloud: %w", err)
		}
		debug.FreeOSMemory() // what hashing the password took is not needed again for long
	} else if err := s.replica.Update(ctx, s.seedOfferings); err != nil {
		return fmt.Errorf("add the offerings of this version: %w", err)
	}
	return s.keepAdminFile(pending)
}

// keepAdminFile gives the credentials their name when they are in use, and removes them when they are not.
func (s *Server) keepAdminFile(pending string) error {
	b, err := os.ReadFile(pending)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", pending, err)
	}
	key := ""
	for _, l := range bytes.Split(b, []byte("\n")) {
		if v, ok := strings.CutPrefix(string(l), "CLOUDSTACK_KEY="); ok {
			key = v
		}
	}
	if _, ok := tables.Users.First(s.replica.DB().Current(), "apikey", store.K(key)); !ok || key == "" {
		return os.Remove(pending)
	}
	final := filepath.Join(s.cfg.DataDir, AdminFile)
	if err := os.Rename(pending, final); err != nil {
		return fmt.Errorf("keep credentials: %w", err)
	}
	s.log.Info("the first administrator's credentials are in a file that only root can read", "file", final)
	return syncDir(s.cfg.DataDir)
}

// adminEnv is what a shell can source. No value needs quotes: they are of unreserved characters.
func adminEnv(a identity.Admin, c Config) []byte {
	endpoint := "http://127.0.0.1:8080/client/api"
	if len(c.Plain) > 0 {
		endpoint = "http://" + c.Plain[0] + "/client/api"
	} else if len(c.API) > 0 {
		endpoint = "https://" + strings.Replace(c.API[0], "0.0.0.0:", "127.0.0.1:", 1) + "/client/api"
		if strings.HasPrefix(c.API[0], ":") {
			endpoint = "https://127.0.0.1" + c.API[0] + "/client/api"
		}
	}
	return fmt.Appendf(nil, "CLOUDSTACK_ENDPOINT=%s\nCLOUDSTACK_KEY=%s\nCLOUDSTACK_SECRET=%s\nWISP_ADMIN_USER=%s\nWISP_ADMIN_PASSWORD=%s\n",
		endpoint, a.APIKey, string(a.Secret), a.Username, string(a.Password))
}
