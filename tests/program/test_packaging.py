"""What `make install` puts below a folder runs from there, and systemd takes its units."""

import glob
import os
import shutil
import subprocess
import tempfile
import unittest

from guest import BUILD
from managed import PATIENCE, wait_until


def run(*words, check=True, env=None):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, env=env)
    if check and done.returncode:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("cmake"):
            raise unittest.SkipTest("no cmake")
        cls.root = tempfile.mkdtemp(prefix="installed.")
        cls.addClassCleanup(shutil.rmtree, cls.root, ignore_errors=True)
        run("cmake", "--install", BUILD, env=os.environ | {"DESTDIR": cls.root})

    def find(self, pattern):
        found = glob.glob(self.root + pattern)
        self.assertTrue(found, pattern)
        return found[0]

    def test_everything_is_there(self):
        for name in ("atoll-vmm", "atoll-img", "atolld", "atoll"):
            self.assertIn("Atoll", run(self.find(f"/usr/local/bin/{name}"), "--version").stdout)
        for page in ("man1/atoll.1", "man1/atoll-img.1", "man8/atolld.8"):
            self.find("/usr/local/share/man/" + page)
        for path in ("/etc/atoll/atolld.conf", "/etc/atoll/networks/default.xml", "/usr/local/share/bash-completion/completions/atoll"):
            self.find(path)

    def test_the_settings_are_those_that_the_daemon_knows(self):
        """All of them, with the values that are shown as defaults."""
        with open(self.find("/etc/atoll/atolld.conf")) as file:
            lines = [line[1:] if line.startswith("#") and not line.startswith(("# ", "#\n")) else "" for line in file.read().splitlines()]
        self.assertGreater(sum(bool(line) for line in lines), 20)
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/atolld.conf", "w") as file:
                file.write("\n".join(line for line in lines if not line.startswith(("log_file", "unix_sock_dir"))))
            done = run("timeout", "5", self.find("/usr/local/bin/atolld"), "--root", folder + "/root", "--config", folder + "/atolld.conf", check=False)
            self.assertIn("ready", done.stderr)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("virsh") and shutil.which("unshare"), "needs root and virsh")
    def test_the_daemon_runs_from_there(self):
        root = tempfile.mkdtemp(prefix="atolld.")
        self.addCleanup(shutil.rmtree, root, ignore_errors=True)
        with open(root + "/said", "w") as said:
            daemon = subprocess.Popen([self.find("/usr/local/bin/atolld"), "--root", root], stdin=subprocess.DEVNULL, stderr=said)
        self.addCleanup(daemon.wait, PATIENCE)
        self.addCleanup(daemon.terminate)
        wait_until(lambda: os.path.exists(root + "/run/libvirt-sock"), "the daemon listens")
        uri = f"qemu+unix:///system?socket={root}/run/libvirt-sock"
        self.assertIn("/usr/local/bin/atoll-vmm", run("virsh", "-c", uri, "domcapabilities").stdout)
        self.assertIn("x86_64", run(self.find("/usr/local/bin/atoll"), "-c", uri, "nodeinfo").stdout)
        run("virsh", "-c", uri, "net-define", self.find("/etc/atoll/networks/default.xml"))

    @unittest.skipUnless(shutil.which("man"), "no man")
    def test_manual_pages_are_well_formed(self):
        for page in glob.glob(self.root + "/usr/local/share/man/man*/*"):
            done = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page, env=os.environ | {"MANWIDTH": "80"})
            self.assertEqual(done.stderr, "", page)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_systemd_takes_the_units(self):
        folder = os.path.dirname(self.find("/usr/local/lib/systemd/system/atolld.service"))
        os.makedirs(self.root + "/bin", exist_ok=True)
        shutil.copy(shutil.which("kill") or "/bin/true", self.root + "/bin/kill")  # what the unit calls, beside our programs
        done = run("systemd-analyze", "verify", "--root", self.root, "--man=no", "--recursive-errors=no", *sorted(os.listdir(folder)), check=False)
        complaints = [line for line in done.stderr.splitlines() if "atoll" in line]
        self.assertEqual(complaints, [])

    @unittest.skipUnless(shutil.which("bash"), "no bash")
    def test_completion_names_the_commands(self):
        script = ('PATH={bin}:$PATH; source {file}; COMP_WORDS=(atoll {word}); COMP_CWORD=1; _atoll; printf "%s\\n" "${{COMPREPLY[@]}}"')
        for word, expected in (("net-st", "net-start"), ("inst", "install"), ("doc", "doctor")):
            text = script.format(bin=os.path.dirname(self.find("/usr/local/bin/atoll")), word=word,
                                 file=self.find("/usr/local/share/bash-completion/completions/atoll"))
            self.assertIn(expected, run("bash", "-c", text).stdout.split(), word)


if __name__ == "__main__":
    unittest.main()
