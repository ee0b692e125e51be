"""Control groups of version 2: a stock Debian kernel that mounts nothing else, with atolld, a VM and virsh inside of the guest."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

import managed
from guest import BUILD, GUESTS, kernel_args, run

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>2</vcpu><iothreads>1</iothreads>{tuning}
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><controller type='usb' model='none'/></devices></domain>"""
TUNING = """<memtune><hard_limit unit='KiB'>500000</hard_limit><soft_limit unit='KiB'>200000</soft_limit></memtune>
<cputune><shares>200</shares><period>100000</period><quota>50000</quota><global_period>100000</global_period><global_quota>80000</global_quota>
<emulator_period>100000</emulator_period><emulator_quota>60000</emulator_quota><iothread_period>100000</iothread_period>
<iothread_quota>70000</iothread_quota></cputune><blkiotune><weight>400</weight><device><path>/dev/vda</path>
<read_bytes_sec>1000000</read_bytes_sec><write_iops_sec>50</write_iops_sec></device></blkiotune>
<numatune><memory mode='strict' nodeset='0'/></numatune>"""
START = """export PATH=/bin
mkdir -p /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
atolld --root /a 2>/a.log & n=0
until [ -S /a/run/libvirt-sock ] || [ $n = 300 ]; do sleep 0.1; n=$((n+1)); done
v() { virsh -q -c 'qemu+unix:///system?socket=/a/run/libvirt-sock' "$@" 2>&1; }
group() { echo /sys/fs/cgroup/atoll/$(v domid $1)-$1-*; }
show() { for f in "$@"; do echo "$f: $(tr '\\n' ' ' <$f)"; done; }
step() { echo "== $*"; }
for name in tuned plain; do v define /$name.xml; v start $name --paused || cat /a.log; done
cd $(group tuned)
"""
STEPS = {
    "start": "show cpu.weight cpu.max io.weight io.max memory.max memory.high memory.swap.max cpuset.mems vcpu0/cpu.max vcpu1/cpu.max "
             "emulator/cpu.max iothread1/cpu.max",
    "threads": "cat /proc/$(head -n1 cgroup.procs)/status | grep Pid; cat vcpu0/cgroup.threads vcpu1/cgroup.threads iothread1/cgroup.threads | wc -l; "
               "show cgroup.type vcpu0/cgroup.type emulator/cgroup.type; cat cgroup.threads | wc -l",
    "scheduler": "v schedinfo tuned --set cpu_shares=300 --set vcpu_quota=40000 --set global_quota=90000 --set emulator_quota=30000 "
                 "--set iothread_quota=20000; show cpu.weight cpu.max vcpu0/cpu.max emulator/cpu.max iothread1/cpu.max; "
                 "v schedinfo tuned --set cpu_shares=20000",
    "memory": "v memtune tuned --hard-limit 400000 --swap-hard-limit 500000 --soft-limit 300000; show memory.max memory.high memory.swap.max; "
              "v memtune tuned --hard-limit -1",
    "weight": "v blkiotune tuned --weight 700; show io.weight; v blkiotune tuned --weight 20000",
    "devices": "v blkiotune tuned --device-read-iops-sec /dev/vda,1000; show io.max; v blkiotune tuned --device-read-iops-sec /dev/vda,0 "
               "--device-write-iops-sec /dev/vda,0; show io.max",
    "statistics": "v cpu-stats tuned --total; v dommemstat tuned; v domstats tuned --cpu-total",
    "defaults": "v schedinfo plain; v blkiotune plain; v memtune plain",
    "end": "cd /; for name in tuned plain; do v destroy $name; done; find /sys/fs/cgroup/atoll -mindepth 1 -type d",
}


def libraries(program):
    said = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=60, check=True).stdout
    return set(re.findall(r"(/\S+) \(0x", said))


class ControlGroups(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "cpio", "ldd")
        with tempfile.TemporaryDirectory() as folder:
            initrd = cls.make_initrd(folder)
            disk = f"{folder}/disk.raw"
            with open(disk, "wb") as file:
                file.truncate(1 << 20)
            options = kernel_args("sh /steps")
            options[options.index("-initrd") + 1] = initrd
            said = run(["-accel", "soft", "-cpu", "max", "-m", "1024", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "stdio",
                        "-no-reboot", "-drive", f"file={disk},format=raw,if=virtio", *options], timeout=600)
        cls.said = dict(part.replace("\r", "").split("\n", 1) for part in said.split("== ")[1:])

    @staticmethod
    def make_initrd(folder):
        """The stock one, and another archive behind it, as the kernel allows."""
        tree = f"{folder}/tree"
        os.makedirs(f"{tree}/bin")
        shutil.copytree("/usr/share/seabios", f"{tree}/usr/share/seabios")
        programs = [f"{BUILD}/bin/atolld", f"{BUILD}/bin/atoll-vmm", shutil.which("virsh")]
        for program in programs:
            shutil.copy(program, f"{tree}/bin")
        for library in set().union(*map(libraries, programs)):
            os.makedirs(tree + os.path.dirname(library), exist_ok=True)
            shutil.copy(library, tree + library)
        os.makedirs(f"{tree}/etc")
        for name, text in (("etc/passwd", "root:x:0:0::/:/bin/sh\n"), ("etc/group", "root:x:0:\n"),
                           ("tuned.xml", DOMAIN.format(name="tuned", tuning=TUNING)), ("plain.xml", DOMAIN.format(name="plain", tuning="")),
                           ("steps", START + "".join(f"step {name}\n{commands}\n" for name, commands in STEPS.items()) + "true\n")):
            with open(f"{tree}/{name}", "w") as file:
                file.write(text)
        more = subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=tree, capture_output=True, check=True, timeout=60).stdout
        with open(f"{GUESTS}/initrd", "rb") as stock, open(f"{folder}/initrd", "wb") as both:
            both.write(stock.read())
            both.write(bytes(-both.tell() % 4) + more)
        return f"{folder}/initrd"

    def assert_all(self, step, *texts):
        for text in texts:
            self.assertIn(text, self.said[step])

    def test_a_definitions_limits_are_there_when_the_vm_starts(self):
        self.assert_all("start", "cpu.weight: 200", "\ncpu.max: 80000 100000", "io.weight: default 400", "rbps=1000000", "wiops=50",
                        "memory.max: 512000000", "memory.high: 204800000", "memory.swap.max: max", "cpuset.mems: 0", "vcpu0/cpu.max: 50000 100000",
                        "vcpu1/cpu.max: 50000 100000", "emulator/cpu.max: 60000 100000", "iothread1/cpu.max: 70000 100000")

    def test_threads_are_divided_among_groups_of_their_own(self):
        self.assert_all("threads", "\n3\n", "cgroup.type: domain threaded", "vcpu0/cgroup.type: threaded", "emulator/cgroup.type: threaded")

    def test_limits_change_while_the_vm_runs(self):
        self.assert_all("scheduler", "cpu.weight: 300", "\ncpu.max: 90000 100000", "vcpu0/cpu.max: 40000", "emulator/cpu.max: 30000",
                        "iothread1/cpu.max: 20000", "cpu.weight': Numerical result out of range")
        self.assert_all("memory", "memory.max: 409600000", "memory.high: 307200000", "memory.swap.max: 102400000",
                        "memory hard_limit tunable value must be lower than or equal to swap_hard_limit")
        self.assert_all("weight", "io.weight: default 700", "io.weight': ")

    def test_a_devices_limit_of_0_is_none(self):
        self.assert_all("devices", "riops=1000 wiops=50", "rbps=1000000 wbps=max riops=max wiops=max")

    def test_statistics_are_the_groups(self):
        self.assertRegex(self.said["statistics"], r"cpu_time +\d+\.\d+ seconds")
        self.assertRegex(self.said["statistics"], r"cpu.system=[1-9]")
        self.assertRegex(self.said["statistics"], r"rss [1-9]")

    def test_what_is_not_set_is_told_in_this_versions_scale(self):
        self.assertRegex(self.said["defaults"], r"cpu_shares *: 100\n")
        self.assertRegex(self.said["defaults"], r"vcpu_quota *: 17592186044415\n")
        self.assertRegex(self.said["defaults"], r"weight *: 100\n")
        self.assertRegex(self.said["defaults"], r"hard_limit *: unlimited\n")

    def test_nothing_is_left(self):
        self.assertNotIn("/sys/fs/cgroup/atoll/", self.said["end"])


if __name__ == "__main__":
    unittest.main()
