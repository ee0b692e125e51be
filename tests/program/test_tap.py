"""Tap networking. The tap device lives in a network namespace that ends with the machine."""

import hashlib
import os
import pathlib
import shlex
import tempfile
import unittest

from guest import boot

UP = "ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0; "


@unittest.skipIf(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), "needs root and /dev/net/tun")
class Tap(unittest.TestCase):
    def boot(self, command, netdev, before="", program='exec "$@"'):
        """Boots with atoll-vmm inside a namespace whose end of the tap is 10.9.0.1; `before` runs there first."""
        script = ("ip link set lo up; ip tuntap add tap7 mode tap vnet_hdr; ip addr add 10.9.0.1/24 dev tap7; ip link set tap7 up; "
                  f"{before} {program}")
        return boot(command, "-netdev", netdev, "-device", "virtio-net-pci,netdev=n", wrapper=["unshare", "-n", "sh", "-c", script, "sh"])

    def test_ping(self):
        text = self.boot(UP + "ping -c 3 10.9.0.1", "tap,id=n,ifname=tap7,script=no,downscript=no")
        self.assertIn("3 packets received", text)

    def test_descriptor_from_outside(self):
        # What a manager does before it hands a tap over: open, TUNSETIFF (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR).
        opener = ("import fcntl,os,struct,sys; f=os.open('/dev/net/tun',os.O_RDWR); "
                  "fcntl.ioctl(f,0x400454ca,struct.pack('16sH22x',b'tap7',0x5002)); os.dup2(f,33); os.execv(sys.argv[1],sys.argv[1:])")
        text = self.boot(UP + "ping -c 3 10.9.0.1", "tap,id=n,fd=33", program=f'exec python3 -c {shlex.quote(opener)} "$@"')
        self.assertIn("3 packets received", text)

    def test_large_transfer_with_offloads(self):
        with tempfile.TemporaryDirectory() as folder:
            payload = os.urandom(8 << 20)
            pathlib.Path(folder, "payload").write_bytes(payload)
            server = f"(cd {folder}; exec timeout 200 python3 -m http.server 8000 >/dev/null 2>&1) & "
            text = self.boot(UP + "sleep 1; wget -q -O - http://10.9.0.1:8000/payload | md5sum", "tap,id=n,ifname=tap7,script=no,downscript=no", server)
        self.assertIn(hashlib.md5(payload).hexdigest(), text)


if __name__ == "__main__":
    unittest.main()
