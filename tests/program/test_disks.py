"""Disk controllers and drives as firmware, a stock kernel and a monitor use them."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from guest import GUESTS, VMM, boot, run
from qmp_client import Qmp, QmpError

# 16-bit code for 0:7c00: prints the text behind it to the debug console, and ends the program.
BOOT_CODE = bytes.fromhex("31c08ed8be147cac84c07404e6e9ebf7b010e6f4f4")


def boot_sector(text):
    code = BOOT_CODE.replace(b"\xbe\x14\x7c", b"\xbe" + (0x7c00 + len(BOOT_CODE)).to_bytes(2, "little"))
    return (code + text.encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa"


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def disk(self, name, size=16 << 20, content=b""):
        path = self.folder / name
        with open(path, "wb") as file:
            file.write(content)
            file.truncate(max(size, len(content)))
        return str(path)

    def iso(self, name="cd.iso", text="hello from the CD", bootable=None):
        if not shutil.which("xorriso"):
            self.skipTest("no xorriso")
        tree = self.folder / (name + ".d")
        tree.mkdir()
        (tree / "hello").write_text(text)
        options = []
        if bootable:
            (tree / "boot").write_bytes(boot_sector(bootable).ljust(2048, b"\0"))
            options = ["-b", "boot", "-no-emul-boot", "-boot-load-size", "4"]
        path = str(self.folder / name)
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", path, *options, str(tree)], check=True, stderr=subprocess.DEVNULL)
        return path


class Kernel(Files):
    def test_ide_disks_and_drive(self):
        written = self.disk("b.raw")
        text = boot("set -e; mount -o ro /dev/sda /mnt; cat /mnt/hello; umount /mnt; "
                    "dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null; dd if=/tmp/a of=/dev/sdb bs=64k 2>/dev/null; sync; "
                    "echo 3 >/proc/sys/vm/drop_caches; md5sum </tmp/a; head -c 4194304 /dev/sdb | md5sum; "
                    "mount -o ro /dev/sr0 /mnt; cat /mnt/hello; umount /mnt",
                    "-hda", f"{GUESTS}/disk.raw", "-drive", f"file={written},format=raw,index=1,serial=SECOND",
                    "-cdrom", self.iso(), suffix="-drivers")
        self.assertIn("Hello from the disk.", text)
        self.assertIn("hello from the CD", text)
        sums = re.findall(r"[0-9a-f]{32}", text)
        self.assertEqual(sums[0], sums[1])

    def test_sata_virtio_scsi_and_nvme(self):
        sata, scsi, nvme = self.disk("sata.raw"), self.disk("scsi.raw"), self.disk("nvme.raw")
        copy = ("dd if=/tmp/a of=/dev/$d bs=64k 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches; head -c 4194304 /dev/$d | md5sum; ")
        text = boot("dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null; md5sum </tmp/a; "
                    f"for d in sda sdb nvme0n1; do {copy} done; "
                    "for c in sr0 sr1; do mount -o ro /dev/$c /mnt && cat /mnt/hello && umount /mnt; done; blkdiscard /dev/sdb && blkdiscard /dev/nvme0n1",
                    "-device", "ahci,id=ahci", "-device", "virtio-scsi-pci,id=scsi",
                    "-drive", f"file={sata},format=raw,if=none,id=a", "-device", "ide-hd,drive=a,bus=ahci.0",
                    "-drive", f"file={self.iso('a.iso', 'first CD')},if=none,media=cdrom,id=b", "-device", "ide-cd,drive=b,bus=ahci.1",
                    "-drive", f"file={scsi},format=raw,if=none,id=c,discard=unmap", "-device", "scsi-hd,drive=c,bus=scsi.0,scsi-id=3",
                    "-drive", f"file={self.iso('b.iso', 'second CD')},if=none,media=cdrom,id=d", "-device", "scsi-cd,drive=d,bus=scsi.0",
                    "-drive", f"file={nvme},format=raw,if=none,id=n,discard=unmap", "-device", "nvme,drive=n,serial=NVME1",
                    suffix="-drivers")
        self.assertEqual(len(set(re.findall(r"[0-9a-f]{32}", text))), 1, text[-3000:])
        self.assertIn("first CD", text)
        self.assertIn("second CD", text)


    def test_floppy_is_read_and_written(self):
        path = self.disk("a.img", 1440 * 1024, b"label of the floppy")
        text = boot("head -c 19 /dev/fd0; echo; dd if=/dev/urandom of=/tmp/a bs=1k count=40 2>/dev/null; md5sum </tmp/a; "
                    "dd if=/tmp/a of=/dev/fd0 bs=1k seek=9 conv=notrunc 2>/dev/null; sync", "-fda", path, suffix="-drivers")
        self.assertIn("label of the floppy", text)
        written = pathlib.Path(path).read_bytes()[9 * 1024:49 * 1024]
        self.assertIn(hashlib.md5(written).hexdigest(), text)


class Firmware(Files):
    def boots(self, text, *options):
        out = run(["-accel", "soft", "-m", "64", "-nodefaults", "-display", "none", "-debugcon", "stdio",
                   "-device", "isa-debug-exit,iobase=0xf4,iosize=1", *options], status=33)
        self.assertIn(text, out)

    def test_first_ide_disk(self):
        self.boots("from hda", "-hda", self.disk("d.raw", content=boot_sector("from hda")))

    def test_cd_in_front_of_the_disk(self):
        self.boots("from cd", "-hda", self.disk("d.raw", content=boot_sector("from hda")), "-cdrom", self.iso(bootable="from cd"), "-boot", "d")

    def test_bootindex_chooses_the_second_disk(self):
        first, second = self.disk("1.raw", content=boot_sector("first")), self.disk("2.raw", content=boot_sector("second"))
        self.boots("second", "-drive", f"file={first},format=raw,if=none,id=a", "-drive", f"file={second},format=raw,if=none,id=b",
                   "-device", "ide-hd,drive=a,bus=ide.0,unit=0", "-device", "ide-hd,drive=b,bus=ide.1,unit=1,bootindex=1")

    def test_sata_disk(self):
        disk = self.disk("d.raw", content=boot_sector("from sata"))
        self.boots("from sata", "-device", "ahci,id=s", "-drive", f"file={disk},format=raw,if=none,id=a", "-device", "ide-hd,drive=a,bus=s.2")

    def test_scsi_disk(self):
        disk = self.disk("d.raw", content=boot_sector("from scsi"))
        self.boots("from scsi", "-device", "virtio-scsi-pci", "-drive", f"file={disk},format=raw,if=scsi,bus=0,unit=2")


    def test_floppy(self):
        self.boots("from floppy", "-fda", self.disk("a.img", 1440 * 1024, boot_sector("from floppy")), "-boot", "a")

    def test_nvme_disk(self):
        disk = self.disk("d.raw", content=boot_sector("from nvme"))
        self.boots("from nvme", "-drive", f"file={disk},format=raw,if=none,id=a", "-device", "nvme,drive=a,serial=1")


class Monitor(Files):
    def start(self, *options):
        path = str(self.folder / "qmp")
        process = subprocess.Popen([VMM, "-accel", "soft", "-m", "64", "-display", "none", "-serial", "null", "-nic", "none", "-S",
                                    "-qmp", f"unix:{path},server=on,wait=off", *options])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        qmp = Qmp(path, process=process)
        self.addCleanup(qmp.close)
        return qmp

    def drive(self, qmp, name):
        return next(d for d in qmp.command("query-block") if name in (d["device"], d.get("qdev")))

    def test_default_drive_is_empty_and_takes_a_cd(self):
        qmp = self.start()
        drive = self.drive(qmp, "ide1-cd0")
        self.assertTrue(drive["removable"])
        self.assertFalse(drive["tray_open"])
        self.assertNotIn("inserted", drive)
        iso = self.iso()
        qmp.command("blockdev-change-medium", device="ide1-cd0", filename=iso)
        self.assertTrue(qmp.wait_event("DEVICE_TRAY_MOVED")["data"]["tray-open"])
        self.assertFalse(qmp.wait_event("DEVICE_TRAY_MOVED")["data"]["tray-open"])
        self.assertEqual(self.drive(qmp, "ide1-cd0")["inserted"]["file"], iso)
        qmp.command("eject", device="ide1-cd0")
        drive = self.drive(qmp, "ide1-cd0")
        self.assertTrue(drive["tray_open"])
        self.assertNotIn("inserted", drive)

    def test_tray_and_medium_step_by_step(self):
        qmp = self.start("-device", "ide-cd,id=cd0")
        qmp.command("blockdev-add", **{"driver": "raw", "node_name": "iso", "read_only": True, "file": {"driver": "file", "filename": self.iso()}})
        with self.assertRaises(QmpError):
            qmp.command("blockdev-insert-medium", id="cd0", node_name="iso")
        qmp.command("blockdev-open-tray", id="cd0")
        qmp.command("blockdev-insert-medium", id="cd0", node_name="iso")
        qmp.command("blockdev-close-tray", id="cd0")
        self.assertEqual(self.drive(qmp, "cd0")["inserted"]["node-name"], "iso")
        qmp.command("blockdev-open-tray", id="cd0")
        qmp.command("blockdev-remove-medium", id="cd0")
        qmp.command("blockdev-del", node_name="iso")

    def test_disks_cannot_be_ejected_and_bad_images_leave_the_old_one(self):
        iso = self.iso()
        qmp = self.start("-hda", self.disk("d.raw"), "-cdrom", iso)
        with self.assertRaisesRegex(QmpError, "not removable"):
            qmp.command("eject", device="ide0-hd0")
        with self.assertRaisesRegex(QmpError, "No such file"):
            qmp.command("blockdev-change-medium", device="ide1-cd0", filename="/nonexistent.iso")
        self.assertEqual(self.drive(qmp, "ide1-cd0")["inserted"]["file"], iso)

    def test_scsi_disk_is_plugged_and_unplugged(self):
        qmp = self.start("-device", "virtio-scsi-pci,id=s")
        qmp.command("blockdev-add", driver="file", node_name="f", filename=self.disk("d.raw"))
        qmp.command("device_add", driver="scsi-hd", id="d0", bus="s.0", drive="f")
        self.assertEqual(self.drive(qmp, "d0")["inserted"]["node-name"], "f")
        qmp.command("device_del", id="d0")
        self.assertEqual(qmp.wait_event("DEVICE_DELETED")["data"]["device"], "d0")
        qmp.command("blockdev-del", node_name="f")

    def test_a_drive_of_the_command_line_goes_with_its_device(self):
        qmp = self.start("-device", "virtio-scsi-pci,id=s", "-drive", f"if=none,id=d,format=raw,file={self.disk('d.raw')}",
                         "-device", "scsi-hd,id=d0,bus=s.0,drive=d")
        qmp.command("device_del", id="d0")
        qmp.wait_event("DEVICE_DELETED")
        self.assertNotIn("d", [b["device"] for b in qmp.command("query-block")])

    def test_a_virtio_disk_needs_a_medium(self):
        qmp = self.start("-drive", "if=none,id=e")
        with self.assertRaisesRegex(QmpError, "Device needs media, but drive is empty"):
            qmp.command("device_add", driver="virtio-blk-pci", drive="e")

    def test_events_of_a_tray_come_before_the_answer(self):
        qmp = self.start("-drive", f"if=none,id=c,media=cdrom,file={self.iso()}", "-device", "ide-cd,id=cd,drive=c")
        for command, is_open in (("blockdev-open-tray", True), ("blockdev-close-tray", False)):
            qmp.events.clear()
            qmp.command(command, id="cd")
            self.assertEqual([e["data"]["tray-open"] for e in qmp.events if e["event"] == "DEVICE_TRAY_MOVED"], [is_open])

    def test_what_cannot_be_is_refused_by_name(self):
        disk = self.disk("d.raw")
        for options, text in [(["-hda", disk, "-drive", f"file={disk},format=raw,index=0"], "drive with bus=0, unit=0 (index=0) exists"),
                              (["-drive", f"file={disk},format=raw,if=scsi"], "No 'SCSI' bus found"),
                              (["-device", "ide-hd"], "drive property not set"),
                              (["-drive", "if=none,id=e", "-device", "ide-hd,drive=e"], "Device needs media, but drive is empty"),
                              (["-M", "microvm", "-hda", disk], "does not support if=ide")]:
            done = subprocess.run([VMM, "-accel", "soft", "-m", "64", "-display", "none", *options], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main()
