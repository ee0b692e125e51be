"""A QMP client that keeps events, for tests."""

import json
import socket
import time


class QmpError(Exception):
    def __init__(self, reply):
        super().__init__(reply["error"]["desc"])
        self.kind = reply["error"]["class"]


class Qmp:
    """Connects to a Unix socket at which a VMM (`process`, if the caller started it) listens, or soon will."""

    def __init__(self, path, timeout=60, negotiate=True, process=None):
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if process and process.poll() is not None:
                    raise EOFError(f"the VMM ended with status {process.returncode}")
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.socket.settimeout(timeout)
        self.stream = self.socket.makefile("rw", encoding="utf-8", newline="\n")
        self.events = []
        self.greeting = self.receive()
        if negotiate:
            self.command("qmp_capabilities")

    def receive(self):
        line = self.stream.readline()
        if not line:
            raise EOFError("the monitor was closed")
        return json.loads(line)

    def exchange(self, message):
        """Sends one message; returns the reply, error or not."""
        self.stream.write(json.dumps(message) + "\n")
        self.stream.flush()
        while "event" in (reply := self.receive()):
            self.events.append(reply)
        return reply

    def command(self, name, /, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        reply = self.exchange(message)
        if "error" in reply:
            raise QmpError(reply)
        return reply["return"]

    def wait_event(self, name):
        """The next event of that name; earlier ones of other names are dropped."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] == name:
                    return event
            self.events.append(self.receive())

    def close(self):
        self.stream.close()
        self.socket.close()
