"""The management daemon beside Debian's libvirtd: the same client, python3-libvirt in this process and virsh, against both.

Each daemon keeps its state in a folder of its own on the same file system. libvirtd runs in a mount and a network namespace, with empty
folders in place of the host's, so that it touches nothing. Times are wall time of the client, best of several rounds.
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from vmm import BUILD, VMM

DOMAINS, RUNNING, CLIENTS = 1000, 50, 50
GUEST = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel></os><features><acpi/></features>
<devices><emulator>{emulator}</emulator><controller type='usb' model='none'/><serial type='file'><source path='{serial}'/></serial>
<memballoon model='none'/></devices></domain>"""
DEFINED = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/><apic/></features>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/{name}.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><source network='default'/><model type='virtio'/></interface>
<graphics type='vnc' port='-1'/><console type='pty'/></devices></domain>"""

# In the namespaces: empty folders of libvirt's, its user, then the daemon.
LIBVIRTD = """set -e
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /run/libvirt; do
  mkdir -p $folder {root}/state$folder; mount --bind {root}/state$folder $folder
done
mkdir /etc/libvirt/qemu
cp /etc/passwd /etc/group {root}
grep -q ^libvirt-qemu: {root}/passwd || echo libvirt-qemu:x:64055:64055::/:/bin/false >>{root}/passwd
grep -q ^libvirt-qemu: {root}/group || echo libvirt-qemu:x:64055: >>{root}/group
mount --bind {root}/passwd /etc/passwd; mount --bind {root}/group /etc/group
printf '%s\\n' 'unix_sock_dir = "{root}/run"' 'auth_unix_rw = "none"' 'max_anonymous_clients = 100' >/etc/libvirt/libvirtd.conf
printf '%s\\n' 'user = "root"' 'group = "root"' 'security_driver = "none"' 'stdio_handler = "file"' 'namespaces = []' \\
  'cgroup_controllers = []' 'remember_owner = 0' >/etc/libvirt/qemu.conf
exec libvirtd --pid-file {root}/pid"""


class Peer:
    """A daemon in a folder of its own, and a connection to it."""

    def __init__(self, who):
        import libvirt
        self.who, self.libvirt = who, libvirt
        self.root = tempfile.mkdtemp(prefix=f"bench-{who}-")
        os.chmod(self.root, 0o711)  # VMs' users pass through
        os.makedirs(self.root + "/run")
        self.log = open(self.root + "/daemon.log", "w")
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.uri = f"qemu+unix:///system?socket={self.root}/run/libvirt-sock"
        self.connection = self.connect()

    def command(self):
        if self.who == "libvirtd":
            return ["unshare", "-m", "-n", "sh", "-c", LIBVIRTD.format(root=self.root)]
        return [BUILD + "/bin/atolld", "--root", self.root]

    def connect(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.libvirt.open(self.uri)
            except self.libvirt.libvirtError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"{self.who}: {open(self.root + '/log').read()[-2000:]}") from None
                time.sleep(0.1)

    def guest(self, name):
        return GUEST.format(name=name, kernel=BUILD + "/bench/serial.elf", serial=f"{self.root}/{name}.out",
                            emulator=os.path.abspath(VMM["atoll"]) if self.who == "atoll" else shutil.which(VMM["qemu"]))

    def resident_kib(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def virsh(self, *words):
        began = time.monotonic()
        subprocess.run(["virsh", "-c", self.uri, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    def close(self):
        for domain in self.connection.listAllDomains(1):
            domain.destroy()
        self.connection.close()
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.root, ignore_errors=True)


def timed(function, *arguments):
    began = time.monotonic()
    function(*arguments)
    return time.monotonic() - began


# --- the rows; each takes a peer and answers in seconds, or MiB

def define_all(peer):
    for number in range(DOMAINS):
        peer.connection.defineXML(DEFINED.format(name=f"d{number:04}"))


def list_all(peer):
    """What virsh list --all does, in this process."""
    def ask():
        for domain in peer.connection.listAllDomains():
            domain.name(), domain.ID(), domain.state()
    return timed(ask)


def define_and_undefine(peer):
    def turn():
        for number in range(50):
            peer.connection.defineXML(DEFINED.format(name=f"turn{number}")).undefine()
    return timed(turn) / 50


def connect_and_close(peer):
    def turn():
        for _ in range(50):
            peer.libvirt.open(peer.uri).close()
    return timed(turn) / 50


def domain_stats(peer):
    return timed(lambda: peer.connection.getAllDomainStats(0, peer.libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING))


class Listener:
    """A client that speaks frames and counts the events that it is sent: the cost of a client library stays out."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.call(66)
        name = b"qemu:///system"
        self.call(1, struct.pack(">II", 1, len(name)) + name + bytes(-len(name) % 4) + struct.pack(">I", 0))
        self.call(60, struct.pack(">I", 14))
        self.call(316, struct.pack(">II", 0, 0))  # lifecycle, of all domains

    def frame(self):
        length = struct.unpack(">I", self.socket.recv(4, socket.MSG_WAITALL))[0]
        return self.socket.recv(length - 4, socket.MSG_WAITALL)

    def call(self, procedure, payload=b""):
        self.socket.sendall(struct.pack(">7I", 28 + len(payload), 0x20008086, 1, procedure, 0, procedure, 0) + payload)
        while struct.unpack(">I", self.frame()[12:16])[0] != 1:
            pass

    def await_events(self, count):
        while count:
            count -= struct.unpack(">I", self.frame()[12:16])[0] == 2


def fan_out(peer):
    """From a call to the moment at which all clients have been told, a call."""
    calls = 20
    with contextlib.ExitStack() as stack:
        clients = [Listener(peer.root + "/run/libvirt-sock") for _ in range(CLIENTS)]
        for client in clients:
            stack.callback(client.socket.close)

        def turn():
            for _ in range(calls):
                peer.connection.defineXML(DEFINED.format(name="d0000").replace("<memory", f"<uuid>{uuid}</uuid><memory"))
                for client in clients:
                    client.await_events(1)
        uuid = peer.connection.lookupByName("d0000").UUIDString()
        return timed(turn) / calls


def start_running(peer):
    for number in range(RUNNING):
        peer.connection.createXML(peer.guest(f"r{number:02}"))


def first_output(peer, start):
    path = f"{peer.root}/first.out"
    domain = peer.connection.defineXML(peer.guest("first"))
    with open(path, "wb"):
        pass
    began = time.monotonic()
    start(domain)
    while not os.path.exists(path) or os.path.getsize(path) == 0:
        if time.monotonic() > began + 60:
            raise TimeoutError(f"{peer.who}: the guest says nothing")
        time.sleep(0.0005)
    elapsed = time.monotonic() - began
    domain.destroy()
    domain.undefine()
    return elapsed


def start_by_virsh(peer):
    return first_output(peer, lambda _: peer.virsh("start", "first"))


def start_by_library(peer):
    return first_output(peer, lambda domain: domain.create())


def stopped_vmm(peer):
    """The longest call on other domains while one VMM is stopped and a call to it waits."""
    pid = next(int(name) for name in os.listdir("/proc") if name.isdigit() and names_guest(name, peer, "r00"))
    os.kill(pid, signal.SIGSTOP)
    stuck = subprocess.Popen(["virsh", "-c", peer.uri, "dommemstat", "r00"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)  # so that its call is under way: nothing can be seen of it
        longest = 0
        for number in range(1, 20):
            domain = peer.connection.lookupByName(f"r{number:02}")
            longest = max(longest, timed(domain.info), timed(domain.memoryStats), timed(peer.connection.listAllDomains))
        return longest
    finally:
        os.kill(pid, signal.SIGCONT)
        stuck.wait(60)


def names_guest(pid, peer, name):
    try:
        words = open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError:
        return False
    program = b"atoll-vmm" if peer.who == "atoll" else b"qemu-system"
    return program in words.split(b"\0")[0] and f"guest={name},".encode() in words


def row(name, unit, values, bound):
    ours, theirs = values["atoll"], values["libvirtd"]
    print(f"{name:<42} {ours:>10.3f} {theirs:>10.3f} {unit:<8} {ours / theirs:>6.2f}   {bound}", flush=True)


# What is measured with so many domains defined and running: name, unit, factor, function.
ROWS = (
    ("1,000 domains, virsh list --all", lambda peer: peer.virsh("list", "--all")),
    ("1,000 domains, listed by the library", list_all),
    ("define and undefine", define_and_undefine),
    ("connect and close", connect_and_close),
    ("event to 50 clients", fan_out),
    ("50 running VMs, virsh domstats", lambda peer: peer.virsh("domstats", "--list-running")),
    ("50 running VMs, domstats by the library", domain_stats),
    ("virsh start to the guest's first output", start_by_virsh),
    ("start by the library to first output", start_by_library),
)


def run(quick):
    if not shutil.which("libvirtd") or os.geteuid() != 0:
        print("management daemon: not root, or no libvirtd")
        return
    with contextlib.ExitStack() as stack:
        peers = {}
        for who in ("atoll", "libvirtd"):
            peers[who] = Peer(who)
            stack.callback(peers[who].close)
        defining = {who: timed(define_all, peer) for who, peer in peers.items()}
        row("1,000 domains defined", "s", defining, "bound 0.5")
        row("1,000 domains, resident memory", "MiB", {who: peer.resident_kib() / 1024 for who, peer in peers.items()}, "bound 64 MiB")
        for peer in peers.values():
            start_running(peer)
        for name, function in ROWS:
            values = {who: [] for who in peers}
            for _ in range(3 if quick else 10):
                for who, peer in peers.items():
                    values[who].append(function(peer) * 1e3)
            row(name, "ms", {who: min(times) for who, times in values.items()}, "bound 0.5")
        values = {who: stopped_vmm(peer) * 1e3 for who, peer in peers.items()}
        row("longest call beside a stopped VMM", "ms", values, "no delay")


if __name__ == "__main__":
    run("--quick" in sys.argv)
