"""Virtio devices as stock Linux drivers use them."""

import hashlib
import os
import pathlib
import re
import socket
import tempfile
import threading
import time
import unittest

from driven_guest import DrivenGuest
from guest import GUESTS, boot
from qmp_client import QmpError


class Disks(unittest.TestCase):
    def setUp(self):
        self.disk = tempfile.NamedTemporaryFile()
        self.addCleanup(self.disk.close)
        self.disk.truncate(16 << 20)

    def drive(self, extra=""):
        return ["-drive", f"file={self.disk.name},format=raw,if=virtio{extra}"]

    def test_file_system_made_by_the_host_is_read(self):
        text = boot("mount -o ro /dev/vda /mnt && cat /mnt/hello", "-drive", f"file={GUESTS}/disk.raw,format=raw,if=virtio,readonly=on")
        self.assertIn("Hello from the disk.", text)

    def test_written_data_reaches_the_file(self):
        boot("echo written by the guest | dd of=/dev/vda bs=512 seek=3 conv=sync; sync", *self.drive())
        self.disk.seek(3 * 512)
        self.assertTrue(self.disk.read(20).startswith(b"written by the guest"))

    def test_every_byte_of_a_large_copy_arrives(self):
        text = boot("dd if=/dev/urandom of=/tmp/a bs=1M count=16 2>/dev/null; dd if=/tmp/a of=/dev/vda bs=1M 2>/dev/null; sync; "
                    "echo 3 >/proc/sys/vm/drop_caches; md5sum </tmp/a; md5sum </dev/vda", *self.drive())
        sums = re.findall(r"[0-9a-f]{32}", text)
        self.assertEqual(len(sums), 2)
        self.assertEqual(sums[0], sums[1])

    def test_discard_makes_holes(self):
        self.disk.seek(0)
        self.disk.write(b"x" * (16 << 20))
        self.disk.flush()
        boot("blkdiscard /dev/vda", *self.drive(",discard=unmap"))
        self.assertLess(os.stat(self.disk.name).st_blocks * 512, 1 << 20)

    def test_queues_serial_and_block_size(self):
        text = boot("cat /sys/block/vda/serial; echo; cat /sys/block/vda/queue/logical_block_size; ls /sys/block/vda/mq | wc -l",
                    "-smp", "2", "-drive", f"file={self.disk.name},format=raw,if=none,id=d", "-device",
                    "virtio-blk-pci,drive=d,serial=ATOLL-1,logical_block_size=4096,physical_block_size=4096,num-queues=2")
        self.assertIn("ATOLL-1", text)
        self.assertIn("4096", text)

    def test_packed_ring(self):
        text = boot("dd if=/dev/vda of=/dev/null bs=64k && echo read it all", "-blockdev", f"driver=file,filename={self.disk.name},node-name=f",
                    "-device", "virtio-blk-pci,drive=f,packed=on")
        self.assertIn("read it all", text)

    def test_drivers_from_before_virtio_1(self):
        old = "disable-modern=on"
        text = boot("cut -c33 /sys/block/vda/device/features /sys/class/net/eth0/device/features | tr -d '\\n'; echo ' of VERSION_1'; dd if=/dev/vda of=/dev/null bs=64k && echo read it all; "
                    "ip link set eth0 up && udhcpc -i eth0 -q -n -t 5 -s /bin/true && echo has an address",
                    "-blockdev", f"driver=file,filename={self.disk.name},node-name=f", "-device", f"virtio-blk-pci,drive=f,{old}",
                    "-netdev", "user,id=n", "-device", f"virtio-net-pci,netdev=n,{old}", "-device", f"virtio-rng-pci-transitional,{old}")
        self.assertIn("00 of VERSION_1", text)
        self.assertIn("read it all", text)
        self.assertIn("has an address", text)

    def test_disk_on_microvm(self):
        text = boot("mount -o ro /dev/vda /mnt && cat /mnt/hello", "-drive", f"file={GUESTS}/disk.raw,format=raw,if=none,id=d,readonly=on",
                    "-device", "virtio-blk-device,drive=d", machine="microvm")
        self.assertIn("Hello from the disk.", text)


class Network(unittest.TestCase):
    def test_dhcp_server_and_gateway_of_the_user_network(self):
        text = boot("ip link set eth0 up; udhcpc -i eth0 -n -q -s /bin/true 2>&1; ip addr add 10.0.2.15/24 dev eth0; ping -c 2 10.0.2.2",
                    "-nic", "user,model=virtio-net-pci")
        self.assertIn("lease of 10.0.2.15", text)
        self.assertIn("2 packets received", text)

    def test_host_forwarding_reaches_a_server_in_the_guest(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        answers = []

        def ask():
            # A connection made while the guest still boots may wait for long, and must not be given up: it is the guest's first.
            deadline = time.monotonic() + 200
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=200) as s:
                        data = s.recv(100)
                        if data:
                            answers.append(data)
                            return
                except OSError:
                    pass
                time.sleep(0.1)

        client = threading.Thread(target=ask)
        client.start()
        boot("ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; echo hello client | nc -l -p 80",
             "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:80")
        client.join()
        self.assertEqual(answers, [b"hello client\n"])

    def test_guest_downloads_from_a_server_on_the_host(self):
        payload = os.urandom(3 << 20)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()

            def serve():
                connection, _ = server.accept()
                with connection:
                    connection.sendall(payload)

            threading.Thread(target=serve, daemon=True).start()
            port = server.getsockname()[1]
            text = boot(f"ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; nc 10.0.2.2 {port} </dev/null | md5sum", "-nic", "user,model=virtio-net-pci")
        self.assertIn(hashlib.md5(payload).hexdigest(), text)


class Small(unittest.TestCase):
    def test_rng_feeds_the_guest(self):
        text = boot("cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=16 count=4 2>/dev/null | wc -c", "-device", "virtio-rng-pci")
        self.assertIn("virtio_rng", text)
        self.assertRegex(text, r"\b64\b")

    def test_console_carries_both_ways(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/out"
            boot("echo to the host >/dev/hvc0", "-device", "virtio-serial-pci", "-chardev", f"file,id=c,path={path}", "-device", "virtconsole,chardev=c")
            self.assertIn("to the host", pathlib.Path(path).read_text())

    def test_named_port(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/out"
            boot("cat /sys/class/virtio-ports/vport*p1/name; echo through a port >/dev/vport0p1", "-device", "virtio-serial-pci", "-chardev",
                 f"file,id=c,path={path}", "-device", "virtserialport,chardev=c,name=org.atoll.0,nr=1")
            self.assertIn("through a port", pathlib.Path(path).read_text())


class LatePorts(DrivenGuest):
    """Serial ports that are plugged while the guest runs."""

    SCRIPT = ("echo up; while read number word; do until [ -e /dev/vport0p$number ]; do sleep 0.1; done; cat /sys/class/virtio-ports/vport0p$number/name;"
              " echo $word >/dev/vport0p$number; echo said $word; done")

    def port_changes(self, count):
        return [self.qmp.wait_event("VSERPORT_CHANGE")["data"] for _ in range(count)]

    def test_port_and_its_back_end_come_and_go(self):
        qmp = self.start(self.SCRIPT, "-device", "virtio-serial-pci,id=vs")
        self.read_until("up")
        path = self.folder + "/port"
        for word in ("first", "second"):
            qmp.command("chardev-add", id="c", backend={"type": "file", "data": {"out": path, "append": True}})
            qmp.command("device_add", driver="virtserialport", id="port", bus="vs.0", chardev="c", name="org.atoll.late", nr=5)
            self.type("5 " + word)
            self.assertIn("org.atoll.late", self.read_until("said " + word))
            self.assertEqual(self.port_changes(2), [{"id": "port", "open": True}, {"id": "port", "open": False}])
            with self.assertRaisesRegex(QmpError, "busy"):
                qmp.command("chardev-remove", id="c")
            qmp.command("device_del", id="port")
            self.assertEqual(qmp.wait_event("DEVICE_DELETED")["data"]["device"], "port")
            qmp.command("chardev-remove", id="c")
        self.assertEqual(pathlib.Path(path).read_text(), "first\nsecond\n")


if __name__ == "__main__":
    unittest.main()
