// Package lab makes several hypervisor hosts out of one machine.
//
// A lab host is a real host as far as libvirt, the agent and the network can
// tell: network, mount, UTS and PID namespaces with its own libvirtd, virtlogd
// and agent under a PID 1 that reaps; its own /run, /var/lib/wisp,
// /etc/libvirt and so on, its own host name. Hosts are joined by two bridges in
// a namespace of their own, the switch: eth0 of each host (in cloudbr0, which
// has the host's address) is on the management bridge and carries VXLAN, eth1
// (in cloudbr1, without address) is on the public bridge. The names are those
// CloudStack's operators know.
//
//	l, err := lab.New(ctx, lab.Config{Name: "e2e", Dir: dir, Hosts: 2, AgentBinary: "bin/wisp-agent", ...})
//	defer l.Close()
//	err = l.Start(ctx)
//	l.Host(1).PowerOff()
//
// A program or test binary that uses the package calls Main first of all,
// because the hosts' PID 1 is the program itself, started anew.
//
// What it touches of the machine is little, and see DESIGN.md why nothing else
// can be touched: processes, one directory, a record in /run/wisp-lab, and with
// AttachRoot two links with their addresses, rules and routes.
package lab
