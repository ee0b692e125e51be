"""Ratios of atoll-vmm to QEMU, both measured in this run. Rows: see ROWS.

    bench.py [--quick] [ROW...]                                  all rows, or those
    bench.py [--size S] [--who native,atoll] compute [JOB...]    jobs of the compute table (jobs.py)

A ratio below 1 means that Atoll needs less. Every figure is the best of several alternating runs: on a shared machine the
smallest time is the one with the least of other people's work in it.
"""

import argparse
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time

import compute
import img
import jobs
import throughput
from vmm import BUILD, GUESTS, SOFT, VMM, kernel_args


class Run:
    """One VMM process whose debug console is a pipe that we read."""

    def __init__(self, who, args, accelerator="tcg", before=()):
        self.read_end, write_end = os.pipe()
        command = list(before) + [VMM[who], "-accel", accelerator, "-display", "none", "-nodefaults", "-no-reboot",
                                  "-name", "bench,debug-threads=on",
                                  "-chardev", f"file,id=dbg,path=/dev/fd/{write_end}", "-device", "isa-debugcon,iobase=0xe9,chardev=dbg",
                                  *args]
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, pass_fds=[write_end], stdin=subprocess.DEVNULL)
        os.close(write_end)
        self.text = b""

    def wait_for(self, word, timeout=300):
        """Seconds since the start at which the console had shown `word`."""
        deadline = time.monotonic() + timeout
        while word not in self.text:
            if not select.select([self.read_end], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no {word!r} in {self.text!r}")
            chunk = os.read(self.read_end, 65536)
            if not chunk:
                raise RuntimeError(f"the VMM ended: {self.text!r}")
            self.text += chunk
        return time.monotonic() - self.began

    def cpu_seconds(self, vcpu):
        """CPU time so far of the vCPU threads, or of all others."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            base = f"/proc/{self.process.pid}/task/{task}"
            try:
                name = open(base + "/comm").read()
                nanoseconds = int(open(base + "/schedstat").read().split()[0])
            except OSError:
                continue
            if name.startswith("CPU ") == vcpu:
                total += nanoseconds
        return total / 1e9

    def overhead_kib(self):
        """Resident memory of the process but for guest RAM, its largest mapping."""
        sizes = []
        for line in open(f"/proc/{self.process.pid}/smaps"):
            if line.startswith("Size:"):
                sizes.append([int(line.split()[1]), 0])
            elif line.startswith("Rss:"):
                sizes[-1][1] = int(line.split()[1])
        largest = max(sizes)
        return sum(rss for _, rss in sizes) - largest[1]

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.read_end)


def boot_once(program, accelerator="tcg", command="true", extra=()):
    """(wall, CPU) seconds of a whole boot of the stock kernel to init and power-off, and what the guest said."""
    began = time.monotonic()
    process = subprocess.Popen([VMM[program], "-accel", accelerator, "-m", "512", *kernel_args(command), *extra],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = process.stdout.read().decode(errors="replace")
    process.stdout.close()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    if "guest command ended with status 0" not in text:
        raise RuntimeError(f"{program} {accelerator}: the guest did not come up: {text[-2000:]}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, text


def best(function, runs):
    """The smallest of each figure over alternating runs, for both programs."""
    results = {"atoll": [], "qemu": []}
    for _ in range(runs):
        for who in results:
            results[who].append(function(who))
    return {who: min(values) for who, values in results.items()}


def row(name, unit, figures, bound):
    ratio = figures["atoll"] / figures["qemu"] if figures["qemu"] else float("nan")
    print(f"{name:<42} {figures['atoll']:>10.3f} {figures['qemu']:>10.3f} {unit:<8} {ratio:>6.2f}   {bound}", flush=True)


def bench_boot(quick):
    """The software CPUs only: what the translator costs and gains in a short run."""
    runs = [{who: boot_once(*how)[:2] for who, how in SOFT.items()} for _ in range(1 if quick else 3)]
    for index, name in enumerate(("boot to init, wall", "boot to init, CPU")):
        figures = {who: min(run[who][index] for run in runs) for who in SOFT}
        row(name, "s", {"atoll": figures["atoll"], "qemu": figures["tcg"]}, f"bound 0.5; interpreter {figures['interp']:.3f} s")


def greeting(who, memory):
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/qmp"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        began = time.monotonic()
        process = subprocess.Popen([VMM[who], "-accel", "tcg", "-M", "pc", "-m", memory, "-nodefaults", "-display", "none", "-S",
                                    "-kernel", GUESTS + "/vmlinuz", "-qmp", f"unix:{path}"])
        connection, _ = listener.accept()
        connection.recv(1)
        elapsed = time.monotonic() - began
        process.kill()
        process.wait()
        return elapsed * 1e3


def bench_start(quick):
    runs = 5 if quick else 15
    row("exec to QMP greeting, 512 MiB", "ms", best(lambda who: greeting(who, "512"), runs), "bound 10 ms")
    row("exec to QMP greeting, 16 GiB", "ms", best(lambda who: greeting(who, "16G"), runs), "bound 15 ms")

    def first(who, memory):
        run = Run(who, ["-M", "pc", "-m", memory, "-kernel", BUILD + "/bench/first.elf"])
        elapsed = run.wait_for(b"first")
        run.end()
        return elapsed * 1e3

    row("exec to first guest instruction, 512 MiB", "ms", best(lambda who: first(who, "512"), runs), "bound 10 ms")
    row("exec to first guest instruction, 16 GiB", "ms", best(lambda who: first(who, "16G"), runs), "bound 15 ms")


def bench_memory(quick):
    for accelerator, bound in (("tcg", "bound 40"), ("kvm", "bound 12")):
        if accelerator == "kvm" and not os.access("/dev/kvm", os.W_OK):
            print("memory beyond guest RAM, kvm: no /dev/kvm")
            continue

        def overhead(who):
            run = Run(who, ["-M", "pc", "-m", "512", "-kernel", BUILD + "/bench/first.elf"], accelerator)
            run.wait_for(b"first")
            kib = run.overhead_kib()
            run.end()
            return kib / 1024

        row(f"memory beyond guest RAM, {accelerator}", "MiB", best(overhead, 1 if quick else 3), bound)


def device_cpu(who, guest, args, requests, before=()):
    """Microseconds of CPU time of the threads that are not vCPUs, a request."""
    run = Run(who, ["-M", "pc", "-m", "64", "-kernel", f"{BUILD}/bench/{guest}.elf", *args], before=before)
    run.wait_for(b"start")
    already = run.cpu_seconds(vcpu=False)
    run.wait_for(b"end")
    spent = run.cpu_seconds(vcpu=False) - already
    run.end()
    return spent / requests * 1e6


def bench_blk(quick):
    args = ["-drive", f"file={GUESTS}/disk.raw,format=raw,if=none,id=d0", "-device", "virtio-blk-pci,drive=d0"]
    runs = 1 if quick else 5
    row("virtio-blk 4K read, depth 1: device CPU", "us", best(lambda who: device_cpu(who, "blk1", args, 20000), runs), "bound 1.0")
    row("virtio-blk 4K read, depth 32: device CPU", "us", best(lambda who: device_cpu(who, "blk32", args, 100000), runs), "bound 1.0")


def bench_net(quick):
    runs = 1 if quick else 5
    name = "virtio-net {}, send 1400 B: device CPU"
    user = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:  # never read: the kernel drops what does not fit
        sink.bind(("127.0.0.1", 19009))
        row(name.format("user"), "us", best(lambda who: device_cpu(who, "net", user, 100000), runs), "bound 1.0")
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("virtio-net tap: not root, or no /dev/net/tun")
        return
    tap = ["-netdev", "tap,id=n0,script=no,downscript=no,ifname=bench0", "-device", "virtio-net-pci,netdev=n0"]
    # A network namespace of the VMM's own: it is gone with the process.
    own = ["unshare", "-n", "sh", "-c",
           'ip tuntap add bench0 mode tap vnet_hdr && ip link set bench0 up && exec "$@"', "sh"]
    row(name.format("tap"), "us", best(lambda who: device_cpu(who, "net", tap, 100000, own), runs), "bound 1.0")


def bench_pio(quick):
    if not os.access("/dev/kvm", os.W_OK):
        print("PIO exit: no /dev/kvm")
        return

    def exits(who):
        run = Run(who, ["-M", "pc", "-m", "64", "-kernel", BUILD + "/bench/pio.elf"], "kvm")
        began = run.wait_for(b"start")
        elapsed = run.wait_for(b"end") - began
        run.end()
        return elapsed / 20000 * 1e6

    row("PIO read and back, kvm", "us", best(exits, 1 if quick else 7), "bound 1.0")


LOOP = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"


def bench_smp(quick):
    def loop_seconds(command):
        text = boot_once("atoll", "soft", f"read a b </proc/uptime; {command}; read c d </proc/uptime; echo took $a $c", ["-smp", "2"])[2]
        start, end = map(float, re.search(r"took ([\d.]+) ([\d.]+)", text).groups())
        return end - start

    runs = range(1 if quick else 3)
    one = min(loop_seconds(f"({LOOP})") for _ in runs)
    two = min(loop_seconds(f"({LOOP}) & ({LOOP}); wait") for _ in runs)
    print(f"{'two vCPUs: work of two loops / one':<42} {2 * one / two:>10.3f} {'':>10} {'times':<8} {'':>6}   bound 1.8", flush=True)


def bench_compute(quick):
    compute.table([], compute.RUNNERS, 0.1 if quick else 0.3)


def bench_manage(quick):
    # Debian's python3-libvirt belongs to Debian's Python.
    command = ["/usr/bin/python3", "-B", os.path.dirname(os.path.abspath(__file__)) + "/manage.py"]
    subprocess.run(command + ["--quick"] * quick, check=True)


ROWS = {"start": bench_start, "memory": bench_memory, "blk": bench_blk, "net": bench_net, "pio": bench_pio, "smp": bench_smp,
        "boot": bench_boot, "fio": throughput.disk, "formats": throughput.formats, "iperf": throughput.net, "compute": bench_compute, "img": img.run, "manage": bench_manage}


def check_names(parser, what, names, known):
    for name in names:
        if name not in known:
            parser.error(f"unknown {what} '{name}'; known: {' '.join(known)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", type=float, help="of compute jobs: about the seconds that each takes natively")
    parser.add_argument("--who", default=",".join(compute.RUNNERS), help="whom the compute table compares with native (default: %(default)s)")
    parser.add_argument("--accel", default=SOFT["atoll"][1], help="what Atoll runs on in the compute table (default: %(default)s)")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=" ".join(ROWS))
    args = parser.parse_args()
    SOFT["atoll"] = ("atoll", args.accel)
    if args.rows[:1] == ["compute"]:
        names, runners = args.rows[1:], args.who.split(",")
        check_names(parser, "job", names, jobs.JOBS)
        check_names(parser, "runner", runners, compute.RUNNERS)
        compute.table(names, runners, args.size or (0.1 if args.quick else 0.3), detail=True)
        return
    check_names(parser, "row", args.rows, ROWS)
    print(f"{'':<42} {'atoll':>10} {'qemu':>10} {'unit':<8} {'ratio':>6}")
    for name in args.rows or ROWS:
        ROWS[name](args.quick)


main()
