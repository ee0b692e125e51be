"""Ratios of atoll-img to Debian's qemu-img, both measured in this run: time of qemu-img divided by ours, so that more is better.

Each row is the best of several alternating runs, in seconds of the clock. `cold` drops the host's page cache first where that is
allowed, else the row is left out; `none` goes around it (-t none -T none).
"""

import json
import os
import shutil
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("ATOLL_BUILD", ROOT + "/build")
PROGRAMS = {"atoll": os.environ.get("ATOLL_IMG", BUILD + "/bin/atoll-img"), "qemu": "qemu-img"}
GIB = 1 << 30
MIB = 1 << 20


def make_source(path, size):
    """Half full: noise, text-like data and zeroes, a MiB each in turn, and a hole behind."""
    words = [os.urandom(6) for _ in range(512)]
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        turn = 0
        while at < size // 2:
            kind = turn % 4
            turn += 1
            if kind == 0:
                data = os.urandom(MIB)
            elif kind == 3:
                data = bytes(MIB)
            else:
                seed = os.urandom(64 * 1024)
                data = (b"".join(words[a ^ (b & 1)] for a, b in zip(seed, seed[1:]))[:256 * 1024] * 4)[:MIB]
            file.seek(at)
            file.write(data)
            at += MIB


class Bench:
    def __init__(self, folder, size, runs):
        self.folder, self.size, self.runs = folder, size, runs
        self.can_drop = os.access("/proc/sys/vm/drop_caches", os.W_OK)

    def path(self, name):
        return f"{self.folder}/{name}"

    def call(self, who, words):
        began = time.monotonic()
        process = subprocess.Popen([PROGRAMS[who], *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        err = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        if os.waitstatus_to_exitcode(status) != 0:
            raise RuntimeError(f"{who}: {' '.join(words)}: {err.decode()[-500:]}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

    def drop_caches(self):
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")

    def row(self, name, words, prepare=None, cold=False):
        best = {}
        for _ in range(self.runs):
            for who in PROGRAMS:
                if prepare:
                    prepare()
                if cold:
                    self.drop_caches()
                figures = self.call(who, words)
                best[who] = [min(pair) for pair in zip(best.get(who, figures), figures)]
        ratio = best["qemu"][0] / best["atoll"][0]
        print(f"{name:34} {best['atoll'][0]:8.2f} s {best['qemu'][0]:8.2f} s {ratio:7.2f}x   CPU {best['qemu'][1] / max(best['atoll'][1], 1e-3):6.2f}x"
              f"   {best['atoll'][2]:5.0f} MiB", flush=True)
        return {"name": name, "ratio": ratio, "seconds": best["atoll"][0], "peer_seconds": best["qemu"][0], "peak_mib": best["atoll"][2]}

    def commit_overlay(self):
        """A fresh pair: a base, and a top with an eighth of the data."""
        shutil.copyfile(self.path("a.qcow2"), self.path("base.qcow2"))
        shutil.copyfile(self.path("top0.qcow2"), self.path("top.qcow2"))

    def make_images(self):
        make_source(self.path("a.raw"), self.size)
        for form, name in (("qcow2", "a.qcow2"), ("qcow2", "same.qcow2")):
            self.call("qemu", ["convert", "-f", "raw", "-O", form, "a.raw", name])
        shutil.copyfile(self.path("a.qcow2"), self.path("base.qcow2"))
        self.call("qemu", ["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top0.qcow2"])
        for at in range(0, self.size // 2, 8 * MIB):
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -q -P {at >> 23 & 255 | 1} {at} 1M", self.path("top0.qcow2")], check=True)

        # As large as guests' disks get, and nearly empty: what counts is memory.
        self.call("qemu", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "huge.qcow2", "64T"])
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q 1T 10M", "-c", "write -q 63T 10M", self.path("huge.qcow2")], check=True)

    def rows(self):
        convert = ["convert", "-f"]
        cases = {
            "raw -> qcow2": [*convert, "raw", "-O", "qcow2", "a.raw", "out"],
            "qcow2 -> raw": [*convert, "qcow2", "-O", "raw", "a.qcow2", "out"],
            "qcow2 -> qcow2 -c zlib": [*convert, "qcow2", "-c", "-O", "qcow2", "a.qcow2", "out"],
            "qcow2 -> qcow2 -c zstd": [*convert, "qcow2", "-c", "-O", "qcow2", "-o", "compression_type=zstd", "a.qcow2", "out"],
            "compare": ["compare", "-q", "-f", "qcow2", "-F", "qcow2", "a.qcow2", "same.qcow2"],
            "check": ["check", "-q", "-f", "qcow2", "a.qcow2"],
            "map": ["map", "-f", "qcow2", "--output=json", "a.qcow2"],
            "commit": ["commit", "-q", "-f", "qcow2", "top.qcow2"],
        }
        for name, words in cases.items():
            prepare = self.commit_overlay if name == "commit" else None
            yield self.row(f"img {name}, warm", words, prepare)
            if self.can_drop:
                yield self.row(f"img {name}, cold", words, prepare, cold=True)
        huge = ["-f", "qcow2", "huge.qcow2"]
        yield self.row("img 64 TiB, check", ["check", "-q", *huge])
        yield self.row("img 64 TiB, map", ["map", "--output=json", *huge])
        yield self.row("img 64 TiB, convert -c", ["convert", "-c", "-O", "qcow2", "-o", "cluster_size=2M", *huge, "huge-out"])
        yield self.row("img 64 TiB, compare", ["compare", "-q", "-F", "qcow2", *huge, "huge-out"])
        for name in ("raw -> qcow2", "qcow2 -> raw"):
            yield self.row(f"img {name}, -t none", [*cases[name][:-2], "-t", "none", "-T", "none", *cases[name][-2:]])


def run(quick=False, size=None, runs=None):
    """All rows, and last their geometric mean. For scripts/bench; returns the list of results."""
    size = size or (GIB if quick else 10 * GIB)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-", dir=os.environ.get("ATOLL_TMP")) as folder:
        bench = Bench(folder, size, runs or (2 if quick else 3))
        print(f"{'row':34} {'atoll-img':>10} {'qemu-img':>10} {'ratio':>8}", flush=True)
        bench.make_images()
        results = list(bench.rows())
    product = 1.0
    for result in results:
        product *= result["ratio"]
    mean = product ** (1 / len(results))
    print(f"{'img geometric mean':34} {'':>10} {'':>10} {mean:8.2f}x")
    return results + [{"name": "img geometric mean", "ratio": mean}]


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 GiB instead of 10")
    parser.add_argument("--mib", type=int, help="another size")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    results = run(options.quick, options.mib and options.mib * MIB)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
