"""A program on a pseudo-terminal, as a user at a keyboard meets it."""

import os
import pty
import select
import subprocess
import termios
import time


class Terminal:
    """Runs a command on a terminal of its own; `text` collects what it shows."""

    def __init__(self, command):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True)

    def settings(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.settings()[3] & (termios.ICANON | termios.ECHO)

    def is_restored(self):
        return self.settings() == self.before and os.get_blocking(self.slave)

    def type(self, text):
        os.write(self.master, text.encode("latin-1"))

    def wait_for(self, text, timeout=60):
        """Reads until `text` has been shown after what earlier calls waited for."""
        deadline = time.monotonic() + timeout
        while text not in self.text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"no {text!r} on the terminal, only {self.text!r}")
            self.text += os.read(self.master, 65536).decode(errors="replace")
        found = self.text.index(text) + len(text)
        shown, self.text = self.text[:found], self.text[found:]
        return shown

    def wait_until(self, condition, timeout=60):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"it never came true; on the terminal: {self.text!r}")
            time.sleep(0.01)

    def end(self, timeout=60):
        return self.process.wait(timeout)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
