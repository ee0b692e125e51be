"""atolld that is killed in the middle of its work, and the power that fails: what is stored is as before or as after, never half.

strace(1) kills the daemon at a chosen system call, and records what it does to its state folder. The record is cut off at each point and
replayed the way a disk may have it: everything that was done, or only what was flushed, or all names but no data that was not flushed.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from guest import BUILD
from managed import PATIENCE, Managed, guest_xml, need, wait_until

PLAIN = """<domain type='qemu'><name>{name}</name><title>{title}</title><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""


def setUpModule():
    need("virsh", "strace")


class Tracer:
    """strace on a running daemon, which it kills at the nth system call of a kind."""

    def __init__(self, daemon, call, nth):
        self.process = subprocess.Popen(["strace", "-f", "-p", str(daemon.process.pid), "-e", f"trace={call}", "-e",
                                         f"inject={call}:signal=SIGKILL:when={nth}", "-o", "/dev/null"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = os.read(self.process.stderr.fileno(), 4096)
        if b"attached" not in said:
            raise unittest.SkipTest(f"strace: {said.decode(errors='replace')}")

    def end(self):
        # Asked to end while the daemon is dying, strace waits for the first thread before it has taken leave of the others.
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stderr.close()


class Kills(unittest.TestCase):
    def setUp(self):
        self.d = Managed()
        self.addCleanup(self.d.close)

    def killed_in(self, call, nth, *words):
        """Whether the daemon died of it; a new one runs afterwards."""
        tracer = Tracer(self.d, call, nth)
        subprocess.run(["virsh", "-c", self.d.uri, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
        # What the daemon does behind the answer is over when no temporary file is left.
        wait_until(lambda: self.d.process.poll() is not None or not self.temporary(), "nothing is left to do")
        tracer.end()
        lives = subprocess.run(["virsh", "-c", self.d.uri, "hostname"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
        if lives.returncode == 0:
            return False
        self.d.process.wait(PATIENCE)
        self.d.kill()
        self.d.start()
        return True

    def temporary(self):
        return [name for name in os.listdir(self.d.root + "/etc/domains") if name.endswith(".new~")]

    def points(self, *words, restore, calls, most=4):
        """Runs the command again and again, killed at another point each time; at how many of them it was."""
        count = 0
        for call in calls:
            for nth in range(1, most + 1):
                restore()
                if not self.killed_in(call, nth, *words):
                    break
                count += 1
                yield call, nth
        self.assertGreater(count, 0, "the daemon was never killed")

    def title(self, name):
        return self.d.virsh("desc", name, "--title").strip()

    def names(self):
        return self.d.virsh("list", "--all", "--name").split()

    def test_a_definition_is_there_as_a_whole_or_not_at_all(self):
        after = self.d.write("after.xml", PLAIN.format(name="one", title="after"))
        def forget():
            if "one" in self.names():
                self.d.virsh("undefine", "one")
        for point in self.points("define", after, restore=forget, calls=("openat", "write", "fsync", "rename")):
            if "one" in self.names():
                self.assertEqual(self.title("one"), "after", point)

    def test_a_new_definition_takes_the_old_ones_place_or_does_not(self):
        self.d.define(PLAIN.format(name="one", title="before"))
        uuid = self.d.virsh("domuuid", "one").strip()
        text = {title: PLAIN.format(name="one", title=title).replace("<title", f"<uuid>{uuid}</uuid><title") for title in ("before", "after")}
        after = self.d.write("after.xml", text["after"])
        for point in self.points("define", after, restore=lambda: self.d.define(text["before"]), calls=("write", "fsync", "rename")):
            self.assertIn(self.title("one"), ("before", "after"), point)

    def test_undefine_leaves_all_or_nothing(self):
        def define():  # one that is marked has been started meanwhile
            if "one" in self.d.virsh("list", "--name").split():
                self.d.virsh("destroy", "one")
            if "one" not in self.names():
                self.d.define(PLAIN.format(name="one", title="before"))
            self.d.virsh("autostart", "one")
        for point in self.points("undefine", "one", restore=define, calls=("unlink", "fsync")):
            if "one" in self.names():
                self.assertEqual(self.title("one"), "before", point)
            else:
                self.assertFalse(os.path.exists(f"{self.d.root}/etc/domains/one.xml"), point)
                self.assertFalse(os.path.lexists(f"{self.d.root}/etc/domains/autostart/one.xml"), point)

    def vms(self):
        """Processes of VMs of this folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = read_bytes(f"/proc/{pid}/cmdline")
                state = read_bytes(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()[0]
            except OSError:
                continue
            if self.d.root.encode() in words and b"atoll-vmm" in words.split(b"\0")[0] and state != b"Z":
                found.append(int(pid))
        return found

    def test_a_start_is_done_or_leaves_nothing_behind(self):
        self.d.define(guest_xml("guest"))
        def stop():
            if self.d.state("guest") != "shut off":
                self.d.virsh("destroy", "guest")
        for point in self.points("start", "guest", restore=stop, calls=("mkdir", "openat", "clone,clone3,vfork,fork", "rename", "connect"), most=3):
            running = wait_until(lambda: self.d.state("guest") in ("running", "shut off"), point) and self.d.state("guest") == "running"
            if running:
                self.assertEqual(len(self.vms()), 1, point)
            else:
                wait_until(lambda: not self.vms(), f"{point}: no VM is left")

    def test_a_volume_is_complete_or_not_there(self):
        pool = self.d.root + "/pool"
        self.d.virsh("pool-create-as", "pool", "dir", "--target", pool, "--build")
        def forget():
            self.d.virsh("pool-refresh", "pool")
            if "new" in self.d.virsh("vol-list", "pool"):
                self.d.virsh("vol-delete", "new", "--pool", "pool")
        for point in self.points("vol-create-as", "pool", "new", "1G", "--format", "qcow2", restore=forget, calls=("openat", "fsync", "rename", "renameat2")):
            self.d.virsh("pool-refresh", "pool")
            self.assertEqual([name for name in os.listdir(pool) if name.startswith(".")], [], point)
            if os.path.exists(pool + "/new"):
                self.assertIn("1.00 GiB", self.d.virsh("vol-info", "new", "--pool", "pool"), point)
                subprocess.run([BUILD + "/bin/atoll-img", "check", "-f", "qcow2", pool + "/new"], check=True, capture_output=True, timeout=PATIENCE)


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


class Disk:
    """A folder as the kernel shows it, and what of it is on the disk. Files are inodes, so that a rename takes its data along."""

    CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?")
    STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

    def __init__(self, folder):
        self.folder = folder.encode()
        self.names, self.data, self.flushed = {}, {}, {}
        for base, _, files in os.walk(folder):
            for file in files:
                path = os.path.join(base, file)
                inode = len(self.data)
                self.names[path.encode()] = inode
                self.data[inode] = ("link", os.readlink(path)) if os.path.islink(path) else read_bytes(path)
                self.flushed[inode] = self.data[inode]
        self.durable = dict(self.names)

    def apply(self, line):
        """One line of strace's record; true if something changed."""
        found = self.CALL.match(line)
        if not found or int(found[3]) < 0:
            return False
        call, words, path = found[1], found[2], unhex(found[4]) if found[4] else b""
        strings = [unhex(s) for s in self.STRING.findall(words)]
        first = re.match(r"\d+<([^>]*)>", words)
        at = unhex(first[1]) if first else b""
        if not any(name.startswith(self.folder) for name in (path, at, *strings)):
            return call == "syncfs" and self.flush_all()
        if call == "openat" and "O_CREAT" in words:
            self.create(path, b"" if "O_TRUNC" in words or path not in self.names else None)
        elif call == "write" and at in self.names:
            self.data[self.names[at]] += strings[0]
        elif call in ("rename", "renameat2"):
            self.names[strings[-1]] = self.names.pop(strings[0])
        elif call in ("unlink", "unlinkat"):
            self.names.pop(strings[-1], None)
        elif call == "symlink":
            self.create(strings[1], ("link", strings[0].decode()))
        elif call == "syncfs":
            self.flush_all()
        elif call in ("fsync", "fdatasync") and at in self.names:
            self.flushed[self.names[at]] = self.data[self.names[at]]
        elif call == "fsync":  # a folder: its entries
            self.durable = {n: i for n, i in self.durable.items() if os.path.dirname(n) != at}
            self.durable |= {n: i for n, i in self.names.items() if os.path.dirname(n) == at}
        else:
            return False
        return True

    def create(self, path, content):
        if content is not None:
            self.names[path] = len(self.data)
            self.data[len(self.data)] = content

    def flush_all(self):
        self.flushed, self.durable = dict(self.data), dict(self.names)
        return True

    def outcomes(self):
        """What a restart may find: name to content."""
        yield {name: self.data[inode] for name, inode in self.names.items()}
        yield {name: self.flushed.get(inode, b"") for name, inode in self.names.items()}
        yield {name: self.flushed.get(inode, b"") for name, inode in self.durable.items()}


class PowerCuts(unittest.TestCase):
    TRACED = "openat,write,rename,renameat2,unlink,unlinkat,symlink,fsync,fdatasync,syncfs"

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="power.")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_traced(self, daemon, work):
        """The lines of what the daemon does meanwhile."""
        record = self.folder + "/record"
        tracer = subprocess.Popen(["strace", "-f", "-y", "-xx", "-s", "1000000", "-p", str(daemon.process.pid), "-e", f"trace={self.TRACED}",
                                   "-o", record], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = os.read(tracer.stderr.fileno(), 4096)
        if b"attached" not in said:
            raise unittest.SkipTest(f"strace: {said.decode(errors='replace')}")
        work()
        daemon.kill(signal.SIGTERM)  # which waits for what is to be flushed
        tracer.wait(PATIENCE)
        tracer.stderr.close()
        with open(record) as file:
            return self.joined(file.read().splitlines())

    @staticmethod
    def joined(lines):
        """Calls that another thread's came in between of, as one line each, where they ended."""
        begun = {}
        for line in lines:
            thread, rest = line.split(None, 1)
            if rest.endswith("<unfinished ...>"):
                begun[thread] = rest[:-len("<unfinished ...>")].rstrip()
            elif rest.startswith("<... "):
                yield f"{thread} {begun.pop(thread, '')}{rest.split('resumed>', 1)[1].lstrip()}"
            else:
                yield line

    def test_every_moment_leaves_each_definition_before_or_after(self):
        d = Managed()
        self.addCleanup(d.close)
        texts = {title: d.write(f"{title}.xml", PLAIN.format(name="one", title=title)) for title in ("first", "second")}
        d.define(PLAIN.format(name="old", title="old"))
        d.define(PLAIN.format(name="gone", title="gone"))
        d.kill(signal.SIGTERM)
        disk = Disk(d.root + "/etc")
        d.start()

        def work():
            d.virsh("define", texts["first"])
            uuid = d.virsh("domuuid", "one").strip()
            d.define(PLAIN.format(name="one", title="second").replace("<title", f"<uuid>{uuid}</uuid><title"))
            d.virsh("undefine", "gone")
            d.virsh("net-define", d.write("net.xml", "<network><name>net</name><bridge name='virbr77'/></network>"))
            d.virsh("pool-define-as", "pool", "dir", "--target", "/nonexistent")
            d.virsh("pool-autostart", "pool")
        seen = []
        for line in self.run_traced(d, work):
            if disk.apply(line):
                seen += [state for state in disk.outcomes() if state not in seen]
        self.assertGreater(len(seen), 10)
        for state in seen:
            self.check(d, state)

    def check(self, d, state):
        shutil.rmtree(d.root + "/etc")
        for path, content in state.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(content, tuple):
                os.symlink(content[1], path)
            else:
                with open(path, "wb") as file:
                    file.write(content)
        shutil.rmtree(d.root + "/run", ignore_errors=True)
        d.start()
        rows = [line.split() for line in d.virsh("list", "--all", "--title").splitlines()[2:] if line.strip()]
        titles = {row[1]: row[-1] for row in rows}
        d.kill(signal.SIGTERM)
        self.assertLessEqual(set(titles), {"old", "gone", "one"})
        self.assertEqual(titles.get("old"), "old")
        self.assertEqual(titles.get("gone", "gone"), "gone")
        self.assertIn(titles.get("one", "first"), ("first", "second"))
        with open(d.root + "/daemon.log") as file:
            self.assertNotIn("is left out", file.read())


if __name__ == "__main__":
    unittest.main()
