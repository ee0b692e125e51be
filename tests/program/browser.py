"""Headless Chromium, driven over its DevTools protocol by a WebSocket client of our own."""

import base64
import http.server
import json
import os
import socket
import struct
import subprocess
import threading
import time
import urllib.request


class Socket:
    """A WebSocket client: text messages."""

    def __init__(self, url):
        host, _, path = url.removeprefix("ws://").partition("/")
        name, _, port = host.partition(":")
        self.socket = socket.create_connection((name, int(port)), timeout=60)
        self.stream = self.socket.makefile("rwb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.stream.flush()
        while self.stream.readline().strip():
            pass

    def send(self, text):
        data = text.encode()
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0xfe, len(data))
        self.stream.write(b"\x81" + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
        self.stream.flush()

    def receive(self):
        text = b""
        while True:
            first, size = self.stream.read(2)
            if size == 126:
                size, = struct.unpack(">H", self.stream.read(2))
            elif size == 127:
                size, = struct.unpack(">Q", self.stream.read(8))
            text += self.stream.read(size)
            if first & 0x80:
                return text.decode()

    def close(self):
        self.stream.close()
        self.socket.close()


class Page:
    def __init__(self, folder, url, width=1000, height=700):
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}", f"--window-size={width},{height}", url],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.count = 0
        self.socket = None
        try:
            self.socket = Socket(self.find_page(f"{folder}/DevToolsActivePort"))
        except BaseException:
            self.close()
            raise

    def find_page(self, port_file):
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with open(port_file) as file:
                    port = int(file.readline())
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
                    pages = [p for p in json.load(reply) if p["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            except (OSError, ValueError):
                pass
            time.sleep(0.1)
        raise AssertionError("Chromium did not start")

    def command(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == self.count:
                return message["result"]

    def evaluate(self, expression):
        return self.command("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def key(self, key, code, number):
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=number)

    def close(self):
        if self.socket:
            self.socket.close()
        self.process.kill()
        self.process.wait()


class Files:
    """A folder over HTTP on a port of the kernel's choice."""

    def __init__(self, folder):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=folder)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
