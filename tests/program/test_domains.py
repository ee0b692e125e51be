"""Domains as libvirt's own clients see them: virsh, virt-xml-validate, virt-install and python3-libvirt against atolld."""

import os
import pty
import re
import select
import signal
import subprocess
import unittest

import managed
from managed import Managed, guest_xml, wait_until

# The XML that administrators bring along.
USUAL = """<domain type='kvm'>
<name>new_centos7.2</name>
<memory>16097152</memory> <currentMemory>16097152</currentMemory> <vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
<features><acpi/><apic/><pae/></features>
<clock offset='localtime'/>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/new_centos7.2.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type="bridge"><model type="virtio"/><source bridge="br0"/></interface>
<input type='tablet' bus='usb'/>
<graphics type='vnc' port='-1' listen = '0.0.0.0' keymap='en-us'/>
</devices>
</domain>"""


class DomainCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "virt-xml-validate")
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)

    def validate(self, xml):
        path = self.d.write("checked.xml", xml)
        done = subprocess.run(["virt-xml-validate", path, "domain"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + xml)

    def forget(self, name):
        """The domain goes at the end of the test."""
        def end():
            if name in self.d.virsh("list", "--all", "--name").split():
                if self.d.state(name) != "shut off":
                    self.d.virsh("destroy", name)
                if name in self.d.virsh("list", "--all", "--name").split():
                    self.d.virsh("undefine", name)
        self.addCleanup(end)

    def read(self, path):
        with open(path, errors="replace") as file:
            return file.read()

    def pid_of(self, name):
        return int(re.search(r"pid='(\d+)'", self.read(f"{self.d.root}/run/domains/{name}.xml"))[1])

    def run_guest(self, name, **options):
        self.forget(name)
        self.d.define(guest_xml(name, **options))
        self.d.virsh("start", name)


class Definitions(DomainCase):
    def test_the_usual_xml_comes_back_complete(self):
        self.forget("new_centos7.2")
        self.d.define(USUAL)
        xml = self.d.virsh("dumpxml", "new_centos7.2")
        self.validate(xml)
        for pattern in (r"<uuid>[0-9a-f-]{36}</uuid>", r"machine='pc-i440fx-[0-9.]+'", r"<emulator>.*atoll-vmm</emulator>",
                        r"<mac address='52:54:00:(..:){2}..'/>", r"<vcpu placement='static'>2</vcpu>", r"<memory unit='KiB'>16097152</memory>"):
            self.assertRegex(xml, pattern)
        for device in re.findall(r"<(?:disk|interface|memballoon|video).*?</(?:disk|interface|memballoon|video)>", xml, re.S):
            self.assertIn("<address type='pci'", device)
        wait_until(lambda: os.path.exists(f"{self.d.root}/etc/domains/new_centos7.2.xml"), "the definition is a file")
        self.d.define(xml)
        self.assertEqual(self.d.virsh("dumpxml", "new_centos7.2"), xml)

    def test_what_cannot_be_had_is_refused_by_name(self):
        for devices, word in (("<sound model='ich6'/>", "sound"), ("<graphics type='spice'/>", "spice"),
                              ("<hostdev mode='subsystem' type='usb'/>", "hostdev")):
            said = self.d.virsh("define", self.d.write("bad.xml", guest_xml("bad", devices=devices)), fails=True)
            self.assertIn("unsupported configuration", said)
            self.assertIn(word, said)
        self.assertNotIn("bad", self.d.virsh("list", "--all", "--name"))

    def test_names_titles_metadata_and_autostart_are_kept(self):
        self.forget("renamed")
        self.d.define(guest_xml("named"))
        self.d.virsh("domrename", "named", "renamed")
        self.d.virsh("desc", "renamed", "--config", "--title", "--new-desc", "a title")
        self.d.virsh("metadata", "renamed", "--config", "--uri", "http://example.org/x", "--key", "x", "--set", "<thing a='1'/>")
        self.d.virsh("autostart", "renamed")
        self.d.kill()
        self.d.start()
        self.assertIn("a title", self.d.virsh("list", "--all", "--title"))
        self.assertIn('<thing a="1"', self.d.virsh("metadata", "renamed", "--uri", "http://example.org/x"))
        self.validate(self.d.virsh("dumpxml", "--inactive", "renamed"))
        self.assertRegex(self.d.virsh("dominfo", "renamed"), r"Autostart: +enable")
        wait_until(lambda: self.d.state("renamed") == "running", "it starts with the daemon")
        self.d.virsh("autostart", "--disable", "renamed")

    def test_native_words_are_those_that_a_vm_is_started_with(self):
        text = self.d.virsh("domxml-to-native", "qemu-argv", "--xml", self.d.write("native.xml", USUAL))
        for words in ("-machine pc-i440fx", "-device virtio-blk-pci,bus=pci.0", "-vnc 0.0.0.0:"):
            self.assertIn(words, text)


class Running(DomainCase):
    def test_life_from_start_to_destroy(self):
        self.run_guest("life")
        self.assertEqual(self.d.state("life"), "running")
        self.assertIn("booted", self.d.virsh("domstate", "--reason", "life"))
        self.validate(self.d.virsh("dumpxml", "life"))
        self.d.virsh("suspend", "life")
        self.assertEqual(self.d.state("life"), "paused")
        self.d.virsh("resume", "life")
        self.assertEqual(self.d.state("life"), "running")
        self.assertRegex(self.d.virsh("domstats", "life"), r"vcpu\.current=1")
        self.d.virsh("destroy", "life")
        self.assertIn("destroyed", self.d.virsh("domstate", "--reason", "life"))

    def test_a_guest_that_powers_off_is_shut_off(self):
        log = f"{self.d.root}/serial.log"
        self.run_guest("off", devices=f"<serial type='file'><source path='{log}'/></serial>", append='atoll.run="echo hello-from-guest"')
        wait_until(lambda: self.d.state("off") == "shut off", "the guest powers off")
        self.assertIn("shutdown", self.d.virsh("domstate", "--reason", "off"))
        self.assertIn("hello-from-guest", self.read(log))

    def test_the_administrators_hook_is_told_and_may_say_no(self):
        os.makedirs(f"{self.d.root}/etc/hooks", exist_ok=True)
        hook, log = f"{self.d.root}/etc/hooks/qemu", f"{self.d.root}/hook.txt"
        self.d.write("etc/hooks/qemu", f"#!/bin/sh\ncat >/dev/null\necho $* >>{log}\n[ $1 != never ]\n")
        os.chmod(hook, 0o755)
        self.addCleanup(os.unlink, hook)
        self.run_guest("hooked")
        self.d.virsh("destroy", "hooked")
        self.assertEqual(self.read(log).splitlines(), ["hooked prepare begin -", "hooked start begin -", "hooked started begin -",
                                                       "hooked stopped end -", "hooked release end -"])
        self.forget("never")
        self.d.define(guest_xml("never"))
        self.assertIn("Hook script execution failed", self.d.virsh("start", "never", fails=True))
        self.assertIn("failed", self.d.virsh("domstate", "--reason", "never"))

    def test_vms_outlive_the_daemon(self):
        self.run_guest("survivor")
        self.run_guest("victim")
        before = self.d.virsh("dumpxml", "survivor")
        pid = {name: self.pid_of(name) for name in ("survivor", "victim")}
        self.d.kill()
        os.kill(pid["victim"], signal.SIGKILL)
        self.d.start()
        wait_until(lambda: self.d.state("victim") == "shut off", "the daemon knows that one VM is gone")
        self.assertIn("crashed", self.d.virsh("domstate", "--reason", "victim"))
        self.assertEqual(self.d.state("survivor"), "running")
        self.assertEqual(self.d.virsh("dumpxml", "survivor"), before)
        wait_until(lambda: "running" in self.d.virsh("qemu-monitor-command", "survivor", '{"execute":"query-status"}'), "its monitor is back")

    def test_a_vm_that_hangs_delays_no_other(self):
        self.run_guest("hung")
        self.run_guest("lively")
        pid = self.pid_of("hung")
        os.kill(pid, signal.SIGSTOP)
        try:
            stuck = subprocess.Popen(["virsh", "-c", self.d.uri, "suspend", "hung"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.d.virsh("suspend", "lively")
            self.d.virsh("resume", "lively")
            self.assertIn("hung", self.d.virsh("list"))
            self.assertIn("<name>hung</name>", self.d.virsh("dumpxml", "hung"))
            self.assertIsNone(stuck.poll(), "the call to the VM that hangs should still wait")
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual(stuck.wait(managed.PATIENCE), 0)

    @unittest.skipUnless(os.geteuid() == 0, "VMs have users of their own only if root starts them")
    def test_a_vm_cannot_open_another_ones_disk(self):
        disks = {}
        for name in ("mine", "yours"):
            disks[name] = f"{self.d.root}/{name}.raw"
            with open(disks[name], "wb") as file:
                file.truncate(1 << 20)
            os.chmod(disks[name], 0o600)
            self.run_guest(name, devices=f"<serial type='pty'/><disk type='file'><driver type='raw'/><source file='{disks[name]}'/><target dev='vda'/></disk>")
        owners = {name: os.stat(path).st_uid for name, path in disks.items()}
        self.assertNotEqual(owners["mine"], owners["yours"])
        self.assertNotIn(0, owners.values())
        pid = self.pid_of("mine")
        status = self.read(f"/proc/{pid}/status")
        self.assertEqual({int(uid) for uid in re.search(r"Uid:\s+(.*)", status)[1].split()}, {owners["mine"]})
        self.assertRegex(status, r"CapEff:\s+0+\n")
        self.assertRegex(status, r"Seccomp:\s+2")
        for forbidden in (disks["yours"], f"{self.d.root}/etc/domains/yours.xml", f"{self.d.root}/run/domains/yours.xml"):
            tried = subprocess.run(["setpriv", f"--reuid={owners['mine']}", f"--regid={owners['mine']}", "--clear-groups", "cat", forbidden],
                                   capture_output=True, text=True)
            self.assertIn("Permission denied", tried.stderr)
        self.d.virsh("destroy", "mine")
        self.assertEqual(os.stat(disks["mine"]).st_uid, 0)

    def test_disks_come_and_go(self):
        path = f"{self.d.root}/extra.raw"
        with open(path, "wb") as file:
            file.truncate(4 << 20)
        self.run_guest("plugged")
        self.d.virsh("attach-disk", "plugged", path, "vdb", "--targetbus", "virtio", "--live", "--config")
        self.assertIn("vdb", self.d.virsh("domblklist", "plugged"))
        self.assertIn("vdb", self.d.virsh("domblklist", "plugged", "--inactive"))
        self.assertRegex(self.d.virsh("domblkinfo", "plugged", "vdb"), r"Capacity: +4194304")
        self.d.virsh("blockresize", "plugged", "vdb", "8M")
        self.assertRegex(self.d.virsh("domblkinfo", "plugged", "vdb"), r"Capacity: +8388608")

    def test_the_console_answers(self):
        self.run_guest("talkative", append='atoll.run="cat"')
        tty = wait_until(lambda: self.d.virsh("ttyconsole", "talkative").strip(), "a terminal")
        self.assertTrue(tty.startswith("/dev/pts/"))
        master, slave = pty.openpty()
        console = subprocess.Popen(["virsh", "-c", self.d.uri, "console", "--force", "talkative"], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.addCleanup(console.wait)
        self.addCleanup(console.kill)
        seen = b""

        def answered():
            nonlocal seen
            os.write(master, b"marco\r")
            while select.select([master], [], [], 0.5)[0]:
                seen += os.read(master, 4096)
            return re.search(rb"marco\s+marco", seen)  # the terminal's echo, then the guest's own line

        wait_until(answered, "the guest's answer")
        os.close(master)


class Installer(DomainCase):
    def test_virt_install_imports_a_disk(self):
        managed.need("virt-install")
        self.forget("imported")
        path = f"{self.d.root}/imported.raw"
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        done = subprocess.run(["virt-install", "--connect", self.d.uri, "--virt-type", "qemu", "--name", "imported", "--memory", "128", "--import",
                               "--disk", f"path={path},format=raw,bus=virtio", "--network", "none", "--graphics", "none", "--noautoconsole",
                               "--osinfo", "detect=on,require=off", "--controller", "usb,model=none", "--machine", "pc"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=managed.PATIENCE)
        if done.returncode != 0 and "storage" in done.stderr:
            self.skipTest("this daemon has no storage pools: " + done.stderr.strip()[:200])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.d.said())
        self.assertEqual(self.d.state("imported"), "running")


if __name__ == "__main__":
    unittest.main()
