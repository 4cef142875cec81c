package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The generic netlink family of WireGuard, linux/wireguard.h.
const (
	wgSetDevice = 1

	wgDeviceName       = 2
	wgDevicePrivateKey = 3
	wgDeviceListenPort = 6
	wgDevicePeers      = 8

	wgPeerPublicKey  = 1
	wgPeerEndpoint   = 4
	wgPeerAllowedIPs = 9

	wgAllowedFamily = 1
	wgAllowedIP     = 2
	wgAllowedMask   = 3
)

// makeWireguard makes a link with a new key, and returns the public one.
func makeWireguard(name string, port uint16) (string, error) {
	if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return "", fmt.Errorf("add link: %w", err)
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	err = set(name, nl.NewRtAttr(wgDevicePrivateKey, key.Bytes()), nl.NewRtAttr(wgDeviceListenPort, nl.Uint16Attr(port)))
	return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()), err
}

func setPeer(name, key string, endpoint netip.AddrPort, allowed netip.Prefix) error {
	public, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return err
	}
	address := make([]byte, 16) // struct sockaddr_in
	binary.NativeEndian.PutUint16(address, unix.AF_INET)
	binary.BigEndian.PutUint16(address[2:], endpoint.Port())
	copy(address[4:], endpoint.Addr().AsSlice())

	peers := nl.NewRtAttr(wgDevicePeers|unix.NLA_F_NESTED, nil)
	peer := peers.AddRtAttr(unix.NLA_F_NESTED, nil)
	peer.AddRtAttr(wgPeerPublicKey, public)
	peer.AddRtAttr(wgPeerEndpoint, address)
	ips := peer.AddRtAttr(wgPeerAllowedIPs|unix.NLA_F_NESTED, nil)
	ip := ips.AddRtAttr(unix.NLA_F_NESTED, nil)
	ip.AddRtAttr(wgAllowedFamily, nl.Uint16Attr(unix.AF_INET))
	ip.AddRtAttr(wgAllowedIP, allowed.Addr().AsSlice())
	ip.AddRtAttr(wgAllowedMask, nl.Uint8Attr(uint8(allowed.Bits())))
	return set(name, peers)
}

func set(name string, attributes ...*nl.RtAttr) error {
	family, err := netlink.GenlFamilyGet("wireguard")
	if err != nil {
		return fmt.Errorf("find its family: %w", err)
	}
	r := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	r.AddData(&nl.Genlmsg{Command: wgSetDevice, Version: 1})
	r.AddData(nl.NewRtAttr(wgDeviceName, nl.ZeroTerminated(name)))
	for _, a := range attributes {
		r.AddData(a)
	}
	_, err = r.Execute(unix.NETLINK_GENERIC, 0)
	return err
}
