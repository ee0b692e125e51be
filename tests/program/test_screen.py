"""The display adapter with real firmware: what its screen shows, and what is typed."""

import os
import shutil
import struct
import time
import unittest
import zlib

from test_control import Folder

PC = ["-accel", "soft", "-m", "64", "-nodefaults", "-display", "none", "-vga", "std"]


def read_png(path):
    """Width, height and the rows of an RGB picture without filters."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        size, = struct.unpack(">I", data[at:at + 4])
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += size + 12
    raw, line = zlib.decompress(packed), width * 3 + 1
    return width, height, [raw[y * line + 1:(y + 1) * line] for y in range(height)]


class Pc(Folder):
    """A PC with a screen."""

    def start_pc(self, *args):
        _, self.qmp = self.start_with_qmp(*PC, *args)

    def text(self):
        return self.qmp.command("human-monitor-command", command_line="info screen")

    def wait_for_text(self, wanted, seconds=60, key=None):
        """Until the screen shows it, pressing `key` meanwhile."""
        deadline = time.monotonic() + seconds
        while wanted not in (text := self.text()):
            self.assertLess(time.monotonic(), deadline, f"{wanted!r} never came; the screen shows:\n{text}")
            if key:
                self.qmp.command("send-key", keys=[{"type": "qcode", "data": key}], hold_time=20)
            time.sleep(0.1)
        return text

class Firmware(Pc):
    def test_seabios_writes_to_the_screen(self):
        self.start_pc()
        text = self.wait_for_text("No bootable device.")
        self.assertIn("SeaBIOS (version", text)

    def test_screendump_is_a_picture_of_it(self):
        self.start_pc()
        self.wait_for_text("No bootable device.")
        self.assertTrue(any(self.dumps_agree() for _ in range(10)), "a PNG and a PPM of one screen differ")

    def dumps_agree(self):
        """Whether both formats show one picture: false also if the cursor blinked between the two."""
        for name in ("screen.png", "screen.ppm"):
            self.qmp.command("screendump", filename=self.path(name), format=name[-3:])
        width, height, rows = read_png(self.path("screen.png"))
        self.assertEqual((width, height), (720, 400))
        inks = {row[i:i + 3] for row in rows for i in range(0, len(row), 3)}
        self.assertEqual(inks, {b"\0\0\0", b"\xaa\xaa\xaa"})
        with open(self.path("screen.ppm"), "rb") as file:
            return file.read() == b"P6\n720 400\n255\n" + b"".join(rows)

    def test_escape_opens_the_boot_menu(self):
        self.start_pc("-boot", "menu=on")
        self.wait_for_text("Select boot device:", key="esc")

    def test_without_adapter_there_is_no_screen(self):
        _, qmp = self.start_with_qmp(*PC[:-2], "-S")
        with self.assertRaisesRegex(Exception, "screendump"):
            qmp.command("screendump", filename=self.path("x.ppm"))


class ScreenInMemory(Pc):
    """-device ramfb: firmware chooses the picture's place."""

    def picture(self):
        self.qmp.command("screendump", filename=self.path("screen.png"), format="png")
        width, height, rows = read_png(self.path("screen.png"))
        return (width, height), {row[i:i + 3] for row in rows for i in range(0, len(row), 3)}

    def wait_for_picture(self, seconds=120):
        deadline = time.monotonic() + seconds
        while (seen := self.picture())[0] == (640, 480) or len(seen[1]) < 2:
            self.assertLess(time.monotonic(), deadline, f"nothing was drawn: {seen[0]}")
            time.sleep(0.5)
        return seen

    def test_seabios_draws_its_text(self):
        self.start_pc("-vga", "none", "-device", "ramfb,id=fb")
        size, inks = self.wait_for_picture()
        self.assertIn(b"\0\0\0", inks)
        self.assertGreaterEqual(size, (800, 600))

    @unittest.skipUnless(os.path.exists("/usr/share/OVMF/OVMF_CODE_4M.fd"), "needs ovmf")
    def test_ovmf_draws_its_logo(self):
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", self.path("vars"))
        self.start_pc("-vga", "none", "-device", "ramfb", "-m", "256", "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                      "-drive", f"if=pflash,format=raw,file={self.path('vars')}")
        size, _ = self.wait_for_picture()
        self.assertGreaterEqual(size, (800, 600))


if __name__ == "__main__":
    unittest.main()
