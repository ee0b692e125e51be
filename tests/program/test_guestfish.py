"""libguestfs, as Debian has it, with atoll-vmm as its hypervisor: guestfish and the virt- tools look into images and change them."""

import os
import shutil
import subprocess
import tempfile
import unittest

from guest import BUILD, GUESTS, VMM

APPLIANCE = f"{GUESTS}/appliance"
IMG = BUILD + "/bin/atoll-img"
FORMATS = ("raw", "qcow2", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels")
PATIENCE = 300  # seconds


@unittest.skipUnless(shutil.which("guestfish") and shutil.which("virt-customize"), "package libguestfs-tools is missing")
@unittest.skipUnless(os.path.isdir(APPLIANCE), "no appliance: scripts/make-guest appliance")
class Guestfish(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="guestfish-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.mkdir(self.path("tmp"))
        self.environment = {**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_HV": VMM, "LIBGUESTFS_PATH": APPLIANCE,
                            "TMPDIR": self.path("tmp"), "LIBGUESTFS_CACHEDIR": self.path("tmp"), "HOME": self.folder}

    def path(self, name):
        return f"{self.folder}/{name}"

    def run_tool(self, *words, script=""):
        done = subprocess.run(words, input=script, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, f"{words}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def create(self, format):
        self.run_tool(IMG, "create", "-q", "-f", format, self.path(f"disk.{format}"), "64M")

    def test_file_systems_are_made_and_read_on_images_of_every_format(self):
        disks, script, reading = [], "run\n", ""
        for number, format in enumerate(FORMATS):
            self.create(format)
            disks += [f"--format={format}", "-a", f"disk.{format}"]
            disk = "/dev/sd" + "abcdefgh"[number]
            script += f"mkfs ext4 {disk}\nmount {disk} /\nwrite /hello \"in {format}\\n\"\numount /\n"
            reading += f"mount-ro {disk} /\ncat /hello\numount /\n"
        self.run_tool("guestfish", *disks, script=script)
        text = self.run_tool("guestfish", "--ro", *disks, script="run\n" + reading)
        self.assertEqual(text.split("\n\n")[:-1], [f"in {format}" for format in FORMATS], text)
        for format in FORMATS:
            if format not in ("raw", "vpc"):  # these have no check
                self.run_tool(IMG, "check", "-q", "-f", format, f"disk.{format}")

    def test_prepared_disk_is_made_in_one_command_and_listed(self):
        self.run_tool("guestfish", "-N", "new.img=fs:ext4:100M:gpt", "exit")
        text = self.run_tool("virt-filesystems", "-a", "new.img", "--all", "--long")
        self.assertRegex(text, r"/dev/sda1 +filesystem +ext4 ")
        self.assertRegex(text, r"/dev/sda +device .* 1048[0-9]{5} ")

    @unittest.skipUnless(os.path.exists(f"{GUESTS}/bench.raw"), "no guest disk: scripts/make-guest bench")
    def test_guest_disk_is_customized_and_read_back(self):
        self.run_tool(IMG, "create", "-q", "-f", "qcow2", "-b", f"{GUESTS}/bench.raw", "-F", "raw", "guest.qcow2")
        self.run_tool("virt-customize", "-q", "-a", "guest.qcow2", "--no-network", "--hostname", "changed", "--run-command", "uname -s >/root/kernel")
        self.assertEqual(self.run_tool("virt-cat", "-a", "guest.qcow2", "/root/kernel"), "Linux\n")
        self.assertIn("kernel", self.run_tool("virt-ls", "-a", "guest.qcow2", "/root"))


if __name__ == "__main__":
    unittest.main()
