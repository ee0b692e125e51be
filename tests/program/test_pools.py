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

from daemon_fixture import DaemonCase

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
        self.assertIn("not supported", self.virsh("pool-define-as", "r", "rbd", "--source-host", "h", "--source-name", "n", status=1))

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
