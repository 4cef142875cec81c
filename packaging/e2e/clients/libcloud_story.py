"""Drives the cloud with Debian's python3-libcloud, as its users do.

Prints one line for each thing it did; any surprise ends it with an error.
"""
import os
import sys
from urllib.parse import urlparse

from libcloud.common.types import InvalidCredsError, ProviderError
from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState

endpoint = urlparse(os.environ["CLOUDSTACK_ENDPOINT"])
Driver = get_driver("cloudstack")


def connect(secret):
    return Driver(os.environ["CLOUDSTACK_KEY"], secret, secure=False, host=endpoint.hostname, port=endpoint.port, path=endpoint.path)


cloud = connect(os.environ["CLOUDSTACK_SECRET"])
cloud.connection.poll_interval = 0.5


def check(what, ok):
    if not ok:
        sys.exit("FAILED: " + what)
    print(what)


def named(rows, name):
    rows = [r for r in rows if r.name == name]
    if len(rows) != 1:
        sys.exit("FAILED: %d rows named %s" % (len(rows), name))
    return rows[0]


location = cloud.list_locations()[0]
image = named(cloud.list_images(), "tiny")
size = named(cloud.list_sizes(), "tiny")
network = named(cloud.ex_list_networks(), "hello-net")
check("lists locations, images, sizes, networks", image.extra["format"] == "QCOW2" and size.ram == 128)

key = cloud.create_key_pair("libcloud-key")
check("makes a key pair", "PRIVATE KEY" in key.private_key)
check("finds the key pair", cloud.get_key_pair("libcloud-key").fingerprint == key.fingerprint)

node = cloud.create_node(name="libcloud-vm", size=size, image=image, location=location, networks=[network],
                         ex_keyname="libcloud-key", ex_userdata="user data of libcloud", ex_start_vm=True)
check("creates a node", node.state == NodeState.RUNNING and len(node.private_ips) == 1)
node = named(cloud.list_nodes(), "libcloud-vm")
check("lists the node", node.extra["key_name"] == "libcloud-key" and node.extra["size_name"] == "tiny")
check("gets the node by id", cloud.ex_get_node(node.id).id == node.id)
check("lists volumes", any(v.extra.get("instance_id") == node.id or v.name.startswith("ROOT-") for v in cloud.list_volumes()))

address = cloud.ex_allocate_public_ip(network_id=network.id)
check("allocates an address", any(a.id == address.id for a in cloud.ex_list_public_ips()))
rule = cloud.ex_create_port_forwarding_rule(node, address, 80, 8080, "TCP", openfirewall=False)
check("forwards a port", rule.public_port == 8080 or rule.public_port == "8080")
check("lists forwardings", len(cloud.ex_list_port_forwarding_rules()) >= 1)
firewall = cloud.ex_create_firewall_rule(address, "198.18.0.0/15", "TCP", start_port=8080, end_port=8080)
check("opens the firewall", any(f.id == firewall.id for f in cloud.ex_list_firewall_rules()))
check("deletes the firewall rule", cloud.ex_delete_firewall_rule(firewall))
check("deletes the forwarding", cloud.ex_delete_port_forwarding_rule(node, rule))
check("releases the address", cloud.ex_release_public_ip(address))

check("reboots", cloud.reboot_node(node))
check("stops", str(cloud.ex_stop(node)).lower() == "stopped")
check("starts", str(cloud.ex_start(node)).lower() == "running")
check("destroys", cloud.destroy_node(node, ex_expunge=True))
check("is gone", not any(n.id == node.id for n in cloud.list_nodes()))
check("deletes the key pair", cloud.delete_key_pair(key))
try:
    cloud.ex_get_node("00000000-0000-4000-8000-000000000000")
    sys.exit("FAILED: an unknown node was found")
except Exception as e:  # libcloud raises plain Exception here
    check("an unknown node is not found", "not found" in str(e).lower() or "does not exist" in str(e))
try:
    connect("wrong").list_locations()
    sys.exit("FAILED: a wrong secret was accepted")
except InvalidCredsError:
    check("refuses a wrong secret", True)
