"""The installation that administrators know by heart, by virt-install and libvirt's default network, until the installer's first question."""

import os
import pathlib
import subprocess
import tempfile
import unittest

import managed
from desktop import read_picture
from guest import ROOT
from managed import Managed, wait_until
from test_installer import IMAGES, LOADER, make_cd

# The daemon is alone with its bridge, its dnsmasq and its rules.
ALONE = ("unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@unittest.skipUnless(os.geteuid() == 0, "needs a network namespace")
@unittest.skipUnless(IMAGES.exists() and LOADER[0].exists(), "no installer or ISOLINUX")
class VirtInstall(unittest.TestCase):
    def setUp(self):
        managed.need("virsh", "virt-install", "xorriso", "dnsmasq", "nft", "tesseract", "convert", "unshare")
        self.d = Managed(prefix=ALONE)
        self.addCleanup(self.d.close)
        self.addCleanup(self.end_network)
        folder = tempfile.TemporaryDirectory(prefix="install-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.folder.chmod(0o711)

    def end_network(self):
        self.d.virsh("net-destroy", "default")

    def screen(self):
        picture = str(self.folder / "screen.png")
        self.d.virsh("screenshot", "centos-6.4", picture)
        subprocess.run(["convert", picture, "-resize", "300%", "-negate", picture], check=True, timeout=60)
        return read_picture(picture)

    def question(self):
        text = self.screen()
        return text if "language" in text.lower() else None

    def test_the_usual_words_lead_to_the_installers_first_question(self):
        self.d.virsh("net-define", f"{ROOT}/packaging/default-network.xml")
        self.d.virsh("net-start", "default")
        words = ["virt-install", "--connect", self.d.uri, "--virt-type", "kvm", "--name", "centos-6.4", "--ram", "1024",
                 f"--cdrom={make_cd(self.folder)}", "--disk", f"path={self.folder}/centos-6.4.qcow2,size=10,format=qcow2",
                 "--network", "network=default", "--graphics", "vnc,listen=0.0.0.0", "--noautoconsole", "--os-type=linux", "--os-variant=rhel6.0"]  # as Debian 12's list of systems calls it
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=managed.PATIENCE,
                              env={**os.environ, "HOME": str(self.folder)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.d.said())
        self.assertEqual(self.d.state("centos-6.4"), "running")
        xml = self.d.virsh("dumpxml", "centos-6.4")
        self.assertIn("<source network='default'", xml)
        self.assertRegex(self.d.virsh("vncdisplay", "centos-6.4"), r"^:\d+")
        self.d.write("installed.xml", xml)
        checked = subprocess.run(["virt-xml-validate", f"{self.d.root}/installed.xml", "domain"], capture_output=True, text=True, timeout=60)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        wait_until(self.question, "the installer's first question", 600)


if __name__ == "__main__":
    unittest.main()
