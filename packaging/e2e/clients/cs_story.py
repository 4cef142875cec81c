"""Drives the cloud with Debian's python3-cs, as its users do: reads the endpoint and keys from the environment.

Prints one line for each thing it did; any surprise ends it with an error.
"""
import base64
import sys

from cs import CloudStack, CloudStackApiException, read_config

# cs polls jobs every two seconds by itself.
api = CloudStack(**{k: v for k, v in read_config().items() if k in ("endpoint", "key", "secret", "timeout")}, fetch_result=True)


def check(what, ok):
    if not ok:
        sys.exit("FAILED: " + what)
    print(what)


def only(rows, **want):
    rows = [r for r in rows if all(r.get(k) == v for k, v in want.items())]
    if len(rows) != 1:
        sys.exit("FAILED: %d rows with %s" % (len(rows), want))
    return rows[0]


zone = only(api.listZones()["zone"])
template = only(api.listTemplates(templatefilter="executable", zoneid=zone["id"])["template"], name="tiny")
offering = only(api.listServiceOfferings()["serviceoffering"], name="tiny")
network = only(api.listNetworks(listall=True)["network"], name="hello-net")
check("lists zone, template, offering, network", network["type"] == "Isolated" and template["isready"] is True)
check("an empty list has no key", "volume" not in api.listVolumes(name="nothing has this name"))

vm = api.deployVirtualMachine(
    zoneid=zone["id"], templateid=template["id"], serviceofferingid=offering["id"], networkids=[network["id"]], name="cs-vm",
    displayname="Käse + ~*[]", userdata=base64.b64encode("grüße".encode()).decode())["virtualmachine"]
check("deploys a VM", vm["state"] == "Running" and len(vm["password"]) >= 12)
check("names keep every character", api.listVirtualMachines(id=vm["id"])["virtualmachine"][0]["displayname"] == "Käse + ~*[]")
check("reads user-data back", base64.b64decode(api.listVirtualMachines(id=vm["id"])["virtualmachine"][0]["userdata"]).decode() == "grüße")
rows = api.listVirtualMachines(listall=True, fetch_list=True)
check("pages through lists", any(r["id"] == vm["id"] for r in rows))

ip = api.associateIpAddress(networkid=network["id"])["ipaddress"]
rule = api.createPortForwardingRule(ipaddressid=ip["id"], protocol="tcp", publicport=8022, privateport=22, virtualmachineid=vm["id"],
                                    openfirewall=False)["portforwardingrule"]
fw = api.createFirewallRule(ipaddressid=ip["id"], protocol="tcp", startport=8022, endport=8022, cidrlist="198.18.0.0/15")["firewallrule"]
check("forwards a port", rule["state"] == "Active" and rule["publicport"] == "8022" and fw["startport"] == 8022)
check("lists rules", len(api.listPortForwardingRules(ipaddressid=ip["id"])["portforwardingrule"]) == 1
      and len(api.listFirewallRules(ipaddressid=ip["id"])["firewallrule"]) == 1)
try:
    api.createPortForwardingRule(ipaddressid=ip["id"], protocol="tcp", publicport=8022, privateport=23, virtualmachineid=vm["id"])
    sys.exit("FAILED: two rules on one port")
except CloudStackApiException as e:
    check("refuses a conflicting rule with 537", e.error["errorcode"] == 537)
try:
    api.startVirtualMachine(id="00000000-0000-4000-8000-000000000000")
    sys.exit("FAILED: an unknown VM was started")
except CloudStackApiException as e:
    check("names what is unknown with 431", e.error["errorcode"] == 431 and "entity does not exist" in e.error["errortext"])

check("stops", api.stopVirtualMachine(id=vm["id"], forced=True)["virtualmachine"]["state"] == "Stopped")
check("resets the password", api.resetPasswordForVirtualMachine(id=vm["id"])["virtualmachine"]["password"] != vm["password"])
check("starts", api.startVirtualMachine(id=vm["id"])["virtualmachine"]["state"] == "Running")
check("deletes rules", api.deletePortForwardingRule(id=rule["id"])["success"] is True and api.deleteFirewallRule(id=fw["id"])["success"] is True)
check("releases the address", api.disassociateIpAddress(id=ip["id"])["success"] is True)
api.destroyVirtualMachine(id=vm["id"], expunge=True)
check("destroys", not any(r["id"] == vm["id"] for r in api.listVirtualMachines(listall=True).get("virtualmachine", [])))

posted = CloudStack(**{k: v for k, v in read_config().items() if k in ("endpoint", "key", "secret")}, method="post")
check("works by POST as well", only(posted.listZones()["zone"])["id"] == zone["id"])
forged = CloudStack(endpoint=read_config()["endpoint"], key=read_config()["key"], secret="wrong")
try:
    forged.listZones()
    sys.exit("FAILED: a wrong secret was accepted")
except CloudStackApiException as e:
    check("refuses a wrong secret with 401", e.error["errorcode"] == 401)
