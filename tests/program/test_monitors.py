"""What watches and copies virtual machines in a data centre, unmodified from Debian: munin's plugins, collectd, the exporter for Prometheus,
Ruby's binding, nbdkit, virt-clone and virt-xml."""

import os
import re
import socket
import subprocess
import unittest
import urllib.request

from managed import Managed, guest_xml, need, wait_until

DISK = "<serial type='pty'/><disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>"
MIB = 1 << 20
COLLECTD = """Hostname "watcher"
FQDNLookup false
Interval 1
BaseDir "{root}"
PIDFile "{root}/collectd.pid"
LoadPlugin csv
<Plugin csv>
  DataDir "{root}/csv"
</Plugin>
LoadPlugin virt
<Plugin virt>
  Connection "{uri}"
  RefreshInterval 1
  ExtraStats "cpu_util disk disk_err domain_state pcpu vcpu vcpupin memory"
</Plugin>
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Monitors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("virsh", "qemu-img")
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)
        cls.disk = cls.d.root + "/one.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", cls.disk, "64M"], check=True)
        cls.d.define(guest_xml("one", DISK.format(path=cls.disk)))
        cls.d.define(guest_xml("off"))
        cls.d.virsh("start", "one")

    def call(self, *words, **environment):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=os.environ | environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def background(self, *words, **environment):
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=os.environ | environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def munin(self, plugin, *words):
        path = "/usr/share/munin/plugins/libvirt-" + plugin
        if not os.path.exists(path):
            self.skipTest("munin-libvirt-plugins is not installed")
        return dict(re.findall(r"^(\S+)\.value (\d+)$", self.call(path, *words, uri=self.d.uri), re.M))

    def test_munin_reads_memory_processor_and_disks(self):
        self.assertEqual(int(self.munin("mem")["one_mem"]), 128 * MIB)
        self.assertGreater(int(self.munin("cputime")["one_cputime"]), 0)
        self.assertIn("one_read", self.munin("blkstat"))

    def test_exporter_for_prometheus(self):
        need("prometheus-libvirt-exporter")
        port = free_port()
        self.background("prometheus-libvirt-exporter", "--libvirt.uri=" + self.d.uri, f"--web.listen-address=127.0.0.1:{port}")

        def metrics():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            except OSError:
                return None

        text = wait_until(metrics, "the exporter answers")
        self.assertIn("\nlibvirt_up 1\n", text)
        self.assertRegex(text, r'libvirt_domain_block_stats_read_bytes_total\{domain="one",source_file="[^"]*one.qcow2",target_device="vda"')
        self.assertRegex(text, rf'libvirt_domain_info_maximum_memory_bytes\{{domain="one",[^}}]*\}} {128 * MIB:.8e}'.replace("+", r"\+"))

    def test_collectd_writes_what_each_vcpu_and_disk_does(self):
        need("collectd")
        self.background("collectd", "-f", "-C", self.d.write("collectd.conf", COLLECTD.format(root=self.d.root, uri=self.d.uri)))
        folder = self.d.root + "/csv/one/virt"
        for row in ("disk_ops-vda", "virt_vcpu-0", "memory-rss", "domain_state", "cpu_affinity-vcpu_0-cpu_0"):
            wait_until(lambda: os.path.isdir(folder) and any(name.startswith(row) for name in os.listdir(folder)), row)

    def test_ruby_sees_domains_and_their_disks(self):
        need("ruby")
        script = """require "libvirt"
c = Libvirt::open(ARGV[0])
d = c.lookup_domain_by_name("one")
puts [c.num_of_domains, c.list_defined_domains.join, d.info.max_mem, d.blockinfo("vda").capacity, d.max_vcpus].join(" ")"""
        self.assertEqual(self.call("ruby", "-e", script, self.d.uri).split(), ["1", "off", "131072", str(64 * MIB), "1"])

    def test_nbdkit_reads_a_running_domains_disk(self):
        need("nbdkit", "nbdinfo")
        said = self.call("nbdkit", "-U", "-", "libvirt", "connect=" + self.d.uri, "domain=one", "disk=vda", "--run", "nbdinfo --size $uri")
        self.assertEqual(int(said), os.path.getsize(self.disk))

    def test_clone_and_edit(self):
        need("virt-clone", "virt-xml")
        self.call("virt-clone", "--connect", self.d.uri, "-o", "off", "-n", "copy", "--auto-clone")
        self.addCleanup(self.d.virsh, "undefine", "copy")
        self.call("virt-xml", "--connect", self.d.uri, "copy", "--edit", "--vcpus", "3", "--define")
        self.assertRegex(self.d.virsh("dominfo", "copy"), r"CPU\(s\): +3\n")
        added = f"{self.d.root}/added.qcow2"
        self.call("virt-xml", "--connect", self.d.uri, "one", "--update", "--add-device", "--disk", f"path={added},size=0.1,format=qcow2,bus=virtio")
        self.assertIn(added, self.d.virsh("domblklist", "one"))


if __name__ == "__main__":
    unittest.main()
