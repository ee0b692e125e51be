"""The remote screen with real viewers: TigerVNC, gtk-vnc, noVNC in Chromium; and with a small one of our own."""

import os
import shutil
import socket
import subprocess
import time
import unittest

from browser import Files, Page
from rfb import Relay, Viewer, password_is_accepted
from screen_guests import boot_sector
from test_screen import PC, Pc, read_png
from test_img_nbd import make_certificates

NOVNC = "/usr/share/novnc"
ESCAPE = 0xff1b


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return unittest.skipIf(missing, f"not installed: {' '.join(missing)}")


class Viewers(Pc):
    """A PC that waits at "No bootable device.", or with `menu` at a prompt for its boot menu."""

    def start_shown(self, vnc="", *options, menu=False):
        args = ["-boot", "menu=on,splash-time=30000", "-S"] if menu else []
        self.start_pc("-vnc", f"127.0.0.1:0,to=200{vnc}", *options, *args)
        self.port = int(self.qmp.command("query-vnc")["service"])
        if not menu:
            self.wait_for_text("No bootable device.")

    def dump(self):
        self.qmp.command("screendump", filename=self.path("dump.png"), format="png")
        return read_png(self.path("dump.png"))

    def connect_viewer(self, port=None, authority=None):
        stream = socket.create_connection(("127.0.0.1", port or self.port), timeout=60)
        self.addCleanup(stream.close)
        return Viewer(stream, authority)

    def menu_comes_by(self, press):
        """Presses Escape in some viewer until the guest's boot menu is there."""
        self.qmp.command("cont")
        deadline = time.monotonic() + 90
        while "Select boot device:" not in (text := self.text()):
            self.assertLess(time.monotonic(), deadline, text)
            press()
            time.sleep(0.2)


class Capture(Viewers):
    def test_raw_picture_is_the_screendump(self):
        self.start_shown()
        rows = self.connect_viewer().raw_picture()
        self.assertEqual([bytes(r) for r in rows], self.cursor_free(rows))

    def cursor_free(self, rows):
        """The screendump's rows, in the phase of the blinking cursor that `rows` show."""
        deadline = time.monotonic() + 10
        while (dump := self.dump()[2]) != [bytes(r) for r in rows] and time.monotonic() < deadline:
            time.sleep(0.05)
        return dump

    @needs("gvnccapture")
    def test_gtk_vnc_captures_what_the_screendump_shows(self):
        self.start_shown()
        number = self.port - 5900
        picture = self.path("capture.png")
        # The connection lasts shorter than a phase of the cursor; more than one try may be needed for both in one phase.
        for _ in range(8):
            subprocess.run(["gvnccapture", f"127.0.0.1:{number}", picture], check=True, timeout=60, capture_output=True)
            subprocess.run(["convert", picture, "-depth", "8", f"rgb:{picture}.rgb"], check=True, timeout=60)
            with open(f"{picture}.rgb", "rb") as file:
                data = file.read()
            for _ in range(8):
                if data == b"".join(self.dump()[2]):
                    return
                time.sleep(0.05)
        self.fail("the pictures differ")

    def test_typing_reaches_the_guest(self):
        self.start_shown(menu=True)
        viewer = self.connect_viewer()
        self.menu_comes_by(lambda: viewer.key(ESCAPE))


class Policy(Viewers):
    def test_viewers_are_listed_and_told_of(self):
        self.start_shown()
        self.connect_viewer()
        self.assertEqual(self.qmp.wait_event("VNC_CONNECTED")["data"]["client"]["family"], "ipv4")
        self.qmp.wait_event("VNC_INITIALIZED")
        self.assertEqual(len(self.qmp.command("query-vnc")["clients"]), 1)
        self.assertEqual(self.qmp.command("query-vnc-servers")[0]["auth"], "none")

    def test_garbage_and_silence_do_not_disturb_the_machine(self):
        self.start_shown(",connections=2")
        silent = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(silent.close)
        for noise in (b"GET / HTTP/1.0\r\n\r\n", b"RFB 003.008\n\x01\x01" + b"\xff" * 4096):
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as stream:
                stream.sendall(noise)
                try:
                    while stream.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        for _ in range(3):  # the silent one makes room
            self.connect_viewer().close()
        self.assertEqual(self.qmp.command("query-status")["status"], "running")

    def test_one_who_reads_nothing_is_not_waited_for(self):
        self.start_shown()
        lazy = self.connect_viewer()
        for _ in range(2000):
            lazy.ask()
        other = self.connect_viewer()
        self.assertEqual(len(other.raw_picture()), other.height)

    def test_bad_options_are_refused_by_name(self):
        for options, word in ((",sasl=on", "sasl"), (",reverse=on,to=9", "reverse"), (",tls-creds=no", "no"), (",foo=1", "foo"),
                              (",share=all", "share"), (",password-secret=p", "p")):
            done = self.run_out("-vnc", "127.0.0.1:0" + options, "-S")
            self.assertEqual(done.returncode, 1)
            self.assertIn(word, done.stderr)


@needs("openssl")
class Passwords(Viewers):
    def accepts(self, password):
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as stream:
            return password_is_accepted(stream, password)

    def test_nobody_comes_in_before_there_is_one_and_after_its_end(self):
        self.start_pc("-S", "-vnc", "127.0.0.1:0,to=200,password=on")
        self.port = int(self.qmp.command("query-vnc")["service"])
        self.assertEqual(self.qmp.command("query-vnc")["auth"], "vnc")
        self.assertFalse(self.accepts(""))
        self.qmp.command("set_password", protocol="vnc", password="open")
        self.assertTrue(self.accepts("open"))
        self.assertFalse(self.accepts("closed"))
        for time_text, open_now in (("now", False), ("+1000", True), ("1", False), ("never", True)):
            self.qmp.command("expire_password", protocol="vnc", time=time_text)
            self.assertEqual(self.accepts("open"), open_now, time_text)

    def test_the_human_monitor_changes_it(self):
        self.start_pc("-S", "-object", "secret,id=p,data=first", "-vnc", "127.0.0.1:0,to=200,password-secret=p")
        self.port = int(self.qmp.command("query-vnc")["service"])
        self.assertTrue(self.accepts("first"))
        for line, password in (("change vnc password second", "second"), ("set_password vnc third", "third")):
            self.assertEqual(self.qmp.command("human-monitor-command", command_line=line), "")
            self.assertTrue(self.accepts(password))
            self.assertFalse(self.accepts("first"))
        self.qmp.command("change-vnc-password", password="fourth")
        self.assertTrue(self.accepts("fourth"))
        self.assertIn("Expected 'password'", self.qmp.command("human-monitor-command", command_line="change vnc :1"))
        self.qmp.command("human-monitor-command", command_line="expire_password vnc now")
        self.assertFalse(self.accepts("fourth"))


class Many(Viewers):
    def test_all_viewers_see_the_same_and_a_flood_does_not_shut_them_out(self):
        self.start_shown(",connections=8")
        viewers = [self.connect_viewer() for _ in range(3)]
        flood = [socket.create_connection(("127.0.0.1", self.port), timeout=60) for _ in range(60)]
        for stream in flood:
            self.addCleanup(stream.close)
        pictures = [v.raw_picture() for v in viewers]
        self.assertEqual(len(self.qmp.command("query-vnc")["clients"]), 3)
        sizes = {(len(p), len(p[0])) for p in pictures}
        self.assertEqual(sizes, {(400, 720 * 3)})
        self.connect_viewer().raw_picture()
        self.assertEqual(self.qmp.command("query-status")["status"], "running")

    def test_power_control_resets_the_guest(self):
        self.start_shown(",power-control=on")
        viewer = self.connect_viewer()
        viewer.encodings(0, -309)
        self.assertEqual(viewer.read(4), bytes([250, 0, 1, 1]))
        viewer.power(4)
        self.assertFalse(self.qmp.wait_event("RESET")["data"]["guest"])

    def test_listening_viewer_is_called(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(60)
            self.start_pc("-vnc", f"127.0.0.1:{listener.getsockname()[1]},reverse=on")
            stream, _ = listener.accept()
        self.addCleanup(stream.close)
        stream.settimeout(60)
        rows = Viewer(stream).raw_picture()
        self.assertIn((len(rows[0]) // 3, len(rows)), ((640, 480), (720, 400)))  # before and after the firmware's start

    def test_nobody_listening_is_an_error_with_the_address(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            done = self.run_out(*PC, "-vnc", f"127.0.0.1:{port},reverse=on", "-S")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"127.0.0.1:{port}", done.stderr)


class Moving(Viewers):
    @needs("as", "ld")
    def test_moving_window_is_copied_and_ends_as_the_screendump_shows_it(self):
        disk = boot_sector(self.folder, "window")
        self.start_pc("-vnc", "127.0.0.1:0,to=200", "-drive", f"file={disk},format=raw,if=virtio,readonly=on")
        self.port = int(self.qmp.command("query-vnc")["service"])
        deadline = time.monotonic() + 90
        while self.dump()[:2] in ((640, 480), (720, 400)):  # without firmware, and the firmware's text mode
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)
        viewer = self.connect_viewer()
        viewer.encodings(0, 1)
        rows = [bytearray(viewer.width * 3) for _ in range(viewer.height)]
        viewer.ask()
        copies = 0
        while copies < 5:
            self.assertLess(time.monotonic(), deadline)
            copies += viewer.follow(rows)
            viewer.ask(incremental=True)
        self.qmp.command("stop")
        viewer.ask()  # the answer comes behind what is under way, or in it
        while [bytes(r) for r in rows] != self.dump()[2]:
            self.assertLess(time.monotonic(), deadline)
            viewer.follow(rows)


class Encrypted(Viewers):
    def setUp(self):
        super().setUp()
        make_certificates(self.path("pki"))
        self.credentials = ["-object", f"tls-creds-x509,id=tls0,dir={self.path('pki')},endpoint=server,verify-peer=off"]

    def expect_tls(self, data):
        """Behind VeNCrypt's agreement there are only TLS records, and nothing in them is readable."""
        self.assertNotIn(b"Atoll", data)
        at = data.index(b"\x16\x03")
        kinds = set()
        while at + 5 <= len(data):
            self.assertIn(data[at], (20, 21, 22, 23))
            self.assertEqual(data[at + 1], 3)
            kinds.add(data[at])
            at += 5 + int.from_bytes(data[at + 3:at + 5], "big")
        self.assertIn(23, kinds)

    def test_bytes_on_the_wire_are_tls(self):
        self.start_shown(",tls-creds=tls0", *self.credentials)
        self.assertEqual(self.qmp.command("query-vnc")["auth"], "vencrypt+x509+none")
        relay = Relay(self.port)
        self.addCleanup(relay.close)
        viewer = self.connect_viewer(relay.port, self.path("pki/ca-cert.pem"))
        self.assertEqual(viewer.name, "Atoll")
        viewer.raw_picture()
        self.expect_tls(relay.from_server)

    @needs("vncviewer", "Xvfb")
    def test_tigervnc_comes_in_over_tls(self):
        self.start_shown(",tls-creds=tls0", *self.credentials)
        relay = Relay(self.port)
        self.addCleanup(relay.close)
        with Desktop(self) as desktop:
            desktop.start("vncviewer", "-SecurityTypes", "X509None", f"-X509CA={self.path('pki/ca-cert.pem')}", f"127.0.0.1::{relay.port}")
            self.qmp.wait_event("VNC_INITIALIZED")
        self.expect_tls(relay.from_server)


class Desktop:
    """An X server without a screen, for viewers with windows."""

    def __init__(self, test):
        self.test = test
        self.processes = []

    def __enter__(self):
        read, write = os.pipe()
        self.server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"],
                                       pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as number:
            self.display = ":" + number.readline().strip()
        self.environment = {**os.environ, "DISPLAY": self.display, "HOME": self.test.folder}
        return self

    def __exit__(self, *_):
        for process in [*self.processes, self.server]:
            process.kill()
            process.wait()

    def start(self, *words):
        self.processes.append(subprocess.Popen(words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                               stderr=subprocess.DEVNULL))

    def run(self, *words):
        return subprocess.run(words, env=self.environment, capture_output=True, timeout=60)

    def picture(self):
        """The rows of the whole desktop."""
        path = self.test.path("desktop.rgb")
        self.run("import", "-window", "root", "-depth", "8", f"rgb:{path}")
        with open(path, "rb") as file:
            data = file.read()
        return [data[y * 1024 * 3:(y + 1) * 1024 * 3] for y in range(768)]


class TigerVnc(Viewers):
    @needs("vncviewer", "Xvfb", "import", "xdotool")
    def test_window_shows_the_screen_and_typing_reaches_the_guest(self):
        self.start_shown(menu=True)
        with Desktop(self) as desktop:
            desktop.start("vncviewer", "-SecurityTypes", "None", "-RemoteResize=0", f"127.0.0.1::{self.port}")
            self.qmp.wait_event("VNC_INITIALIZED")
            self.menu_comes_by(lambda: desktop.run("xdotool", "search", "--onlyvisible", "--name", "Atoll", "windowfocus", "key", "Escape"))
            self.wait_until_shown(desktop)

    def wait_until_shown(self, desktop):
        """Until a whole line of the guest's text stands in the window as the screendump has it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            width, _, rows = self.dump()
            wanted = [r for r in rows if len({r[i:i + 3] for i in range(0, len(r), 3)}) > 1][:8]
            picture = desktop.picture()
            if wanted and all(any(w.strip(b"\0") in line for line in picture) for w in wanted):
                return
            time.sleep(0.2)
        self.fail("the viewer's window never showed the screen")


class NoVnc(Viewers):
    @unittest.skipUnless(os.path.isdir(NOVNC), "no noVNC")
    @needs("chromium")
    def test_browser_shows_the_screen_and_typing_reaches_the_guest(self):
        self.start_shown(",websocket=0", menu=True)
        places = self.qmp.command("query-vnc-servers")[0]["server"]
        port = next(p["service"] for p in places if p["websocket"])
        files = Files(NOVNC)
        self.addCleanup(files.close)
        page = Page(self.path("browser"), f"http://127.0.0.1:{files.port}/vnc_lite.html?host=127.0.0.1&port={port}")
        self.addCleanup(page.close)
        self.qmp.wait_event("VNC_INITIALIZED")
        self.menu_comes_by(lambda: (page.evaluate("document.querySelector('canvas').focus()"), page.key("Escape", "Escape", 27)))
        self.wait_until_shown(page)

    def wait_until_shown(self, page):
        """Until the canvas has as many bright pixels as the screendump, and where it has them."""
        script = ("(() => { const c = document.querySelector('canvas'); if (!c || !c.width) return null;"
                  "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
                  "let s = c.width + 'x' + c.height + ':'; let h = 0;"
                  "for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] * 65536 + d[i + 1] * 256 + d[i + 2]) % 1000003;"
                  "return s + h; })()")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            seen = page.evaluate(script)
            width, height, rows = self.dump()
            value = 0
            for row in rows:
                for i in range(0, len(row), 3):
                    value = (value * 31 + row[i] * 65536 + row[i + 1] * 256 + row[i + 2]) % 1000003
            if seen == f"{width}x{height}:{value}":
                return
            time.sleep(0.2)
        self.fail(f"the page shows {seen}")


if __name__ == "__main__":
    unittest.main()
