"""Devices that other processes serve: a shared folder through the real virtiofsd, a NIC, and sockets of the guest."""

import os
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from guest import VMM, boot, has_module
from vhost_switch import Switch

VIRTIOFSD = next((p for p in ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd") if os.path.exists(p)), None)
SHARED = ("-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-machine", "memory-backend=mem")


class Vhost(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def wait_for_socket(self, path, process):
        deadline = time.monotonic() + 60
        while not os.path.exists(path):
            self.assertIsNone(process.poll(), f"{process.args[0]} ended")
            self.assertLess(time.monotonic(), deadline, f"{process.args[0]} does not listen")
            time.sleep(0.05)


@unittest.skipUnless(VIRTIOFSD and os.geteuid() == 0, "virtiofsd is missing, or cannot start without root")
@unittest.skipUnless(has_module("-drivers", "virtiofs"), "the guest has no virtiofs")
class SharedFolder(Vhost):
    def setUp(self):
        super().setUp()
        self.source = os.path.join(self.folder, "source")
        os.mkdir(self.source)
        self.socket = os.path.join(self.folder, "fs.sock")
        server = subprocess.Popen([VIRTIOFSD, f"--socket-path={self.socket}", "-o", f"source={self.source}", "-o", "sandbox=chroot", "--rlimit-nofile=0"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.wait_for_socket(self.socket, server)

    def test_a_guest_reads_and_writes_files_of_the_host(self):
        with open(os.path.join(self.source, "from-host"), "w") as file:
            file.write("written by the host\n")
        data = os.urandom(3 << 20)
        with open(os.path.join(self.source, "data"), "wb") as file:
            file.write(data)
        text = boot("mount -t virtiofs share /mnt && cat /mnt/from-host && cp /mnt/data /mnt/copy && mkdir /mnt/d && echo of the guest >/mnt/d/f && "
                    "cp /bin/busybox /mnt/busybox && sync && echo 3 >/proc/sys/vm/drop_caches && /mnt/busybox echo ran from the share && umount /mnt",
                    *SHARED, "-chardev", f"socket,id=c,path={self.socket}", "-device", "vhost-user-fs-pci,chardev=c,tag=share",
                    suffix="-drivers")
        self.assertIn("written by the host", text)
        self.assertIn("ran from the share", text)
        with open(os.path.join(self.source, "copy"), "rb") as file:
            self.assertEqual(file.read(), data)
        with open(os.path.join(self.source, "d/f")) as file:
            self.assertEqual(file.read(), "of the guest\n")


class Switched(Vhost):
    def test_a_guest_pings_through_a_switch_in_another_process(self):
        path = os.path.join(self.folder, "net.sock")
        switch = Switch(path)
        self.addCleanup(switch.close)
        text = boot("ip addr add 10.9.9.2/24 dev eth0; ip link set eth0 up; ping -c 3 -s 1000 10.9.9.1", *SHARED,
                    "-chardev", f"socket,id=c,path={path}", "-netdev", "vhost-user,id=n,chardev=c", "-device", "virtio-net-pci,netdev=n")
        self.assertIn("3 packets received", text)
        self.assertIsNone(switch.failure)
        self.assertGreaterEqual(switch.frames, 4)

    def test_what_cannot_work_is_refused_by_name(self):
        path = os.path.join(self.folder, "net.sock")
        net = ("-chardev", f"socket,id=c,path={path}", "-netdev", "vhost-user,id=n,chardev=c")
        base = ("-accel", "soft", "-m", "256", "-nodefaults", "-display", "none")
        for options, why in (
                ((*net, "-device", "virtio-net-pci,netdev=n"), "must|shared"),
                ((*SHARED, *net, "-device", "e1000,netdev=n"), "only virtio-net"),
                ((*SHARED, "-chardev", f"socket,id=c,path={path},reconnect=1", *net[2:], "-device", "virtio-net-pci,netdev=n"), "reconnect"),
                ((*SHARED, "-chardev", "null,id=c", "-device", "vhost-user-fs-pci,chardev=c,tag=t"), "not a socket"),
                ((*SHARED, "-chardev", f"socket,id=c,path={path}", "-device", "vhost-user-fs-pci,chardev=c"), "tag")):
            with self.subTest(why):
                switch = Switch(path)
                self.addCleanup(switch.close)
                result = subprocess.run([VMM, *base, *options], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
                os.unlink(path)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stdout.decode(), why)


@unittest.skipUnless(has_module("-drivers", "vmw_vsock_virtio_transport"), "the guest has no sockets of this kind")
class GuestSockets(Vhost):
    def answer(self, listener):
        peer, _ = listener.accept()
        with peer:
            if peer.recv(64) == b"question":
                peer.sendall(b"answer")

    def visit(self, path, result):
        """Until the guest listens, connections end without an answer."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as host:
                try:
                    host.connect(path)
                    host.sendall(b"CONNECT 1234\n")
                    greeting = host.recv(64)
                    if greeting.startswith(b"OK "):
                        host.sendall(b"a visit")
                        result.append(host.recv(64))
                        return
                except OSError:
                    pass
            time.sleep(0.2)

    def test_guest_and_host_reach_each_other(self):
        program = os.path.join(self.folder, "program")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest_vsock.c")
        subprocess.run(["gcc", "-static", "-Os", "-o", program, source], check=True, timeout=120)
        os.truncate(program, (os.path.getsize(program) + 511) // 512 * 512)
        path, result = os.path.join(self.folder, "vsock"), []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path + "_80")
            listener.listen(1)
            threads = [threading.Thread(target=self.answer, args=(listener,), daemon=True),
                       threading.Thread(target=self.visit, args=(path, result), daemon=True)]
            for thread in threads:
                thread.start()
            text = boot("cat /dev/vda >/tmp/program; chmod +x /tmp/program; /tmp/program", "-drive", f"if=virtio,file={program},format=raw,readonly=on",
                        "-device", f"virtio-vsock-pci,guest-cid=7,socket={path}", suffix="-drivers")
            threads[1].join(timeout=60)
        self.assertIn("host said: answer", text)
        self.assertIn("nobody at port 81", text)
        self.assertEqual(result, [b"guest got a visit"])
        self.assertFalse(os.path.exists(path))

    def test_the_kernels_sockets_are_refused_with_the_way_out(self):
        result = subprocess.run([VMM, "-accel", "soft", "-nodefaults", "-display", "none", "-device", "vhost-vsock-pci,guest-cid=3"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"virtio-vsock-pci,guest-cid=N,socket=PATH", result.stdout)


if __name__ == "__main__":
    unittest.main()
