"""Networks of several ports: hubs, wires between two machines, and forwarded ports that come and go."""

import socket
import time
import unittest

from driven_guest import DrivenGuest
from guest import boot
from test_control import Folder

CARD = "virtio-net-pci,netdev=n"


class Hub(unittest.TestCase):
    def test_two_cards_share_one_back_end(self):
        one = "ip link set eth{0} up; ip addr add 10.0.2.15/24 dev eth{0}; ping -c 2 10.0.2.2; ip addr flush dev eth{0}; ip link set eth{0} down; "
        text = boot("set -e; " + one.format(0) + one.format(1) + "true", "-net", "nic,vlan=3,model=virtio", "-net", "nic,vlan=3,model=rtl8139",
                    "-net", "user,vlan=3", suffix="-drivers")
        self.assertEqual(text.count("2 packets received"), 2)

    def test_cards_on_ports_of_one_hub_reach_each_other_and_a_monitor_lists_them(self):
        guest = DrivenGuest()
        self.addCleanup(guest.doCleanups)
        # A request for the first card's address, without a sender's, from the second one; an answer ends the loop.
        guest.start("ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0; ip link set eth1 up; "
                    "while arping -D -q -c 2 -w 3 -I eth1 10.9.0.1; do :; done; echo heard; read line",
                    "-netdev", "hubport,id=a,hubid=0", "-netdev", "hubport,id=b,hubid=0", "-device", "virtio-net-pci,netdev=a",
                    "-device", "virtio-net-pci,netdev=b")
        guest.read_until("heard")
        self.assertIn("type=hubport,hubid=0", guest.qmp.command("human-monitor-command", command_line="info network"))


class Wire(Folder):
    def pair(self, first, second):
        """Two guests on the ends of a wire; the second one pings the first."""
        answering, asking = DrivenGuest(), DrivenGuest()
        self.addCleanup(answering.doCleanups)
        self.addCleanup(asking.doCleanups)
        answering.start("ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0; echo ready; read line", "-netdev", first, "-device", CARD)
        answering.read_until("ready")
        asking.start("ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0; until ping -c 1 -W 2 10.9.0.1; do :; done; ping -c 2 10.9.0.1",
                     "-netdev", second, "-device", CARD + ",mac=52:54:00:12:34:99")
        self.assertIn("2 packets received", asking.read_until("guest command ended"))

    def test_stream_over_a_unix_socket(self):
        path = self.path("wire")
        self.pair(f"stream,id=n,server=on,addr.type=unix,addr.path={path}", f"stream,id=n,server=off,addr.type=unix,addr.path={path}")

    def test_datagrams_over_udp(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
            a.bind(("127.0.0.1", 0))
            b.bind(("127.0.0.1", 0))
            here, there = (f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b))
        self.pair(f"socket,id=n,udp={there},localaddr={here}", f"socket,id=n,udp={here},localaddr={there}")


class Forwarding(DrivenGuest):
    def test_ports_come_and_go_by_the_monitor_and_lead_to_programs(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.start("ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; "
                   "nc 10.0.2.100 7 </dev/null; (while :; do echo hello client | nc -l -p 80; done) & echo ready; read line",
                   "-netdev", "user,id=n,guestfwd=tcp:10.0.2.100:7-cmd:echo from the host", "-device", CARD)
        self.assertIn("from the host", self.read_until("ready"))
        self.monitor(f"hostfwd_add n tcp:127.0.0.1:{port}-:80")
        self.assertEqual(self.ask(port), b"hello client\n")
        self.monitor(f"hostfwd_remove tcp:127.0.0.1:{port}")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
        self.assertIn("not found", self.monitor(f"hostfwd_remove tcp:127.0.0.1:{port}"))

    def monitor(self, line):
        return self.qmp.command("human-monitor-command", command_line=line)

    def ask(self, port):
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            with socket.create_connection(("127.0.0.1", port), timeout=100) as stream:
                try:
                    if data := stream.recv(100):
                        return data
                except ConnectionResetError:
                    pass
            time.sleep(0.2)
        return b""


if __name__ == "__main__":
    unittest.main()
