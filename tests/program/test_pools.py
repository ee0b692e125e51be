"""Storage pools, volumes and secrets of atolld, through Debian's virsh."""

import base64
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest

from daemon_fixture import Daemon, DaemonCase

MIB = 1 << 20


def info(path, form):
    return json.loads(subprocess.run(["qemu-img", "info", "-f", form, "--output=json", path], check=True,
                                     capture_output=True, text=True).stdout)


class PoolCase(DaemonCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pool.")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.pool = os.path.basename(self.folder)
        self.virsh("pool-define-as", self.pool, "dir", "--target", self.folder)
        self.virsh("pool-start", self.pool)
        self.addCleanup(self.forget)

    def forget(self):
        self.virsh("pool-destroy", self.pool, status=None)
        self.virsh("pool-undefine", self.pool, status=None)

    def virsh(self, *arguments, **how):
        return self.daemon.virsh(*arguments, **how)

    def path(self, name):
        return f"{self.folder}/{name}"

    def validate(self, text, schema):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            subprocess.run(["virt-xml-validate", file.name, schema], check=True, capture_output=True)

    def vol(self, verb, name, *arguments, **how):
        return self.virsh("vol-" + verb, name, *arguments, "--pool", self.pool, **how)

    def create(self, name, *arguments):
        return self.virsh("vol-create-as", self.pool, name, *arguments)


class Pools(PoolCase):
    def test_a_pool_is_listed_described_and_stopped(self):
        self.assertIn(self.pool, self.virsh("pool-list"))
        text = self.virsh("pool-dumpxml", self.pool)
        self.validate(text, "storagepool")
        self.assertIn(f"<path>{self.folder}</path>", text)
        self.assertRegex(self.virsh("pool-info", self.pool), r"State:\s+running")
        self.virsh("pool-destroy", self.pool)
        self.assertIn("is not active", self.virsh("vol-list", self.pool, status=1))

    def test_errors_are_libvirts(self):
        self.assertIn("Storage pool not found: no storage pool with matching name 'x'", self.virsh("pool-start", "x", status=1))
        self.assertIn("Storage volume not found: no storage vol with matching path '/x'", self.virsh("vol-info", "/x", status=1))
        self.assertIn("missing backend for pool type 9 (rbd)", self.virsh("pool-define-as", "r", "rbd", "--source-host", "h", "--source-name", "n", status=1))

    def test_build_makes_the_folder_and_delete_removes_it(self):
        target = self.path("made")
        self.virsh("pool-define-as", "built", "dir", "--target", target)
        self.virsh("pool-build", "built")
        self.assertTrue(os.path.isdir(target))
        self.virsh("pool-delete", "built")
        self.assertFalse(os.path.exists(target))
        self.virsh("pool-undefine", "built")

    def test_state_survives_a_killed_daemon(self):
        self.virsh("pool-autostart", self.pool)
        self.create("a.img", "4M")
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()
        self.assertIn("a.img", self.virsh("vol-list", self.pool))
        self.assertRegex(self.virsh("pool-info", self.pool), r"Autostart:\s+yes")

    def test_capabilities_fit_the_schema(self):
        self.validate(self.virsh("pool-capabilities"), "storagepoolcaps")


class Volumes(PoolCase):
    def test_raw_and_qcow2_are_made_with_their_sizes(self):
        self.create("a.img", "8M")
        self.create("b.qcow2", "1G", "--format", "qcow2")
        self.assertEqual(os.path.getsize(self.path("a.img")), 8 * MIB)
        self.assertEqual(info(self.path("b.qcow2"), "qcow2")["virtual-size"], 1 << 30)
        text = self.vol("dumpxml", "b.qcow2")
        self.validate(text, "storagevol")
        self.assertIn("<format type='qcow2'/>", text)
        self.assertIn("<capacity unit='bytes'>1073741824</capacity>", text)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("b.qcow2")).st_mode), 0o600)
        self.assertIn("exists already", self.virsh("vol-create-as", self.pool, "a.img", "1M", status=1))

    def test_blocks_are_there_as_asked(self):
        for name, allocation, least, most in (("none", "0", 0, 0), ("some", "4M", 4, 5), ("all", "16M", 16, 17)):
            self.create(name, "16M", "--allocation", allocation)
            self.assertEqual(os.path.getsize(self.path(name)), 16 * MIB)
            self.assertGreaterEqual(os.stat(self.path(name)).st_blocks * 512, least * MIB)
            self.assertLessEqual(os.stat(self.path(name)).st_blocks * 512, most * MIB)

    def test_a_folder_is_a_volume_too(self):
        self.create("folder", "0", "--format", "dir")
        self.assertTrue(os.path.isdir(self.path("folder")))
        self.validate(self.vol("dumpxml", "folder"), "storagevol")
        self.vol("delete", "folder")
        self.assertFalse(os.path.exists(self.path("folder")))

    def test_a_header_is_told_as_it_is(self):
        self.create("old.qcow2", "1M", "--format", "qcow2")
        subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", self.path("old.qcow2")], check=True, timeout=60)
        self.assertIn("<compat>0.10</compat>", self.vol("dumpxml", "old.qcow2"))
        subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=1.1,lazy_refcounts=on", self.path("old.qcow2")], check=True, timeout=60)
        text = self.vol("dumpxml", "old.qcow2")
        self.validate(text, "storagevol")
        self.assertIn("<lazy_refcounts/>", text)

    def test_a_volume_over_a_backing_file(self):
        self.create("base.qcow2", "64M", "--format", "qcow2")
        self.create("top.qcow2", "64M", "--format", "qcow2", "--backing-vol", "base.qcow2", "--backing-vol-format", "qcow2")
        self.assertEqual(info(self.path("top.qcow2"), "qcow2")["backing-filename"], self.path("base.qcow2"))
        self.assertIn("<backingStore>", self.vol("dumpxml", "top.qcow2"))

    def test_lookups_by_path_and_key(self):
        self.create("a.img", "1M")
        self.assertEqual(self.virsh("vol-name", self.path("a.img")).strip(), "a.img")
        self.assertEqual(self.virsh("vol-pool", self.path("a.img")).strip(), self.pool)
        self.assertEqual(self.vol("path", "a.img").strip(), self.path("a.img"))

    def test_clone_reads_as_its_source(self):
        with open(self.path("a.img"), "wb") as file:
            file.write(os.urandom(3 * MIB))
        self.virsh("pool-refresh", self.pool)
        self.vol("clone", "a.img", "b.img")
        with open(self.path("a.img"), "rb") as one, open(self.path("b.img"), "rb") as two:
            self.assertEqual(one.read(), two.read())

    def test_resize_grows_and_shrinks_only_when_told(self):
        self.create("b.qcow2", "64M", "--format", "qcow2")
        self.vol("resize", "b.qcow2", "128M")
        self.assertEqual(info(self.path("b.qcow2"), "qcow2")["virtual-size"], 128 * MIB)
        self.assertIn("shrink", self.vol("resize", "b.qcow2", "32M", status=1))

    def test_upload_download_and_wipe(self):
        data = os.urandom(5 * MIB + 12345)
        self.create("a.img", str(len(data)) + "B")
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/in", "wb") as file:
                file.write(data)
            self.vol("upload", "a.img", folder + "/in")
            self.vol("download", "a.img", folder + "/out")
            with open(folder + "/out", "rb") as file:
                self.assertTrue(file.read().startswith(data))
        self.vol("wipe", "a.img")
        with open(self.path("a.img"), "rb") as file:
            self.assertEqual(file.read().strip(b"\0"), b"")

    def test_wiping_overwrites_by_the_chosen_algorithm(self):
        secret = b"nobody may read this" * 1000
        for algorithm, left in (("zero", {0}), ("bsi", {0x7f}), ("dod", {0xff}), ("nnsa", {0}), ("random", None), ("gutmann", None)):
            with open(self.path("a.img"), "wb") as file:
                file.write(secret)
            self.virsh("pool-refresh", self.pool)
            self.vol("wipe", "a.img", "--algorithm", algorithm)
            with open(self.path("a.img"), "rb") as file:
                data = file.read()
            self.assertEqual(len(data), len(secret), algorithm)
            self.assertNotIn(b"nobody", data, algorithm)
            if left is not None:
                self.assertEqual(set(data), left, algorithm)
            self.vol("delete", "a.img")
        self.create("b.img", "1M")
        self.assertIn("not supported", self.vol("wipe", "b.img", "--algorithm", "trim", status=1))

    def test_delete_removes_the_file(self):
        self.create("a.img", "1M")
        self.vol("delete", "a.img")
        self.assertFalse(os.path.exists(self.path("a.img")))
        self.assertEqual(self.virsh("vol-list", self.pool).strip(), "")

    def test_a_guest_cannot_change_the_format_of_its_disk(self):
        self.create("a.img", "8M")
        self.create("evil.qcow2", "8M", "--format", "qcow2", "--backing-vol", "a.img", "--backing-vol-format", "raw")
        with open(self.path("evil.qcow2"), "rb") as evil, open(self.path("a.img"), "r+b") as disk:
            disk.write(evil.read())
        self.virsh("pool-refresh", self.pool)
        self.assertIn("<format type='raw'/>", self.vol("dumpxml", "a.img"))

    def test_what_a_cut_off_creation_left_goes_at_refresh(self):
        left = self.path(".b.img.atoll-new~")
        with open(left, "wb"):
            pass
        self.virsh("pool-refresh", self.pool)
        self.assertFalse(os.path.exists(left))


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("losetup", path="/usr/sbin:/sbin") and shutil.which("parted", path="/usr/sbin:/sbin"),
                     "needs root, losetup and parted")
class Disks(PoolCase):
    """Pools on block devices: loop devices stand for disks."""

    def attach(self, size):
        image = self.folder + "/disk.img"
        with open(image, "wb") as file:
            file.truncate(size)
        done = subprocess.run(["losetup", "-f", "--show", "-P", image], capture_output=True, text=True)
        if done.returncode:
            self.skipTest(done.stderr)
        device = done.stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device], check=True)
        return device

    @unittest.skipUnless(os.environ.get("ATOLL_LOOP_DEVICES"), "parted waits for loop devices that others use: ATOLL_LOOP_DEVICES=1 runs it")
    def test_partitions_of_a_disk_are_volumes(self):
        device = self.attach(64 * MIB)
        self.virsh("pool-define-as", "disk", "disk", "--source-dev", device, "--source-format", "gpt", "--target", "/dev")
        self.addCleanup(self.virsh, "pool-undefine", "disk", status=None)
        self.virsh("pool-build", "disk")
        self.virsh("pool-start", "disk")
        self.addCleanup(self.virsh, "pool-destroy", "disk", status=None)
        self.validate(self.virsh("pool-dumpxml", "disk"), "storagepool")
        self.virsh("vol-create-as", "disk", "first", "8M")
        self.virsh("vol-create-as", "disk", "second", "16M")
        names = [line.split()[0] for line in self.virsh("vol-list", "disk").splitlines() if line.strip()]
        base = os.path.basename(device)
        self.assertEqual(names, [base + "p1", base + "p2"])
        self.assertIn("16.00 MiB", self.virsh("vol-info", names[1], "--pool", "disk"))
        self.assertIn("block", self.virsh("vol-info", names[1], "--pool", "disk"))
        self.validate(self.virsh("vol-dumpxml", names[0], "--pool", "disk"), "storagevol")
        self.assertIn("no large enough free extent", self.virsh("vol-create-as", "disk", "third", "1G", status=1))
        self.virsh("vol-delete", names[0], "--pool", "disk")
        self.assertNotIn(names[0], self.virsh("vol-list", "disk"))
        self.virsh("pool-destroy", "disk")
        self.assertIn("already formatted", self.virsh("pool-build", "disk", "--no-overwrite", status=1))

    def test_a_file_system_is_made_mounted_and_left(self):
        device, target = self.attach(64 * MIB), self.path("mounted")
        self.virsh("pool-define-as", "fs", "fs", "--source-dev", device, "--source-format", "ext4", "--target", target)
        self.addCleanup(self.virsh, "pool-undefine", "fs", status=None)
        self.virsh("pool-build", "fs", "--overwrite")
        self.virsh("pool-start", "fs")
        self.addCleanup(self.virsh, "pool-destroy", "fs", status=None)
        self.assertTrue(os.path.ismount(target))
        self.virsh("vol-create-as", "fs", "a.img", "1M")
        self.assertTrue(os.path.exists(target + "/a.img"))
        self.virsh("pool-destroy", "fs")
        self.assertFalse(os.path.ismount(target))


class Sources(PoolCase):
    def test_pools_without_discovery_say_so(self):
        self.assertIn("does not support source discovery", self.virsh("find-storage-pool-sources", "dir", status=1))

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "needs a mount namespace")
    def test_an_iscsi_target_is_found_and_logged_in_to(self):
        """iscsiadm is a script of ours: targets, and units as files, where udev would link devices."""
        tools, units, log = self.path("tools"), self.path("units"), self.path("calls")
        os.makedirs(tools)
        os.makedirs(units)
        target = "iqn.2026-11.example:disks"
        with open(tools + "/iscsiadm", "w") as file:
            file.write(f"""#!/bin/sh
echo "$@" >>{log}
case "$*" in
  *discovery*) echo "192.0.2.1:3260,1 {target}" ;;
  *--login) truncate -s 8M {units}/ip-192.0.2.1:3260-iscsi-{target}-lun-1 ;;
  *--rescan) truncate -s 4M {units}/ip-192.0.2.1:3260-iscsi-{target}-lun-0 ;;
  *--logout) rm -f {units}/* ;;
esac
""")
        os.chmod(tools + "/iscsiadm", 0o755)
        daemon = Daemon(before=("unshare", "-m", "sh", "-c", f'mount --bind {tools} /usr/local/sbin && exec "$@"', "sh"))
        self.addCleanup(daemon.remove)
        found = daemon.virsh("find-storage-pool-sources-as", "iscsi", "192.0.2.1")
        self.assertIn(f"<device path='{target}'/>", found)
        daemon.virsh("pool-define-as", "san", "iscsi", "--source-host", "192.0.2.1", "--source-dev", target, "--target", units)
        daemon.virsh("pool-start", "san")
        self.validate(daemon.virsh("pool-dumpxml", "san"), "storagepool")
        self.assertIn("unit:0:0:1", daemon.virsh("vol-list", "san"))
        daemon.virsh("pool-refresh", "san")
        self.assertIn("8.00 MiB", daemon.virsh("vol-info", "unit:0:0:1", "--pool", "san"))
        self.assertIn("4.00 MiB", daemon.virsh("vol-info", "unit:0:0:0", "--pool", "san"))
        self.assertIn("does not support volume creation", daemon.virsh("vol-create-as", "san", "new", "1M", status=1))
        daemon.virsh("pool-destroy", "san")
        with open(log) as file:
            calls = file.read()
        for word in ("--login", "--rescan", "--logout"):
            self.assertIn(f"--portal 192.0.2.1:3260 --targetname {target} {word}", calls)


class Secrets(PoolCase):
    def define(self, private="no", ephemeral="no"):
        text = (f"<secret ephemeral='{ephemeral}' private='{private}'><description>d</description>"
                f"<usage type='volume'><volume>{self.path('luks')}</volume></usage></secret>")
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            self.virsh("secret-define", file.name)
        uuid = next(line.split()[0] for line in self.virsh("secret-list").splitlines() if self.path("luks") in line)
        self.addCleanup(self.virsh, "secret-undefine", uuid, status=None)
        return uuid

    def set(self, uuid, value):
        self.virsh("secret-set-value", uuid, base64.b64encode(value.encode()).decode(), status=None)

    def test_values_are_kept_by_the_daemon_alone(self):
        uuid = self.define()
        self.set(uuid, "sesame")
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()
        self.assertEqual(base64.b64decode(self.virsh("secret-get-value", uuid).split()[-1]), b"sesame")
        path = f"{self.daemon.root}/etc/secrets/{uuid}.value"
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.validate(self.virsh("secret-dumpxml", uuid), "secret")

    def test_private_values_are_not_told(self):
        uuid = self.define(private="yes")
        self.set(uuid, "sesame")
        self.assertIn("secret is private", self.virsh("secret-get-value", uuid, status=1))

    def test_ephemeral_secrets_are_in_memory_only(self):
        uuid = self.define(ephemeral="yes")
        self.set(uuid, "sesame")
        self.assertFalse(os.path.exists(f"{self.daemon.root}/etc/secrets/{uuid}.value"))

    def test_a_volume_is_encrypted_with_a_secret(self):
        uuid = self.define()
        self.set(uuid, "sesame")
        text = (f"<volume><name>luks</name><capacity unit='MiB'>16</capacity><target><format type='qcow2'/>"
                f"<encryption format='luks'><secret type='passphrase' uuid='{uuid}'/></encryption></target></volume>")
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            self.virsh("vol-create", self.pool, file.name)
        self.assertTrue(info(self.path("luks"), "qcow2")["encrypted"])
        self.assertIn(uuid, self.vol("dumpxml", "luks"))


if __name__ == "__main__":
    unittest.main()
