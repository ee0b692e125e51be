"""Many small guests at once, each of which answers on its console. ATOLL_MANY says how many (4)."""

import os
import re
import select
import time
import unittest

from guest import GUESTS
from managed import Managed, need, wait_until

MANY = int(os.environ.get("ATOLL_MANY", "4"))
PATIENCE = 120 + 15 * MANY

GUEST = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='microvm'>hvm</type><kernel>{guests}/vmlinuz32</kernel><initrd>{guests}/initrd32</initrd>
<cmdline>console=ttyS0 quiet panic=-1 atoll.run="while read a b; do echo got $a; done"</cmdline></os>
<cpu mode='maximum'/><devices><serial type='pty'/><memballoon model='none'/></devices></domain>"""


def setUpModule():
    need("virsh")
    if not os.path.exists(GUESTS + "/vmlinuz32"):
        raise unittest.SkipTest("scripts/make-guest kernel32 was not run: 64 MiB are too few for the 64-bit kernel")


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])


class Many(unittest.TestCase):
    def setUp(self):
        self.d = Managed()
        self.addCleanup(self.d.close)

    def converse(self, terminals):
        """Every guest repeats a word of its own."""
        files = {name: os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK) for name, path in terminals.items()}
        by_fd, said, asked = {fd: name for name, fd in files.items()}, dict.fromkeys(files, b""), dict.fromkeys(files, 0.0)
        waiting, end = set(files), time.monotonic() + PATIENCE
        while waiting:
            self.assertLess(time.monotonic(), end, f"no answer of {sorted(waiting)}: {said[min(waiting)][-500:]!r}")
            for name in waiting:
                if time.monotonic() - asked[name] > 10:  # what came before the guest reads is lost
                    os.write(files[name], f"word-of-{name} x\n".encode())
                    asked[name] = time.monotonic()
            for fd in select.select([files[name] for name in waiting], [], [], 1)[0]:
                said[by_fd[fd]] += os.read(fd, 65536)
            waiting = {name for name in waiting if f"got word-of-{name}".encode() not in said[name]}
        for fd in files.values():
            os.close(fd)

    def test_all_run_and_answer_at_once(self):
        names = [f"m{number:03}" for number in range(MANY)]
        began = time.monotonic()
        for name in names:
            self.d.virsh("create", self.d.write("new.xml", GUEST.format(name=name, guests=GUESTS)))
        started = time.monotonic() - began
        terminals = {name: wait_until(lambda name=name: self.d.virsh("ttyconsole", name).strip(), name) for name in names}
        self.converse(terminals)
        answered = time.monotonic() - began
        self.assertEqual(len(self.d.virsh("list", "--name").split()), MANY)
        resident = sum(resident_kib(pid) for pid in self.d.vm_pids())
        print(f"{MANY} guests: all created after {started:.1f} s, all have answered after {answered:.1f} s, "
              f"{resident / 1024 / MANY:.1f} MiB resident each")


if __name__ == "__main__":
    unittest.main()
