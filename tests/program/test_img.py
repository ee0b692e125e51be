"""atoll-img beside qemu-img: the same command lines must print the same, end alike, and leave images that read alike."""

import os
import resource
import signal
import subprocess
import sys
import time
import unittest

from img_pair import IMG, MIB, ImgTest, call, pattern, read

PEAK = """import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)"""
DISK_SIZE = r"disk size: .*\n|\s*\"actual-size\": \d+,"


class CommandLine(ImgTest):
    def test_wrong_command_lines_are_refused_alike(self):
        for words in ([], ["foo"], ["info"], ["info", "--zz"], ["info", "-f"], ["info", "--output=xx", "a"], ["info", "a", "b"],
                      ["info", "nosuch"], ["--foo"], ["create"], ["create", "-f", "foo", "x", "1"], ["create", "x", "1y"],
                      ["create", "x", "-1"], ["create", "x", "8E"], ["create", "x", "1", "2"], ["create", "-f", "qcow2", "x"],
                      ["resize"], ["resize", "x"], ["resize", "a", "b", "c"], ["compare"], ["compare", "a"], ["check"], ["map"],
                      ["measure"], ["measure", "--size", "1", "x"], ["measure", "--size", "x"], ["measure", "-f", "raw", "--size", "1"],
                      ["convert"], ["convert", "a"], ["convert", "-m", "17", "a", "b"], ["convert", "-S", "100", "a", "b"],
                      ["convert", "-t", "foo", "a", "b"], ["convert", "-T", "foo", "a", "b"], ["convert", "--target-is-zero", "a", "b"],
                      ["convert", "--target-image-opts", "a", "b"], ["convert", "-C", "-c", "a", "b"], ["convert", "-C", "-S", "4k", "a", "b"],
                      ["convert", "--salvage", "-C", "a", "b"], ["convert", "--skip-broken-bitmaps", "a", "b"], ["rebase"], ["rebase", "x"],
                      ["commit"], ["commit", "-t", "foo", "a"], ["commit", "-r", "x", "a"], ["snapshot", "-l", "-c", "x", "a"], ["amend", "a"],
                      ["bitmap", "a"], ["bitmap", "--add", "a"], ["bitmap", "--clear", "-g", "64k", "a", "b"],
                      ["bitmap", "--clear", "-b", "x", "a", "b"], ["bitmap", "--clear", "-F", "x", "a", "b"],
                      ["bitmap", "--clear", "--granularity", "64k", "a", "b"], ["bitmap", "--clear", "--source-file", "x", "a", "b"], ["dd"], ["dd", "if=a"],
                      ["dd", "x"], ["dd", "if=a", "of=b", "bs=0"], ["dd", "if=a", "of=b", "bs=x"], ["bench", "-t", "foo", "a"],
                      ["bench", "-i", "foo", "a"], ["bench", "-w", "--pattern=300", "a"], ["bench", "-c", "x", "a"],
                      ["bench", "--flush-interval=2", "a"], ["map", "--start-offset=1x", "a"], ["check", "-r", "foo", "a"]):
            with self.subTest(words=words):
                self.same(*words)

    def test_names_that_are_trees_are_shown_alike(self):
        self.qemu("create", "-q", "-f", "qcow2", "base", "4M")
        self.qemu("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
        for name in ('json:{"file.filename": "top"}', "blkdebug::top", "null-co://",
                     'json:{"driver": "qcow2", "backing": null, "file": {"driver": "blkdebug", "image": {"driver": "file", "filename": "top"}}}'):
            with self.subTest(name=name):
                self.same("info", name)
        self.same("info", "--backing-chain", "blkdebug::top")

    def test_help_and_version(self):
        self.assertIn("convert", self.img("--help"))
        self.assertIn("Supported formats:", self.img("create", "-h"))
        self.assertRegex(self.img("--version"), r"^atoll-img version 7\.2")


class Sizes(ImgTest):
    def test_a_preallocated_image_is_as_long_as_measured(self):
        for mode in ("metadata", "falloc", "full"):
            self.img("create", "-q", "-f", "qcow2", "-o", f"preallocation={mode}", "a", "100M")
            words = self.img("measure", "--size", "100M", "-O", "qcow2", "-o", f"preallocation={mode}").split()
            self.assertEqual(os.path.getsize(self.ours + "/a"), int(words[words.index("allocated") + 2]))

    def test_growing_over_a_longer_backing_file_shows_nothing_of_it(self):
        """Nor of what it may hold later."""
        self.qemu("create", "-q", "-f", "qcow2", "base", "4M")
        self.qemu("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top", "1M")
        self.same("resize", "-q", "top", "8M")
        self.same("map", "--output=json", "top")


class Refusals(ImgTest):
    def test_amend_that_cannot_be_changes_nothing(self):
        self.qemu("create", "-q", "-f", "qcow2", "a", "1M")
        for options in ("compat=0.42", "compat=0.10,refcount_bits=32", "compat=0.10,lazy_refcounts=on"):
            self.same("amend", "-o", options, "a")
            self.same("info", "a", ignore=DISK_SIZE)
        self.io("a", "write -q 0 64k")
        self.qemu("snapshot", "-c", "s", "a")
        self.same("amend", "-o", "refcount_bits=1", "a")
        self.same("info", "a", ignore=DISK_SIZE + r"|.*\d\d:\d\d:\d\d.*")


class Checks(ImgTest):
    def test_repair_keeps_what_a_damaged_entry_leads_to(self):
        self.qemu("create", "-q", "-f", "qcow2", "a", "4M")
        self.io("a", "write -q -P 7 0 64k", "write -q -P 8 64k 64k")
        for folder in (self.ours, self.theirs):
            with open(folder + "/a", "r+b") as file:
                file.seek(4 * 65536 + 6)
                file.write(b"\x02")       # the first cluster is no longer at a cluster's start
        call(IMG, "check", "-r", "leaks", "a", status=2, cwd=self.ours)
        with open(self.ours + "/a", "rb") as file:
            file.seek(2 * 65536 + 10)
            self.assertEqual(file.read(2), b"\0\1")

    def test_repair_of_leaks_mends_the_marks_that_go_with_them(self):
        self.qemu("create", "-q", "-f", "qcow2", "a", "4M")
        self.io("a", "write -q 0 64k")
        for folder in (self.ours, self.theirs):
            with open(folder + "/a", "r+b") as file:
                file.seek(2 * 65536)      # refcounts: of the L2 table and of the data, as if shared
                counts = bytearray(file.read(16))
                for at in (8, 10):
                    counts[at + 1] = 2
                file.seek(2 * 65536)
                file.write(counts)
                for table, index in ((3, 0), (4, 0)):
                    file.seek(table * 65536 + 8 * index)
                    entry = bytearray(file.read(8))
                    entry[0] &= 0x7f      # not marked as its owner's alone
                    file.seek(table * 65536 + 8 * index)
                    file.write(entry)
        self.same("check", "-r", "leaks", "a")
        self.same("check", "a")


class Raw(ImgTest):
    def test_create_info_map_resize(self):
        self.same("create", "-f", "raw", "a.raw", "10M")
        self.same("info", "a.raw")
        self.same("info", "--output=json", "a.raw")
        self.put("a.raw", 10 * MIB, (1 * MIB, pattern(MIB)), (5 * MIB, b"x" * 4096))
        self.same("map", "a.raw")
        self.same("map", "--output=json", "a.raw")
        self.same("map", "--output=json", "--start-offset=1M", "--max-length=2M", "a.raw")
        self.same("map", "--start-offset=20M", "a.raw")
        self.same("check", "a.raw")
        for size in ("+5M", "12M", "0", "-40M", "+x"):
            self.same("resize", "-f", "raw", "a.raw", size)
        self.same("resize", "-f", "raw", "--shrink", "a.raw", "-2M")
        self.same("resize", "-f", "raw", "--preallocation=falloc", "a.raw", "20M")
        self.same("resize", "a.raw", "21M")
        self.same("resize", "-q", "-f", "raw", "a.raw", "22M")
        self.assertEqual(os.path.getsize(self.ours + "/a.raw"), 22 * MIB)

    def test_compare(self):
        self.put("a.raw", 10 * MIB, (MIB, b"x" * MIB))
        self.put("b.raw", 10 * MIB, (MIB, b"x" * MIB))
        self.put("c.raw", 10 * MIB, (MIB, b"x" * (MIB - 1) + b"y"))
        self.put("long.raw", 20 * MIB, (MIB, b"x" * MIB))
        self.put("longer.raw", 20 * MIB, (MIB, b"x" * MIB), (15 * MIB + 1000, b"z"))
        for other in ("b", "c", "long", "longer"):
            for options in ([], ["-s"], ["-q"]):
                with self.subTest(other=other, options=options):
                    self.same("compare", "-f", "raw", "-F", "raw", *options, "a.raw", other + ".raw")
        self.same("compare", "a.raw", "nosuch")

    def test_dd(self):
        self.put("a.raw", MIB + 512, (1000, pattern(300000)))
        for words in (["bs=3", "count=5", "skip=2"], ["bs=64k"], ["bs=1M", "count=1"], ["skip=10"], ["skip=1000000"], ["count=0"]):
            with self.subTest(words=words):
                self.same("dd", "-f", "raw", "-O", "raw", "if=a.raw", "of=b.raw", *words)
                self.assertEqual(read(self.theirs + "/b.raw"), read(self.ours + "/b.raw"))

    def test_measure(self):
        self.put("a.raw", 10 * MIB, (MIB, b"x" * MIB))
        for words in (["--size", "1G"], ["--size", "1"], ["-O", "raw", "a.raw"], ["-O", "qcow2", "--size", "1T"],
                      ["-O", "qcow2", "--output=json", "a.raw"], ["-O", "qcow2", "-o", "cluster_size=4k", "a.raw"],
                      ["-O", "qcow2", "-o", "cluster_size=1", "--size", "1"], ["-O", "qcow2", "-o", "foo=1", "--size", "1"],
                      ["-O", "vpc", "--size", "1M"], ["-O", "foo", "--size", "1"], ["nosuch"]):
            with self.subTest(words=words):
                self.same("measure", *words)

    def test_bench(self):
        self.put("a.raw", MIB)
        seconds = r"in [\d.]+ seconds"
        for words in (["-c", "100"], ["-c", "10", "-w", "--pattern=3"], ["-c", "10", "-w", "--flush-interval=5", "-d", "2"],
                      ["-c", "10", "-d", "3", "-s", "8k", "-S", "16k", "-o", "4k"],
                      ["-c", "4", "-w", "--no-drain", "--flush-interval=1", "-d", "1"]):
            with self.subTest(words=words):
                self.same("bench", "-f", "raw", *words, "a.raw", ignore=seconds)


class Convert(ImgTest):
    def setUp(self):
        super().setUp()
        self.put("a.raw", 32 * MIB, (0, pattern(5 * MIB)), (20 * MIB, pattern(3 * MIB, 7)), (32 * MIB - 512, b"e" * 512))

    def test_every_format_both_ways(self):
        for form in ("raw", "qcow2", "vdi", "vmdk", "vpc", "vhdx", "qed", "qcow", "parallels"):
            with self.subTest(form=form):
                self.same("convert", "-f", "raw", "-O", form, "a.raw", f"b.{form}")
                self.reads_alike(f"{self.ours}/a.raw", f"{self.ours}/b.{form}", "raw", form)
                self.img("convert", "-f", form, "-O", "raw", f"../qemu/b.{form}", "back.raw")
                self.reads_alike(f"{self.ours}/a.raw", f"{self.ours}/back.raw", "raw")

    def test_options_of_the_target(self):
        for options in ("compat=0.10", "cluster_size=4k", "cluster_size=2M", "preallocation=metadata", "preallocation=full",
                        "lazy_refcounts=on", "refcount_bits=1", "extended_l2=on", "compression_type=zstd"):
            with self.subTest(options=options):
                self.same("convert", "-f", "raw", "-O", "qcow2", "-o", options, "a.raw", "b.qcow2")
                self.reads_alike(f"{self.ours}/a.raw", f"{self.ours}/b.qcow2", "raw", "qcow2")
                self.is_sound("b.qcow2")
                self.same("info", "b.qcow2", ignore=DISK_SIZE)

    def test_compressed(self):
        for kind in ("zlib", "zstd"):
            self.same("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", f"compression_type={kind}", "a.raw", "c.qcow2")
            self.is_sound("c.qcow2")
            self.reads_alike(f"{self.ours}/a.raw", f"{self.ours}/c.qcow2", "raw", "qcow2")
            self.assertLess(os.path.getsize(self.ours + "/c.qcow2"), 1.02 * os.path.getsize(self.theirs + "/c.qcow2"))
        self.same("convert", "-c", "-O", "raw", "a.raw", "c.raw")

    def test_modes(self):
        for words in (["-m", "1"], ["-m", "16", "-W"], ["-S", "0"], ["-S", "64k"], ["-t", "none"], ["-t", "writethrough"], ["-T", "none"],
                      ["-C"], ["-p"], ["-q"], ["-r", "100M"]):
            with self.subTest(words=words):
                self.same("convert", *words, "-f", "raw", "-O", "raw", "a.raw", "b.raw", ignore=r"    \([\d.]+/100%\)\r")
                self.reads_alike(f"{self.ours}/a.raw", f"{self.ours}/b.raw", "raw")
        self.img("convert", "-S", "0", "-f", "raw", "-O", "raw", "a.raw", "full.raw")
        self.assertGreaterEqual(os.stat(self.ours + "/full.raw").st_blocks * 512, 32 * MIB)
        self.img("convert", "-f", "raw", "-O", "raw", "full.raw", "sparse.raw")
        self.assertLess(os.stat(self.ours + "/sparse.raw").st_blocks * 512, 9 * MIB)

    def test_several_sources_and_existing_targets(self):
        self.same("convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.raw", "b.qcow2")
        self.reads_alike(f"{self.theirs}/b.qcow2", f"{self.ours}/b.qcow2")
        self.put("target.raw", 32 * MIB, (0, b"old" * MIB))
        self.same("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", "target.raw")
        self.reads_alike(f"{self.ours}/a.raw", f"{self.ours}/target.raw", "raw")
        self.put("small.raw", MIB)
        self.same("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", "small.raw")
        self.same("convert", "-n", "a.raw", "nosuch")
        self.same("convert", "-n", "-f", "raw", "--target-image-opts", "a.raw", "driver=raw,file.filename=target.raw")
        self.same("convert", "--image-opts", "-O", "raw", "driver=raw,offset=1M,size=1M,file.filename=a.raw", "window.raw")
        self.reads_alike(f"{self.theirs}/window.raw", f"{self.ours}/window.raw", "raw")

    def test_backing_files(self):
        self.qemu("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
        self.qemu("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
        self.io("top.qcow2", "write -P 9 8M 1M", "write -z 1M 1M")
        self.same("convert", "-O", "qcow2", "-B", "base.qcow2", "-F", "qcow2", "top.qcow2", "new.qcow2")
        self.reads_alike(f"{self.ours}/top.qcow2", f"{self.ours}/new.qcow2")
        self.same("map", "--output=json", "new.qcow2", ignore=r'"offset": \d+')
        self.same("convert", "-O", "qcow2", "top.qcow2", "flat.qcow2")
        self.reads_alike(f"{self.ours}/top.qcow2", f"{self.ours}/flat.qcow2")
        for words in (["-B", "base.qcow2", "top.qcow2", "x"], ["-B", "nosuch", "-F", "raw", "-O", "qcow2", "a.raw", "x"],
                      ["-B", "base.qcow2", "-F", "qcow2", "a.raw", "x"], ["-B", "base.qcow2", "-F", "qcow2", "a.raw", "a.raw", "x"]):
            self.same("convert", *words)

    def test_bitmaps(self):
        self.qemu("create", "-q", "-f", "qcow2", "b.qcow2", "16M")
        self.qemu("bitmap", "--add", "b.qcow2", "b0")
        self.qemu("bitmap", "--add", "--disable", "-g", "1M", "b.qcow2", "b1")
        self.io("b.qcow2", "write -P 1 1M 100k")
        self.same("convert", "--bitmaps", "-O", "qcow2", "b.qcow2", "c.qcow2")
        self.same("info", "c.qcow2", ignore=DISK_SIZE)
        self.same("convert", "--bitmaps", "-O", "qcow2", "a.raw", "d.qcow2")
        dirty = {}
        for folder in (self.theirs, self.ours):
            options = f"driver=nbd,server.type=unix,server.path={folder}/s,x-dirty-bitmap=qemu:dirty-bitmap:b0"
            server = subprocess.Popen(["qemu-nbd", "-k", folder + "/s", "-f", "qcow2", "-r", "-B", "b0", folder + "/c.qcow2"])
            while not os.path.exists(folder + "/s"):
                time.sleep(0.01)
            dirty[folder] = call("qemu-img", "map", "--output=json", "--image-opts", options)
            server.wait(30)
        self.assertEqual(dirty[self.theirs], dirty[self.ours])


class Chain(ImgTest):
    def setUp(self):
        super().setUp()
        self.qemu("create", "-q", "-f", "qcow2", "base.qcow2", "10M")
        self.io("base.qcow2", "write -P 1 0 1M", "write -P 7 8M 1M")
        self.qemu("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "mid.qcow2")
        self.io("mid.qcow2", "write -P 2 1M 1M")
        self.qemu("create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2", "12M")
        self.io("top.qcow2", "write -P 3 2M 1M", "write -z 8M 64k", "write -P 4 11M 64k")
        self.both(lambda folder: call("qemu-img", "convert", "-O", "raw", folder + "/top.qcow2", folder + "/expected.raw"))

    def reads_as_expected(self, image="top.qcow2"):
        self.reads_alike(f"{self.ours}/{image}", f"{self.ours}/expected.raw", "qcow2", "raw")
        self.is_sound(image)

    def test_info_and_map(self):
        self.same("info", "--backing-chain", "top.qcow2")
        self.same("info", "--output=json", "--backing-chain", "top.qcow2")
        self.same("info", "--output=json", "mid.qcow2")
        self.same("map", "top.qcow2")
        self.same("map", "--output=json", "top.qcow2")

    def test_commit(self):
        self.same("commit", "top.qcow2")
        self.reads_as_expected()
        self.reads_as_expected("mid.qcow2")

    def test_commit_into_a_base_further_down(self):
        self.same("commit", "-b", "nosuch", "top.qcow2")
        self.same("commit", "-b", "base.qcow2", "top.qcow2")
        self.reads_as_expected("base.qcow2")
        self.same("commit", "base.qcow2")

    def test_commit_that_keeps_the_top(self):
        self.same("commit", "-d", "-q", "top.qcow2")
        self.reads_as_expected()

    def test_rebase(self):
        self.same("rebase", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
        self.reads_as_expected()
        self.same("map", "--output=json", "top.qcow2", ignore=r'"offset": \d+')
        self.same("rebase", "-b", "", "top.qcow2")
        self.reads_as_expected()
        self.same("info", "top.qcow2", ignore=DISK_SIZE)

    def test_rebase_onto_another_image(self):
        self.qemu("create", "-q", "-f", "qcow2", "other.qcow2", "10M")
        self.io("other.qcow2", "write -P 1 0 512k", "write -P 8 4M 1M")
        self.same("rebase", "-b", "other.qcow2", "-F", "qcow2", "top.qcow2")
        self.reads_as_expected()

    def test_rebase_of_the_name_only(self):
        for words in (["-u", "-b", "foo"], ["-u", "-b", "foo", "-F", "raw"], ["-u", "-b", ""], ["-b", "x", "-F", "foo"],
                      ["-b", "nosuch", "-F", "raw"]):
            self.same("rebase", *words, "top.qcow2")
            self.same("info", "top.qcow2", ignore=DISK_SIZE)


class Qcow2(ImgTest):
    def test_create(self):
        for options in ("", "cluster_size=4k", "compat=0.10", "lazy_refcounts=on", "refcount_bits=64", "preallocation=metadata",
                        "extended_l2=on", "compression_type=zstd", "cluster_size=100", "cluster_size=1y", "refcount_bits=a",
                        "lazy_refcounts=a", "foo=1", "preallocation=a", "data_file=d.raw"):
            with self.subTest(options=options):
                self.same("create", "-f", "qcow2", *(["-o", options] if options else []), "a.qcow2", "1G")
                self.same("info", "a.qcow2", ignore=DISK_SIZE)
                self.same("check", "a.qcow2", ignore=r"[\d.]+% fragmented")

    def test_backing_files_of_new_images(self):
        self.put("b.raw", 5 * MIB)
        for words in (["-b", "b.raw", "-F", "raw", "x"], ["-b", "b.raw", "x"], ["-b", "nosuch", "-F", "raw", "x"], ["-b", "", "x", "1M"],
                      ["-b", "b.raw", "-F", "foo", "x"], ["-u", "-b", "nosuch", "x", "1M"], ["-u", "-b", "nosuch", "-F", "raw", "x", "1M"],
                      ["-b", "x", "-F", "qcow2", "x"], ["-F", "raw", "x", "1M"], ["-b", "b.raw", "-F", "raw", "x", "7M"],
                      ["-o", "backing_file=b.raw,backing_fmt=raw", "x"], ["-o", "size=10M", "x", "5M"], ["-q", "x", "1M"]):
            with self.subTest(words=words):
                self.same("create", "-f", "qcow2", *words)
        self.same("create", "-f", "vdi", "-b", "b.raw", "-F", "raw", "x")
        self.same("create", "-f", "qcow2", "/nonexistent/x", "1M")

    def test_snapshots(self):
        self.qemu("create", "-q", "-f", "qcow2", "a.qcow2", "16M")
        self.io("a.qcow2", "write -P 1 0 1M")
        self.same("snapshot", "-l", "a.qcow2")
        self.same("snapshot", "-c", "one", "a.qcow2")
        self.io("a.qcow2", "write -P 2 0 2M")
        self.same("snapshot", "-c", "two", "a.qcow2")
        self.io("a.qcow2", "write -P 3 1M 2M")
        self.same("snapshot", "-l", "a.qcow2")
        self.same("info", "a.qcow2", ignore=DISK_SIZE)
        self.is_sound("a.qcow2")
        for snapshot in ("one", "2", "snapshot.id=1", "snapshot.name=two", "nope"):
            self.same("convert", "-l", snapshot, "-O", "raw", "a.qcow2", "s.raw")
            if snapshot != "nope":
                self.reads_alike(f"{self.theirs}/s.raw", f"{self.ours}/s.raw", "raw")
        self.same("snapshot", "-a", "one", "a.qcow2")
        self.reads_alike(f"{self.theirs}/a.qcow2", f"{self.ours}/a.qcow2")
        self.same("snapshot", "-d", "one", "a.qcow2")
        for words in (["-d", "nope"], ["-a", "nope"]):
            self.same("snapshot", *words, "a.qcow2")
        self.same("snapshot", "-l", "a.qcow2")
        self.is_sound("a.qcow2")
        self.same("check", "a.qcow2", ignore=r"Image end offset: \d+|[\d.]+% fragmented")

    def test_bitmaps(self):
        self.qemu("create", "-q", "-f", "qcow2", "a.qcow2", "16M")
        for words in (["--add", "a.qcow2", "b0"], ["--add", "a.qcow2", "b0"], ["--add", "-g", "1M", "--disable", "a.qcow2", "b1"],
                      ["--add", "-g", "4", "a.qcow2", "b2"], ["--remove", "a.qcow2", "nope"], ["--merge", "b0", "a.qcow2", "b1"],
                      ["--merge", "nope", "a.qcow2", "b1"], ["--enable", "a.qcow2", "b1"], ["--clear", "a.qcow2", "b1"],
                      ["--merge", "x", "-b", "nosuch", "a.qcow2", "b1"]):
            with self.subTest(words=words):
                self.same("bitmap", *words)
                self.same("info", "--output=json", "a.qcow2", ignore=DISK_SIZE)
        self.same("bitmap", "--remove", "a.qcow2", "b0")
        self.is_sound("a.qcow2")

    def test_check_finds_and_repairs_leaks(self):
        self.qemu("create", "-q", "-f", "qcow2", "a.qcow2", "16M")
        self.io("a.qcow2", "write -P 1 0 4M")
        self.both(lambda folder: self.leak(folder + "/a.qcow2"))
        for words in ([], ["--output=json"], ["-r", "leaks"], [], ["-r", "all"], ["-q"]):
            with self.subTest(words=words):
                self.same("check", *words, "a.qcow2")

    @staticmethod
    def leak(path):
        """Counts a reference to a cluster that nobody uses."""
        with open(path, "r+b") as file:
            file.seek(48)
            table = int.from_bytes(file.read(8), "big")
            file.seek(table)
            block = int.from_bytes(file.read(8), "big")
            end = os.path.getsize(path) // 65536
            file.seek(block + 2 * (end + 3))
            file.write(b"\0\1")

    def test_amend(self):
        self.qemu("create", "-q", "-f", "qcow2", "a.qcow2", "16M")
        for options in ("lazy_refcounts=on", "compat=0.10", "compat=1.1", "foo=1", "cluster_size=4k", "size=32M"):
            with self.subTest(options=options):
                self.same("amend", "-o", options, "a.qcow2")
                self.same("info", "a.qcow2", ignore=DISK_SIZE)
        self.is_sound("a.qcow2")
        self.put("a.raw", MIB)
        self.same("amend", "-f", "raw", "-o", "size=2M", "a.raw")

    def test_luks_by_secret(self):
        secret = ["--object", "secret,id=s,data=geheim"]
        encrypt = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
        self.put("a.raw", 4 * MIB, (MIB, pattern(MIB)))
        self.img("convert", *secret, "-f", "raw", "-O", "qcow2", "-o", encrypt, "a.raw", "e.qcow2")
        options = f"driver=qcow2,encrypt.key-secret=s,file.filename={self.ours}/e.qcow2"
        call("qemu-img", "compare", *secret, "--image-opts", options, f"driver=raw,file.filename={self.ours}/a.raw")
        text = self.img("info", "e.qcow2")
        self.assertIn("encrypted: yes", text)


class Trouble(ImgTest):
    """What must not happen: a lost source, a hang, a target that claims to be whole."""

    def test_a_signal_stops_a_conversion_with_a_message(self):
        self.put("a.raw", 64 * MIB, (0, os.urandom(32 * MIB)))
        process = subprocess.Popen([IMG, "convert", "-r", "4M", "-f", "raw", "-O", "qcow2", "a.raw", "b.qcow2"], cwd=self.ours,
                                   stderr=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertRegex(err.decode(), r"\([\d.]+/100%\)")
        self.assertIn("interrupted", err.decode())

    def test_kill_leaves_source_and_image_usable(self):
        self.put("a.raw", 64 * MIB, (0, pattern(64 * MIB)))
        self.img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
        for delay in (0.02, 0.05, 0.1, 0.2):
            self.img("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
            call("qemu-io", "-f", "qcow2", "-c", "write -P 5 1M 40M", self.ours + "/top.qcow2")
            call("qemu-img", "convert", "-O", "raw", self.ours + "/top.qcow2", self.ours + "/expected.raw")
            for words in (["convert", "-O", "qcow2", "top.qcow2", "new.qcow2"], ["snapshot", "-c", "s", "top.qcow2"],
                          ["resize", "top.qcow2", "+10M"], ["commit", "top.qcow2"]):
                process = subprocess.Popen([IMG, *words], cwd=self.ours, stdout=subprocess.DEVNULL)
                time.sleep(delay)
                process.kill()
                process.wait()
                self.wait_for_locks()
                for image in ("top.qcow2", "base.qcow2"):
                    call("qemu-img", "check", "-q", "-r", "leaks", self.ours + "/" + image, status=None)
                    self.is_sound(image)
                call("qemu-img", "compare", "-q", self.ours + "/top.qcow2", self.ours + "/expected.raw")

    def wait_for_locks(self):
        """The kernel lets go of a killed program's files only when it has ended its io_uring, a little later."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            opened = [subprocess.run(["qemu-io", "-f", "qcow2", "-c", "quit", f"{self.ours}/{image}"], capture_output=True)
                      for image in ("base.qcow2", "top.qcow2")]
            if all(b"lock" not in done.stderr + done.stdout for done in opened):
                return
            time.sleep(0.05)

    def test_full_disk_is_an_error_with_an_offset(self):
        self.put("a.raw", 32 * MIB, (0, os.urandom(32 * MIB)))
        limit = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, 8 * MIB)))
        for form in ("raw", "qcow2"):
            done = subprocess.run([IMG, "convert", "-f", "raw", "-O", form, "a.raw", "b." + form], cwd=self.ours, preexec_fn=limit,
                                  capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.decode(), r"^atoll-img: ")
        self.assertEqual(os.path.getsize(self.ours + "/a.raw"), 32 * MIB)

    def test_huge_sparse_images_take_little_time_and_memory(self):
        self.img("create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "huge.qcow2", "64T")
        call("qemu-io", "-f", "qcow2", "-c", "write -P 1 40T 1M", self.ours + "/huge.qcow2")
        for words in (["convert", "-O", "qcow2", "-o", "cluster_size=2M", "huge.qcow2", "copy.qcow2"], ["map", "huge.qcow2"],
                      ["compare", "huge.qcow2", "copy.qcow2"], ["check", "huge.qcow2"]):
            before = time.monotonic()
            # A small parent: what a process forks off counts its parent's memory as its own peak.
            peak = int(call(sys.executable, "-c", PEAK, IMG, *words, cwd=self.ours))
            self.assertLess(peak, 64 * 1024, words)
            self.assertLess(time.monotonic() - before, 30, words)


if __name__ == "__main__":
    unittest.main()
