package sandbox

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// summary says what there is and how to use it.
func (s *Sandbox) summary(took time.Duration) {
	host, port, _ := strings.Cut(s.cfg.apiAddress(), ":")
	verb := "is up"
	if !s.changed {
		verb = "was up already; nothing was changed"
	}
	fmt.Fprintf(s.cfg.Out, `
The sandbox %s (%.1f s).

  API       %s
  keys      . %s        sets %s, %s, %s, %s
  cs        . %s; /usr/bin/python3 -m cs listVirtualMachines
  libcloud  . %s; /usr/bin/python3 -c 'import os; from libcloud.compute.providers import get_driver as d; print(d("cloudstack")(os.environ["%s"], os.environ["%s"], secure=False, host="%s", port=%s, path="/client/api").list_images())'
  wisp      . %s; %s/wisp list virtualmachines
  cmk       cmk -c %s list virtualmachines
  guest     curl %s
            ssh -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@%s
  shell     %s/wisp-lab exec -name %s h1    on a hypervisor host; logs in %s
  stop      make sandbox-down
`,
		verb, took.Seconds(), s.api.Endpoint,
		s.show(s.envPath()), envEndpoint, envKey, envSecret, envPassword,
		s.show(s.envPath()),
		s.show(s.envPath()), envKey, envSecret, host, port,
		s.show(s.envPath()), s.show(s.cfg.Bin),
		s.show(s.cmkPath()),
		s.hello.url(),
		s.show(s.keyPath()), s.hello.address,
		s.show(s.cfg.Bin), s.cfg.Name, s.show(s.cfg.Dir))
}

// show is a path as one types it from the directory above the sandbox.
func (s *Sandbox) show(path string) string {
	short, err := filepath.Rel(filepath.Dir(s.cfg.Dir), path)
	if err != nil || strings.HasPrefix(short, "..") {
		return path
	}
	return "./" + short
}
