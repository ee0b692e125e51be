"""What goes wrong on the host: bad input is one clear line, running machines survive or say so."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from guest import GUESTS, VMM, boot, kernel_args
from qmp_client import Qmp

QUIET = ["-accel", "soft", "-nodefaults", "-display", "none"]


class BadInput(unittest.TestCase):
    """Each is refused with exit status 1 and one line that names the culprit."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def file(self, name, content):
        path = f"{self.folder}/{name}"
        pathlib.Path(path).write_bytes(content)
        return path

    def refused(self, culprit, *args):
        done = subprocess.run([VMM, *QUIET, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        lines = done.stderr.decode().strip().splitlines()
        errors = [line for line in lines if "warning" not in line]
        self.assertEqual(done.returncode, 1, lines)
        self.assertEqual(len(errors), 1, lines)
        self.assertIn(culprit, errors[0])

    def test_missing_kernel(self):
        self.refused("/nonexistent/kernel", "-kernel", "/nonexistent/kernel")

    def test_kernel_is_a_folder(self):
        self.refused(self.folder, "-kernel", self.folder)

    def test_empty_kernel(self):
        self.refused("empty", "-kernel", self.file("empty", b""))

    def test_kernel_of_garbage(self):
        self.refused("garbage", "-kernel", self.file("garbage", bytes(range(256)) * 64))

    def test_truncated_kernel(self):
        with open(GUESTS + "/vmlinuz", "rb") as kernel:
            start = kernel.read(100000)
        self.refused("short", "-kernel", self.file("short", start))

    def test_truncated_elf(self):
        self.refused("short.elf", "-kernel", self.file("short.elf", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + b"\xff" * 44))

    def test_missing_initrd(self):
        self.refused("/nonexistent/initrd", "-kernel", GUESTS + "/vmlinuz", "-initrd", "/nonexistent/initrd")

    def test_initrd_larger_than_memory(self):
        path = self.file("huge", b"")
        os.truncate(path, 1 << 30)
        self.refused("huge", "-m", "256", "-kernel", GUESTS + "/vmlinuz", "-initrd", path)

    def test_missing_disk(self):
        self.refused("/nonexistent/disk", "-drive", "file=/nonexistent/disk,format=raw,if=virtio")

    def test_more_memory_than_the_host_can_promise(self):
        self.refused("1000T", "-m", "1000T")
        self.refused("guest memory", "-m", "40T")

    def test_unknown_option(self):
        self.refused("-frobnicate", "-frobnicate")

    def test_unknown_machine(self):
        self.refused("frob", "-M", "frob")

    def test_unknown_cpu(self):
        self.refused("frob", "-cpu", "frob")

    def test_unknown_device(self):
        self.refused("frob-pci", "-device", "frob-pci")

    def test_unknown_property(self):
        self.refused("frob", "-device", "virtio-rng-pci,frob=1")

    def test_property_out_of_range(self):
        self.refused("num-queues", "-drive", f"file={GUESTS}/disk.raw,format=raw,if=none,id=d,readonly=on", "-device",
                     "virtio-blk-pci,drive=d,num-queues=70000")

    def test_two_devices_in_one_slot(self):
        self.refused("virtio-rng-pci", "-device", "virtio-balloon-pci,addr=5", "-device", "virtio-rng-pci,addr=5")

    def test_two_devices_with_one_id(self):
        self.refused("twin", "-device", "virtio-balloon-pci,id=twin", "-device", "virtio-rng-pci,id=twin")

    def test_drive_that_does_not_exist(self):
        self.refused("nodrive", "-device", "virtio-blk-pci,drive=nodrive")

    def test_network_that_does_not_exist(self):
        self.refused("nonet", "-device", "virtio-net-pci,netdev=nonet")

    def test_nothing_is_left_behind(self):
        pidfile, monitor = self.folder + "/pid", self.folder + "/qmp"
        self.refused("/nonexistent/kernel", "-pidfile", pidfile, "-qmp", f"unix:{monitor},server=on,wait=off", "-kernel", "/nonexistent/kernel")
        self.assertEqual(os.listdir(self.folder), [])


class Running(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, command, *args, wrapper=()):
        self.serial = self.folder + "/serial"
        self.monitor = self.folder + "/qmp"
        process = subprocess.Popen([*wrapper, VMM, *QUIET, "-M", "pc", "-cpu", "max", "-m", "256", "-no-reboot", "-serial", f"file:{self.serial}",
                                    "-qmp", f"unix:{self.monitor},server=on,wait=off", *kernel_args(command), *args], stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def output(self):
        path = pathlib.Path(self.serial)
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, text, seconds=200):
        deadline = time.monotonic() + seconds
        while text not in self.output():
            self.assertLess(time.monotonic(), deadline, f"no '{text}' in {self.output()[-3000:]}")
            time.sleep(0.05)

    def test_sigterm_ends_in_order(self):
        process = self.start("echo up; sleep 1000")
        self.wait_for("up")
        qmp = Qmp(self.monitor)
        process.terminate()
        event = qmp.wait_event("SHUTDOWN")
        self.assertEqual(event["data"], {"guest": False, "reason": "host-signal"})
        self.assertEqual(process.wait(60), 0)
        self.assertFalse(os.path.exists(self.monitor))
        qmp.close()

    def test_guest_survives_stopping_the_process(self):
        process = self.start("echo up; sleep 3; echo still here")
        self.wait_for("up")
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        self.assertEqual(process.wait(200), 0)
        self.assertIn("still here", self.output())

    def test_guest_survives_a_monitor_that_goes_away(self):
        process = self.start("echo up; sleep 2; echo still here")
        for _ in range(3):
            first = Qmp(self.monitor, negotiate=False)
            first.socket.sendall(b'{"execute": "qmp_capab')
            first.close()
        second = Qmp(self.monitor)
        self.assertIn(second.command("query-status")["status"], ("running",))
        second.close()
        self.assertEqual(process.wait(200), 0)
        self.assertIn("still here", self.output())

    def small_file_system(self):
        """A wrapper that runs a command with a 1 MiB file system at self.folder/small, and a 16 MiB disk file on it."""
        if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("cannot mount here")
        os.mkdir(self.folder + "/small")
        script = (f'mount -t tmpfs -o size=1m tmpfs {self.folder}/small && truncate -s 16M {self.folder}/small/disk && exec "$@"')
        return ["unshare", "-m", "sh", "-c", script, "sh"]

    def test_full_disk_is_an_error_in_the_guest(self):
        command = "dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct 2>&1 || echo as it should be"
        process = self.start(command, "-drive", f"file={self.folder}/small/disk,format=raw,if=virtio,werror=report", wrapper=self.small_file_system())
        self.assertEqual(process.wait(200), 0)
        self.assertIn("as it should be", self.output())

    def test_full_disk_pauses_the_machine_until_there_is_room(self):
        process = self.start("dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct 2>&1 && echo all written", "-drive",
                             f"file={self.folder}/small/disk,format=raw,if=virtio,werror=stop,id=d0", wrapper=self.small_file_system())
        qmp = Qmp(self.monitor)
        error = qmp.wait_event("BLOCK_IO_ERROR")["data"]
        self.assertEqual((error["operation"], error["action"], error["nospace"]), ("write", "stop", True))
        qmp.wait_event("STOP")
        self.assertEqual(qmp.command("query-status")["status"], "io-error")
        subprocess.run(["nsenter", "-t", str(process.pid), "-m", "mount", "-o", "remount,size=64m", f"{self.folder}/small"], check=True)
        qmp.command("cont")
        self.assertEqual(process.wait(200), 0)
        self.assertIn("all written", self.output())
        qmp.close()

    def test_disk_in_use_by_another_machine(self):
        disk = self.folder + "/disk"
        pathlib.Path(disk).touch()
        os.truncate(disk, 1 << 20)
        drive = ["-drive", f"file={disk},format=raw,if=virtio"]
        self.start("echo up; sleep 1000", *drive)
        self.wait_for("up")
        done = subprocess.run([VMM, *QUIET, *drive], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(disk, done.stderr.decode())
        self.assertRegex(done.stderr.decode(), re.compile("lock", re.IGNORECASE))

    def test_balloon_and_power_button(self):
        process = self.start("while [ ! -e /proc/acpi ]; do sleep 1; done; echo up; cat /dev/input/event0 >/tmp/e & sleep 1000", "-device",
                             "virtio-balloon-pci,id=b")
        self.wait_for("up")
        qmp = Qmp(self.monitor)
        qmp.command("balloon", value=192 << 20)
        deadline = time.monotonic() + 60
        while qmp.command("query-balloon")["actual"] != 192 << 20:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        qmp.command("system_powerdown")
        qmp.wait_event("POWERDOWN")
        qmp.command("quit")
        self.assertEqual(process.wait(60), 0)
        qmp.close()

    def test_pause_stops_guest_time(self):
        process = self.start("read a b </proc/uptime; echo up; sleep 2; read c d </proc/uptime; echo took $a $c")
        self.wait_for("up")
        qmp = Qmp(self.monitor)
        qmp.command("stop")
        self.assertEqual(qmp.command("query-status"), {"running": False, "singlestep": False, "status": "paused"})
        time.sleep(5)
        qmp.command("cont")
        self.assertEqual(process.wait(200), 0)
        start, end = map(float, re.search(r"took ([\d.]+) ([\d.]+)", self.output()).groups())
        self.assertLess(end - start, 6)
        qmp.close()


class Unprivileged(unittest.TestCase):
    @unittest.skipIf(os.geteuid() != 0, "already unprivileged")
    def test_boot_as_nobody(self):
        with tempfile.TemporaryDirectory() as folder:  # the checkout itself may be out of others' reach
            os.chmod(folder, 0o755)
            for path in (VMM, GUESTS + "/vmlinuz", GUESTS + "/initrd"):
                shutil.copy(path, folder)
            args = [arg.replace(GUESTS, folder) for arg in kernel_args("id -u")]
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", folder + "/atoll-vmm", *QUIET, "-M", "pc", "-m", "256",
                       "-serial", "stdio", "-no-reboot", *args]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=200)
        self.assertIn("guest command ended with status 0", done.stdout.decode(errors="replace"), done.stderr)

    def test_boot_helper_reports_a_failing_guest(self):
        with self.assertRaises(AssertionError):
            boot("false")


if __name__ == "__main__":
    unittest.main()
