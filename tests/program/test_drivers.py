"""Linux's own drivers for graphic adapters, virtio input devices, the watchdog and the panic devices, and its sleep."""

import os
import socket
import struct
import time
import unittest

from driven_guest import DrivenGuest
from guest import GUESTS
from qmp_client import QmpError
from rfb import Viewer
from test_screen import read_png

GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
CELL_WIDTH, CELL_HEIGHT = 8, 16


def cells(width, height, rows):
    """A frame buffer console's characters as pictures of one colour, line by line."""
    for top in range(0, height - CELL_HEIGHT + 1, CELL_HEIGHT):
        lines = [bytes(any(row[x * 3:x * 3 + 3]) for x in range(width)) for row in rows[top:top + CELL_HEIGHT]]
        yield [b"".join(line[x:x + CELL_WIDTH] for line in lines) for x in range(0, width - CELL_WIDTH + 1, CELL_WIDTH)]


def read_console(picture):
    """The text on a frame buffer console that shows GLYPHS at the start of some line; "" before it does."""
    lines = list(cells(*picture))
    for line in lines:
        known = dict(zip(line, GLYPHS))
        if len(known) == len(GLYPHS) and bytes(CELL_WIDTH * CELL_HEIGHT) not in known:
            return "\n".join("".join(known.get(cell, " ") for cell in line).rstrip() for line in lines)
    return ""


class Graphics(DrivenGuest):
    """The guest writes to its frame buffer console, which pictures must show."""

    def start_console(self, *options, append="", then="read line"):
        self.start(f"dmesg -n 1; echo -e '\\033[?25l\\033[2J\\033[H{GLYPHS}\\nThe guest wrote this' >/dev/tty0; echo shown; {then}", "-vnc",
                   "127.0.0.1:0,to=200", *options, append=append)
        self.read_until("shown")
        self.port = int(self.qmp.command("query-vnc")["service"])

    def dump(self):
        path = f"{self.folder}/dump.png"
        self.qmp.command("screendump", filename=path, format="png")
        return read_png(path)

    def wait_for_picture(self, *size):
        """The screen with the guest's text, which must have that size."""
        deadline = time.monotonic() + 60
        while "The guest wrote this" not in (text := read_console(picture := self.dump())) or picture[:2] != size:
            self.assertLess(time.monotonic(), deadline, f"{picture[:2]} shows:\n{text}")
            time.sleep(0.2)
        return picture

    def connect_viewer(self):
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.addCleanup(stream.close)
        return Viewer(stream)

    def expect_viewer_sees(self, picture):
        rows = [bytes(r) for r in self.connect_viewer().raw_picture()]
        self.assertEqual(rows, picture[2])

    def check_console(self, *options, size, append=""):
        self.start_console(*options, append=append)
        self.expect_viewer_sees(self.wait_for_picture(*size))
        self.type("")
        self.read_until("guest command ended with status 0")

    def test_console_on_virtio_gpu_has_the_size_of_its_properties(self):
        self.check_console("-device", "virtio-gpu-pci,xres=1000,yres=700", size=(1000, 700))

    def test_console_on_virtio_vga(self):
        self.check_console("-vga", "virtio", size=(1280, 800))

    def test_console_on_bochs_display_in_a_mode_of_the_kernels_choice(self):
        self.check_console("-device", "bochs-display", size=(800, 600), append="video=800x600")

    def test_console_on_standard_vga(self):
        self.check_console("-vga", "std", size=(1024, 768), append="video=1024x768")

    def test_viewer_that_resizes_its_window_resizes_the_screen(self):
        self.start_console("-device", "virtio-gpu-pci", then="read a; cat /sys/class/drm/card0-Virtual-1/modes | head -n 1; read b")
        self.wait_for_picture(1280, 800)
        viewer = self.connect_viewer()
        viewer.encodings(0, -308)
        # SetDesktopSize with one screen (RFB: 7.4.10).
        viewer.stream.sendall(struct.pack(">BxHHBxIHHHHI", 251, 1000, 600, 1, 0, 0, 0, 1000, 600, 0))
        deadline = time.monotonic() + 60
        while self.dump()[:2] != (1000, 600):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)
        self.type("")
        self.read_until("1000x600")


class Input(DrivenGuest):
    """Events come as Linux tells them: type, code and value in hexadecimal."""

    def listen(self, name, count, *options):
        self.start(f"n=$(grep -A4 '{name}' /proc/bus/input/devices | grep -o event[0-9]*); exec 3</dev/input/$n; echo listening; "
                   f"dd bs=24 count={count} <&3 2>/dev/null | od -An -v -tx2 -w24 | cut -c41-", *options)
        self.read_until("listening")

    def expect(self, *events):
        text = self.read_until("guest command ended")
        for event in events:
            self.assertIn(event, text)

    def test_keys_of_virtio_keyboard(self):
        self.listen("Virtio Keyboard", 4, "-device", "virtio-keyboard-pci")
        self.qmp.command("send-key", keys=[{"type": "qcode", "data": "a"}])
        self.expect("0001 001e 0001", "0001 001e 0000")

    def test_place_and_button_of_virtio_tablet(self):
        self.listen("Virtio Tablet", 5, "-device", "virtio-tablet-pci")
        self.qmp.command("input-send-event", events=[{"type": "abs", "data": {"axis": "x", "value": 0x1234}},
                                                     {"type": "abs", "data": {"axis": "y", "value": 0x5678}},
                                                     {"type": "btn", "data": {"button": "right", "down": True}}])
        self.expect("0003 0000 1234", "0003 0001 5678", "0001 0111 0001")

    def test_movement_and_wheel_of_virtio_mouse(self):
        self.listen("Virtio Mouse", 4, "-device", "virtio-mouse-pci")
        self.qmp.command("human-monitor-command", command_line="mouse_move 5 -3 1")
        self.expect("0002 0000 0005", "0002 0001 fffd", "0002 0008")


class Watchdog(DrivenGuest):
    LOAD = "rmmod i6300esb; insmod /lib/modules/i6300esb.ko heartbeat={}; exec 3>/dev/watchdog; echo armed; "

    def test_unfed_it_does_what_the_monitor_chose(self):
        # One line of input is one meal.
        self.start(self.LOAD.format(1) + "while read x; do echo . >&3; done", "-device", "i6300esb", "-watchdog-action", "none")
        self.read_until("armed")
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"]["action"], "none")
        for action in ("debug", "inject-nmi", "shutdown", "pause"):
            self.qmp.command("watchdog-set-action", action=action)
            self.type("")
            self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"]["action"], action)
            if action == "inject-nmi":
                self.read_until("NMI received")
        self.qmp.wait_event("STOP")
        self.assertEqual(self.qmp.command("query-status")["status"], "watchdog")
        self.qmp.command("watchdog-set-action", action="poweroff")
        self.qmp.command("cont")
        self.type("")
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"]["action"], "poweroff")
        self.assertEqual(self.vmm.wait(60), 0)

    def test_fed_it_stays_quiet_and_starved_it_resets(self):
        self.start(self.LOAD.format(8) + "for i in 1 2 3; do sleep 4; echo . >&3; done; echo fed; sleep 600", "-device", "i6300esb")
        self.read_until("fed")
        self.assertFalse([e for e in self.qmp.events if e["event"] == "WATCHDOG"])
        self.assertEqual(self.qmp.wait_event("WATCHDOG")["data"]["action"], "reset")
        self.assertEqual(self.qmp.wait_event("SHUTDOWN")["data"]["reason"], "guest-reset")  # -no-reboot


@unittest.skipUnless(os.path.exists("/usr/share/seabios/bios-256k.bin"), "no SeaBIOS")
class Sleep(DrivenGuest):
    """Suspend to RAM: SeaBIOS finds its way back into the kernel. A file in memory and a disk are there as before."""
    ENTER = "echo deep >/sys/power/mem_sleep; echo kept >/tmp/a; {} echo mem >/sys/power/state; cat /tmp/a; echo awake; "

    def fall_asleep(self, *options, before="", after="", machine="pc"):
        self.start(self.ENTER.format(before) + after, "-M", machine, "-bios", "bios-256k.bin", *options, append="no_console_suspend")
        self.qmp.wait_event("SUSPEND")
        self.assertEqual(self.qmp.command("query-status"), {"running": False, "singlestep": False, "status": "suspended"})
        self.qmp.command("stop")
        self.qmp.command("cont")
        self.assertEqual(self.qmp.command("query-status")["status"], "suspended")

    def expect_awake(self):
        self.qmp.wait_event("WAKEUP")
        self.assertIn("kept", self.read_until("awake"))
        self.assertEqual(self.qmp.command("query-status")["status"], "running")

    def test_the_monitor_wakes_a_guest_and_its_disks(self):
        disk = f"{GUESTS}/disk.raw"
        self.fall_asleep("-smp", "2", "-drive", f"file={disk},format=raw,if=virtio,snapshot=on", "-drive", f"file={disk},format=raw,index=0,snapshot=on",
                         after="echo 3 >/proc/sys/vm/drop_caches; for d in vda sda; do mount -o ro /dev/$d /mnt && cat /mnt/hello && umount /mnt; done; nproc")
        self.assertTrue(self.qmp.command("query-current-machine")["wakeup-suspend-support"])
        self.qmp.command("system_wakeup")
        self.expect_awake()
        text = self.read_until("guest command ended with status 0")
        self.assertEqual(text.count("Hello from the disk."), 2)
        self.assertIn("\n2", text)

    def test_the_power_button_wakes(self):
        self.fall_asleep(machine="q35")
        self.qmp.command("system_powerdown")
        self.expect_awake()

    def test_the_clock_wakes(self):
        self.fall_asleep(before="echo +25 >/sys/class/rtc/rtc0/wakealarm;")
        self.expect_awake()

    def test_a_guest_asleep_is_reset(self):
        self.fall_asleep()
        self.qmp.command("system_reset")
        self.assertEqual(self.qmp.command("query-status")["status"], "running")
        with self.assertRaisesRegex(QmpError, "guest is not in suspended state"):
            self.qmp.command("system_wakeup")
        self.qmp.wait_event("SUSPEND")  # it has started anew, and sleeps again

    def test_states_can_be_taken_away(self):
        self.start("cat /sys/power/state /sys/power/mem_sleep; echo end", "-bios", "bios-256k.bin", "-global", "PIIX4_PM.disable_s3=1")
        self.assertNotIn("deep", self.read_until("end"))
        self.assertFalse(self.qmp.command("query-current-machine")["wakeup-suspend-support"])
        with self.assertRaisesRegex(QmpError, "wake-up from suspend is not supported by this machine"):
            self.qmp.command("system_wakeup")


class Panic(DrivenGuest):
    CRASH = "echo c >/proc/sysrq-trigger"

    def test_crash_is_told_by_the_port_and_pauses(self):
        self.start(self.CRASH, "-device", "pvpanic", "-action", "panic=pause")
        event = self.qmp.wait_event("GUEST_PANICKED")
        self.assertEqual(event["data"]["action"], "pause")
        self.assertEqual(self.qmp.command("query-status")["status"], "guest-panicked")

    def test_crash_is_told_by_the_pci_function_and_fails_the_program(self):
        self.start(self.CRASH, "-device", "pvpanic-pci", "-action", "panic=exit-failure")
        self.qmp.wait_event("GUEST_PANICKED")
        self.assertEqual(self.vmm.wait(60), 1)


if __name__ == "__main__":
    unittest.main()
