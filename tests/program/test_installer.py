"""The Debian installer from a CD made here, with the command line that administrators know by heart, until its first question."""

import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

from guest import VMM
from qmp_client import Qmp

IMAGES = pathlib.Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
LOADER = (pathlib.Path("/usr/lib/ISOLINUX/isolinux.bin"), pathlib.Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"))
SETTINGS = "DEFAULT install\nPROMPT 0\nLABEL install\n KERNEL /linux\n APPEND initrd=/initrd.gz vga=normal nomodeset ---\n"


def make_cd(folder):
    tree = folder / "tree"
    (tree / "isolinux").mkdir(parents=True)
    for file in (IMAGES / "linux", IMAGES / "initrd.gz"):
        shutil.copy(file, tree)
    for file in LOADER:
        shutil.copy(file, tree / "isolinux")
    (tree / "isolinux/isolinux.cfg").write_text(SETTINGS)
    path = folder / "disc1.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", path, "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat",
                    "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", tree], check=True, stderr=subprocess.DEVNULL)
    return path


@unittest.skipUnless(IMAGES.exists() and LOADER[0].exists() and shutil.which("xorriso"), "no installer, ISOLINUX or xorriso")
class Installer(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, *options):
        socket = self.folder / "qmp"
        process = subprocess.Popen([VMM, "-accel", "soft", *options, "-qmp", f"unix:{socket},server=on,wait=off"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        qmp = Qmp(str(socket), process=process)
        self.addCleanup(qmp.close)
        return qmp

    def wait_for_screen(self, qmp, text, seconds=300):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            screen = qmp.command("human-monitor-command", command_line="info screen")
            if text in screen:
                return
            time.sleep(1)
        self.fail(f"no '{text}' on the screen:\n{screen}")

    def test_first_question_is_on_the_screen_and_a_key_answers_it(self):
        disk = self.folder / "gtes11.img"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "4G"], check=True)
        qmp = self.start("-m", "512", "-k", "en-us", "-M", "pc", "-hda", str(disk), "-cdrom", str(make_cd(self.folder)),
                         "-net", "nic,vlan=1,model=rtl8139,macaddr=00:00:00:00:99:01", "-net", "user,vlan=1",
                         "-vnc", f"unix:{self.folder}/vnc", "-boot", "d")
        self.wait_for_screen(qmp, "Entering low memory mode")  # what 512 MiB are to the installer
        qmp.command("send-key", keys=[{"type": "qcode", "data": "ret"}])
        self.wait_for_screen(qmp, "Select your location")


if __name__ == "__main__":
    unittest.main()
