"""Debian's libvirtd in a mount namespace of its own, with empty folders in place of the host's."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import managed
from managed import wait_until

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
cp -r /usr/share/libvirt/nwfilter {root}/etc/ 2>/dev/null
exec /usr/sbin/libvirtd -f {root}/libvirtd.conf -p {root}/libvirtd.pid"""


class Libvirtd:
    def __init__(self, namespaces="-m"):
        """`namespaces`: of unshare."""
        self.root = tempfile.mkdtemp(prefix="libvirtd-")
        for folder in ("etc", "sock", "log/qemu"):
            os.makedirs(f"{self.root}/{folder}")
        for name, text in (("etc/qemu.conf", QEMU_CONF), ("libvirtd.conf", LIBVIRTD_CONF.format(root=self.root))):
            with open(f"{self.root}/{name}", "w") as file:
                file.write(text)
        self.uri = f"qemu+unix:///system?socket={self.root}/sock/libvirt-sock"
        self.process = subprocess.Popen(["unshare", namespaces, "sh", "-c", START.format(root=self.root)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(f"{self.root}/sock/libvirt-sock"), "libvirtd listens")

    def said(self):
        """The logs of its domains, their ends."""
        return "".join(path.read_text(errors="replace")[-2000:] for path in pathlib.Path(self.root, "log/qemu").glob("*.log"))

    def close(self):
        self.process.terminate()
        self.process.wait(managed.PATIENCE)
        shutil.rmtree(self.root, ignore_errors=True)
