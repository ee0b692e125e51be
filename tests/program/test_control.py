"""The outside of a VM: command line, monitors, terminal, daemon, signals, sandbox."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from guest import VMM
from qmp_client import Qmp, QmpError
from terminal import Terminal

# No guest runs in these tests, or one that finds nothing to boot.
QUIET = ["-accel", "soft", "-m", "64", "-nodefaults", "-display", "none"]
STOPPED = QUIET + ["-S"]


class Folder(unittest.TestCase):
    """A test with a folder for sockets and files, whose processes end with it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return f"{self.folder}/{name}"

    def start(self, *args, **streams):
        process = subprocess.Popen([VMM, *args], stdin=streams.get("stdin", subprocess.DEVNULL),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def start_with_qmp(self, *args):
        process = self.start(*args, "-qmp", f"unix:{self.path('qmp')},server=on,wait=off")
        return process, self.connect()

    def connect(self, negotiate=True):
        qmp = Qmp(self.path("qmp"), negotiate=negotiate)
        self.addCleanup(qmp.close)
        return qmp

    def run_out(self, *args):
        return subprocess.run([VMM, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


class Errors(Folder):
    LINES = [
        (["-foo"], "-foo: invalid option"),
        (["-m"], "-m: requires an argument"),
        (["-kernel", "/nonexistent/kernel"], "/nonexistent/kernel"),
        (["-bios", "/nonexistent/bios"], "/nonexistent/bios"),
        (["-device", "foo"], "'foo' is not a valid device model name"),
        (["-device", "virtio-rng-pci,foo=1"], "Property 'virtio-rng-pci.foo' not found"),
        (["-device", "virtio-blk-pci,drive=nope"], "nope"),
        (["-device", "virtio-rng-pci,addr=4", "-device", "virtio-rng-pci,addr=4"], "4"),
        (["-drive", "file=/nonexistent/disk,format=raw,if=virtio"], "/nonexistent/disk"),
        (["-hda", "/nonexistent/disk"], "/nonexistent/disk"),
        (["-cpu", "foo"], "foo"),
        (["-cpu", "max,+foo"], "foo"),
        (["-m", "900T"], "-m 900T"),
        (["-serial", "unix:/nonexistent/socket"], "/nonexistent/socket"),
        (["-chardev", "file,id=c,path=/nonexistent/f", "-serial", "chardev:c"], "/nonexistent/f"),
        (["-pidfile", "/nonexistent/pid"], "/nonexistent/pid"),
        (["-netdev", "tap,id=t,fd=77", "-device", "virtio-net-pci,netdev=t"], "77"),
        (["-device", "virtio-net-pci,netdev=nope"], "nope"),
        (["-append", "x"], "-append"),
        (["-name", "two\nlines", "-foo\nbar"], "invalid option"),
    ]

    def test_each_is_one_line_with_the_culprit_and_status_1(self):
        for args, culprit in self.LINES:
            with self.subTest(args=args):
                done = self.run_out(*STOPPED, *args)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertTrue(done.stderr.startswith("atoll-vmm: "), done.stderr)
                self.assertIn(culprit, done.stderr)

    def test_nothing_is_left_behind(self):
        done = self.run_out(*STOPPED, "-pidfile", self.path("pid"), "-qmp", f"unix:{self.path('qmp')},server=on,wait=off",
                            "-kernel", "/nonexistent/kernel")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(os.listdir(self.folder), [])

    def test_help_and_version_succeed(self):
        for args, text in ((["-help"], "-netdev"), (["-version"], "QEMU emulator version 7.2"), (["-M", "help"], "microvm"),
                           (["-device", "help"], "virtio-net-pci"), (["-device", "virtio-blk-pci,help"], "drive"),
                           (["-cpu", "help"], "qemu64"), (["-accel", "help"], "kvm")):
            done = self.run_out(*args)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(text, done.stdout)


class QmpSocket(Folder):
    def test_conversation(self):
        _, qmp = self.start_with_qmp(*STOPPED, "-name", "guest-name", "-uuid", "12345678-1234-1234-1234-123456789abc", "-smp", "2")
        self.assertEqual(qmp.greeting["QMP"]["version"]["qemu"]["major"], 7)
        self.assertEqual(qmp.command("query-status"), {"status": "prelaunch", "running": False, "singlestep": False})
        self.assertEqual(qmp.command("query-name"), {"name": "guest-name"})
        self.assertEqual(qmp.command("query-uuid"), {"UUID": "12345678-1234-1234-1234-123456789abc"})
        self.assertEqual([cpu["cpu-index"] for cpu in qmp.command("query-cpus-fast")], [0, 1])
        self.assertEqual(qmp.command("query-kvm"), {"enabled": False, "present": True})
        self.assertEqual(qmp.exchange({"execute": "query-version", "id": [1]})["id"], [1])
        with self.assertRaisesRegex(QmpError, "The command nope has not been found"):
            qmp.command("nope")
        with self.assertRaisesRegex(QmpError, "Parameter 'x' is unexpected"):
            qmp.command("stop", x=1)

    def test_stop_and_cont_are_told(self):
        _, qmp = self.start_with_qmp(*STOPPED)
        qmp.command("cont")
        qmp.wait_event("RESUME")
        self.assertEqual(qmp.command("query-status")["status"], "running")
        qmp.command("stop")
        qmp.wait_event("STOP")
        self.assertEqual(qmp.command("query-status")["status"], "paused")

    def test_reset_is_told(self):
        _, qmp = self.start_with_qmp(*QUIET)
        qmp.command("system_reset")
        self.assertFalse(qmp.wait_event("RESET")["data"]["guest"])
        self.assertEqual(qmp.command("query-status")["status"], "running")

    def test_quit_removes_the_socket(self):
        process, qmp = self.start_with_qmp(*QUIET)
        qmp.command("quit")
        self.assertEqual(qmp.wait_event("SHUTDOWN")["data"]["reason"], "host-qmp-quit")
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(os.listdir(self.folder), [])

    def test_clients_come_and_go(self):
        _, first = self.start_with_qmp(*STOPPED)
        for _ in range(3):
            first.close()
            first = self.connect()
            self.assertEqual(first.command("query-status")["status"], "prelaunch")

    def test_a_client_that_never_reads_does_not_stop_the_others(self):
        process = self.start(*STOPPED, "-qmp", f"unix:{self.path('deaf')},server=on,wait=off", "-qmp",
                             f"unix:{self.path('qmp')},server=on,wait=off")
        qmp = self.connect()
        deaf = Qmp(self.path("deaf"))
        self.addCleanup(deaf.close)
        deaf.socket.setblocking(False)
        flood = b'{"execute": "query-commands"}\n' * 2000
        try:
            deaf.socket.sendall(flood)
        except BlockingIOError:
            pass
        for _ in range(50):
            qmp.command("query-commands")
        self.assertIsNone(process.poll())

    def test_garbage_is_answered_with_errors(self):
        _, qmp = self.start_with_qmp(*STOPPED)
        for garbage in ("[]", "{]", "{\"execute\": 1}", "nonsense\n", "[" * 5000 + "\n", "\x01\n"):
            qmp.stream.write(garbage + "\n")
            qmp.stream.flush()
            self.assertIn("error", qmp.receive())
        self.assertEqual(qmp.command("query-status")["status"], "prelaunch")

    def test_hot_plugged_back_ends(self):
        _, qmp = self.start_with_qmp(*STOPPED)
        disk = self.path("disk")
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        qmp.command("blockdev-add", driver="file", node_name="f", filename=disk)
        qmp.command("blockdev-add", driver="raw", node_name="d", file="f")
        self.assertEqual([node["node-name"] for node in qmp.command("query-named-block-nodes")], ["d", "f"])
        with self.assertRaisesRegex(QmpError, "Node f is in use"):
            qmp.command("blockdev-del", node_name="f")
        qmp.command("blockdev-del", node_name="d")
        qmp.command("blockdev-del", node_name="f")
        with self.assertRaisesRegex(QmpError, "Failed to find node with node-name='d'"):
            qmp.command("blockdev-del", node_name="d")
        qmp.command("netdev_add", type="user", id="n")
        qmp.command("netdev_del", id="n")
        qmp.command("object-add", qom_type="rng-random", id="r")
        qmp.command("object-del", id="r")

    def test_pretty_output_is_indented(self):
        self.start(*STOPPED, "-qmp-pretty", f"unix:{self.path('qmp')},server=on,wait=off")
        client = self.raw_client("qmp")
        text = client.recv(65536).decode()
        self.assertIn('{\n    "QMP": {', text.replace("\r", ""))
        json.loads(text)

    def raw_client(self, name):
        deadline = time.monotonic() + 60
        while True:
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            try:
                client.connect(self.path(name))
                client.settimeout(60)
                return client
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def test_descriptors_are_passed_by_getfd(self):
        self.start(*STOPPED, "-qmp", f"unix:{self.path('qmp')},server=on,wait=off")
        client = self.raw_client("qmp")
        client.recv(65536)
        client.sendall(b'{"execute": "qmp_capabilities"}')
        client.recv(65536)
        with open("/dev/null") as file:
            socket.send_fds(client, [b'{"execute": "getfd", "arguments": {"fdname": "f"}}'], [file.fileno()])
        self.assertIn("return", json.loads(client.recv(65536)))
        client.sendall(b'{"execute": "closefd", "arguments": {"fdname": "f"}}')
        self.assertIn("return", json.loads(client.recv(65536)))
        client.sendall(b'{"execute": "closefd", "arguments": {"fdname": "f"}}')
        self.assertIn("not found", client.recv(65536).decode())

    def test_human_monitor_through_qmp(self):
        _, qmp = self.start_with_qmp(*STOPPED, "-device", "virtio-rng-pci,id=rng")

        def human(line):
            return qmp.command("human-monitor-command", command_line=line)

        self.assertIn("paused (prelaunch)", human("info status"))
        self.assertIn("RIP=", human("info registers").upper())
        self.assertIn("virtio-rng-pci", human("info qtree"))
        self.assertIn("1af4", human("info pci"))
        self.assertIn("0000000000000000", human("info mtree"))
        # SeaBIOS's entry point: a far jump.
        self.assertEqual(human("xp /1bx 0xffff0"), "00000000000ffff0: 0xea\r\n")
        self.assertEqual(human("print $pc"), "0xfffffff0\r\n")


class Monitor(Folder):
    def test_human_monitor_on_a_socket(self):
        self.start(*STOPPED, "-monitor", f"unix:{self.path('monitor')},server=on,wait=off")
        client = QmpSocket.raw_client(self, "monitor")
        text = client.recv(4096)
        while b"(qemu) " not in text:
            text += client.recv(4096)
        client.sendall(b"info status\n")
        text = b""
        while text.count(b"(qemu) ") < 1:
            text += client.recv(4096)
        self.assertIn(b"VM status: paused (prelaunch)", text)


class Life(Folder):
    def test_sigterm_ends_the_vm_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process, qmp = self.start_with_qmp(*QUIET)
            process.send_signal(number)
            self.assertEqual(qmp.wait_event("SHUTDOWN")["data"], {"guest": False, "reason": "host-signal"})
            qmp.close()
            self.assertEqual(process.wait(60), 0)
            self.assertIn(f"terminating on signal {int(number)} from pid", process.stderr.read().decode())
            self.assertEqual(os.listdir(self.folder), [])

    def test_sigterm_while_waiting_for_a_client(self):
        process = self.start(*QUIET, "-pidfile", self.path("pid"), "-serial", f"unix:{self.path('serial')},server=on")
        self.assertIn(b"waiting for connection", process.stderr.readline())
        process.terminate()
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(os.listdir(self.folder), [])

    def test_stopped_and_continued_process_goes_on(self):
        process, qmp = self.start_with_qmp(*QUIET)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        self.assertEqual(qmp.command("query-status")["status"], "running")

    def test_a_closed_standard_output_is_survived(self):
        process = self.start(*QUIET, "-serial", "stdio", "-qmp", f"unix:{self.path('qmp')},server=on,wait=off")
        process.stdout.close()
        qmp = self.connect()
        qmp.command("system_reset")
        self.assertEqual(qmp.command("query-status")["status"], "running")
        qmp.command("quit")
        self.assertEqual(process.wait(60), 0)
        process.stdout = None

    def test_killed_process_is_a_power_cut_and_nothing_else(self):
        process, _ = self.start_with_qmp(*QUIET)
        process.kill()
        process.wait(60)
        # The socket it left behind does not keep the next one from starting.
        _, qmp = self.start_with_qmp(*QUIET)
        self.assertEqual(qmp.command("query-status")["status"], "running")


class Daemon(Folder):
    def daemon_pid(self):
        with open(self.path("pid")) as file:
            return int(file.read())

    def test_parent_returns_when_the_vm_is_ready(self):
        done = self.run_out(*STOPPED, "-daemonize", "-pidfile", self.path("pid"), "-qmp", f"unix:{self.path('qmp')},server=on,wait=off")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        pid = self.daemon_pid()
        os.kill(pid, 0)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        self.assertEqual(os.getsid(pid) == os.getsid(0), False)
        qmp = self.connect()
        qmp.command("quit")
        deadline = time.monotonic() + 60
        while os.listdir(self.folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(os.listdir(self.folder), [])

    def test_errors_reach_the_parents_standard_error(self):
        done = self.run_out(*STOPPED, "-daemonize", "-pidfile", self.path("pid"), "-kernel", "/nonexistent/kernel")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/kernel", done.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_pid_file_is_locked(self):
        process, _ = self.start_with_qmp(*STOPPED, "-pidfile", self.path("pid"))
        self.assertEqual(self.daemon_pid(), process.pid)
        done = self.run_out(*STOPPED, "-pidfile", self.path("pid"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot create PID file", done.stderr)
        self.assertEqual(self.daemon_pid(), process.pid, "the loser took the winner's file away")


class OnATerminal(Folder):
    def terminal(self, *args):
        terminal = Terminal([VMM, *args])
        self.addCleanup(terminal.close)
        return terminal

    NOGRAPHIC = ["-accel", "soft", "-m", "64", "-S", "-net", "none", "-nographic"]

    def test_ctrl_a_x_ends_and_the_terminal_is_restored(self):
        terminal = self.terminal(*self.NOGRAPHIC)
        terminal.wait_until(terminal.is_raw)
        terminal.type("\x01x")
        terminal.wait_for("QEMU: Terminated")
        self.assertEqual(terminal.end(), 0)
        self.assertTrue(terminal.is_restored())

    def test_ctrl_a_c_switches_to_the_monitor(self):
        terminal = self.terminal(*self.NOGRAPHIC)
        terminal.wait_until(terminal.is_raw)
        terminal.type("\x01c")
        terminal.wait_for("(qemu) ")
        terminal.type("info statu\t\r")
        terminal.wait_for("VM status: paused (prelaunch)")
        terminal.wait_for("(qemu) ")
        terminal.type("quit\r")
        self.assertEqual(terminal.end(), 0)
        self.assertTrue(terminal.is_restored())

    def test_ctrl_a_h_explains(self):
        terminal = self.terminal(*self.NOGRAPHIC)
        terminal.wait_until(terminal.is_raw)
        terminal.type("\x01h")
        terminal.wait_for("C-a x    exit emulator")

    def test_escape_character_can_be_another(self):
        terminal = self.terminal(*self.NOGRAPHIC, "-echr", "0x14")
        terminal.wait_until(terminal.is_raw)
        terminal.type("\x14h")
        terminal.wait_for("C-t x    exit emulator")

    def test_terminal_is_restored_after_every_end(self):
        for number in (signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT):
            terminal = self.terminal(*self.NOGRAPHIC)
            terminal.wait_until(terminal.is_raw)
            terminal.process.send_signal(number)
            terminal.end()
            terminal.wait_until(terminal.is_restored)

    def test_terminal_is_restored_while_stopped(self):
        terminal = self.terminal(*self.NOGRAPHIC)
        terminal.wait_until(terminal.is_raw)
        time_before = terminal.settings()
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.wait_until(terminal.is_restored)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_until(lambda: terminal.settings() == time_before)

    def test_set_up_errors_leave_the_terminal_alone(self):
        terminal = self.terminal(*self.NOGRAPHIC, "-kernel", "/nonexistent/kernel")
        self.assertEqual(terminal.end(), 1)
        terminal.wait_for("/nonexistent/kernel")
        self.assertTrue(terminal.is_restored())

    def test_ctrl_c_is_the_guests_with_the_monitor_and_ours_without(self):
        terminal = self.terminal(*QUIET, "-S", "-serial", "stdio")
        terminal.wait_until(terminal.is_raw)
        terminal.process.send_signal(signal.SIGINT)
        self.assertEqual(terminal.end(), 0)
        terminal = self.terminal(*self.NOGRAPHIC)
        terminal.wait_until(terminal.is_raw)
        terminal.type("\x03\x01x")
        terminal.wait_for("QEMU: Terminated")
        self.assertEqual(terminal.end(), 0)

    def test_explicit_mux(self):
        terminal = self.terminal(*STOPPED, "-chardev", "stdio,id=c,mux=on,signal=off", "-serial", "chardev:c", "-mon", "chardev=c")
        terminal.wait_until(terminal.is_raw)
        terminal.type("\x01c")
        terminal.wait_for("(qemu) ")
        terminal.type("\x01x")
        self.assertEqual(terminal.end(), 0)

    def test_serial_port_on_a_pty(self):
        process = self.start(*QUIET, "-S", "-serial", "pty", "-qmp", f"unix:{self.path('qmp')},server=on,wait=off")
        line = process.stderr.readline().decode()
        self.assertRegex(line, r"char device redirected to /dev/pts/\d+ \(label serial0\)")
        qmp = self.connect()
        names = {chardev["label"]: chardev["filename"] for chardev in qmp.command("query-chardev")}
        self.assertIn("pty:/dev/pts/", names["serial0"])


class Sandbox(Folder):
    def seccomp_mode(self, process):
        with open(f"/proc/{process.pid}/status") as file:
            return [line.split()[1] for line in file if line.startswith("Seccomp:")][0]

    def test_filter_is_installed_on_every_thread(self):
        process, qmp = self.start_with_qmp(*QUIET, "-sandbox",
                                           "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
        self.assertEqual(qmp.command("query-status")["status"], "running")
        for thread in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{thread}/status") as file:
                self.assertIn("Seccomp:\t2\n", file.read())

    def test_what_monitors_do_works_under_the_filter(self):
        process, qmp = self.start_with_qmp(*QUIET, "-sandbox", "on,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
        qmp.command("stop")
        qmp.command("cont")
        qmp.command("system_reset")
        qmp.command("netdev_add", type="user", id="n")
        qmp.command("device_add", driver="virtio-net-pci", id="d", netdev="n")
        qmp.command("human-monitor-command", command_line="info registers")
        qmp.command("pmemsave", val=0, size=65536, filename=self.path("memory"))
        self.assertEqual(os.stat(self.path("memory")).st_size, 65536)
        qmp.command("quit")
        self.assertEqual(process.wait(60), 0)


if __name__ == "__main__":
    unittest.main()
