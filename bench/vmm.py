"""The programs to measure as processes: how to start a VM of each kind and what its CPU time is."""

import os
import select
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("ATOLL_BUILD", ROOT + "/build")
GUESTS = os.environ.get("ATOLL_GUESTS", ROOT + "/build/guests")
VMM = {"atoll": BUILD + "/bin/atoll-vmm", "qemu": "qemu-system-x86_64"}

# What runs a guest without hardware: program and accelerator.
SOFT = {
    "tcg": ("qemu", "tcg"),
    "interp": ("atoll", "soft,translate=off"),
    "atoll": ("atoll", "soft"),
}


def cpu_seconds(pid):
    """User and system time of all threads that a process has or had: its CPU clock (clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


def kernel_args(command, append=""):
    """Boot the stock kernel, run a command in it and power off."""
    return ["-M", "pc", "-cpu", "max", "-kernel", GUESTS + "/vmlinuz", "-initrd", GUESTS + "/initrd",
            "-append", f'console=ttyS0 quiet panic=-1 {append} atoll.run="{command}"',
            "-serial", "stdio", "-display", "none", "-nodefaults", "-no-reboot"]


class Guest:
    """A VM that runs a bash script in the tree of packages, and whose serial port we read line by line.

    The tree is /dev/vda, read-only, the script /dev/vdb."""

    def __init__(self, who, script, memory=1024, extra=(), before=()):
        program, accelerator = SOFT[who]
        self.who, self.tail = who, b""
        self.script = tempfile.NamedTemporaryFile("w")
        self.script.write(script + "exit\n" + "#" * (-len(script) % 512))
        self.script.flush()
        command = "mount -t ext4 -o ro,noload /dev/vda /mnt; mount -t devtmpfs dev /mnt/dev; chroot /mnt bash /dev/vdb"
        args = [*before, VMM[program], "-accel", accelerator, "-m", str(memory), *kernel_args(command)]
        for index, path in enumerate((GUESTS + "/bench.raw", self.script.name)):
            args += ["-drive", f"file={path},format=raw,if=none,id=d{index},readonly=on", "-device", f"virtio-blk-pci,drive=d{index}"]
        self.process = subprocess.Popen([*args, *extra], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.script.close()
        if kind in (RuntimeError, TimeoutError):
            raise RuntimeError(f"{self.who}: {error}:\n{self.tail.decode(errors='replace')}") from error

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def lines(self, timeout):
        """The lines that come until the guest ends, or a TimeoutError."""
        deadline = time.monotonic() + timeout
        rest = b""
        while True:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the guest takes too long")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                return
            self.tail = (self.tail + chunk)[-4000:]
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                yield line.decode(errors="replace").strip()
