"""A vhost-user back end for a NIC, small enough for a test: it answers ARP and ping for 10.9.9.1."""

import array
import mmap
import os
import select
import socket
import struct
import threading

GET_FEATURES, SET_FEATURES, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE = 1, 2, 5, 8, 9, 10
GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, GET_PROTOCOL_FEATURES = 11, 12, 13, 15
VERSION_1, PROTOCOL_FEATURES, REPLY_ACK = 1 << 32, 1 << 30, 1 << 3
HEADER_BYTES = 12  # of a frame: virtio_net_hdr
MAC = bytes.fromhex("020000000099")
ADDRESS = bytes([10, 9, 9, 1])


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data[:len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def answer_to(frame):
    """The frame that the host 10.9.9.1 sends back, or None."""
    kind = frame[12:14]
    if kind == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == ADDRESS:
        return (frame[6:12] + MAC + frame[12:20] + b"\0\2" + MAC + ADDRESS + frame[22:32]).ljust(60, b"\0")
    if kind == b"\x08\0" and frame[23] == 1 and frame[30:34] == ADDRESS and frame[34] == 8:
        end = 14 + struct.unpack(">H", frame[16:18])[0]
        echo = b"\0\0\0\0" + frame[38:end]
        echo = echo[:2] + struct.pack(">H", checksum(echo)) + echo[4:]
        return frame[6:12] + MAC + frame[12:26] + frame[30:34] + frame[26:30] + echo
    return None


class Ring:
    def __init__(self):
        self.size = self.available = self.used = 0
        self.kick = self.call = -1


class Switch:
    """Listens at `path`, serves one machine at a time on a thread of its own, and counts frames."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.frames = 0
        self.failure = self.peer = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self):
        self.listener.close()
        if self.peer:
            self.peer.close()

    def run(self):
        try:
            self.peer, _ = self.listener.accept()
            self.rings = [Ring(), Ring()]
            self.regions = []
            while self.turn():
                pass
        except OSError as error:
            self.failure = error

    def turn(self):
        kicks = [ring.kick for ring in self.rings if ring.kick >= 0]
        ready, _, _ = select.select([self.peer, *kicks], [], [])
        for ring in self.rings:
            if ring.kick in ready:
                os.read(ring.kick, 8)
        if self.rings[1].kick in ready:
            self.transmit()
        return self.message() if self.peer in ready else True

    def memory(self, address, size):
        for start, area in self.regions:
            if start <= address and address + size <= start + len(area):
                return area, address - start
        raise OSError("an address outside of the table")

    def read(self, address, size):
        area, at = self.memory(address, size)
        return area[at:at + size]

    def write(self, address, data):
        area, at = self.memory(address, len(data))
        area[at:at + len(data)] = data

    def take(self, ring):
        """The next chain: its head, and (address, size, writable) of its buffers. None: there is none."""
        if struct.unpack("<H", self.read(ring.driver + 2, 2))[0] == ring.available:
            return None
        head = struct.unpack("<H", self.read(ring.driver + 4 + 2 * (ring.available % ring.size), 2))[0]
        ring.available = (ring.available + 1) & 0xffff
        buffers, index = [], head
        while True:
            address, size, flags, following = struct.unpack("<QIHH", self.read(ring.descriptors + 16 * index, 16))
            buffers.append((address, size, bool(flags & 2)))
            if not flags & 1:
                return head, buffers
            index = following

    def give(self, ring, head, written):
        self.write(ring.device + 4 + 8 * (ring.used % ring.size), struct.pack("<II", head, written))
        ring.used = (ring.used + 1) & 0xffff
        self.write(ring.device + 2, struct.pack("<H", ring.used))
        os.write(ring.call, struct.pack("<Q", 1))

    def transmit(self):
        while chain := self.take(self.rings[1]):
            head, buffers = chain
            frame = b"".join(self.read(address, size) for address, size, _ in buffers)[HEADER_BYTES:]
            self.give(self.rings[1], head, 0)
            self.frames += 1
            if answer := answer_to(frame):
                self.send(bytes(10) + struct.pack("<H", 1) + answer)

    def send(self, data):
        chain = self.take(self.rings[0])
        if not chain:
            return
        head, buffers = chain
        done = 0
        for address, size, _ in buffers:
            self.write(address, data[done:done + size])
            done += min(size, len(data) - done)
        self.give(self.rings[0], head, done)

    def message(self):
        fds = array.array("i")
        header, ancillary, _, _ = self.peer.recvmsg(12, socket.CMSG_SPACE(8 * fds.itemsize))
        if len(header) < 12:
            return False
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data)
        request, flags, size = struct.unpack("<III", header)
        payload = self.peer.recv(size, socket.MSG_WAITALL) if size else b""
        answer = self.handle(request, payload, list(fds))
        if answer is None and flags & 8:
            answer = bytes(8)
        if answer is not None:
            self.peer.sendall(struct.pack("<III", request, 5, len(answer)) + answer)
        return True

    def handle(self, request, payload, fds):
        if request == GET_FEATURES:
            return struct.pack("<Q", VERSION_1 | PROTOCOL_FEATURES)
        if request == GET_PROTOCOL_FEATURES:
            return struct.pack("<Q", REPLY_ACK)
        if request == SET_MEM_TABLE:
            self.regions = []
            for i, fd in enumerate(fds):
                address, length, _, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * i)
                self.regions.append((address, mmap.mmap(fd, length, offset=offset)))
                os.close(fd)
        if request not in range(SET_VRING_NUM, SET_VRING_CALL + 1):
            return None
        ring = self.rings[payload[0]]
        if request == SET_VRING_NUM:
            ring.size = struct.unpack_from("<I", payload, 4)[0]
        elif request == SET_VRING_ADDR:
            ring.descriptors, ring.device, ring.driver = struct.unpack_from("<QQQ", payload, 8)
        elif request == SET_VRING_BASE:
            ring.available = ring.used = struct.unpack_from("<I", payload, 4)[0]
        elif request == SET_VRING_KICK:
            ring.kick = fds[0]
        elif request == SET_VRING_CALL:
            ring.call = fds[0]
        elif request == GET_VRING_BASE:
            os.close(ring.kick)
            ring.kick = -1
            return struct.pack("<II", payload[0], ring.available)
        return None
