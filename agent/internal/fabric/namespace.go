package fabric

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NamespaceDir is where ip-netns(8) keeps named namespaces.
const NamespaceDir = "/run/netns"

const nsfsMagic = 0x6e736673 // NSFS_MAGIC of linux/magic.h

// NamespacePath is the file the namespace of an instance is mounted on.
func NamespacePath(instance string) string {
	return filepath.Join(NamespaceDir, NamespaceName(instance))
}

func isNamespace(path string) (bool, error) {
	var fs unix.Statfs_t
	switch err := unix.Statfs(path, &fs); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return fs.Type == nsfsMagic, nil
}

// ensureNamespace makes the named namespace unless it is there. When its name was taken away while a process still
// lives in it (holder > 0), the name is given back to that very namespace, so that nothing in it is lost.
func ensureNamespace(name string, holder int) (made bool, err error) {
	path := filepath.Join(NamespaceDir, name)
	if ok, err := isNamespace(path); err != nil || ok {
		return false, err
	}
	if err := os.MkdirAll(NamespaceDir, 0o755); err != nil {
		return false, fmt.Errorf("make namespace %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return false, fmt.Errorf("make namespace %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return false, fmt.Errorf("make namespace %s: %w", name, err)
	}
	if holder > 0 {
		if unix.Mount(fmt.Sprintf("/proc/%d/ns/net", holder), path, "", unix.MS_BIND, "") == nil {
			return true, nil
		}
	}
	if err := mountNew(path); err != nil {
		return false, errors.Join(fmt.Errorf("make namespace %s: %w", name, err), os.Remove(path))
	}
	return true, nil
}

// mountNew makes a network namespace on a thread of its own, which dies with it.
func mountNew(path string) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread, so no other goroutine meets the foreign namespace.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			lo, err := h.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := h.LinkSetUp(lo); err != nil {
				return fmt.Errorf("set lo up: %w", err)
			}
			self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
			if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount: %w", err)
			}
			return nil
		}()
	}()
	return <-done
}

func removeNamespace(name string) error {
	path := filepath.Join(NamespaceDir, name)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("remove namespace %s: %w", name, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// namespaces lists the instances whose namespaces exist.
func namespaces() ([]string, error) {
	entries, err := os.ReadDir(NamespaceDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutPrefix(e.Name(), "wisp-"); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
