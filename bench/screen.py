"""What the remote screen costs: bytes and CPU time for a scrolling text console and a moving window, beside QEMU's.

The guest is a boot sector, so that both programs show the same pictures; the viewer asks for the next update as soon as it has
one, as viewers do. CPU time is that of all threads but the vCPU's."""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "program"))
from rfb import Viewer  # noqa: E402
from screen_guests import PROGRAMS, boot_sector  # noqa: E402
from vmm import VMM, cpu_seconds  # noqa: E402

ENCODINGS = {"tight": 7, "zrle": 16, "hextile": 5}


class CountingViewer(Viewer):
    """Reads updates without unpacking them."""

    count = 0

    def read(self, size):
        self.count += size
        return super().read(size)

    def update(self):
        assert self.read(1) == b"\0"
        _, rectangles = struct.unpack(">BH", self.read(3))
        for _ in range(rectangles):
            _, _, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            {1: lambda *_: self.read(4), 7: self.tight, 16: self.zrle, 5: self.hextile, -223: lambda w, h: setattr(self, "size", (w, h))}[encoding](width, height)
            if encoding == -223:
                self.width, self.height = width, height

    def zrle(self, *_):
        self.read(struct.unpack(">I", self.read(4))[0])

    def compact(self):
        value = shift = 0
        while True:
            byte, = self.read(1)
            value |= (byte & (0xff if shift == 14 else 0x7f)) << shift
            if shift == 14 or not byte & 0x80:
                return value
            shift += 7

    def tight(self, width, height):
        control = self.read(1)[0] >> 4
        if control == 8:
            return self.read(3)
        if control == 9:
            return self.read(self.compact())
        size = width * height * 3
        if control & 4 and self.read(1) == b"\1":
            colours = self.read(1)[0] + 1
            self.read(colours * 3)
            size = (width + 7) // 8 * height if colours == 2 else width * height
        return self.read(size if size < 12 else self.compact())

    def hextile(self, width, height):
        for y in range(0, height, 16):
            for x in range(0, width, 16):
                flags, = self.read(1)
                if flags & 1:
                    self.read(min(16, width - x) * min(16, height - y) * 4)
                    continue
                self.read(4 * bool(flags & 2) + 4 * bool(flags & 4))
                if flags & 8:
                    self.read(self.read(1)[0] * (6 if flags & 16 else 2))


def cpu_beside_guest(pid):
    """CPU seconds of all threads that run no guest code."""
    total = cpu_seconds(pid)
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
        if name.startswith("CPU ") or name.startswith("timer"):
            fields = rest.split()
            total -= (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(program, disk, encoding, seconds):
    accelerator = "tcg" if program == "qemu" else "soft"
    with tempfile.TemporaryDirectory() as folder:
        args = [VMM[program], "-accel", accelerator, "-m", "32", "-nodefaults", "-vga", "std", "-vnc", f"unix:{folder}/vnc",
                "-drive", f"file={disk},format=raw,if=virtio,readonly=on"]
        if program == "qemu":
            args += ["-name", "x,debug-threads=on"]  # so that its vCPU can be told from its other threads
        process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            viewer = connect(f"{folder}/vnc")
            viewer.encodings(encoding, 1, -223)
            viewer.ask()
            settle = time.monotonic() + 12   # firmware is through by then
            while time.monotonic() < settle:
                viewer.update()
                viewer.ask(incremental=True)
            viewer.count, start, began = 0, cpu_beside_guest(process.pid), time.monotonic()
            updates = 0
            while time.monotonic() < began + seconds:
                viewer.update()
                viewer.ask(incremental=True)
                updates += 1
            return viewer.count, cpu_beside_guest(process.pid) - start, updates
        finally:
            process.kill()
            process.wait()


def connect(path):
    for _ in range(600):
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(path)
            stream.settimeout(60)
            return CountingViewer(stream)
        except OSError:
            stream.close()
            time.sleep(0.05)
    raise TimeoutError(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--encoding", choices=ENCODINGS, default="tight")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in PROGRAMS:
            disk = boot_sector(folder, name)
            for program in VMM:
                count, cpu, updates = measure(program, disk, ENCODINGS[options.encoding], options.seconds)
                print(f"{name:8} {options.encoding:8} {program:6} {updates:5} updates  {count / 1024:9.1f} KiB  {cpu:6.3f} s CPU", flush=True)


if __name__ == "__main__":
    main()
