"""The same virsh commands to Debian's libvirtd and to atolld: what they print is to be the same.

Not part of every run (scripts/test-long has it): it takes libvirtd with its QEMU driver. The commands are in virsh_commands.txt; those behind
"differs:" are known to answer otherwise, and why stands there.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import managed
from guest import GUESTS
from managed import Managed, wait_until

COMMANDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "virsh_commands.txt")
DEVICES = """<controller type='usb' model='piix3-uhci'/>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{root}/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><source file='{root}/cd.iso'/><target dev='hdc' bus='ide'/><readonly/></disk>
<interface type='user'><mac address='52:54:00:11:22:3{number}'/><model type='virtio'/></interface>
<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' port='-1'/><video><model type='vga'/></video>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"""
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>11111111-2222-3333-4444-55555555555{number}</uuid><memory unit='MiB'>128</memory>
<vcpu>1</vcpu><iothreads>1</iothreads><os><type arch='x86_64' machine='pc'>hvm</type><kernel>{guests}/vmlinuz</kernel>
<initrd>{guests}/initrd</initrd><cmdline>console=ttyS0</cmdline></os><features><acpi/></features><devices>{devices}</devices></domain>"""
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
namespaces = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """unix_sock_dir = "{root}/sock"
auth_unix_rw = "none"
auth_unix_ro = "none"
"""
# Its folders are the host's own elsewhere; users that its package would make are in a file of ours.
START = """mount --make-rprivate /
for pair in etc:/etc/libvirt lib:/var/lib/libvirt run:/run/libvirt cache:/var/cache/libvirt log:/var/log/libvirt; do
  mkdir -p {root}/${{pair%%:*}} ${{pair#*:}}; mount --bind {root}/${{pair%%:*}} ${{pair#*:}}; done
cp /etc/passwd /etc/group {root}; echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>{root}/passwd
printf 'libvirt-qemu:x:64055:\\nkvm:x:64056:\\n' >>{root}/group
mount --bind {root}/passwd /etc/passwd; mount --bind {root}/group /etc/group
exec /usr/sbin/libvirtd -f {root}/libvirtd.conf -p {root}/libvirtd.pid"""


class Libvirtd:
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="libvirtd-")
        for folder in ("etc", "sock"):
            os.makedirs(f"{self.root}/{folder}")
        for name, text in (("etc/qemu.conf", QEMU_CONF), ("libvirtd.conf", LIBVIRTD_CONF.format(root=self.root))):
            with open(f"{self.root}/{name}", "w") as file:
                file.write(text)
        self.uri = f"qemu+unix:///system?socket={self.root}/sock/libvirt-sock"
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", START.format(root=self.root)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(f"{self.root}/sock/libvirt-sock"), "libvirtd listens")

    def close(self):
        self.process.terminate()
        self.process.wait(managed.PATIENCE)
        shutil.rmtree(self.root, ignore_errors=True)


class Side:
    """One of the two, with a folder of its own."""

    def __init__(self, uri):
        self.uri = uri
        self.root = tempfile.mkdtemp(prefix="side-")
        os.chmod(self.root, 0o777)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.root + "/a.qcow2", "8M"], check=True, timeout=60)
        for name in ("cd.iso", "cd2.iso", "b.raw"):
            with open(f"{self.root}/{name}", "wb") as file:
                file.truncate(4 << 20)
        with open(f"{self.root}/dev.xml", "w") as file:
            file.write(f"<disk type='file'><source file='{self.root}/b.raw'/><target dev='vdc' bus='virtio'/></disk>")
        for number, name in enumerate(("on", "off")):
            devices = DEVICES.format(root=self.root, number=number)
            with open(f"{self.root}/{name}.xml", "w") as file:
                file.write(DOMAIN.format(name=name, number=number, guests=GUESTS, devices=devices))
            self.run(f"define {self.root}/{name}.xml")
        self.run("start on")

    def run(self, line):
        command = f"virsh -c '{self.uri}' {line.replace('{root}', self.root)}"
        done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=managed.PATIENCE)
        text = f"[{done.returncode}]\n{done.stdout}{done.stderr}".replace(self.root, "ROOT")
        text = re.sub(r"/dev/pts/\d+", "/dev/pts/N", text)
        text = re.sub(r"<emulator>.*</emulator>", "<emulator/>", text)
        text = re.sub(r"(?m)^-+$", "---", text)  # as wide as the table, which holds paths
        return re.sub(r"(?m)[ \t]+$", "", text)

    def close(self):
        for name in ("on", "off"):
            self.run(f"destroy {name}")
            self.run(f"undefine {name} --snapshots-metadata")
        shutil.rmtree(self.root, ignore_errors=True)


class LikeLibvirt(unittest.TestCase):
    def test_answers_are_the_same(self):
        managed.need("/usr/sbin/libvirtd", "virsh", "qemu-img", "qemu-system-x86_64", "unshare")
        with contextlib.ExitStack() as stack:
            libvirtd, atolld = Libvirtd(), Managed()
            stack.callback(libvirtd.close)
            stack.callback(atolld.close)
            sides = [Side(libvirtd.uri), Side(atolld.uri)]
            for side in sides:
                stack.callback(side.close)
            with open(COMMANDS) as file:
                lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
            for line in lines:
                known = line.startswith("differs:")
                answers = [side.run(line.removeprefix("differs:").strip()) for side in sides]
                with self.subTest(command=line):
                    if not known:
                        self.assertEqual(*answers)


if __name__ == "__main__":
    unittest.main()
