"""The same commands given to qemu-img and to atoll-img, each in a folder of its own, and their answers compared."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("ATOLL_BUILD", ROOT + "/build")
IMG = os.environ.get("ATOLL_IMG", BUILD + "/bin/atoll-img")
TIMEOUT = 120
MIB = 1 << 20


def call(*command, status=0, cwd=None, stdin=b""):
    """Runs to the end; returns standard output. A wrong exit status fails the test."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT, cwd=cwd)
    if status is not None and done.returncode != status:
        raise AssertionError(f"exit status {done.returncode} of {command}\n{done.stdout.decode()[-2000:]}\n{done.stderr.decode()[-2000:]}")
    return done.stdout.decode(errors="replace")


def pattern(size, seed=1):
    """Bytes that neither repeat nor compress much, with runs of zeroes in between."""
    block = bytearray()
    state = seed
    while len(block) < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        run = 4096 << (state >> 60)
        block += bytes(run) if state & (1 << 40) else os.urandom(run)
    return bytes(block[:size])


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write_raw(path, size, pieces):
    """A sparse raw image; pieces are (offset, bytes)."""
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


class ImgTest(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        if not shutil.which("qemu-img"):
            raise unittest.SkipTest("qemu-img is not installed")

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="atoll-img-", dir=os.environ.get("ATOLL_TMP"))
        self.theirs, self.ours = self.top + "/qemu", self.top + "/atoll"
        os.mkdir(self.theirs)
        os.mkdir(self.ours)

    def tearDown(self):
        shutil.rmtree(self.top, ignore_errors=True)

    def put(self, name, size, *pieces):
        for folder in (self.theirs, self.ours):
            write_raw(f"{folder}/{name}", size, pieces)

    def both(self, function):
        """Prepares both folders with the reference tools: function(folder)."""
        for folder in (self.theirs, self.ours):
            function(folder)

    def qemu(self, *words):
        """A command of qemu-img in both folders, to prepare them alike."""
        self.both(lambda folder: call("qemu-img", *words, cwd=folder))

    def io(self, image, *commands, form="qcow2"):
        words = ["qemu-io", "-f", form]
        for command in commands:
            words += ["-c", command]
        self.both(lambda folder: call(*words, image, cwd=folder))

    @staticmethod
    def normal(text):
        text = text.decode(errors="replace").replace("qemu-img", "atoll-img")
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE TIME", text)

    def same(self, *words, ignore=None, errors=True):
        """Both programs must print and end alike. `ignore`: a pattern cut out of both outputs."""
        results = []
        for program, folder in (("qemu-img", self.theirs), (IMG, self.ours)):
            done = subprocess.run([program, *words], capture_output=True, timeout=TIMEOUT, cwd=folder, stdin=subprocess.DEVNULL)
            out, err = self.normal(done.stdout), self.normal(done.stderr)
            if ignore:
                out, err = re.sub(ignore, "", out), re.sub(ignore, "", err)
            results.append((done.returncode, out, err.rstrip("\n") if errors else ""))
        self.assertEqual(results[0], results[1], f"qemu-img's answer first, of {' '.join(words)}")
        return results[1][1]

    def img(self, *words, status=0):
        return call(IMG, *words, status=status, cwd=self.ours)

    def reads_alike(self, first, second, form="qcow2", other_form=None):
        call("qemu-img", "compare", "-f", form, "-F", other_form or form, first, second, cwd=self.top)

    def is_sound(self, image, form="qcow2"):
        call("qemu-img", "check", "-q", "-f", form, f"{self.ours}/{image}")
