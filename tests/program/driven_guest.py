"""A guest with drivers for what a PC has: runs a shell script, talks over its serial port, and is watched through QMP."""

import os
import subprocess
import tempfile
import threading
import unittest

from guest import VMM, kernel_args
from qmp_client import Qmp

LIMIT_SECONDS = 300  # then the guest is ended, so that nothing waits for it


class DrivenGuest(unittest.TestCase):
    def start(self, command, *options, append=""):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "qmp")
        vmm = subprocess.Popen([VMM, "-accel", "soft", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                                "-qmp", f"unix:{self.path},server=on,wait=off", *kernel_args(command, "-drivers", append), *options],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(vmm.wait)
        self.addCleanup(vmm.stdout.close)
        self.addCleanup(vmm.stdin.close)
        self.addCleanup(vmm.kill)
        late = threading.Timer(LIMIT_SECONDS, vmm.kill)
        late.start()
        self.addCleanup(late.cancel)
        self.vmm = vmm
        self.qmp = Qmp(self.path, timeout=120, process=vmm)
        self.addCleanup(self.qmp.close)
        return self.qmp

    def type(self, line):
        """One line for the script's standard input."""
        self.vmm.stdin.write(line.encode() + b"\n")
        self.vmm.stdin.flush()

    def read_until(self, word):
        """What the serial port tells, up to the line with `word`."""
        text = ""
        for line in iter(self.vmm.stdout.readline, b""):
            text += line.decode(errors="replace")
            if word in text:
                return text
        self.fail(f"the guest ended before it said {word!r}:\n{text[-3000:]}")
