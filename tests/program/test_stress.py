"""stress-ng in Debian's stock kernel on several vCPUs: no complaint of the kernel, no lost timer, a clock that keeps time.

Some seconds in CI; ATOLL_STRESS_SECONDS=600 for the long run (scripts/test-long)."""

import os
import subprocess
import threading
import time
import unittest

from guest import GUESTS, VMM, boot, kernel_args

SECONDS = int(os.environ.get("ATOLL_STRESS_SECONDS", "15"))
STRESSORS = ("--cpu 2 --vm 1 --vm-bytes 48M --fork 2 --switch 2 --timer 1 --timer-freq 500 --futex 2 --sock 1 --mmap 1 --mmap-bytes 32M "
             "--sigsegv 1 --memcpy 1 --pipe 1 --vdso 1 --nanosleep 1")
TROUBLE = "WARNING|BUG|Call Trace|Oops|rcu_sched|rcu_preempt|soft lockup|hung task|unstable|timekeeping watchdog|general protection|segfault.*busybox"
# The time on the console every 50 ms while stress-ng runs.
COMMAND = ("mount -t ext4 -o ro,noload /dev/vda /mnt && mount -t tmpfs t /mnt/tmp && mount -t proc p /mnt/proc && mount -t devtmpfs d /mnt/dev && mount -t sysfs s /mnt/sys || exit 1; "
           "(while [ ! -e /done ]; do echo clock $(cut -d' ' -f1 /proc/uptime) $(date +%s); usleep 50000; done) & "
           f"chroot /mnt /usr/bin/stress-ng {STRESSORS} --timeout {{seconds}}s --temp-path /tmp --oom-avoid; echo stress-ng says $?; touch /done; "
           f"dmesg | grep -v 'ommand line' | grep -E '{TROUBLE}' && exit 1; exit 0")


def lowest(samples):
    """The smallest lead of the host's clock: what a line takes to get here only ever adds to it."""
    return min(samples, key=lambda sample: sample[1] - sample[0])


def drift_ppm(samples):
    """How much faster the guest's clock runs than the host's, by the best samples of the first and the last third."""
    third = len(samples) // 3
    (guest_a, host_a), (guest_b, host_b) = lowest(samples[:third]), lowest(samples[-third:])
    return ((guest_b - guest_a) / (host_b - host_a) - 1) * 1e6


class Stress(unittest.TestCase):
    def stress(self, *options, accelerator="soft", seconds=SECONDS):
        if not os.path.exists(GUESTS + "/bench.raw"):
            self.skipTest("no bench.raw: scripts/make-guest bench")
        script = COMMAND.format(seconds=seconds)
        command = [VMM, "-accel", accelerator, "-M", "pc", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio",
                   "-no-reboot", "-drive", f"file={GUESTS}/bench.raw,format=raw,if=virtio,readonly=on", *kernel_args(script), *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        deadline = threading.Timer(6 * seconds + 240, process.kill)
        deadline.start()
        self.addCleanup(deadline.cancel)
        samples, text = [], ""
        for line in process.stdout:
            now, line = time.monotonic(), line.decode(errors="replace").strip()
            if line.startswith("clock "):
                samples.append((float(line.split()[1]), now))
            else:
                text += line + "\n"
        self.assertIn("stress-ng says 0", text)
        self.assertIn("guest command ended with status 0", text)
        return samples, text

    def check_clock(self, samples):
        # /proc/uptime has 10 ms steps: in a short run that is more than what is promised.
        duration = samples[-1][1] - samples[0][1]
        bound = 500 + 20e-3 / duration * 1e6
        self.assertLess(abs(drift_ppm(samples)), bound, f"over {duration:.0f} s")

    def test_two_processors_under_stress(self):
        self.check_clock(self.stress("-smp", "2")[0])

    def test_four_processors_under_stress(self):
        self.check_clock(self.stress("-smp", "4")[0])

    def test_32_bit_kernel_on_two_processors_with_everything_translated(self):
        text = boot("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; gzip -c /init | md5sum; dmesg | grep -c WARNING; true", "-smp", "2",
                    suffix="32", accelerator="soft,translate=always")
        self.assertNotIn("Call Trace", text)


if __name__ == "__main__":
    unittest.main()
