"""A daemon of one's own in a temporary folder, and Debian's virsh against it."""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from guest import BUILD

ATOLLD = BUILD + "/bin/atolld"
REMOTE, KEEPALIVE = 0x20008086, 0x6B656570
CALL, REPLY, MESSAGE, STREAM = 0, 1, 2, 3


class Daemon:
    """Runs until stop(). `config`: the text of atolld.conf; `before`: words before the program's."""

    def __init__(self, config="", arguments=(), before=()):
        self.root = tempfile.mkdtemp(prefix="atolld.")
        os.makedirs(self.root + "/etc")
        with open(self.root + "/etc/atolld.conf", "w") as file:
            file.write(config)
        self.arguments = list(arguments)
        self.before = list(before)
        self.socket = self.root + "/run/libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.before, ATOLLD, "--root", self.root, *self.arguments], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.log = b""
        end = time.monotonic() + 60
        while b"ready" not in self.log:
            if not select.select([self.process.stderr], [], [], end - time.monotonic())[0]:
                raise AssertionError(f"atolld is not ready: {self.log.decode()}")
            data = os.read(self.process.stderr.fileno(), 65536)
            if not data:
                raise AssertionError(f"atolld ended: {self.log.decode()}")
            self.log += data

    def stop(self, number=signal.SIGTERM):
        """Ends the process; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.log += self.process.stderr.read()
        self.process.stderr.close()
        return status

    def remove(self):
        self.stop()
        shutil.rmtree(self.root)

    def virsh(self, *arguments, status=0, uri=None, env=None):
        """What virsh prints; fails on another exit status."""
        done = subprocess.run(["virsh", "-q", "-c", uri or self.uri, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120, env=env)
        if status is not None and done.returncode != status:
            raise AssertionError(f"virsh {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr


class DaemonCase(unittest.TestCase):
    """One daemon for the cases of a class."""

    CONFIG = ""

    @classmethod
    def setUpClass(cls):
        if not shutil.which("virsh"):
            raise unittest.SkipTest("no virsh")
        cls.daemon = Daemon(cls.CONFIG)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.remove()


def xdr_string(text):
    data = text.encode()
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


class Wire:
    """A client that speaks frames, to say what virsh never would."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(path)
        self.serial = 0

    def close(self):
        self.sock.close()

    def send(self, procedure, payload=b"", program=REMOTE, version=1, kind=CALL, status=0, serial=None):
        if serial is None:
            serial = self.serial
            self.serial += 1
        self.sock.sendall(struct.pack(">7I", 28 + len(payload), program, version, procedure, kind, serial, status) + payload)
        return serial

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self):
        """(program, version, procedure, type, serial, status), payload"""
        length, *header = struct.unpack(">7I", self.read(28))
        return tuple(header), self.read(length - 28)

    def call(self, procedure, payload=b"", **how):
        """The payload of an answer, or a tuple (code, domain, message) of an error."""
        self.send(procedure, payload, **how)
        header, answer = self.receive()
        return answer if header[5] == 0 else self.error(answer)

    @staticmethod
    def error(payload):
        code, domain, there = struct.unpack(">iiI", payload[:12])
        length = struct.unpack(">I", payload[12:16])[0] if there else 0
        return code, domain, payload[16:16 + length].decode()

    def open(self, name="qemu:///system", flags=0):
        return self.call(1, struct.pack(">I", 1) + xdr_string(name) + struct.pack(">I", flags))
