"""What monitors and test programs do with faults of disks: errors injected at named steps, jobs that stop and go on, requests held at
breakpoints. The machine's processor does nothing (-accel qtest): a monitor and the protocol of device tests drive it."""

import socket
import unittest

from test_block_qmp import BlockQmp


class Faults(BlockQmp):
    accelerator = "qtest"

    def start_idle(self, *options):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path("qtest"))
        listener.listen(1)
        listener.settimeout(60)
        self.addCleanup(listener.close)
        self.start("-qtest", f"unix:path={self.path('qtest')}", *options)
        connection, _ = listener.accept()
        connection.settimeout(60)
        self.addCleanup(connection.close)
        self.qtest = connection.makefile("rw", encoding="ascii", newline="\n")
        self.addCleanup(self.qtest.close)

    def ask(self, line):
        self.qtest.write(line + "\n")
        self.qtest.flush()
        return self.qtest.readline().rstrip("\n")

    def monitor(self, line):
        return self.qmp.command("human-monitor-command", command_line=line)

    def add_failing(self, node, name, rule):
        debug = {"driver": "blkdebug", "node-name": f"{node}-debug", "image": {"driver": "file", "filename": self.path(name)}}
        if rule:
            debug["inject-error"] = [rule]
        self.qmp.command("blockdev-add", driver="qcow2", node_name=node, file=debug)

    def test_device_tests_reach_ports_and_memory_and_put_time_forward(self):
        self.start_idle()
        self.qmp.command("cont")
        self.assertEqual(self.ask("outl 0xcf8 0x80000000"), "OK")
        self.assertEqual(self.ask("inl 0xcfc"), "OK 0x12378086")  # the host bridge of an i440fx
        self.assertEqual(self.ask("write 0x1000 3 0x010203"), "OK")
        self.assertEqual(self.ask("read 0x1000 4"), "OK 0x01020300")
        before = int(self.ask("clock_step 0").split()[1])
        self.assertEqual(int(self.ask("clock_step 1000000000000").split()[1]), before + 10**12)
        self.assertTrue(self.ask("irq_intercept_in pic").startswith("FAIL"))
        self.quit()

    def test_a_stopped_backup_goes_on_where_it_failed(self):
        self.make("disk")
        self.make("copy")
        self.start_idle()
        self.add("d", "disk")
        self.monitor('qemu-io d "write -q -P 7 0 1M"')
        self.add_failing("t", "copy", {"event": "cluster_alloc", "errno": 28, "once": True})
        self.qmp.command("blockdev-backup", job_id="b", device="d", target="t", sync="full", on_target_error="enospc")
        error = self.qmp.wait_event("BLOCK_JOB_ERROR")["data"]
        self.assertEqual(error, {"device": "b", "operation": "write", "action": "stop"})
        while (job := self.qmp.command("query-block-jobs")[0])["status"] != "paused":
            pass
        self.assertEqual(job["io-status"], "nospace")
        self.qmp.command("block-job-resume", device="b")
        self.assertNotIn("error", self.qmp.wait_event("BLOCK_JOB_COMPLETED")["data"])
        self.quit()
        with open(self.path("disk"), "rb") as disk, open(self.path("copy"), "rb") as copy:
            self.assertIn(b"\x07" * 65536, disk.read())
            self.assertIn(b"\x07" * 65536, copy.read())

    def test_a_held_write_reaches_the_disk_when_it_is_let_go(self):
        self.make("disk")
        self.start_idle()
        self.add_failing("d", "disk", None)
        self.monitor('qemu-io d "break write_aio A"')
        self.monitor('qemu-io d "aio_write -P 9 0 64k"')
        self.monitor('qemu-io d "wait_break A"')
        self.assertIn("Error", self.monitor('qemu-io d "resume B"'))
        self.monitor('qemu-io d "resume A"')
        self.monitor('qemu-io d "flush"')
        self.quit()
        with open(self.path("disk"), "rb") as disk:
            self.assertIn(b"\x09" * 65536, disk.read())

    def test_every_export_that_goes_is_told_of(self):
        self.make("disk")
        self.start_idle()
        self.add("d", "disk")
        self.export("d")
        self.qmp.command("block-export-del", id="e")
        self.assertEqual(self.qmp.wait_event("BLOCK_EXPORT_DELETED")["data"], {"id": "e"})
        self.qmp.command("nbd-server-stop")
        self.quit()

    def test_a_disk_on_an_io_thread_is_exported_too(self):
        self.make("disk")
        self.start_idle("-object", "iothread,id=io", "-blockdev", f"qcow2,node-name=d,file.driver=file,file.filename={self.path('disk')}",
                        "-device", "virtio-blk-pci,drive=d,iothread=io")
        self.export("d")
        self.write("write -P 5 1M 2M", "read -P 5 1M 2M", "read -P 0 0 1M", "flush")
        self.unexport()
        self.quit()
        with open(self.path("disk"), "rb") as disk:
            self.assertIn(b"\x05" * 65536, disk.read())

    def test_latencies_are_counted_where_somebody_wants_it(self):
        self.make("disk")
        self.start_idle("-drive", f"if=none,id=d,format=qcow2,file={self.path('disk')}", "-device", "virtio-blk-pci,drive=d,id=v")
        self.qmp.command("block-latency-histogram-set", id="v", boundaries=[1000, 1000000])
        stats = self.qmp.command("query-blockstats")[0]["stats"]
        self.assertEqual(stats["rd_latency_histogram"], {"boundaries": [1000, 1000000], "bins": [0, 0, 0]})
        self.qmp.command("block-latency-histogram-set", id="v")
        self.assertNotIn("rd_latency_histogram", self.qmp.command("query-blockstats")[0]["stats"])
        self.quit()


if __name__ == "__main__":
    unittest.main()
