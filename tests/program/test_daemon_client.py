"""atoll, the command line: it says what virsh says."""

import os
import shutil
import subprocess
import tempfile
import unittest

from daemon_fixture import ATOLLD, DaemonCase
from guest import BUILD, GUESTS
from managed import Managed
from terminal import Terminal

ATOLL = BUILD + "/bin/atoll"

DOMAIN = """<domain type='kvm'><name>small</name><memory unit='KiB'>65536</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices/></domain>"""
POOL = "<pool type='dir'><name>images</name><target><path>{}</path></target></pool>"


class Client(DaemonCase):
    def atoll(self, *arguments, status=0):
        done = subprocess.run([ATOLL, "-q", "-c", self.daemon.uri, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def assert_same(self, *arguments):
        """Text for text; virsh leaves blanks and blank lines at ends."""
        lines = [[line.rstrip() for line in run(*arguments).strip("\n").splitlines() if line.strip()]
                 for run in (self.atoll, self.daemon.virsh)]
        self.assertEqual(*lines, arguments)

    def write(self, text):
        file = tempfile.NamedTemporaryFile("w", suffix=".xml", delete=False)
        self.addCleanup(os.remove, file.name)
        with file:
            file.write(text)
        return file.name

    def test_host(self):
        for words in (["hostname"], ["nodeinfo"], ["capabilities"], ["uri"]):
            self.assert_same(*words)

    def test_domains(self):
        path = self.write(DOMAIN)
        self.assertEqual(self.atoll("define", path).strip(), f"Domain 'small' defined from {path}")
        for words in (["list", "--all"], ["list", "--all", "--name"], ["domstate", "small"], ["domuuid", "small"], ["dumpxml", "small"],
                      ["domblklist", "small"], ["domiflist", "small"]):
            self.assert_same(*words)
        self.assertIn("shut off", self.atoll("dominfo", "small"))
        self.assertIn("marked as autostarted", self.atoll("autostart", "small"))
        self.assertIn("enable", self.atoll("dominfo", "small"))
        self.assertIn("has been undefined", self.atoll("undefine", "small"))
        self.assertIn("failed to get domain 'small'", self.atoll("dominfo", "small", status=1))

    def test_storage(self):
        with tempfile.TemporaryDirectory(prefix="atoll.") as folder:
            self.atoll("pool-define", self.write(POOL.format(folder)))
            self.assertIn("Pool images started", self.atoll("pool-start", "images"))
            self.assertIn("Vol disk created", self.atoll("vol-create-as", "images", "disk", "1M", "--format", "raw"))
            with open(folder + "/data", "wb") as file:
                file.write(os.urandom(1 << 20))
            self.atoll("vol-upload", "disk", folder + "/data", "--pool", "images")
            self.atoll("vol-download", "disk", folder + "/copy", "--pool", "images")
            with open(folder + "/data", "rb") as sent, open(folder + "/copy", "rb") as received:
                self.assertEqual(sent.read(), received.read())
            for words in (["pool-list", "--all"], ["vol-list", "images"], ["vol-path", "disk", "--pool", "images"],
                          ["vol-info", "disk", "--pool", "images"], ["pool-dumpxml", "images"]):
                self.assert_same(*words)
            self.assertIn("Vol disk deleted", self.atoll("vol-delete", "disk", "--pool", "images"))
            self.atoll("pool-destroy", "images")
            self.atoll("pool-undefine", "images")

    def test_install_shows_what_it_would_define(self):
        words = ["install", "--name", "new", "--memory", "512", "--import", "--disk", "/dev/null", "--network", "none", "--print-xml"]
        text = self.atoll(*words)
        self.assertIn("<name>new</name>", text)
        path = self.write(text.replace("type='kvm'", "type='qemu'"))
        self.atoll("define", path)
        self.atoll("undefine", "new")
        self.assertIn("--disk: 'shape' is not supported", self.atoll(*words, "--disk", "/dev/null,shape=round", status=1))

    def test_mistakes(self):
        self.assertIn("unknown command: 'nonsense'", self.atoll("nonsense", status=1))
        self.assertIn("requires <domain>", self.atoll("start", status=1))
        done = subprocess.run([ATOLL, "-c", "/nonexistent", "list"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent", done.stderr)


class Alone(unittest.TestCase):
    def test_help_names_the_commands(self):
        text = subprocess.run([ATOLL, "help"], capture_output=True, text=True, check=True, timeout=60).stdout
        for name in ("list", "net-start", "vol-upload", "doctor", "stat", "install"):
            self.assertIn(name, text)

    def test_doctor_judges_this_host(self):
        done = subprocess.run([ATOLL, "doctor"], capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 1))
        self.assertRegex(done.stdout, r"/dev/kvm +(PASS|WARN)")

    def test_stat_ends_after_once(self):
        subprocess.run([ATOLL, "stat", "-1", "-f", "exits"], capture_output=True, check=True, timeout=60)
        self.assertEqual(subprocess.run([ATOLL, "stat", "-f", "("], capture_output=True, timeout=60).returncode, 1)

    def test_stat_stays_in_place_on_a_terminal_until_q(self):
        terminal = Terminal([ATOLL, "stat"])
        self.addCleanup(terminal.close)
        terminal.wait_for("\x1b[?1049h")
        terminal.wait_for("q ends")
        terminal.wait_until(terminal.is_raw)
        terminal.type("v")
        terminal.wait_for("q ends")
        terminal.type("q")
        terminal.wait_for("\x1b[?1049l")
        self.assertEqual(terminal.end(), 0)
        self.assertTrue(terminal.is_restored())


class Installs(unittest.TestCase):
    def test_a_disk_is_made_and_a_vm_starts_from_a_kernel(self):
        d = Managed()
        self.addCleanup(d.close)
        os.mkdir(d.root + "/images", 0o711)
        disk = d.root + "/images/new.qcow2"
        words = [ATOLL, "-c", d.uri, "install", "--name", "new", "--virt-type", "qemu", "--memory", "128", "--cpu", "maximum",
                 "--install", f"kernel={GUESTS}/vmlinuz,initrd={GUESTS}/initrd,kernel_args=console=ttyS0 quiet panic=-1 atoll.run=true",
                 "--disk", f"path={disk},size=0.5", "--network", "none", "--graphics", "none", "--noautoconsole", "--wait", "3", "--noreboot"]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + d.said())
        self.assertIn("Domain creation completed.", done.stdout)
        self.assertEqual(d.state("new"), "shut off")
        self.assertNotIn("<kernel>", d.virsh("dumpxml", "new"))
        self.assertIn("512.00 MiB", d.virsh("vol-info", disk))
        self.assertIn("images", d.virsh("pool-list", "--autostart"))


@unittest.skipUnless(os.getuid() == 0 and shutil.which("unshare"), "needs a mount namespace")
class DropIn(unittest.TestCase):
    def test_plain_virsh_finds_the_daemon(self):
        with tempfile.TemporaryDirectory(prefix="atolld.") as root:
            os.makedirs(root + "/etc")
            with open(root + "/etc/atolld.conf", "w") as file:
                file.write("libvirt_sockets = 1\n")
            script = (f"mount -t tmpfs none /run; {ATOLLD} --daemon --root {root} && virsh -c qemu:///system nodeinfo;"
                      f" virsh -r -c qemu:///system hostname; kill $(cat {root}/run/atolld.pid)")
            done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=120)
            self.assertIn("x86_64", done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main()
