"""A small VNC viewer for tests, and a relay that keeps what passes."""

import socket
import ssl
import struct
import subprocess
import threading


def password_is_accepted(stream, password):
    """Comes in with VNC authentication (RFB, 7.2.2); False if the server refuses."""
    def read(size):
        return stream.recv(size, socket.MSG_WAITALL)

    assert read(12) == b"RFB 003.008\n"
    stream.sendall(b"RFB 003.008\n")
    assert read(read(1)[0]) == b"\2"
    stream.sendall(b"\2")
    challenge = read(16)
    # Each byte of the key has its bits the other way round.
    key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode()[:8].ljust(8, b"\0"))
    answer = subprocess.run(["openssl", "enc", "-des-ecb", "-provider", "legacy", "-provider", "default", "-nopad", "-K", key.hex()],
                            input=challenge, capture_output=True, check=True).stdout
    stream.sendall(answer)
    return read(4) == bytes(4)


class Viewer:
    """Comes in over a socket without a password; with `authority`, through VeNCrypt's TLS."""

    def __init__(self, stream, authority=None):
        self.stream = stream
        assert self.read(12) == b"RFB 003.008\n"
        self.stream.sendall(b"RFB 003.008\n")
        kinds = self.read(self.read(1)[0])
        assert kinds == (b"\x13" if authority else b"\x01"), kinds
        self.stream.sendall(kinds)
        if authority:
            self.begin_tls(authority)
        assert self.read(4) == bytes(4)
        self.stream.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()

    def begin_tls(self, authority):
        assert self.read(2) == b"\0\2"
        self.stream.sendall(b"\0\2")
        assert self.read(1) == b"\0"
        kinds = self.read(4 * self.read(1)[0])
        self.stream.sendall(kinds[:4])
        assert self.read(1) == b"\1"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(authority)
        self.stream = context.wrap_socket(self.stream)

    def read(self, size):
        data = b""
        while len(data) < size:
            part = self.stream.recv(size - len(data))
            if not part:
                raise EOFError("the server closed the connection")
            data += part
        return data

    def encodings(self, *numbers):
        self.stream.sendall(struct.pack(f">BxH{len(numbers)}i", 2, len(numbers), *numbers))

    def ask(self, incremental=False):
        self.stream.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def key(self, symbol):
        for down in (1, 0):
            self.stream.sendall(struct.pack(">BBxxI", 4, down, symbol))

    def follow(self, rows):
        """Reads one update of Raw and CopyRect rectangles into `rows`; returns how many were copies."""
        kind, count = struct.unpack(">BxH", self.read(4))
        assert kind == 0
        copies = 0
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            if encoding == 1:
                from_x, from_y = struct.unpack(">HH", self.read(4))
                parts = [bytes(rows[from_y + i][from_x * 3:(from_x + width) * 3]) for i in range(height)]
                copies += 1
            else:
                assert encoding == 0
                parts = [self.pixels(width) for _ in range(height)]
            for i, part in enumerate(parts):
                rows[y + i][x * 3:(x + width) * 3] = part
        return copies

    def pixels(self, width):
        """A row of red, green, blue."""
        line, out = self.read(width * 4), bytearray(width * 3)
        for channel in range(3):
            out[channel::3] = line[2 - channel::4]
        return out

    def raw_picture(self):
        """The whole picture as rows of red, green, blue."""
        self.encodings(0)
        self.ask()
        rows = [bytearray(self.width * 3) for _ in range(self.height)]
        kind, count = struct.unpack(">BxH", self.read(4))
        assert kind == 0
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            assert encoding == 0
            for row in range(y, y + height):
                rows[row][x * 3:(x + width) * 3] = self.pixels(width)
        return rows

    def power(self, action):
        """2 shuts down, 3 reboots, 4 resets (xvp)."""
        self.stream.sendall(bytes([250, 0, 1, action]))

    def close(self):
        self.stream.close()


class Relay:
    """Listens on a port of its own and passes everything on to another one; keeps the server's bytes."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.from_server = b""
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
        self.copy(server, client, True)

    def copy(self, source, sink, keep):
        try:
            while data := source.recv(65536):
                if keep:
                    self.from_server += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            source.close()

    def close(self):
        self.listener.close()
