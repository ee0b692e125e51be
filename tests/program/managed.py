"""atolld in a private folder, and Debian's own clients against it."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from guest import BUILD, GUESTS

ATOLLD = BUILD + "/bin/atolld"
PATIENCE = 120

# A VM whose kernel says hello on its serial port and then waits: small, and started in a second or two.
GUEST = """<domain type='{type}'>
  <name>{name}</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{guests}/vmlinuz</kernel><initrd>{guests}/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 {append}</cmdline></os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices><controller type='usb' model='none'/>{devices}</devices>
</domain>"""


def guest_xml(name, devices="<serial type='pty'/>", append="", kind="qemu"):
    return GUEST.format(name=name, guests=GUESTS, devices=devices, append=append, type=kind)


def wait_until(condition, what, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.05)
    return result


class Managed:
    """A daemon with its folders; VMs are killed at the end."""

    def __init__(self, prefix=(), config=""):
        """`prefix`: what comes before the daemon's command line (unshare, nsenter); `config`: the text of atolld.conf."""
        self.root = tempfile.mkdtemp(prefix="atolld-")
        os.chmod(self.root, 0o711)  # the VMs' users pass through
        os.makedirs(self.root + "/etc")
        with open(self.root + "/etc/atolld.conf", "w") as file:
            file.write(config)
        self.prefix = list(prefix)
        self.process = None
        self.start()

    @property
    def uri(self):
        return f"qemu+unix:///system?socket={self.root}/run/libvirt-sock"

    def start(self):
        self.log = open(f"{self.root}/daemon.log", "a")
        self.process = subprocess.Popen([*self.prefix, ATOLLD, "--root", self.root], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until(lambda: os.path.exists(f"{self.root}/run/libvirt-sock") or self.process.poll() is not None, "the daemon listens")
        if self.process.poll() is not None:
            raise AssertionError(self.said())

    def kill(self, how=signal.SIGKILL):
        """The daemon ends; its VMs do not."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.log.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.root}/run/libvirt-sock")

    def virsh(self, *words, fails=False):
        """Runs a command of virsh; its output, or what it complains about if it is to fail."""
        done = subprocess.run(["virsh", "-c", self.uri, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        if (done.returncode != 0) != fails:
            raise AssertionError(f"virsh {words}: status {done.returncode}\n{done.stdout}{done.stderr}\n{self.said()}")
        return done.stderr if fails else done.stdout

    def write(self, name, text):
        path = f"{self.root}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path

    def define(self, xml):
        return self.virsh("define", self.write("new.xml", xml))

    def state(self, name):
        return self.virsh("domstate", name).strip()

    def vm_pids(self):
        """Processes of VMs of this daemon: those whose command line names its folder or that it has on record."""
        found = []
        for name in os.listdir(f"{self.root}/run/domains") if os.path.isdir(f"{self.root}/run/domains") else []:
            if name.endswith(".xml"):
                with open(f"{self.root}/run/domains/{name}") as file:
                    text = file.read()
                found.append(int(text.split("pid='")[1].split("'")[0]))
        return found

    def said(self):
        text = ""
        for folder in (self.root, f"{self.root}/log"):
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                if name.endswith(".log"):
                    with open(f"{folder}/{name}", errors="replace") as file:
                        text += f"--- {name}\n" + file.read()[-3000:]
        return text

    def close(self):
        # A daemon that lives clears up behind its VMs; what it does not end is killed.
        if self.process.poll() is None:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                for name in self.virsh("list", "--name").split():
                    self.virsh("destroy", name)
        for pid in self.vm_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.root, ignore_errors=True)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise unittest.SkipTest(f"{program} is not installed")
