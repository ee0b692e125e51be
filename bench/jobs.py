"""What the table of compute jobs runs: shell commands of the tree that scripts/make-guest bench unpacks.

A job does a fixed amount of work, about SIZE seconds of it natively for size 1. Programs that only run for a fixed time say
how much they did ("work N"). The same script runs in the guests and, by chroot, on the host.
"""

import sys

# name: (what the table calls it, command, work for size 1). {n} is the work; /tmp/data is in memory.
JOBS = {
    "gzip": ("gzip -9", "head -c {n} /tmp/data | gzip -9 >/dev/null", 5_000_000),
    "bzip2": ("bzip2", "head -c {n} /tmp/data | bzip2 >/dev/null", 13_000_000),
    "sha256": ("sha256", "openssl speed -mr -seconds {n} -bytes 16384 -evp sha256 2>&1 | sed -n 's/^+R:\\([0-9]*\\):.*/work \\1/p'", 1),
    "aes": ("AES-CTR", "openssl speed -mr -seconds {n} -bytes 16384 -evp aes-128-ctr 2>&1 | sed -n 's/^+R:\\([0-9]*\\):.*/work \\1/p'", 1),
    "rsa": ("RSA signing", "openssl speed -mr -seconds {n} rsa2048 2>&1 | sed -n 's/^+R1:\\([0-9]*\\):.*/work \\1/p'", 1),
    "pyint": ("Python integer loop", "python3 -SE -c 't = 0\nfor i in range({n}): t = (t * 3 + i) & 0xffff'", 10_000_000),
    "pyfloat": ("Python float loop", "python3 -SE -c 't = 1.0\nfor i in range({n}): t = t * 0.999 + i / 3.0'", 11_000_000),
    "perlre": ("Perl regular expressions",
               "head -c {n} /tmp/data | perl -ne '$n++ while /\\b(\\w+)\\s+\\1|(?:[a-z]+_)+[a-z]+\\(/g; END {{ print \"found $n\\n\" }}'", 9_000_000),
    "syscall": ("1-byte read and write", "dd if=/dev/zero of=/dev/null bs=1 count={n} 2>/dev/null", 2_000_000),
    "fork": ("fork and exec", "sh -c 'i=0; while [ $i -lt {n} ]; do /bin/true; i=$((i+1)); done'", 1700),
    "syscpu": ("sysbench cpu", "sysbench cpu --time=0 --events={n} --cpu-max-prime=10000 run >/dev/null", 4000),
    "memseq": ("sysbench memory, sequential",
               "sysbench memory --time=0 --memory-block-size=1K --memory-total-size={n}M run >/dev/null", 7500),
    "memrnd": ("sysbench memory, random",
               "sysbench memory --time=0 --memory-block-size=1M --memory-access-mode=rnd --memory-total-size={n}M run >/dev/null", 2200),
    "pipe": ("4 KiB pipe transfer", "dd if=/dev/zero bs=4k count={n} 2>/dev/null | dd of=/dev/null bs=4k 2>/dev/null", 450_000),
}

SETUP = """
export LC_ALL=C PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp
busybox mount -t tmpfs tmp /tmp; busybox mount -t devtmpfs dev /dev; busybox mount -t proc proc /proc
cp /bench/data /tmp/data
TIMEFORMAT='took %R %U %S'
"""


def script(names, size):
    """Shell text that runs the jobs named, each between lines "begin NAME" and "took WALL USER SYS"."""
    text = SETUP
    for name in names:
        _, command, work = JOBS[name]
        fixed_time = "-seconds" in command
        n = max(1, round(work * (1 if fixed_time else size)))
        text += f"echo begin {name}; {{ time {{ {command.format(n=n)}; }}; }} 2>&1\n"
    return text + "echo all done\n"


if __name__ == "__main__":
    print(script(sys.argv[2:] or JOBS, float(sys.argv[1])))
