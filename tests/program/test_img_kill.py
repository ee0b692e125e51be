"""atoll-img killed at several points of what writes: whatever the format, the source still reads as before, and the image that was being
written opens (after a repair, where the format has one)."""

import os
import shutil
import subprocess
import time
import unittest

from img_pair import IMG, MIB, ImgTest, call, pattern

SIZE = 24 * MIB
FORMATS = ("raw", "qcow2", "qcow", "qed", "vmdk", "vhdx", "vpc", "vdi", "parallels")
CHECKED = ("qcow2", "qed", "vmdk", "vhdx", "vdi", "parallels")   # qemu-img check knows them
POINTS = int(os.environ.get("ATOLL_KILL_POINTS", "2"))


class Killed(ImgTest):
    def setUp(self):
        super().setUp()
        self.put("a.raw", SIZE, (0, pattern(SIZE)))

    def run_time(self, *words):
        """Seconds from start to end of a command that is not killed."""
        before = time.monotonic()
        self.img(*words)
        return time.monotonic() - before

    def kill_at(self, seconds, *words):
        process = subprocess.Popen([IMG, *words], cwd=self.ours, stdout=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_for_locks(self, form, *images):
        """The kernel lets go of a killed program's files only when it has ended its io_uring, a little later."""
        deadline = time.monotonic() + 10
        for image in images:
            while b"lock" in subprocess.run(["qemu-io", "-f", form, "-c", "quit", f"{self.ours}/{image}"], capture_output=True).stderr:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)

    def repair(self, form, image):
        if form not in CHECKED:
            return
        self.img("check", "-q", "-r", "all", "-f", form, image, status=None)
        done = subprocess.run([IMG, "check", "-f", form, image], cwd=self.ours, capture_output=True, timeout=60)
        # 3: clusters that nothing leads to, which only some formats can give back; they are no loss.
        self.assertIn(done.returncode, (0, 3), done.stdout + done.stderr)

    def points(self, whole):
        return [whole * (i + 0.7) / (POINTS + 0.4) for i in range(POINTS)]

    def test_convert_leaves_its_source(self):
        for form in FORMATS:
            with self.subTest(form):
                self.img("convert", "-f", "raw", "-O", form, "a.raw", "source." + form)
                target = "qed" if form == "qcow2" else "qcow2"
                words = ["convert", "-f", form, "-O", target, "source." + form, "target"]
                shutil.copy(f"{self.ours}/source.{form}", self.ours + "/before")
                for seconds in self.points(self.run_time(*words)):
                    self.kill_at(seconds, *words)
                    call("cmp", self.ours + "/before", f"{self.ours}/source.{form}")
                    self.img("convert", "-f", form, "-O", target, "source." + form, "again")  # not held by anything
                os.unlink(f"{self.ours}/source.{form}")

    def test_commit_into_every_format(self):
        for form in FORMATS:
            with self.subTest(form):
                def prepare():
                    # Half empty, so that the commit allocates.
                    self.put("half.raw", SIZE, (0, pattern(4 * MIB, 2)))
                    self.img("convert", "-f", "raw", "-O", form, "half.raw", "base")
                    self.img("create", "-q", "-f", "qcow2", "-F", form, "-b", "base", "top.qcow2")
                    call("qemu-io", "-f", "qcow2", "-c", "write -P 5 1M 12M", "-c", "write -P 6 20M 1M", self.ours + "/top.qcow2")
                prepare()
                self.img("convert", "-O", "raw", "top.qcow2", "expected.raw")
                for seconds in self.points(self.run_time("commit", "top.qcow2")):
                    prepare()
                    self.img("convert", "-O", "raw", "top.qcow2", "expected.raw")
                    self.kill_at(seconds, "commit", "top.qcow2")
                    self.wait_for_locks("qcow2", "top.qcow2")
                    self.repair(form, "base")
                    self.repair("qcow2", "top.qcow2")
                    self.img("compare", "-q", "-F", "raw", "top.qcow2", "expected.raw")
                    call("qemu-img", "compare", "-q", "-F", "raw", self.ours + "/top.qcow2", self.ours + "/expected.raw")
                    self.img("commit", "top.qcow2")
                    self.img("compare", "-q", "-f", form, "-F", "raw", "base", "expected.raw")

    def test_resize_keeps_the_data(self):
        for form in ("raw", "qcow2", "qed"):
            with self.subTest(form):
                def prepare():
                    self.img("convert", "-f", "raw", "-O", form, "a.raw", "image")
                prepare()
                for seconds in self.points(self.run_time("resize", "-f", form, "image", "200M")):
                    prepare()
                    self.kill_at(seconds, "resize", "-f", form, "image", "200M")
                    self.wait_for_locks(form, "image")
                    self.repair(form, "image")
                    self.img("compare", "-q", "-f", form, "-F", "raw", "image", "a.raw")
                    call("qemu-img", "compare", "-q", "-f", form, "-F", "raw", self.ours + "/image", self.ours + "/a.raw")

    def test_rebase_keeps_what_is_seen(self):
        for form in ("qcow2", "qed"):
            with self.subTest(form):
                def prepare():
                    self.img("convert", "-f", "raw", "-O", form, "a.raw", "old")
                    self.put("new.raw", SIZE, (0, pattern(SIZE, 7)))
                    self.img("create", "-q", "-f", form, "-F", form, "-b", "old", "top")
                    self.img("bench", "-w", "-c", "20", "-s", "64k", "-S", "300k", "--pattern=3", "-f", form, "top")
                prepare()
                self.img("convert", "-f", form, "-O", "raw", "top", "expected.raw")
                for seconds in self.points(self.run_time("rebase", "-f", form, "-F", "raw", "-b", "new.raw", "top")):
                    prepare()
                    self.img("convert", "-f", form, "-O", "raw", "top", "expected.raw")
                    self.kill_at(seconds, "rebase", "-f", form, "-F", "raw", "-b", "new.raw", "top")
                    self.wait_for_locks(form, "top")
                    self.repair(form, "top")
                    self.img("compare", "-q", "-f", form, "-F", "raw", "top", "expected.raw")


if __name__ == "__main__":
    unittest.main()
