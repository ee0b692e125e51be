"""Block commands of the monitor without a guest: bitmaps, backups and exports, with qemu-img and qemu-io as the other side."""

import json
import shutil
import subprocess
import tempfile
import unittest

from guest import VMM
from img_pair import IMG
from qmp_client import Qmp, QmpError

MIB = 1 << 20
SIZE = 16 * MIB


def qemu_img(*arguments):
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True).stdout


@unittest.skipUnless(shutil.which("qemu-img") and shutil.which("qemu-io"), "no qemu-utils")
class BlockQmp(unittest.TestCase):
    accelerator = "soft"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return f"{self.folder}/{name}"

    def make(self, name, *options):
        qemu_img("create", "-q", "-f", "qcow2", *options, self.path(name), str(SIZE))
        return self.path(name)

    def start(self, *options):
        """A VMM that stays stopped, with a monitor."""
        self.process = subprocess.Popen([VMM, "-accel", self.accelerator, "-M", "pc", "-m", "64", "-nodefaults", "-display", "none", "-S", "-qmp",
                                         f"unix:{self.path('qmp')},server=on,wait=off", *options], stdin=subprocess.DEVNULL)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.qmp = Qmp(self.path("qmp"), process=self.process)
        self.addCleanup(self.qmp.close)
        return self.qmp

    def quit(self):
        self.qmp.command("quit")
        self.assertEqual(self.process.wait(60), 0)

    def add(self, node, name, **options):
        self.qmp.command("blockdev-add", driver="qcow2", node_name=node, file={"driver": "file", "filename": self.path(name)}, **options)

    def export(self, node):
        """For writes of the others."""
        self.qmp.command("nbd-server-start", addr={"type": "unix", "data": {"path": self.path("nbd")}})
        self.qmp.command("block-export-add", type="nbd", id="e", node_name=node, name="x", writable=True)

    def unexport(self):
        self.qmp.command("nbd-server-stop")

    def write(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(["qemu-io", "-f", "raw", *words, f"nbd+unix:///x?socket={self.path('nbd')}"], check=True, capture_output=True, timeout=60)

    def bitmaps(self, node):
        for info in self.qmp.command("query-named-block-nodes"):
            if info["node-name"] == node:
                return {b["name"]: b for b in info.get("dirty-bitmaps", [])}
        raise KeyError(node)

    def stored(self, name):
        data = json.loads(qemu_img("info", "-U", "--output=json", self.path(name)))["format-specific"]["data"]
        return {b["name"]: b["flags"] for b in data.get("bitmaps", [])}


class Bitmaps(BlockQmp):
    def test_persistent_bitmap_is_there_again_after_reopening(self):
        self.make("disk")
        self.start()
        self.add("d", "disk")
        self.qmp.command("block-dirty-bitmap-add", node="d", name="b", persistent=True)
        self.qmp.command("block-dirty-bitmap-add", node="d", name="off", persistent=True, disabled=True, granularity=4096)
        self.qmp.command("block-dirty-bitmap-add", node="d", name="gone")
        self.export("d")
        self.write("write -P 1 3M 1M", "write -P 2 9M 64k")
        self.unexport()
        before = self.bitmaps("d")
        self.assertEqual(before["b"]["count"], MIB + 65536)
        self.assertTrue(before["b"]["persistent"] and not before["gone"]["persistent"])
        self.qmp.command("blockdev-del", node_name="d")
        self.assertEqual(self.stored("disk"), {"b": ["auto"], "off": []})
        self.add("d", "disk")
        after = self.bitmaps("d")
        self.assertEqual({n: (b["count"], b["recording"]) for n, b in after.items()}, {"b": (MIB + 65536, True), "off": (0, False)})
        self.quit()
        self.assertEqual(self.stored("disk"), {"b": ["auto"], "off": []})
        qemu_img("check", "-q", "-f", "qcow2", self.path("disk"))

    def test_clear_merge_and_remove_reach_the_image(self):
        self.make("disk")
        for name in ("a", "b", "c"):
            qemu_img("bitmap", "--add", self.path("disk"), name)
        self.start()
        self.add("d", "disk")
        self.export("d")
        self.write("write -P 1 0 1M")
        self.qmp.command("block-dirty-bitmap-clear", node="d", name="a")
        self.qmp.command("block-dirty-bitmap-disable", node="d", name="a")
        self.write("write -P 1 8M 2M")
        self.qmp.command("block-dirty-bitmap-merge", node="d", target="a", bitmaps=["b"])
        self.qmp.command("block-dirty-bitmap-remove", node="d", name="c")
        self.unexport()
        self.quit()
        self.assertEqual(self.stored("disk"), {"a": [], "b": ["auto"]})
        self.start()
        self.add("d", "disk")
        self.assertEqual({n: b["count"] for n, b in self.bitmaps("d").items()}, {"a": 3 * MIB, "b": 3 * MIB})

    def test_raw_images_keep_no_bitmaps(self):
        with open(self.path("raw"), "wb") as file:
            file.truncate(SIZE)
        self.start("-blockdev", f"driver=raw,node-name=r,file.driver=file,file.filename={self.path('raw')}")
        with self.assertRaisesRegex(QmpError, "Can't store persistent bitmaps to r: Operation not supported"):
            self.qmp.command("block-dirty-bitmap-add", node="r", name="b", persistent=True)
        self.assertEqual(self.bitmaps("r"), {})

    def test_failed_transaction_leaves_no_persistent_bitmap(self):
        self.make("disk")
        self.start()
        self.add("d", "disk")
        with self.assertRaises(QmpError):
            self.qmp.command("transaction", actions=[
                {"type": "block-dirty-bitmap-add", "data": {"node": "d", "name": "b", "persistent": True}}, {"type": "abort", "data": {}}])
        self.assertEqual(self.bitmaps("d"), {})
        self.quit()
        self.assertEqual(self.stored("disk"), {})


class Backups(BlockQmp):
    def backup(self, target, **options):
        self.qmp.command("blockdev-backup", device="d", target=target, job_id="job", **options)
        event = self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.assertNotIn("error", event["data"])

    def test_incremental_backups_restore_each_moment(self):
        self.make("disk")
        self.make("full")
        self.start()
        self.add("d", "disk")
        self.add("t0", "full")
        self.export("d")
        self.write("write -P 1 0 4M")
        self.qmp.command("transaction", actions=[
            {"type": "block-dirty-bitmap-add", "data": {"node": "d", "name": "b", "persistent": True}},
            {"type": "blockdev-backup", "data": {"device": "d", "target": "t0", "sync": "full", "job-id": "job"}}])
        self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.qmp.command("blockdev-del", node_name="t0")
        below = "full"
        for turn, commands in enumerate((("write -P 2 1M 1M", "write -P 3 10M 64k"), ("write -P 4 1536k 1M", "discard 3M 512k"))):
            self.write(*commands)
            name = f"inc{turn}"
            qemu_img("create", "-q", "-f", "qcow2", "-b", self.path(below), "-F", "qcow2", self.path(name))
            self.add(f"t{turn + 1}", name)
            self.backup(f"t{turn + 1}", sync="incremental", bitmap="b")
            self.qmp.command("blockdev-del", node_name=f"t{turn + 1}")
            self.assertEqual(self.bitmaps("d")["b"]["count"], 0)
            qemu_img("compare", "-U", "-f", "qcow2", "-F", "qcow2", self.path("disk"), self.path(name))
            below = name
        self.unexport()
        self.quit()
        self.assertEqual(self.stored("disk"), {"b": ["auto"]})


class Order(BlockQmp):
    def messages_of(self, name, **arguments):
        """What comes up to the reply."""
        self.qmp.events.clear()
        self.qmp.command(name, **arguments)
        return [event["data"].get("status", event["event"]) for event in self.qmp.events]

    def test_what_a_command_causes_is_told_before_its_reply(self):
        self.make("a")
        self.make("b")
        self.start("-device", "ide-cd,id=cd")
        self.add("a", "a")
        self.add("b", "b")
        started = self.messages_of("blockdev-mirror", job_id="j", device="a", target="b", sync="full", auto_dismiss=False)
        self.assertEqual(started, ["created", "running"])
        self.qmp.wait_event("BLOCK_JOB_READY")
        self.qmp.command("job-complete", id="j")
        self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        while self.qmp.command("query-jobs")[0]["status"] != "concluded":
            pass
        self.assertEqual(self.messages_of("job-dismiss", id="j"), ["null"])
        self.assertEqual(self.messages_of("blockdev-open-tray", id="cd"), ["DEVICE_TRAY_MOVED"])
        self.quit()


class Creation(BlockQmp):
    def test_data_file_keeps_what_it_holds(self):
        data = bytes(range(256)) * 4096
        with open(self.path("data"), "wb") as file:
            file.write(data)
        open(self.path("disk"), "wb").close()
        self.start()
        for name in ("data", "disk"):
            self.qmp.command("blockdev-add", driver="file", node_name=name, filename=self.path(name))
        self.qmp.command("blockdev-create", job_id="c", options={"driver": "qcow2", "file": "disk", "data-file": "data", "data-file-raw": True,
                                                                 "size": len(data)})
        while self.qmp.command("query-jobs")[0]["status"] != "concluded":
            pass
        self.assertNotIn("error", self.qmp.command("query-jobs")[0])
        self.quit()
        with open(self.path("data"), "rb") as file:
            self.assertEqual(file.read(), data)
        self.assertEqual(json.loads(qemu_img("info", "--output=json", self.path("disk")))["format-specific"]["data"]["data-file"], self.path("data"))
        qemu_img("compare", "-f", "qcow2", "-F", "raw", self.path("disk"), self.path("data"))
        with open(self.path("data"), "ab") as file:
            file.write(data[::-1])
        subprocess.run([IMG, "resize", "-q", "-f", "qcow2", self.path("disk"), str(2 * len(data))], check=True)
        qemu_img("compare", "-f", "qcow2", "-F", "raw", self.path("disk"), self.path("data"))


class Commits(BlockQmp):
    def chain(self):
        """base, middle, top: each with a MiB of its own."""
        self.make("base")
        for name, below in (("middle", "base"), ("top", "middle")):
            qemu_img("create", "-q", "-f", "qcow2", "-b", self.path(below), "-F", "qcow2", self.path(name))
        for turn, name in enumerate(("base", "middle", "top")):
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -q {turn}M 1M", self.path(name)], check=True)

    def test_bitmap_of_the_base_notes_what_is_committed(self):
        """Else the next incremental backup would miss it."""
        self.chain()
        qemu_img("bitmap", "--add", self.path("middle"), "b")
        self.start()
        self.add("base", "base")
        self.add("middle", "middle", backing="base")
        self.add("top", "top", backing="middle")
        self.assertEqual(self.bitmaps("middle")["b"]["count"], 0)
        self.qmp.command("block-commit", job_id="j", device="top", base_node="middle")
        self.qmp.wait_event("BLOCK_JOB_READY")
        self.qmp.command("job-complete", id="j")
        self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.assertEqual(self.bitmaps("middle")["b"]["count"], MIB)
        self.quit()

    def test_nodes_that_a_commit_needs_at_its_end_stay(self):
        self.chain()
        self.start()
        self.add("top", "top")
        self.qmp.command("block-commit", job_id="j", device="top", top=self.path("middle"), speed=1)
        with self.assertRaisesRegex(QmpError, "Node 'top' is busy: block device is in use by block job: commit"):
            self.qmp.command("blockdev-del", node_name="top")
        self.qmp.command("job-cancel", id="j")
        event = self.qmp.wait_event("BLOCK_JOB_CANCELLED")
        self.assertLess(event["data"]["offset"], event["data"]["len"])
        self.qmp.command("blockdev-del", node_name="top")
        self.quit()


class Reopening(BlockQmp):
    def test_target_of_a_mirror_gets_its_backing_file_late(self):
        self.make("base")
        for name in ("top", "copy"):
            qemu_img("create", "-q", "-f", "qcow2", "-b", self.path("base"), "-F", "qcow2", self.path(name))
        self.start()
        self.add("base", "base", read_only=True)
        self.add("top", "top", backing="base")
        self.add("copy", "copy", backing=None)
        self.qmp.command("blockdev-mirror", job_id="j", device="top", target="copy", sync="top")
        self.qmp.wait_event("BLOCK_JOB_READY")
        options = {"driver": "qcow2", "node-name": "copy", "file": {"driver": "file", "filename": self.path("copy")}, "backing": "base"}
        with self.assertRaisesRegex(QmpError, "in use by block job"):
            self.qmp.command("blockdev-reopen", options=[{**options, "read-only": True}])
        top = {"driver": "qcow2", "node-name": "base", "file": {"driver": "file", "filename": self.path("base")}}
        with self.assertRaisesRegex(QmpError, "Making 'top' a backing child of 'base' would create a cycle"):
            self.qmp.command("blockdev-reopen", options=[{**top, "backing": "top"}])
        self.qmp.command("blockdev-reopen", options=[options])
        self.qmp.command("job-complete", id="j")
        self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        info = next(n for n in self.qmp.command("query-named-block-nodes") if n["node-name"] == "copy")
        self.assertEqual(info["image"]["backing-image"]["filename"], self.path("base"))
        self.quit()

    def test_other_options_stay_whether_named_or_described_again(self):
        self.make("a")
        self.start()
        self.qmp.command("blockdev-add", driver="file", node_name="file", filename=self.path("a"))
        self.qmp.command("blockdev-add", driver="qcow2", node_name="a", file="file")
        self.qmp.command("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "a", "file": "file", "read-only": True}])
        with self.assertRaisesRegex(QmpError, "Cannot change the option 'file'"):
            self.qmp.command("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "a", "file": "other"}])
        self.add("b", "a", read_only=True)
        with self.assertRaisesRegex(QmpError, "Cannot change the option 'filename'"):
            self.qmp.command("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "b", "file": {"driver": "file", "filename": "other"}}])
        self.quit()


class IoThreads(BlockQmp):
    def test_scsi_disks_live_on_their_controllers_thread(self):
        self.make("a")
        self.start("-object", "iothread,id=t")
        self.add("a", "a")
        self.qmp.command("device_add", driver="virtio-scsi-pci", id="s", iothread="t")
        self.qmp.command("device_add", driver="scsi-hd", id="d", drive="a", bus="s.0")
        self.assertEqual(self.qmp.command("query-block")[0]["qdev"], "d")
        with self.assertRaisesRegex(QmpError, "in use"):
            self.qmp.command("object-del", id="t")
        with self.assertRaisesRegex(QmpError, "not found"):
            self.qmp.command("device_add", driver="virtio-scsi-pci", id="s2", iothread="none")
        self.quit()


class Snapshots(BlockQmp):
    def test_bitmaps_move_to_the_overlay_in_one_transaction(self):
        self.make("base")
        self.start("-drive", f"if=none,id=d,node-name=base,format=qcow2,file={self.path('base')}")
        for name in ("keep", "move"):
            self.qmp.command("block-dirty-bitmap-add", node="d", name=name, persistent=True)
        self.qmp.command("transaction", actions=[
            {"type": "blockdev-snapshot-sync", "data": {"device": "d", "snapshot-file": self.path("top"), "snapshot-node-name": "top"}},
            {"type": "block-dirty-bitmap-add", "data": {"node": "top", "name": "move", "persistent": True}},
            {"type": "block-dirty-bitmap-merge", "data": {"node": "top", "target": "move", "bitmaps": [{"node": "base", "name": "move"}]}},
            {"type": "block-dirty-bitmap-remove", "data": {"node": "base", "name": "move"}}])
        self.quit()
        self.assertEqual((list(self.stored("base")), list(self.stored("top"))), (["keep"], ["move"]))

    def test_names_of_nodes_mean_the_nodes_below_an_overlay_too(self):
        """An overlay over a disk of -blockdev and back again, as libvirt goes about it."""
        base = self.make("base")
        self.make("overlay")
        self.start("-blockdev", f"driver=qcow2,node-name=one,file.driver=file,file.filename={base}", "-device", "virtio-blk-pci,drive=one,id=v")
        self.add("two", "overlay", backing=None)
        self.qmp.command("transaction", actions=[{"type": "blockdev-snapshot", "data": {"node": "one", "overlay": "two"}}])
        self.assertEqual(self.qmp.command("query-block")[0]["inserted"]["node-name"], "two")
        self.qmp.command("block-commit", **{"device": "two", "job-id": "down", "top-node": "two", "base-node": "one", "auto-dismiss": False})
        self.qmp.wait_event("BLOCK_JOB_READY")
        self.qmp.command("job-complete", id="down")
        self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.qmp.command("job-dismiss", id="down")
        self.qmp.command("blockdev-del", **{"node-name": "two"})
        self.assertEqual(self.qmp.command("query-block")[0]["inserted"]["node-name"], "one")

    def test_the_node_that_a_disk_was_taken_off_can_be_removed(self):
        """The overlay that a disk began with, once it is committed and the disk stands on its base: its file is free again."""
        base, top = self.make("base"), self.path("top")
        qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
        self.start("-blockdev", f"driver=qcow2,node-name=base,file.driver=file,file.filename={base}",
                   "-blockdev", f"driver=qcow2,node-name=top,backing=base,file.driver=file,file.filename={top}",
                   "-device", "virtio-blk-pci,drive=top,id=v")
        with self.assertRaisesRegex(QmpError, "in use"):
            self.qmp.command("blockdev-del", node_name="top")
        self.qmp.command("block-commit", job_id="down", device="top")
        self.qmp.wait_event("BLOCK_JOB_READY")
        self.qmp.command("job-complete", id="down")
        self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        self.qmp.command("blockdev-del", node_name="top")
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", "", top)
        for name in ("top", "base"):
            with self.assertRaises(QmpError):
                self.qmp.command("blockdev-del", node_name=name)
        self.qmp.command("device_del", id="v")
        self.quit()


class Exports(BlockQmp):
    def test_a_job_under_a_throttled_disk_does_not_hold_up_the_end(self):
        self.make("a")
        self.start("-object", "throttle-group,id=t,x-bps-total=1024", "-drive",
                   f"if=none,id=d,driver=throttle,throttle-group=t,file.driver=qcow2,file.node-name=n,file.file.driver=file,"
                   f"file.file.filename={self.path('a')}")
        self.export("d")
        io = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "write 0 4M", f"nbd+unix:///x?socket={self.path('nbd')}"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(io.wait)
        self.addCleanup(io.kill)
        self.qmp.command("drive-mirror", device="d", job_id="j", target=self.path("b"), format="qcow2", sync="full")
        self.quit()

    def test_filter_of_a_job_goes_by_its_name(self):
        self.make("a")
        self.make("b")
        qmp = self.start()
        self.add("a", "a")
        self.add("b", "b")
        qmp.command("blockdev-mirror", job_id="j", device="a", target="b", sync="full", filter_node_name="above")
        self.assertIn("above", [node["node-name"] for node in qmp.command("query-named-block-nodes")])
        qmp.command("job-cancel", id="j")
        self.quit()

    def test_image_records_another_backing_file(self):
        self.make("a")
        qemu_img("create", "-q", "-f", "qcow2", "-b", self.path("a"), "-F", "qcow2", self.path("b"))
        qmp = self.start()
        self.add("b", "b")
        qmp.command("change-backing-file", device="b", image_node_name="b", backing_file="./a")
        self.quit()
        self.assertEqual(json.loads(qemu_img("info", "--output=json", self.path("b")))["backing-filename"], "./a")

    def test_exports_are_listed_and_deleted_by_id(self):
        self.make("disk")
        self.start()
        self.add("d", "disk")
        with self.assertRaisesRegex(QmpError, "NBD server not running"):
            self.qmp.command("block-export-add", type="nbd", id="e", node_name="d")
        self.export("d")
        self.assertEqual(self.qmp.command("query-block-exports"), [{"id": "e", "type": "nbd", "node-name": "d", "shutting-down": False}])
        with self.assertRaisesRegex(QmpError, "Block export id 'e' is already in use"):
            self.qmp.command("block-export-add", type="nbd", id="e", node_name="d", name="y")
        with self.assertRaisesRegex(QmpError, "Parameter 'type' does not accept value 'fuse'"):
            self.qmp.command("block-export-add", type="fuse", id="f", node_name="d")
        self.qmp.command("block-export-del", id="e")
        self.assertEqual(self.qmp.command("query-block-exports"), [])
        with self.assertRaisesRegex(QmpError, "Export 'e' is not found"):
            self.qmp.command("block-export-del", id="e")

    def test_tls_server_admits_only_those_with_the_key(self):
        self.make("disk")
        with open(self.path("keys.psk"), "w") as file:
            file.write("alice:" + "00112233445566778899aabbccddeeff" * 2 + "\n")
        self.start("-object", f"tls-creds-psk,id=tls,dir={self.folder},endpoint=server")
        self.add("d", "disk")
        with self.assertRaisesRegex(QmpError, "No TLS credentials with id 'none'"):
            self.qmp.command("nbd-server-start", addr={"type": "unix", "data": {"path": self.path("nbd")}}, tls_creds="none")
        self.qmp.command("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}, tls_creds="tls")
        self.qmp.command("nbd-server-stop")
        self.qmp.command("nbd-server-start", addr={"type": "unix", "data": {"path": self.path("nbd")}}, tls_creds="tls")
        self.qmp.command("block-export-add", type="nbd", id="e", node_name="d", name="x")
        image = f"driver=nbd,server.type=unix,server.path={self.path('nbd')},export=x"
        with self.assertRaises(subprocess.CalledProcessError):
            qemu_img("info", "--image-opts", image)
        client = f"tls-creds-psk,id=c,dir={self.folder},endpoint=client,username=alice"
        info = qemu_img("info", "--output=json", "--object", client, "--image-opts", image + ",tls-creds=c")
        self.assertEqual(json.loads(info)["virtual-size"], SIZE)


if __name__ == "__main__":
    unittest.main()
