"""Virtual networks of atolld: real bridges, dnsmasq and nftables, with guests that are network namespaces.

The whole test runs in a network namespace of its own, which plays the host.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from daemon_fixture import Daemon
from managed import guest_xml

CLONE_NEWNET = 0x40000000
NAT = """<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='on' delay='0'/>
<mac address='52:54:00:91:d4:95'/><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>
<range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>"""
ISOLATED = """<network><name>inside</name><bridge name='virbr9'/><ip address='10.9.0.1' prefix='24'/></network>"""
LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"


def run(*words, check=True, timeout=60):
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.05)


class Namespace:
    """A machine: a process that sleeps in a network namespace, with one device."""

    def __init__(self, name):
        self.name = name
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != own, "the namespace")
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *words, **how):
        return run("nsenter", "-t", str(self.process.pid), "-n", *words, **how)

    def plug(self, bridge, address=None, gateway=None, mac=None):
        """A cable to a port of the bridge; "" for none."""
        run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self.process.pid))
        if bridge:
            run("ip", "link", "set", self.name, "master", bridge)
        run("ip", "link", "set", self.name, "up")
        if mac:
            self.run("ip", "link", "set", "eth0", "address", mac)
        self.run("ip", "link", "set", "eth0", "up")
        if address:
            self.run("ip", "address", "add", address, "dev", "eth0")
        if gateway:
            self.run("ip", "route", "add", "default", "via", gateway)

    def reaches(self, address):
        return self.run("ping", "-c", "1", "-W", "5", address, check=False).returncode == 0

    def is_kept_from(self, address):
        return self.run("ping", "-c", "1", "-W", "1", address, check=False).returncode != 0

    def end(self):
        self.process.kill()
        self.process.wait()


def setUpModule():
    for tool in ("virsh", "nft", "dnsmasq", "ip", "nsenter", "ping"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin"):
            raise unittest.SkipTest("no " + tool)
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise unittest.SkipTest("no network namespaces")
    run("ip", "link", "set", "lo", "up")


class NetworkCase(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.remove)
        self.addCleanup(self.stop_networks)

    def stop_networks(self):
        for name in self.virsh("net-list", "--name").split():
            self.virsh("net-destroy", name)

    def virsh(self, *arguments, **how):
        return self.daemon.virsh(*arguments, **how)

    def define(self, text, start=True):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            self.virsh("net-define", file.name)
        name = re.search("<name>(.*?)</name>", text).group(1)
        if start:
            self.virsh("net-start", name)
        return name

    def machine(self, name, *how, **more):
        machine = Namespace(name)
        self.addCleanup(machine.end)
        machine.plug(*how, **more)
        return machine

    def links(self):
        return run("ip", "-o", "link").stdout


class LifeCycle(NetworkCase):
    def test_define_start_destroy_undefine(self):
        self.define(NAT, start=False)
        self.assertIn("default", self.virsh("net-list", "--inactive"))
        self.virsh("net-start", "default")
        info = self.virsh("net-info", "default")
        self.assertRegex(info, r"Active:\s+yes")
        self.assertRegex(info, r"Bridge:\s+virbr0")
        self.assertIn("virbr0", self.links())
        self.assertIn("192.168.122.1/24", run("ip", "address", "show", "virbr0").stdout)
        self.assertIn("masquerade", run("nft", "list", "ruleset").stdout)
        self.virsh("net-destroy", "default")
        self.assertNotIn("virbr0", self.links())
        self.assertNotIn("virbr0", run("nft", "list", "ruleset").stdout)
        self.virsh("net-undefine", "default")
        self.assertEqual(self.virsh("net-list", "--all").strip(), "")

    def test_what_is_printed_fits_the_schema(self):
        self.define(NAT)
        for arguments in ((), ("--inactive",)):
            with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
                file.write(self.virsh("net-dumpxml", "default", *arguments))
                file.flush()
                run("virt-xml-validate", file.name, "network")

    def test_errors_are_libvirts(self):
        self.assertIn("Network not found: no network with matching name 'x'", self.virsh("net-start", "x", status=1))
        self.define(NAT)
        self.assertIn("network is already active", self.virsh("net-start", "default", status=1))
        self.assertIn("already exists with uuid", self.refused(NAT))

    def refused(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            return self.virsh("net-define", file.name, status=1)

    def test_networks_outlive_a_killed_daemon(self):
        self.define(NAT)
        self.virsh("net-autostart", "default")
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()
        self.assertIn("virbr0", self.links())
        self.assertRegex(self.virsh("net-info", "default"), r"Active:\s+yes")
        self.assertRegex(self.virsh("net-info", "default"), r"Autostart:\s+yes")

    def test_a_network_whose_bridge_is_gone_is_found_stopped(self):
        self.define(NAT)
        self.daemon.stop(signal.SIGKILL)
        run("ip", "link", "delete", "virbr0")
        self.daemon.start()
        self.assertRegex(self.virsh("net-info", "default"), r"Active:\s+no")
        self.virsh("net-start", "default")


class Traffic(NetworkCase):
    def outside(self):
        machine = self.machine("wan", "", "203.0.113.2/24")
        run("ip", "address", "add", "203.0.113.1/24", "dev", "wan")
        # It knows the way in, and still does not get there.
        machine.run("ip", "route", "add", "192.168.122.0/24", "via", "203.0.113.1")
        machine.run("ip", "route", "add", "10.9.0.0/24", "via", "203.0.113.1")
        return machine

    def test_guests_of_nat_go_out_and_nobody_comes_in(self):
        self.define(NAT)
        outside = self.outside()
        one = self.machine("one", "virbr0", "192.168.122.50/24", "192.168.122.1")
        two = self.machine("two", "virbr0", "192.168.122.51/24", "192.168.122.1")
        wait_for(lambda: one.reaches("192.168.122.51"), "guests reach each other")
        self.assertTrue(one.reaches("203.0.113.2"))
        wait_for(lambda: two.reaches("203.0.113.2"), "the other one reaches out")
        self.assertTrue(outside.is_kept_from("192.168.122.50"))

    def test_isolated_guests_reach_each_other_only(self):
        self.define(ISOLATED)
        outside = self.outside()
        one = self.machine("one", "virbr9", "10.9.0.50/24", "10.9.0.1")
        self.machine("two", "virbr9", "10.9.0.51/24", "10.9.0.1")
        wait_for(lambda: one.reaches("10.9.0.51"), "guests reach each other")
        self.assertTrue(one.is_kept_from("203.0.113.2"))
        self.assertTrue(outside.is_kept_from("10.9.0.50"))

    def test_a_bridge_of_the_host_and_nat_side_by_side(self):
        run("ip", "link", "add", "br0", "type", "bridge")
        self.addCleanup(run, "ip", "link", "delete", "br0")
        run("ip", "link", "set", "br0", "up")
        run("ip", "address", "add", "198.51.100.1/24", "dev", "br0")
        self.define(NAT)
        self.define(LAN)
        on_lan = self.machine("lan", "br0", "198.51.100.9/24")
        bridged = self.machine("one", "br0", "198.51.100.50/24")
        nat = self.machine("two", "virbr0", "192.168.122.51/24", "192.168.122.1")
        wait_for(lambda: on_lan.reaches("198.51.100.50"), "the bridged guest is on the LAN")
        self.assertTrue(bridged.reaches("198.51.100.9"))
        on_lan.run("ip", "route", "add", "192.168.122.0/24", "via", "198.51.100.1")
        wait_for(lambda: nat.reaches("198.51.100.9"), "the NAT guest reaches the LAN")
        self.assertTrue(on_lan.is_kept_from("192.168.122.51"))


@unittest.skipUnless(shutil.which("busybox"), "no busybox")
class Dhcp(NetworkCase):
    def ask(self, machine):
        """One lease by DHCP; the address."""
        done = machine.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "20", "-T", "1", "-s", "/bin/true")
        return re.search(r"lease of ([0-9.]+) obtained", done.stdout + done.stderr).group(1)

    def test_leases_are_given_and_listed(self):
        self.define(NAT)
        guest = self.machine("one", "virbr0", mac="52:54:00:00:00:11")
        address = self.ask(guest)
        self.assertTrue(address.startswith("192.168.122."))
        leases = self.virsh("net-dhcp-leases", "default")
        self.assertIn("52:54:00:00:00:11", leases)
        self.assertIn(address + "/24", leases)
        self.assertNotIn(address, self.virsh("net-dhcp-leases", "default", "--mac", "52:54:00:00:00:12"))

    def test_a_host_entry_that_is_added_live_counts_at_once(self):
        self.define(NAT)
        entry = "<host mac='52:54:00:00:00:22' name='two' ip='192.168.122.77'/>"
        self.virsh("net-update", "default", "add", "ip-dhcp-host", entry, "--live", "--config")
        guest = self.machine("one", "virbr0", mac="52:54:00:00:00:22")
        self.assertEqual(self.ask(guest), "192.168.122.77")
        self.assertIn("192.168.122.77", self.virsh("net-dumpxml", "default", "--inactive"))
        self.virsh("net-update", "default", "delete", "ip-dhcp-host", entry, "--live")
        self.assertNotIn("192.168.122.77", self.virsh("net-dumpxml", "default"))


class Ports(NetworkCase):
    PORT = """<networkport><uuid>71111111-2222-3333-4444-555555555551</uuid><owner><name>x</name>
    <uuid>71111111-2222-3333-4444-555555555552</uuid></owner><mac address='52:54:00:7b:35:94'/></networkport>"""

    def test_a_client_makes_a_port_that_counts_until_it_deletes_it(self):
        self.define(NAT)
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(self.PORT)
            file.flush()
            self.virsh("net-port-create", "default", file.name)
            self.assertIn("exists already", self.virsh("net-port-create", "default", file.name, status=1))
        uuid = "71111111-2222-3333-4444-555555555551"
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()
        self.assertEqual(self.virsh("net-port-list", "default").split(), [uuid])
        self.assertIn("connections='1'", self.virsh("net-dumpxml", "default"))
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(self.virsh("net-port-dumpxml", "default", uuid))
            file.flush()
            run("virt-xml-validate", file.name, "networkport")
        self.virsh("net-port-delete", "default", uuid)
        self.assertEqual(self.virsh("net-port-list", "default").split(), [])

    def test_a_bridge_may_come_after_its_network(self):
        self.define(LAN)
        self.assertRegex(self.virsh("net-info", "lan"), r"Active:\s+yes")


class Updates(NetworkCase):
    def test_dhcp_of_both_families_runs_on_one_network(self):
        self.define(NAT.replace("</network>", "<ip family='ipv6' address='fd00:55::1' prefix='64'/></network>"))
        self.virsh("net-update", "default", "add", "ip-dhcp-range", "<range start='fd00:55::100' end='fd00:55::1ff'/>", "--live", "--config",
                   "--parent-index", "1")
        self.assertIn("fd00:55::1ff", self.virsh("net-dumpxml", "default"))
        self.virsh("net-destroy", "default")
        self.virsh("net-start", "default")
        self.assertIn("fd00:55::1/64", run("ip", "address", "show", "virbr0").stdout)

    def test_records_are_found_by_what_the_client_says_of_them(self):
        self.define(NAT)
        self.virsh("net-update", "default", "add", "dns-host", "<host ip='192.168.122.7'><hostname>a</hostname><hostname>b</hostname></host>")
        self.assertIn("matching field", self.virsh("net-update", "default", "add", "dns-host",
                                                   "<host ip='192.168.122.8'><hostname>b</hostname></host>", status=1))
        self.virsh("net-update", "default", "delete", "dns-host", "<host><hostname>b</hostname></host>")
        self.assertNotIn("192.168.122.7", self.virsh("net-dumpxml", "default"))
        for port in (1, 2):
            self.virsh("net-update", "default", "add", "dns-srv", f"<srv service='s' protocol='tcp' domain='d' target='t' port='{port}'/>")
        self.assertIn("multiple DNS SRV", self.virsh("net-update", "default", "delete", "dns-srv", "<srv service='s'/>", status=1))
        self.assertIn("cannot be modified", self.virsh("net-update", "default", "modify", "dns-txt", "<txt name='t' value='v'/>", status=1))


class Host(NetworkCase):
    def test_interfaces_are_listed_and_described(self):
        self.machine("one", "", "203.0.113.2/24")
        self.assertIn("lo", self.virsh("iface-list", "--all"))
        self.assertIn("127.0.0.1", self.virsh("iface-dumpxml", "lo"))
        self.assertIn("not supported", self.virsh("iface-begin", status=1))

    def test_node_devices_are_listed_and_fit_the_schema(self):
        names = self.virsh("nodedev-list").split()
        self.assertIn("computer", names)
        for name in names[:20]:
            with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
                file.write(self.virsh("nodedev-dumpxml", name))
                file.flush()
                run("virt-xml-validate", file.name, "nodedev")


@unittest.skipUnless(os.path.exists("/dev/net/tun"), "no /dev/net/tun")
class Guests(NetworkCase):
    """VMs of the daemon on its networks."""

    MAC = "52:54:00:00:00:33"

    def start_guest(self, source, command, then="; sleep 3600"):
        xml = guest_xml("guest", f"<interface {source}<mac address='{self.MAC}'/><model type='virtio'/></interface><serial type='pty'/>",
                        append=f'atoll.run="{command}{then}"')
        path = f"{self.daemon.root}/guest.xml"
        with open(path, "w") as file:
            file.write(xml)
        os.chmod(self.daemon.root, 0o711)  # VMs' users pass through
        self.virsh("create", path)
        self.addCleanup(self.virsh, "destroy", "guest", status=None)

    def test_a_vm_gets_an_address_from_its_network(self):
        self.define(NAT)
        self.start_guest("type='network'><source network='default'/>", "ip link set eth0 up; udhcpc -i eth0 -n -q -t 60 -s /bin/true")
        wait_for(lambda: self.MAC in self.virsh("net-dhcp-leases", "default"), "the lease", 120)
        self.assertIn("vnet", self.virsh("domiflist", "guest"))
        self.assertIn("connections='1'", self.virsh("net-dumpxml", "default"))
        self.assertRegex(run("bridge", "link").stdout, "vnet.* master virbr0")
        self.virsh("destroy", "guest")
        wait_for(lambda: "vnet" not in self.links(), "the tap goes")
        self.assertNotIn("connections", self.virsh("net-dumpxml", "default"))

    def test_a_vm_on_a_bridge_of_the_host_is_on_the_lan(self):
        run("ip", "link", "add", "br0", "type", "bridge")
        self.addCleanup(run, "ip", "link", "delete", "br0")
        run("ip", "link", "set", "br0", "up")
        on_lan = self.machine("lan", "br0", "198.51.100.9/24")
        self.start_guest("type='bridge'><source bridge='br0'/>", "ip link set eth0 up; ip addr add 198.51.100.50/24 dev eth0")
        wait_for(lambda: on_lan.reaches("198.51.100.50"), "the guest answers on the LAN", 120)

    def test_a_filtered_vm_cannot_take_another_mac(self):
        run("ip", "link", "add", "br0", "type", "bridge")
        self.addCleanup(run, "ip", "link", "delete", "br0")
        run("ip", "link", "set", "br0", "up")
        self.machine("lan", "br0", "198.51.100.9/24")
        # Its own address gets through; if a stolen one does not, the guest's command ends, and so does the guest.
        reach = "ping -c 3 -W 2 198.51.100.9"
        self.start_guest("type='bridge'><source bridge='br0'/><filterref filter='clean-traffic'/>",
                         f"ip link set eth0 up; ip addr add 198.51.100.50/24 dev eth0; until {reach}; do sleep 1; done; "
                         f"ip link set eth0 down; ip link set eth0 address 52:54:00:00:00:99; ip link set eth0 up; if {reach}; then sleep 3600; fi", "")
        wait_for(lambda: "guest" not in self.virsh("list", "--name"), "the guest is kept from the LAN", 120)
        self.assertNotIn("vnet", run("nft", "list", "tables").stdout)


if __name__ == "__main__":
    unittest.main()
