"""What programs in a guest get from its disk and its network: fio and iperf3 by the guest's clock, and the host's CPU time."""

import contextlib
import os
import subprocess
import tempfile

import jobs
from compute import parse
from vmm import Guest

PORT = 19010

# name: (what the table calls it, fio's options, the field of its terse output, what that is)
DISK = {
    "randread1": ("fio 4 KiB random read, depth 1", "--rw=randread --bs=4k --iodepth=1", 8, "IOPS"),
    "randread32": ("fio 4 KiB random read, depth 32", "--rw=randread --bs=4k --iodepth=32", 8, "IOPS"),
    "randwrite1": ("fio 4 KiB random write, depth 1", "--rw=randwrite --bs=4k --iodepth=1", 49, "IOPS"),
    "randwrite32": ("fio 4 KiB random write, depth 32", "--rw=randwrite --bs=4k --iodepth=32", 49, "IOPS"),
    "read": ("fio 1 MiB sequential read", "--rw=read --bs=1M --iodepth=4", 7, "KiB/s"),
    "write": ("fio 1 MiB sequential write", "--rw=write --bs=1M --iodepth=4", 48, "KiB/s"),
}
NET = {"send": ("iperf3, guest sends", ""), "receive": ("iperf3, guest receives", "-R")}


def job(name, command):
    return f"echo begin {name}; {{ time {{ {command} | sed 's/^/work /'; }}; }} 2>&1\n"


def disk_script(seconds):
    text = jobs.SETUP
    for name, (_, options, field, _) in DISK.items():
        text += job(name, f"fio --name={name} --filename=/dev/vdc --direct=1 --ioengine=libaio {options} --time_based "
                          f"--runtime={seconds} --minimal | cut -d';' -f{field} | cut -d. -f1")
    return text + "echo all done\n"


FORMATS = ("raw", "metadata", "falloc")  # raw, and qcow2 preallocated so
FORMAT_ROUNDS = 3


def formats_script(seconds):
    """The same jobs on each disk in turn, some rounds."""
    text = jobs.SETUP
    for turn in range(FORMAT_ROUNDS):
        for rw in ("randread", "randwrite"):
            for form, disk in zip(FORMATS, ("vdc", "vdd", "vde")):
                text += job(f"{rw}-{form}-{turn}", f"fio --name=f --filename=/dev/{disk} --direct=1 --ioengine=libaio --rw={rw} --bs=4k --iodepth=32 "
                            f"--time_based --runtime={seconds} --minimal | cut -d';' -f{8 if rw == 'randread' else 49}")
    return text + "echo all done\n"


def net_script(seconds, address, server):
    text = jobs.SETUP + f"ip link set eth0 up; ip addr add {address}/24 dev eth0\n"
    for name, (_, options) in NET.items():
        text += job(name, f"iperf3 -c {server} -p {PORT} -t {seconds} -f m {options} | sed -n 's/.* \\([0-9]*\\)[.0-9]* Mbits.sec.*receiver/\\1/p'")
    return text + "echo all done\n"


def print_rows(title, unit_of, results):
    """`results`: of TCG and Atoll, each {job: (CPU seconds, work a second, text)}."""
    for name in title:
        qemu, atoll = (results[who][name] for who in ("tcg", "atoll"))
        ratio = atoll[1] / qemu[1] if qemu[1] else float("nan")
        by_cpu = ratio * qemu[0] / atoll[0]
        print(f"{title[name]:<42} {atoll[1]:>10} {qemu[1]:>10} {unit_of(name):<8} {ratio:>6.2f}   bound 2 (times as much); "
              f"for the same CPU time {by_cpu:.2f}", flush=True)


def run(who, script, **options):
    with Guest(who, script, **options) as guest:
        return parse(guest.lines(600), guest.cpu_seconds)


def disk(quick):
    results = {}
    for who in ("tcg", "atoll"):
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as scratch:  # memory: what is measured is the way to it
            subprocess.run(["dd", "if=/dev/urandom", f"of={scratch.name}", "bs=1M", "count=256", "status=none"], check=True)
            drive = ["-drive", f"file={scratch.name},format=raw,if=none,id=scratch", "-device", "virtio-blk-pci,drive=scratch"]
            results[who] = run(who, disk_script(2 if quick else 5), extra=drive)
    print_rows({name: what[0] for name, what in DISK.items()}, lambda name: DISK[name][3], results)


def formats(quick):
    """How much slower qcow2 is than raw, at 4 KiB and depth 32, in one guest."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        drives = []
        for form in FORMATS:
            path = f"{folder}/{form}"
            if form == "raw":
                subprocess.run(["dd", "if=/dev/urandom", f"of={path}", "bs=1M", "count=256", "status=none"], check=True)
            else:
                subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"preallocation={form}", path, "256M"], check=True)
                subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", f"{folder}/raw", path], check=True)
            kind = "raw" if form == "raw" else "qcow2"
            drives += ["-drive", f"file={path},format={kind},if=none,id={form}", "-device", f"virtio-blk-pci,drive={form}"]
        results = run("atoll", formats_script(1 if quick else 4), extra=drives)
    for rw in ("randread", "randwrite"):
        rounds = {form: [results[f"{rw}-{form}-{turn}"] for turn in range(FORMAT_ROUNDS)] for form in FORMATS}
        best = {form: max(work for _, work, _ in rounds[form]) for form in FORMATS}
        per_cpu = {form: max(work / cpu for cpu, work, _ in rounds[form]) for form in FORMATS}
        for form in FORMATS[1:]:
            print(f"{f'fio 4 KiB {rw}, depth 32, qcow2 {form}':<46} {best[form]:>8} of {best['raw']:>8} IOPS raw {best[form] / best['raw']:>6.2f}   bound 0.9"
                  f"; for the same CPU time {per_cpu[form] / per_cpu['raw']:.2f}", flush=True)


@contextlib.contextmanager
def server():
    process = subprocess.Popen(["iperf3", "-s", "-p", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def net_user(seconds):
    netdev = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"]
    with server():
        return {who: run(who, net_script(seconds, "10.0.2.15", "10.0.2.2"), extra=netdev) for who in ("tcg", "atoll")}


def net_tap(seconds):
    """Each VMM has a network namespace of its own, with the other end of the tap and the server in it."""
    netdev = ["-netdev", "tap,id=n0,script=no,downscript=no,ifname=bench0", "-device", "virtio-net-pci,netdev=n0"]
    own = ["unshare", "-n", "sh", "-c",
           "ip link set lo up; ip tuntap add bench0 mode tap vnet_hdr; ip addr add 10.0.3.1/24 dev bench0; ip link set bench0 up; "
           f'timeout 120 iperf3 -s -p {PORT} >/dev/null 2>&1 & exec "$@"', "sh"]
    return {who: run(who, net_script(seconds, "10.0.3.2", "10.0.3.1"), extra=netdev, before=own) for who in ("tcg", "atoll")}


def net(quick):
    seconds = 3 if quick else 8
    rows = {name: what[0] for name, what in NET.items()}
    print_rows({name: what + ", user" for name, what in rows.items()}, lambda _: "Mbit/s", net_user(seconds))
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("iperf3, tap: not root, or no /dev/net/tun")
        return
    print_rows({name: what + ", tap" for name, what in rows.items()}, lambda _: "Mbit/s", net_tap(seconds))
