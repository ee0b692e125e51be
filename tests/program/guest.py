"""Booting the stock guests: one command line in, what the guest said out."""

import gzip
import os
import shlex
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("ATOLL_BUILD", ROOT + "/build")
GUESTS = os.environ.get("ATOLL_GUESTS", ROOT + "/build/guests")
VMM = BUILD + "/bin/atoll-vmm"


def kernel_args(command, suffix="", append=""):
    """Options that boot the stock kernel, run `command` in the guest and power off."""
    for name in ("vmlinuz", "initrd"):
        if not os.path.exists(f"{GUESTS}/{name}{suffix}"):
            raise unittest.SkipTest(f"no {name}{suffix}: scripts/make-guest could not make it")
    line = f'console=ttyS0 quiet panic=-1 {append} atoll.run="{command}"'
    return ["-kernel", f"{GUESTS}/vmlinuz{suffix}", "-initrd", f"{GUESTS}/initrd{suffix}", "-append", line]


def has_module(suffix, name):
    """Whether the stock guest brings a kernel module; guests made earlier may lack newer ones."""
    path = f"{GUESTS}/initrd{suffix}"
    if not os.path.exists(path):
        return False
    with gzip.open(path) as archive:
        return f"lib/modules/{name}.ko\0".encode() in archive.read()


def run(args, timeout=240, status=0, wrapper=()):
    """Runs atoll-vmm (after the words of `wrapper`) to its end; returns standard output. Fails the test on a wrong exit
    status or a time-out."""
    command = [*wrapper, VMM, *args]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=timeout)
        late = False
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        late = True
    text, errors = out.decode(errors="replace"), err.decode(errors="replace")
    if late or process.returncode != status:
        what = f"still running after {timeout} s" if late else f"exit status {process.returncode}"
        raise AssertionError(f"{what}: {shlex.join(command)}\n--- standard error\n{errors}\n--- standard output, its end\n{text[-6000:]}")
    return text


def boot(command, *options, suffix="", append="", machine="pc", cpu="max", memory="256", timeout=240, wrapper=(), accelerator="soft"):
    """Boots, runs `command`, and returns what came out of the serial port; the command must have succeeded."""
    text = run(["-accel", accelerator, "-M", machine, "-cpu", cpu, "-m", memory, "-nodefaults", "-display", "none", "-serial", "stdio",
                "-no-reboot", *kernel_args(command, suffix, append), *options], timeout=timeout, wrapper=wrapper)
    if "guest command ended with status 0" not in text:
        raise AssertionError(f"the guest's command failed or never ran:\n{text[-6000:]}")
    for trouble in ("WARNING: CPU", "BUG:", "Call Trace", "rcu_sched self-detected", "Oops"):
        if trouble in text:
            raise AssertionError(f"the guest's kernel complained ({trouble}):\n{text[-6000:]}")
    return text
