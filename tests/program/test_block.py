"""Disks with formats, and what monitors do with them, under a stock kernel that writes meanwhile."""

import json
import shutil
import subprocess
import tempfile
import threading
import unittest

from guest import VMM, boot, kernel_args
from qmp_client import Qmp, QmpError

SIZE = 64 << 20
# Writes numbered blocks over and over until a file that the host cannot see says stop; then tells the disk's sum.
WRITER = ("i=0; while [ $i -lt 40 ]; do dd if=/dev/urandom of=/dev/vda bs=64k count=4 seek=$((i * 7 % 250)) conv=notrunc oflag=direct 2>/dev/null; "
          "i=$((i + 1)); echo step $i; done; sync; md5sum </dev/vda; echo done")


def qemu_img(*arguments):
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True).stdout


def sum_of(path, form):
    with tempfile.NamedTemporaryFile() as raw:
        qemu_img("convert", "-U", "-f", form, "-O", "raw", path, raw.name)
        return subprocess.run(["md5sum", raw.name], check=True, capture_output=True, text=True).stdout.split()[0]


@unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
class BlockTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return f"{self.folder}/{name}"

    def make(self, name, form="qcow2", *options):
        qemu_img("create", "-q", "-f", form, *options, self.path(name), str(SIZE))
        return self.path(name)

    def check(self, name):
        qemu_img("check", "-q", "-f", "qcow2", self.path(name))


class Formats(BlockTest):
    def write_and_compare(self, form, *options):
        disk = self.make("disk", form, *options)
        text = boot("dd if=/dev/urandom of=/dev/vda bs=1M count=8 seek=3 2>/dev/null; sync; md5sum </dev/vda", "-drive",
                    f"file={disk},format={form},if=virtio")
        self.assertIn(sum_of(disk, form), text)

    def test_qcow2_written_by_a_guest_is_read_by_others(self):
        self.write_and_compare("qcow2")
        self.check("disk")

    def test_probed_qcow2_is_opened_as_such(self):
        disk = self.make("disk")
        self.assertIn(f"{SIZE // 512}\r", boot("cat /sys/block/vda/size", "-drive", f"file={disk},if=virtio,readonly=on"))

    def test_snapshot_leaves_the_image_alone(self):
        disk = self.make("disk")
        before = sum_of(disk, "qcow2")
        boot("dd if=/dev/urandom of=/dev/vda bs=1M count=4 2>/dev/null; sync", "-drive", f"file={disk},format=qcow2,if=virtio,snapshot=on")
        self.assertEqual(sum_of(disk, "qcow2"), before)

    def test_backing_chain_on_an_io_thread(self):
        base = self.make("base")
        overlay = self.path("overlay")
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay)
        before = sum_of(base, "qcow2")
        text = boot("dd if=/dev/urandom of=/dev/vda bs=1M count=4 2>/dev/null; sync; md5sum </dev/vda", "-object", "iothread,id=t", "-blockdev",
                    json.dumps({"driver": "qcow2", "node-name": "d", "file": {"driver": "file", "filename": overlay}}),
                    "-device", "virtio-blk-pci,drive=d,iothread=t")
        self.assertEqual(sum_of(base, "qcow2"), before)
        self.assertIn(sum_of(overlay, "qcow2"), text)

    def test_limits_slow_a_guest_down(self):
        disk = self.make("disk", "raw")
        text = boot("time dd if=/dev/vda of=/dev/null bs=64k count=48 iflag=direct 2>&1", "-drive",
                    f"file={disk},format=raw,if=virtio,bps=1048576")
        seconds = float(text.split("real")[1].split("m")[1].split("s")[0])
        self.assertGreater(seconds, 2)


class Running(BlockTest):
    """A guest that writes while its disk is changed under it."""

    def start(self, *options):
        command = [VMM, "-accel", "soft", "-M", "pc", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio",
                   "-no-reboot", "-qmp", f"unix:{self.path('qmp')},server=on,wait=off", *kernel_args(WRITER), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(self.process.stdout.close)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.lines, self.news = [], threading.Condition()
        reader = threading.Thread(target=self.read, daemon=True)
        reader.start()
        self.addCleanup(reader.join)
        qmp = Qmp(self.path("qmp"), process=self.process)
        self.addCleanup(qmp.close)
        return qmp

    def read(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.decode(errors="replace").strip())
                self.news.notify_all()
        with self.news:
            self.lines.append("end of output")
            self.news.notify_all()

    def wait_for(self, text):
        with self.news:
            found = self.news.wait_for(lambda: any(text in line for line in self.lines) or "end of output" in self.lines, timeout=240)
            self.assertTrue(found and any(text in line for line in self.lines), f"no '{text}' in:\n" + "\n".join(self.lines[-40:]))

    def finish(self):
        self.wait_for("done")
        self.wait_for("end of output")
        self.assertEqual(self.process.wait(60), 0, self.lines[-20:])
        return next(line.split()[0] for line in self.lines if line.endswith("-"))

    def test_snapshot_and_commit_back(self):
        disk, overlay = self.make("disk"), self.path("overlay")
        qmp = self.start("-drive", f"file={disk},format=qcow2,if=virtio,id=d")
        self.wait_for("step 5")
        qmp.command("blockdev-snapshot-sync", device="d", snapshot_file=overlay, format="qcow2")
        self.assertEqual(qmp.command("query-block")[0]["inserted"]["file"], overlay)
        self.wait_for("step 10")
        qmp.command("block-commit", device="d", job_id="j")
        qmp.wait_event("BLOCK_JOB_READY")
        self.wait_for("step 15")
        qmp.command("block-job-complete", device="j")
        qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.assertEqual(qmp.command("query-block")[0]["inserted"]["file"], disk)
        self.assertEqual(self.finish(), sum_of(disk, "qcow2"))
        self.check("disk")

    def test_mirror_to_a_new_image(self):
        disk, copy = self.make("disk"), self.path("copy")
        qmp = self.start("-drive", f"file={disk},format=qcow2,if=virtio,id=d")
        self.wait_for("step 5")
        qmp.command("drive-mirror", device="d", target=copy, format="qcow2", sync="full", job_id="m")
        qmp.wait_event("BLOCK_JOB_READY")
        self.assertEqual(qmp.command("query-block-jobs")[0]["type"], "mirror")
        self.wait_for("step 20")
        qmp.command("block-job-complete", device="m")
        qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.assertEqual(self.finish(), sum_of(copy, "qcow2"))
        self.check("copy")

    def test_stream_of_a_backing_file(self):
        base, overlay = self.make("base"), self.path("overlay")
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 32M", base], check=True, capture_output=True)
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay)
        qmp = self.start("-drive", f"file={overlay},format=qcow2,if=virtio,id=d")
        self.wait_for("step 5")
        qmp.command("block-stream", device="d", job_id="s")
        qmp.wait_event("BLOCK_JOB_COMPLETED")
        expected = self.finish()
        self.assertNotIn("backing-filename", json.loads(qemu_img("info", "--output=json", overlay)))
        self.assertEqual(expected, sum_of(overlay, "qcow2"))

    def test_full_and_incremental_backup(self):
        disk = self.make("disk")
        qmp = self.start("-drive", f"file={disk},format=qcow2,if=virtio,id=d")
        node = qmp.command("query-block")[0]["inserted"]["node-name"]
        self.wait_for("step 3")
        qmp.command("transaction", actions=[
            {"type": "block-dirty-bitmap-add", "data": {"node": node, "name": "b"}},
            {"type": "drive-backup", "data": {"device": "d", "job-id": "full", "target": self.path("full"), "format": "qcow2", "sync": "full"}}])
        qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.wait_for("done")

    def test_resize_reaches_the_guest(self):
        disk = self.make("disk")
        qmp = self.start("-drive", f"file={disk},format=qcow2,if=virtio,id=d")
        self.wait_for("step 3")
        qmp.command("block_resize", device="d", size=2 * SIZE)
        self.assertEqual(qmp.command("query-block")[0]["inserted"]["image"]["virtual-size"], 2 * SIZE)
        self.assertEqual(self.finish(), sum_of(disk, "qcow2"))

    def test_nbd_export_of_a_running_disk(self):
        disk = self.make("disk")
        qmp = self.start("-drive", f"file={disk},format=qcow2,if=virtio,id=d")
        qmp.command("nbd-server-start", addr={"type": "unix", "data": {"path": self.path("nbd")}})
        qmp.command("nbd-server-add", device="d")
        info = json.loads(qemu_img("info", "--output=json", f"nbd:unix:{self.path('nbd')}:exportname=d"))
        self.assertEqual(info["virtual-size"], SIZE)
        with self.assertRaises(QmpError):
            qmp.command("nbd-server-add", device="d")
        qmp.exchange({"execute": "nbd-server-remove", "arguments": {"name": "d"}})
        qmp.command("nbd-server-stop")
        self.finish()

    def test_blockdev_snapshot_and_internal_snapshot(self):
        disk, overlay = self.make("disk"), self.make("overlay")
        qmp = self.start("-blockdev", f"driver=qcow2,node-name=d,file.driver=file,file.filename={disk}", "-device", "virtio-blk-pci,drive=d")
        self.wait_for("step 3")
        qmp.command("blockdev-add", driver="qcow2", node_name="o", file={"driver": "file", "filename": overlay}, backing=None)
        qmp.command("blockdev-snapshot", node="d", overlay="o")
        self.wait_for("step 6")
        reply = qmp.exchange({"execute": "blockdev-snapshot-internal-sync", "arguments": {"device": "o", "name": "inside"}})
        self.assertNotIn("error", reply)
        self.finish()
        self.assertIn("inside", qemu_img("snapshot", "-l", overlay))


if __name__ == "__main__":
    unittest.main()
