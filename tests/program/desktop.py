"""A desktop of one's own: a mount namespace with its own /run, where libvirt's default sockets are, and an X server without a screen."""

import contextlib
import os
import signal
import subprocess
import time

PATIENCE = 120


class Desktop:
    """Ends with close(); what ran on it ends, too."""

    def __init__(self, root):
        self.root = root
        os.makedirs(root + "/home", exist_ok=True)
        own = os.readlink("/proc/self/ns/mnt")
        self.processes = []
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c",
                                        "mount -t tmpfs none /run && mkdir -p /run/libvirt /run/user/0 && echo ready && exec sleep infinity"],
                                       stdout=subprocess.PIPE, text=True)
        self.processes.append(self.holder)
        if self.holder.stdout.readline().strip() != "ready" or os.readlink(f"/proc/{self.holder.pid}/ns/mnt") == own:
            raise AssertionError("no mount namespace of one's own")
        server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
        self.processes.append(server)
        self.display = ":" + server.stdout.readline().strip()

    @property
    def prefix(self):
        """Before the command line of whatever is to run there."""
        return ["nsenter", "-t", str(self.holder.pid), "-m"]

    def start(self, *words):
        environment = {**os.environ, "DISPLAY": self.display, "HOME": self.root + "/home", "XDG_RUNTIME_DIR": "/run/user/0", "NO_AT_BRIDGE": "1",
                       "GSETTINGS_BACKEND": "memory", "LANG": "C.UTF-8", "GDK_BACKEND": "x11", "LIBGL_ALWAYS_SOFTWARE": "1"}
        log = open(self.root + "/desktop.log", "a")
        process = subprocess.Popen([*self.prefix, "dbus-run-session", "--", *words], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
        log.close()
        self.processes.append(process)
        return process

    def x(self, *words):
        """xdotool's answer; "" when it finds nothing."""
        done = subprocess.run(["xdotool", *words], env={**os.environ, "DISPLAY": self.display}, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def text(self):
        """What can be read on the screen."""
        picture = self.root + "/screen.png"
        subprocess.run(["import", "-window", "root", "-resize", "200%", picture], env={**os.environ, "DISPLAY": self.display}, check=True, timeout=60)
        return read_picture(picture)

    def wait_for_text(self, *words, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while True:
            text = self.text()
            if all(word in text for word in words):
                return text
            if time.monotonic() > deadline:
                with open(self.root + "/desktop.log", errors="replace") as log:
                    raise AssertionError(f"never on the screen: {words}\n{text}\n{log.read()[-2000:]}")
            time.sleep(0.5)

    def close(self):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                if process.pid == os.getpgid(process.pid):
                    os.killpg(process.pid, signal.SIGTERM)
                else:
                    process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def read_picture(path):
    done = subprocess.run(["tesseract", path, "-", "--psm", "11"], capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, "OMP_THREAD_LIMIT": "1"})
    return done.stdout
