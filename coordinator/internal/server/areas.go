package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/address"
	alerts "github.com/wispcloud/wisp/coordinator/internal/api/alert"
	"github.com/wispcloud/wisp/coordinator/internal/api/annotation"
	"github.com/wispcloud/wisp/coordinator/internal/api/apilimit"
	"github.com/wispcloud/wisp/coordinator/internal/api/apis"
	"github.com/wispcloud/wisp/coordinator/internal/api/asyncjob"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/api/certificate"
	"github.com/wispcloud/wisp/coordinator/internal/api/cluster"
	"github.com/wispcloud/wisp/coordinator/internal/api/config"
	"github.com/wispcloud/wisp/coordinator/internal/api/dedication"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/api/group"
	"github.com/wispcloud/wisp/coordinator/internal/api/host"
	"github.com/wispcloud/wisp/coordinator/internal/api/hypervisor"
	"github.com/wispcloud/wisp/coordinator/internal/api/imagestore"
	"github.com/wispcloud/wisp/coordinator/internal/api/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/api/limit"
	"github.com/wispcloud/wisp/coordinator/internal/api/management"
	guestnetwork "github.com/wispcloud/wisp/coordinator/internal/api/network"
	"github.com/wispcloud/wisp/coordinator/internal/api/networkoffering"
	"github.com/wispcloud/wisp/coordinator/internal/api/offering"
	"github.com/wispcloud/wisp/coordinator/internal/api/ostype"
	"github.com/wispcloud/wisp/coordinator/internal/api/physical"
	"github.com/wispcloud/wisp/coordinator/internal/api/pod"
	"github.com/wispcloud/wisp/coordinator/internal/api/project"
	"github.com/wispcloud/wisp/coordinator/internal/api/region"
	"github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/api/rule"
	"github.com/wispcloud/wisp/coordinator/internal/api/session"
	"github.com/wispcloud/wisp/coordinator/internal/api/sshkey"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagepool"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagerange"
	"github.com/wispcloud/wisp/coordinator/internal/api/tag"
	"github.com/wispcloud/wisp/coordinator/internal/api/template"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/api/userdata"
	"github.com/wispcloud/wisp/coordinator/internal/api/vm"
	"github.com/wispcloud/wisp/coordinator/internal/api/volume"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/hostlink"
	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// areas are the domain areas with what they need of each other, and what serves hosts.
type areas struct {
	network *network.Area
	compute *compute.Area
	keys    *pki.Keeper
	images  *storage.Worker
	link    *hostlink.Server
	agents  net.Listener
	usage   *usage
	config  func() *settings.Registry
}

// counts gives areas that want an interface the function of identity.
type counts struct{}

func (counts) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	return identity.Count(tx, account, t, delta)
}

// writeEvent writes an entry of the audit log that no call caused.
func writeEvent(tx *store.Tx, e *cloud.Event) error {
	_, err := job.WriteEvent(tx, *e)
	return err
}

func newAreas(s *Server) (areas, error) {
	read := func() store.Reader { return s.replica.DB().Current() }
	a := areas{usage: newUsage(), config: func() *settings.Registry { return s.settings }}
	a.network = &network.Area{Seal: s.seal, Counts: counts{}, Sites: compute.Sites{}, Event: writeEvent, Log: s.log}
	a.compute = &compute.Area{Net: a.network, Seal: s.seal, Counts: counts{}, Event: writeEvent}
	a.images = &storage.Worker{Replica: s.replica, Count: identity.Count, Event: writeEvent, Log: s.log, Inspect: storage.QEMUInfo}
	advertise, err := advertised(s.cfg, net.InterfaceAddrs)
	if err != nil {
		return a, err
	}
	name, _, err := net.SplitHostPort(advertise)
	if err != nil {
		return a, fmt.Errorf("agents_advertise: %w", err)
	}
	a.keys = pki.NewKeeper(read, s.seal, hostlink.CoordinatorID(s.cfg.Node), []string{name}, time.Now)
	a.link = hostlink.New(hostlink.Config{
		NodeID: s.cfg.Node, Advertise: advertise, Replica: s.replica, Keys: a.keys, Images: storage.NewFiles(read),
		Plan: hostplan.Renderers{
			Compute: a.compute.Render,
			Network: func(r store.Reader, h *cloud.Host, n *cloud.Network) (*hostspec.Network, error) {
				return a.network.Render(r, h.ID, n), nil
			},
			System: a.network.RenderSystem,
			Pools:  storage.RenderPools,
		},
		Folds: []hostlink.Fold{storage.Fold, a.network.Fold, a.compute.Fold, a.usage.fold},
		Now:   time.Now, Log: s.log,
	})
	return a, nil
}

// settings lists what every package honours.
func (a areas) settings() [][]*settings.Def {
	return [][]*settings.Def{
		api.Settings(), identity.Settings(), directory.Settings(), identity.ProjectSettings(), job.Settings(), hostlink.Settings(), storage.Settings(), network.Settings(), compute.Settings(),
		infra.Settings(), alert.Settings(),
	}
}

// commands lists the commands of the API.
func (a areas) commands(s *Server) []api.Command {
	attempts, hashers := session.NewLimiter(), identity.NewHashers()
	return slices.Concat(
		session.Commands(session.Deps{Limit: attempts, Directory: s.directory, NewUser: s.newUser}), apilimit.Commands(s.throttle), apis.Commands(), asyncjob.Commands(asyncjob.Deps{Seal: s.seal}), config.Commands(s.settings),
		user.Commands(user.Deps{Seal: s.seal, Attempts: attempts, Hashers: hashers}), annotation.Commands(), account.Commands(account.Deps{Owned: a.owned(), Stop: a.compute.Stop, Hashers: hashers}), role.Commands(), ldap.Commands(ldap.Deps{Seal: s.seal}), domain.Commands(domain.Deps{Owned: a.owned(), OfDomains: a.ownedByDomains()}), limit.Commands(), event.Commands(), alerts.Commands(),
		zone.Commands(), pod.Commands(), cluster.Commands(), dedication.Commands(), hypervisor.Commands(), region.Commands(), storagerange.Commands(), ostype.Commands(), capacity.Commands(),
		host.Commands(host.Deps{
			Authority: a.keys.Authority, DropVolume: a.compute.DropVolume, Evacuate: a.compute.Evacuate, HostDied: a.compute.HostDied,
		}),
		certificate.Commands(certificate.Deps{Seal: s.seal}),
		management.Commands(management.Deps{
			Members: func() ([]replica.MemberInfo, error) { return s.replica.ListPeers() }, Figures: s.figuresOf,
		}),
		storagepool.Commands(storagepool.Deps{VMs: a.compute, Routers: a.network}), imagestore.Commands(), template.Commands(template.Deps{Count: identity.Count}),
		physical.Commands(physical.Deps{Area: a.network}), networkoffering.Commands(networkoffering.Deps{Area: a.network}),
		guestnetwork.Commands(guestnetwork.Deps{Area: a.network}), address.Commands(address.Deps{Area: a.network}),
		rule.Commands(rule.Deps{Area: a.network}),
		offering.Commands(), sshkey.Commands(), group.Commands(), userdata.Commands(userdata.Deps{Area: a.compute}), volume.Commands(), tag.Commands(),
		project.Commands(project.Deps{Seal: s.seal, Stop: a.compute.Stop, Owned: a.owned}),
		vm.Commands(vm.Deps{Area: a.compute, Usage: a.usage.of, DefaultNetworks: network.DefaultNetworks}),
	)
}

// entities lists what parameters can refer to.
func (a areas) entities() []api.Entity {
	return slices.Concat(
		asyncjob.Entities(), user.Entities(), role.Entities(), ldap.Entities(), account.Entities(), annotation.Entities(), domain.Entities(), event.Entities(), alerts.Entities(),
		zone.Entities(), pod.Entities(), cluster.Entities(), ostype.Entities(), hypervisor.Entities(), storagerange.Entities(), host.Entities(), storagepool.Entities(),
		imagestore.Entities(), template.Entities(),
		physical.Entities(), networkoffering.Entities(), guestnetwork.Entities(), address.Entities(), rule.Entities(),
		offering.Entities(), sshkey.Entities(), group.Entities(), userdata.Entities(), volume.Entities(), vm.Entities(), project.Entities(),
	)
}

// directory asks the LDAP servers that know a user.
func (s *Server) directory(ctx context.Context, r store.Reader, u *cloud.User, a *cloud.Account, p cloud.Secret) (bool, error) {
	return directory.Authenticate(ctx, r, s.seal, u, a, p)
}

// newUser asks the LDAP servers that a domain is linked to.
func (s *Server) newUser(ctx context.Context, r store.Reader, d *cloud.Domain, name string, p cloud.Secret) (session.Enroll, error) {
	n, err := directory.NewUser(ctx, r, s.seal, d.ID, name, p)
	if n == nil {
		return nil, err
	}
	return n.Make, err
}

// seed makes what a new cloud has beside its first administrator.
func (s *Server) seed(tx *store.Tx) error {
	return errors.Join(
		pki.Bootstrap(tx, s.seal), infra.SeedOSTypes(tx), infra.SeedSite(tx), s.seedOfferings(tx),
	)
}

// seedOfferings makes the offerings that every cloud has; in one that was made by an earlier version, those that are new.
func (s *Server) seedOfferings(tx *store.Tx) error {
	return errors.Join(compute.Seed(tx), s.areas.network.Bootstrap(tx))
}

// listen opens the port for hosts.
func (a *areas) listen(s *Server) error {
	l, err := net.Listen("tcp", s.cfg.Agents)
	if err != nil {
		return fmt.Errorf("listen for hosts: %w", err)
	}
	s.log.Info("listening", "for", "hosts", "address", l.Addr().String())
	a.agents = l
	return nil
}

// Pauses of the areas' slow passes.
const (
	tendPause     = 5 * time.Second
	expungeAtOnce = 100
)

// run starts the areas' loops.
func (a *areas) run(ctx context.Context, s *Server) {
	s.loop(ctx, "host link", func(ctx context.Context) {
		if err := a.link.Serve(ctx, a.agents); err != nil && ctx.Err() == nil {
			s.fail(err)
		}
	})
	s.loop(ctx, "templates", a.images.Run)
	s.loop(ctx, "integration port", s.integration)
	s.leaderLoop(ctx, "networks", func(ctx context.Context) error {
		return every(ctx, func() time.Duration { return tendPause }, func() error { return s.replica.Update(ctx, a.network.Tend) })
	})
	s.leaderLoop(ctx, "conditions", func(ctx context.Context) error { return infra.Watch(ctx, s.replica) })
	s.leaderLoop(ctx, "alert mail", (&alert.Mailer{Cluster: s.replica, Seal: s.seal, Log: s.log, Now: time.Now}).Run)
	invitations := identity.Mailer{Cluster: s.replica, Seal: s.seal, Log: s.log, Now: time.Now}
	s.leaderLoop(ctx, "invitations", invitations.Run)
	s.leaderLoop(ctx, "removal of accounts", func(ctx context.Context) error {
		pause := func() time.Duration {
			return s.settings.View(s.replica.DB().Current()).Duration("account.cleanup.interval")
		}
		update := func(f func(*store.Tx) error) error { return s.replica.Update(ctx, f) }
		return every(ctx, pause, func() error {
			if err := identity.Cleanup(s.replica.DB().Current(), update, a.owned(), a.ownedByDomains()); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot finish the removal of accounts", "error", err)
			}
			return nil
		})
	})
	s.leaderLoop(ctx, "expunge", func(ctx context.Context) error {
		pause := func() time.Duration { return s.settings.View(s.replica.DB().Current()).Duration("expunge.interval") }
		return every(ctx, pause, func() error {
			return s.replica.Update(ctx, func(tx *store.Tx) error {
				_, err := a.compute.ExpungeDue(tx, expungeAtOnce)
				return err
			})
		})
	})
}

// every calls f with pauses between until ctx ends or f fails.
func every(ctx context.Context, pause func() time.Duration, f func() error) error {
	for {
		if err := f(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause()):
		}
	}
}

// close ends what serves hosts.
func (a *areas) close() error {
	if a.link == nil {
		return nil
	}
	err := a.link.Close()
	if a.agents != nil {
		_ = a.agents.Close() // where it was never served
	}
	return err
}
