"""Emulated network cards as Linux's drivers and iPXE use them."""

import hashlib
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import unittest

from guest import VMM, boot

MODELS = ("e1000", "e1000e", "rtl8139")
UP = "ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; "


class Cards(unittest.TestCase):
    def test_drivers_ping_and_report_address_and_link(self):
        for model in MODELS:
            with self.subTest(model):
                text = boot(UP + "ping -c 3 10.0.2.2; cat /sys/class/net/eth0/carrier; ip link show eth0", "-netdev", "user,id=n",
                            "-device", f"{model},netdev=n,mac=52:54:00:00:99:01", suffix="-drivers")
                self.assertIn("3 packets received", text)
                self.assertIn("52:54:00:00:99:01", text)

    def test_every_byte_of_tcp_arrives_in_both_directions(self):
        data = os.urandom(2 << 20)
        for model in MODELS:
            with self.subTest(model), socket.create_server(("127.0.0.1", 0)) as server:
                received = []

                def serve():
                    peer, _ = server.accept()
                    with peer:
                        sender = threading.Thread(target=lambda: (peer.sendall(data), peer.shutdown(socket.SHUT_WR)))
                        sender.start()
                        while part := peer.recv(65536):
                            received.append(part)
                        sender.join()

                thread = threading.Thread(target=serve)
                thread.start()
                port = server.getsockname()[1]
                text = boot(UP + f"dd if=/dev/urandom of=/tmp/up bs=64k count=32 2>/dev/null; nc 10.0.2.2 {port} </tmp/up >/tmp/down; "
                            "md5sum </tmp/up; md5sum </tmp/down", "-nic", f"user,model={model}", suffix="-drivers")
                thread.join(60)
                sums = re.findall(r"[0-9a-f]{32}", text)
                self.assertEqual(sums, [hashlib.md5(b"".join(received)).hexdigest(), hashlib.md5(data).hexdigest()])

    def test_old_net_options_pair_by_vlan(self):
        text = boot("ip -o link; cat /sys/class/net/eth0/device/device /sys/class/net/eth1/device/device",
                    "-net", "nic,vlan=1,model=rtl8139,macaddr=00:00:00:00:99:01", "-net", "user,vlan=1",
                    "-net", "nic,model=e1000", "-net", "user", suffix="-drivers")
        self.assertIn("00:00:00:00:99:01", text)
        self.assertIn("0x8139", text)
        self.assertIn("0x100e", text)


class NetworkBoot(unittest.TestCase):
    """iPXE from the card's option ROM gets an address by DHCP and a script by TFTP, which makes it ask a web server."""

    def boot_from(self, model):
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
            pathlib.Path(folder, "boot.ipxe").write_text(f"#!ipxe\nchain http://10.0.2.2:{server.getsockname()[1]}/it-works\n")
            vmm = subprocess.Popen([VMM, "-accel", "soft", "-m", "128", "-nodefaults", "-display", "none",
                                    "-netdev", f"user,id=n,tftp={folder},bootfile=boot.ipxe", "-device", f"{model},netdev=n,bootindex=1"],
                                   stdin=subprocess.DEVNULL)
            try:
                server.settimeout(240)
                peer, _ = server.accept()
                with peer:
                    self.assertTrue(peer.makefile("rb").readline().startswith(b"GET /it-works"))
            finally:
                vmm.kill()
                vmm.wait()

    def test_scripts_are_loaded_through_every_card(self):
        for model in (*MODELS, "virtio-net-pci"):
            with self.subTest(model):
                self.boot_from(model)


if __name__ == "__main__":
    unittest.main()
