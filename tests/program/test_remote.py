"""Disks on other hosts, with the servers that people run: OpenSSH, nginx, vsftpd, tgt, NFS-Ganesha."""

import os
import subprocess
import time
import unittest

from img_pair import IMG, MIB, call, pattern, read, write_raw
from remote_servers import Ftpd, Nfsd, Nginx, Sshd, Tgtd

SIZE = 24 * MIB


class RemoteTest(unittest.TestCase):
    """One server a class, one folder a test."""

    environment = None
    make_server = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.make_server()
        cls.addClassCleanup(cls.server.stop)
        cls.bytes = pattern(5 * MIB, 3) + bytes(3 * MIB) + pattern(MIB, 4)
        write_raw(cls.server.data + "/a.raw", SIZE, [(MIB + 100, cls.bytes)])
        cls.environment = getattr(cls.server, "environment", None)

    def img(self, *words, status=0, cwd=None):
        done = subprocess.run([*self.server.wrapper, IMG, *words], capture_output=True, timeout=120, env=self.environment, stdin=subprocess.DEVNULL,
                              cwd=cwd or self.server.data)
        self.assertEqual(done.returncode, status, (words, done.stdout[-1000:], done.stderr[-1000:], self.server.said()))
        return (done.stdout if status == 0 else done.stderr).decode(errors="replace")

    def refused(self, words, *parts):
        """Ends at once with one line that says what and why."""
        text = self.img(*words, status=1)
        for part in parts:
            self.assertIn(part, text)
        self.assertEqual(len(text.splitlines()), 1, text)

    def copy_is_equal(self, *image):
        copy = f"{self.server.data}/copy-{self._testMethodName}.raw"
        self.img("convert", *image, "-O", "raw", copy)
        self.assertEqual(read(copy), read(self.server.data + "/a.raw"))
        os.unlink(copy)


class Ssh(RemoteTest):
    make_server = Sshd

    def test_raw_is_read_and_written(self):
        url = self.server.url
        self.assertIn(f"virtual size: {SIZE // MIB} MiB", self.img("info", "-f", "raw", url("a.raw")))
        self.img("compare", "-f", "raw", "-F", "raw", url("a.raw"), "a.raw")
        self.img("convert", "-f", "raw", "-O", "raw", "a.raw", url("b.raw"))
        self.img("compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw")
        self.img("resize", "-f", "raw", url("b.raw"), "32M")
        self.assertEqual(os.path.getsize(self.server.data + "/b.raw"), 32 * MIB)

    def test_qcow2_grows_there(self):
        url = self.server.url("c.qcow2")
        before = time.monotonic()
        self.img("convert", "-f", "raw", "-O", "qcow2", "a.raw", url)
        self.assertLess(time.monotonic() - before, 60)  # 9 MiB; with each request waiting for a delayed acknowledgement: minutes
        self.img("snapshot", "-c", "one", url)
        self.img("bench", "-w", "-c", "64", "-d", "8", "-s", "64k", "-S", "130k", "--pattern=7", "-f", "qcow2", url)
        self.img("check", url)
        call("qemu-img", "check", "-q", self.server.data + "/c.qcow2")
        self.img("snapshot", "-a", "one", url)
        call("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", self.server.data + "/a.raw", self.server.data + "/c.qcow2")

    def test_backing_file_over_there(self):
        self.img("create", "-f", "qcow2", "-F", "raw", "-b", self.server.url("a.raw"), "top.qcow2")
        self.img("compare", "-F", "raw", "top.qcow2", "a.raw")

    def test_host_keys_are_checked(self):
        for kind in ("md5", "sha1", "sha256"):
            right = self.server.fingerprint(kind)
            self.img("info", "-f", "raw", self.server.url("a.raw", f"{kind}:{right}"))
            wrong = ("0" if right[0] != "0" else "1") + right[1:]
            self.refused(["info", "-f", "raw", self.server.url("a.raw", f"{kind}:{wrong}")], "does not match")
            options = f"driver=ssh,server.host=127.0.0.1,server.port={self.server.port},user={self.server.user},path={self.server.data}/a.raw,"
            self.img("info", "--image-opts", f"{options}host-key-check.mode=hash,host-key-check.type={kind},host-key-check.hash={right}")
        self.refused(["info", "-f", "raw", self.server.url("a.raw", "")], "known_hosts")

    def test_what_fails_says_why(self):
        self.refused(["info", self.server.url("nosuch")], "nosuch", "No such file")
        self.refused(["info", self.server.url("a.raw").replace(f":{self.server.port}/", ":1/")], "Connection refused")
        without = {k: v for k, v in self.environment.items() if k != "SSH_AUTH_SOCK"}
        done = subprocess.run([IMG, "info", self.server.url("a.raw")], env={**without, "HOME": "/nonexistent"}, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("authenticate", done.stderr.decode())


class SshDies(RemoteTest):
    make_server = Sshd

    def test_a_server_that_dies_is_an_error(self):
        process = subprocess.Popen([IMG, "convert", "-r", "4M", "-f", "raw", "-O", "raw", self.server.url("a.raw"), "b.raw"], env=self.environment,
                                   cwd=self.server.data, stderr=subprocess.PIPE)
        while not os.path.exists(self.server.data + "/b.raw"):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        self.server.kill()
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertIn("error while reading", err.decode())


class Https(RemoteTest):
    make_server = Nginx

    def options(self, name="a.raw", place="open", more=""):
        return ["--image-opts", f"driver=raw,file.driver=https,file.url={self.server.url(name, place)},file.sslverify=off{more}"]

    def test_is_read(self):
        self.img("compare", *self.options(), "driver=raw,file.filename=a.raw")
        self.copy_is_equal(*self.options())
        self.copy_is_equal(*self.options(more=",file.readahead=0"))
        self.img("compare", *self.options(place="moved"), "driver=raw,file.filename=a.raw")

    def test_qcow2_and_backing_file(self):
        self.img("convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "z.qcow2")
        self.img("compare", "--image-opts", f"driver=qcow2,file.driver=https,file.url={self.server.url('z.qcow2')},file.sslverify=off",
                 "driver=raw,file.filename=a.raw")
        name = f'json:{{"driver":"raw","file":{{"driver":"https","url":"{self.server.url("a.raw")}","sslverify":"off"}}}}'
        self.img("create", "-f", "qcow2", "-F", "raw", "-b", name, "top.qcow2")
        self.img("compare", "-F", "raw", "top.qcow2", "a.raw")

    def test_a_self_made_certificate_is_not_trusted(self):
        self.refused(["info", self.server.url("a.raw")], "certificate")

    def test_passwords_and_cookies(self):
        self.img("compare", "--object", "secret,id=s,data=open sesame", *self.options(place="user", more=",file.username=alice,file.password-secret=s"),
                 "driver=raw,file.filename=a.raw")
        self.refused(["info", "--object", "secret,id=s,data=wrong", *self.options(place="user", more=",file.username=alice,file.password-secret=s")], "401")
        self.refused(["info", *self.options(place="user")], "401")
        self.img("compare", *self.options(place="cookie", more=",file.cookie=key=value"), "driver=raw,file.filename=a.raw")
        self.img("info", "--object", "secret,id=c,data=key=value", *self.options(place="cookie", more=",file.cookie-secret=c"))
        self.refused(["info", *self.options(place="cookie")], "403")

    def test_what_fails_says_why(self):
        self.refused(["info", *self.options("nosuch")], "404")
        self.refused(["info", *self.options(place="whole")], "range")
        self.refused(["convert", "-n", "-f", "raw", "-O", "raw", "a.raw", self.server.url("a.raw")], "write")
        self.refused(["info", f"https://127.0.0.1:1/a.raw"], "connect")


class Http(RemoteTest):
    make_server = lambda: Nginx(tls=False)

    def test_is_read(self):
        self.img("compare", "-f", "raw", "-F", "raw", self.server.url("a.raw"), "a.raw")
        self.assertIn("file format: raw", self.img("info", self.server.url("a.raw")))


class Ftp(RemoteTest):
    make_server = Ftpd

    def test_is_read(self):
        self.img("compare", "-f", "raw", "-F", "raw", self.server.url("a.raw"), "a.raw")
        self.copy_is_equal("-f", "raw", self.server.url("a.raw"))
        self.img("convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "z.qcow2")
        os.chmod(self.server.data + "/z.qcow2", 0o644)
        self.img("compare", "-F", "raw", self.server.url("z.qcow2"), "a.raw")

    def test_what_fails_says_why(self):
        self.refused(["info", self.server.url("nosuch")], "nosuch", "not exist")
        self.refused(["info", "ftp://127.0.0.1:1/a.raw"], "connect")


class Ftps(RemoteTest):
    make_server = lambda: Ftpd(tls=True)

    def test_is_read(self):
        options = f"driver=raw,file.driver=ftps,file.url={self.server.url('a.raw')},file.sslverify=off,file.timeout=60"
        self.copy_is_equal("--image-opts", options)
        self.refused(["info", self.server.url("a.raw")], "certificate")


class Nfs(RemoteTest):
    make_server = Nfsd

    def test_is_read_and_written(self):
        url = self.server.url
        self.img("compare", "-f", "raw", "-F", "raw", url("a.raw"), "a.raw")
        self.img("convert", "-f", "raw", "-O", "qcow2", "a.raw", url("c.qcow2"))
        self.img("bench", "-w", "-c", "64", "-d", "8", "-s", "64k", "-S", "130k", "--pattern=7", "-f", "qcow2", url("c.qcow2"))
        self.img("check", url("c.qcow2"))
        call("qemu-img", "check", "-q", self.server.data + "/c.qcow2")
        self.img("compare", "-f", "qcow2", "-F", "qcow2", url("c.qcow2"), "c.qcow2")
        self.img("create", "-q", "-f", "raw", url("b.raw"), "1M")
        self.img("resize", "-q", "-f", "raw", url("b.raw"), "3M")
        self.assertEqual(os.path.getsize(self.server.data + "/b.raw"), 3 * MIB)
        self.img("create", "-q", "-f", "raw", url("d.raw") + "?uid=12345&gid=54321", "1M", status=1)  # whose folder this is not
        os.chmod(self.server.data, 0o777)
        self.img("create", "-q", "-f", "raw", url("d.raw") + "?uid=12345&gid=54321", "1M")
        self.assertEqual(os.stat(self.server.data + "/d.raw").st_uid, 12345)

    def test_what_fails_says_why(self):
        self.refused(["info", self.server.url("nosuch")], "nosuch", "Failed to open file")
        self.refused(["info", "nfs://127.0.0.1/nosuch/a.raw"], "Failed to mount")
        self.refused(["info", "nfs://127.0.0.1/a.raw?nosuch=1"], "nosuch")
        done = subprocess.run([IMG, "info", "nfs://127.0.0.1/share/a.raw"], capture_output=True, timeout=60)  # where no server is
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"Failed to mount", done.stderr)


class Iscsi(RemoteTest):
    make_server = Tgtd

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        write_raw(cls.server.data + "/thin.raw", 64 * MIB, [])
        write_raw(cls.server.data + "/big.raw", 64 * MIB, [])
        cls.server.add_unit(1, "a.raw")
        cls.server.add_unit(2, "thin.raw", thin_provisioning=1)
        cls.server.add_unit(3, "big.raw", "--blocksize=4096")

    def test_is_read(self):
        self.assertIn(f"virtual size: {SIZE // MIB} MiB", self.img("info", self.server.url(1)))
        self.copy_is_equal("-f", "raw", self.server.url(1))
        options = f"driver=iscsi,portal=127.0.0.1:{self.server.port},target={self.server.TARGET},lun=1,"
        for digest in ("none", "crc32c", "none-crc32c", "crc32c-none"):
            self.img("compare", "--image-opts", f"driver=raw,file.{options.replace(',', ',file.')}header-digest={digest}", "driver=raw,file.filename=a.raw")

    def test_is_written(self):
        for unit, name in ((2, "thin.raw"), (3, "big.raw")):
            url = self.server.url(unit)
            self.img("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", url)
            self.img("compare", "-f", "raw", "-F", "raw", "a.raw", name)
            self.img("create", "-q", "-f", "qcow2", url, "32M")
            self.img("bench", "-w", "-c", "50", "-d", "4", "-s", "10k", "-S", "33k", "--pattern=9", "-f", "qcow2", url)
            self.img("check", "-f", "qcow2", url)
            call("qemu-img", "check", "-q", "-f", "qcow2", f"{self.server.data}/{name}")

    def test_what_fails_says_why(self):
        self.refused(["info", self.server.url(9)], "LOGICAL_UNIT_NOT_SUPPORTED")
        self.refused(["info", self.server.url(1).replace("org.example", "org.other")], "not found")
        self.refused(["info", self.server.url(1).replace(f":{self.server.port}/", ":1/")], "connect")
        self.refused(["resize", "-f", "raw", self.server.url(1), "+1M"], "resize")


class IscsiWithPassword(RemoteTest):
    make_server = Tgtd

    def test_chap(self):
        self.server.add_unit(1, "a.raw")
        self.server.require_password("alice", "twelve-letters")
        self.img("compare", "-f", "raw", "-F", "raw", self.server.url(1, "alice%twelve-letters@"), "a.raw")
        options = f"driver=iscsi,portal=127.0.0.1:{self.server.port},target={self.server.TARGET},lun=1,user=alice,password-secret=s"
        self.img("info", "--object", "secret,id=s,data=twelve-letters", "--image-opts", options)
        self.refused(["info", "--object", "secret,id=s,data=twelve-lettres", "--image-opts", options], "uthentication")
        self.refused(["info", self.server.url(1)], "uth")


if __name__ == "__main__":
    unittest.main()
