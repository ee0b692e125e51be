"""What the monitors say of themselves is true: replies have the types that the schema tells, the lists of commands can be called."""

import os
import socket
import unittest

from guest import boot
from test_control import Folder

DEVICES = ["-M", "pc", "-nodefaults", "-display", "none", "-S", "-smp", "2", "-netdev", "user,id=u0,hostfwd=tcp:127.0.0.1:0-:22",
           "-device", "virtio-net-pci,netdev=u0,id=n0", "-object", "iothread,id=io0", "-blockdev", "null-co,node-name=nn,size=1048576",
           "-device", "virtio-blk-pci,drive=nn,id=b0,iothread=io0", "-device", "VGA", "-device", "virtio-balloon-pci,id=bal",
           "-device", "pci-bridge,id=br,chassis_nr=1", "-device", "virtio-rng-pci,bus=br,addr=1,id=behind",
           "-chardev", "ringbuf,id=rb", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=rb,id=vp", "-usb"]

# What QEMU's own test of the human monitor (tests/qtest/test-hmp.c) calls on every machine.
CALLS = ["announce_self", "boot_set ndc", "chardev-add null,id=c1", "chardev-send-break c1", "chardev-change c1 ringbuf", "chardev-remove c1",
         "cpu 0", "device_add ?", "device_add usb-mouse,id=mouse1", "mouse_button 7", "mouse_move 10 10", "mouse_button 0",
         "device_del mouse1", "dump-guest-memory /dev/null 0 4096", "dump-guest-memory /dev/null", "gva2gpa 0",
         "hostfwd_add tcp:127.0.0.1:0-:43210", "i /w 0", "log none", 'memsave 0 4096 "/dev/null"', "netdev_add user,id=net1", "netdev_del net1",
         "nmi", "o /w 0 0x1234", "object_add memory-backend-ram,id=mem1,size=2M", "object_del mem1", 'pmemsave 0 4096 "/dev/null"', "p $pc + 8",
         "qom-list /", "qom-get /machine initrd", "screendump /dev/null", "sendkey x", "sum 0 512", "x /8x 0x100", "xp /16x 0",
         "set_link n0 off", "set_link n0 on"]


class Schema:
    def __init__(self, entries):
        self.by_name = {entry["name"]: entry for entry in entries}

    def wrong(self, value, name, where="reply"):
        """What of a value does not fit a type; None if all does."""
        entry = self.by_name[name]
        return getattr(self, "wrong_" + entry["meta-type"])(value, entry, where)

    def wrong_builtin(self, value, entry, where):
        kinds = {"string": str, "int": int, "number": (int, float), "boolean": bool, "null": type(None), "value": object}
        fits = isinstance(value, kinds[entry["json-type"]]) and (entry["json-type"] == "boolean" or entry["json-type"] == "value" or
                                                                 not isinstance(value, bool))
        return None if fits else f"{where} is {value!r}, not a {entry['json-type']}"

    def wrong_enum(self, value, entry, where):
        return None if value in entry["values"] else f"{where} is {value!r}, not in {entry['name']}"

    def wrong_array(self, value, entry, where):
        if not isinstance(value, list):
            return f"{where} is no list"
        return next(filter(None, (self.wrong(v, entry["element-type"], f"{where}[{i}]") for i, v in enumerate(value))), None)

    def wrong_alternate(self, value, entry, where):
        found = [self.wrong(value, member["type"], where) for member in entry["members"]]
        return None if None in found else found[0]

    def members(self, value, entry):
        members = {member["name"]: member for member in entry["members"]}
        for variant in entry.get("variants", []):
            if variant["case"] == value.get(entry["tag"]):
                members |= self.members(value, self.by_name[variant["type"]])
        return members

    def wrong_object(self, value, entry, where):
        if not isinstance(value, dict):
            return f"{where} is no object"
        members = self.members(value, entry)
        for name in value:
            if name not in members:
                return f"{where}.{name} is not in {entry['name']}"
        for name, member in members.items():
            if name not in value and "default" not in member:
                return f"{where}.{name} of {entry['name']} is missing"
            wrong = name in value and self.wrong(value[name], member["type"], f"{where}.{name}")
            if wrong:
                return wrong
        return None


class Introspection(Folder):
    def start_all(self, *args):
        process, qmp = self.start_with_qmp(*DEVICES, *args)
        return process, qmp, Schema(qmp.command("query-qmp-schema"))

    def test_every_query_returns_what_its_schema_tells(self):
        _, qmp, schema = self.start_all("-vnc", f"unix:{self.path('vnc')}")
        asked = 0
        for entry in list(schema.by_name.values()):
            if entry["meta-type"] != "command" or "query-" not in entry["name"]:
                continue
            if any("default" not in member for member in schema.by_name[entry["arg-type"]]["members"]):
                continue
            with self.subTest(entry["name"]):
                reply = qmp.exchange({"execute": entry["name"]})
                if "error" not in reply:
                    self.assertIsNone(schema.wrong(reply["return"], entry["ret-type"]))
                    asked += 1
        self.assertGreater(asked, 45)

    def test_schema_names_every_command_and_type(self):
        _, qmp, schema = self.start_all()
        commands = {entry["name"] for entry in schema.by_name.values() if entry["meta-type"] == "command"}
        self.assertEqual(commands, {entry["name"] for entry in qmp.command("query-commands")})
        for entry in schema.by_name.values():
            used = [entry.get(key) for key in ("arg-type", "ret-type", "element-type")]
            used += [part["type"] for key in ("members", "variants") for part in entry.get(key, []) if "type" in part]
            for name in filter(None, used):
                self.assertIn(name, schema.by_name, entry["name"])

    def test_events_carry_what_the_schema_tells(self):
        _, qmp, schema = self.start_all()
        for name in ("cont", "stop", "system_reset", "system_powerdown"):
            qmp.command(name)
        qmp.command("chardev-add", id="x", backend={"type": "null", "data": {}})
        qmp.command("quit")
        qmp.wait_event("SHUTDOWN")
        for event in qmp.events:
            entry = schema.by_name[event["event"]]
            self.assertIsNone(schema.wrong(event.get("data", {}), entry["arg-type"], event["event"]))

    def test_queries_of_an_empty_machine_fail_where_qemus_tests_expect_it(self):
        _, qmp = self.start_with_qmp("-M", "none", "-nodefaults", "-accel", "qtest")
        expected = {"query-acpi-ospm-status": "GenericError", "query-balloon": "DeviceNotActive", "query-hotpluggable-cpus": "GenericError",
                    "query-vm-generation-id": "GenericError", "x-query-usb": "GenericError", "x-query-jit": "GenericError"}
        for name, kind in expected.items():
            self.assertEqual(qmp.exchange({"execute": name}).get("error", {}).get("class"), kind, name)

    def test_types_are_listed_with_all_that_they_are(self):
        _, qmp, _ = self.start_all()
        everything = {entry["name"]: entry for entry in qmp.command("qom-list-types", abstract=True)}
        concrete = {entry["name"] for entry in qmp.command("qom-list-types", abstract=False)}
        for name, entry in everything.items():
            self.assertEqual(entry.get("abstract", False), name not in concrete)
            self.assertIn(entry.get("parent", "object"), everything)
        before = [qmp.command("human-monitor-command", **{"command-line": f"info {tree}"}) for tree in ("qom-tree", "qtree")]
        for entry in qmp.command("qom-list-types", implements="device", abstract=False):
            qmp.exchange({"execute": "device-list-properties", "arguments": {"typename": entry["name"]}})
            qmp.command("human-monitor-command", **{"command-line": f'device_add "{entry["name"]},help"'})
        after = [qmp.command("human-monitor-command", **{"command-line": f"info {tree}"}) for tree in ("qom-tree", "qtree")]
        self.assertEqual(before, after)

    def test_every_info_command_answers(self):
        _, qmp, _ = self.start_all()
        names = [line.split()[1] for line in qmp.command("human-monitor-command", **{"command-line": "help info"}).splitlines()]
        self.assertGreater(len(names), 45)
        for names_of_one in names:
            for name in names_of_one.split("|"):
                text = qmp.command("human-monitor-command", **{"command-line": f"info {name}"})
                self.assertNotIn("unknown command", text)

    def test_the_calls_of_qemus_monitor_test_succeed(self):
        _, qmp, _ = self.start_all()
        for call in CALLS:
            with self.subTest(call):
                text = qmp.command("human-monitor-command", **{"command-line": call})
                self.assertNotIn("Error", text)
                self.assertNotIn("unknown", text)

    def test_every_object_can_be_read(self):
        _, qmp, _ = self.start_all()
        paths, seen = ["/"], 0
        while paths:
            path = paths.pop()
            for entry in qmp.command("qom-list", path=path):
                below = path.rstrip("/") + "/" + entry["name"]
                if entry["type"].startswith("child<"):
                    paths.append(below)
                else:
                    qmp.command("qom-get", path=path, property=entry["name"])
                    seen += 1
        self.assertGreater(seen, 100)

    def test_every_device_type_tells_its_properties(self):
        _, qmp, _ = self.start_all()
        types = qmp.command("qom-list-types", implements="device")
        self.assertGreater(len(types), 60)
        for entry in types:
            qmp.command("qom-list-properties", typename=entry["name"])

    def test_pci_tree_shows_bridges_and_what_is_behind(self):
        _, qmp, _ = self.start_all()
        functions = qmp.command("query-pci")[0]["devices"]
        self.assertEqual({f["qdev_id"] for f in functions} & {"n0", "b0", "br"}, {"n0", "b0", "br"})
        bridge = next(f for f in functions if f["qdev_id"] == "br")
        self.assertEqual(bridge["class_info"], {"class": 0x604, "desc": "PCI bridge"})
        self.assertEqual(bridge["pci_bridge"]["bus"]["secondary"], 0)
        text = qmp.command("human-monitor-command", **{"command-line": "info pci"})
        self.assertIn("Ethernet controller: PCI device 1af4:1000", text)
        self.assertIn('id "n0"', text)

    def test_statistics_are_counted_by_machine_and_processor(self):
        _, qmp, _ = self.start_all("-accel", "soft")
        names = {s["name"] for schema in qmp.command("query-stats-schemas") if schema["target"] == "vcpu" for s in schema["stats"]}
        self.assertIn("instructions", names)
        of_cpus = qmp.command("query-stats", target="vcpu", providers=[{"provider": "soft", "names": ["instructions"]}])
        self.assertEqual([entry["qom-path"] for entry in of_cpus], ["/machine/unattached/device[0]", "/machine/unattached/device[1]"])
        self.assertEqual([s["name"] for s in of_cpus[0]["stats"]], ["instructions"])
        self.assertEqual(qmp.command("query-stats", target="vm", providers=[{"provider": "kvm"}]), [])

    def test_dump_in_the_background_completes(self):
        _, qmp, _ = self.start_all()
        qmp.command("dump-guest-memory", paging=False, protocol=f"file:{self.path('core')}", detach=True)
        result = qmp.wait_event("DUMP_COMPLETED")["data"]["result"]
        self.assertEqual((result["status"], result["completed"]), ("completed", result["total"]))
        self.assertEqual(qmp.command("query-dump")["status"], "completed")
        with open(self.path("core"), "rb") as core:
            self.assertEqual(core.read(4), b"\x7fELF")

    def test_a_connection_is_yanked_out_of_band(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path("peer"))
        listener.listen()
        self.start(*DEVICES, "-chardev", f"socket,id=peer,path={self.path('peer')}", "-serial", "chardev:peer", "-qmp",
                   f"unix:{self.path('qmp')},server=on,wait=off")
        peer, _ = listener.accept()
        self.addCleanup(peer.close)
        qmp = self.connect(negotiate=False)
        self.assertEqual(qmp.greeting["QMP"]["capabilities"], ["oob"])
        qmp.command("qmp_capabilities", enable=["oob"])
        self.assertIn({"type": "chardev", "id": "peer"}, qmp.command("query-yank"))
        self.assertEqual(qmp.exchange({"exec-oob": "query-status"})["error"]["desc"], "The command query-status does not support OOB")
        reply = qmp.exchange({"exec-oob": "yank", "arguments": {"instances": [{"type": "chardev", "id": "peer"}]}, "id": 7})
        self.assertEqual(reply, {"return": {}, "id": 7})
        peer.settimeout(20)
        self.assertEqual(peer.recv(100), b"")

    def test_a_back_end_is_changed_under_its_device(self):
        _, qmp, _ = self.start_all("-chardev", f"file,id=first,path={self.path('first')}", "-serial", "chardev:first")
        qmp.command("human-monitor-command", **{"command-line": "o /b 0x3f8 65"})
        qmp.command("chardev-change", id="first", backend={"type": "ringbuf", "data": {}})
        qmp.command("human-monitor-command", **{"command-line": "o /b 0x3f8 66"})
        qmp.command("cont")
        self.assertEqual(qmp.command("ringbuf-read", device="first", size=10), "B")
        with open(self.path("first"), encoding="ascii") as first:
            self.assertEqual(first.read(), "A")

    def test_debugger_is_let_in_while_the_machine_runs(self):
        _, qmp, _ = self.start_all()
        place = f"unix:{self.path('gdb')}"
        self.assertIn("Waiting for gdb connection", qmp.command("human-monitor-command", **{"command-line": f"gdbserver {place}"}))
        with socket.socket(socket.AF_UNIX) as gdb:
            gdb.settimeout(20)
            gdb.connect(self.path("gdb"))
            gdb.sendall(b"$qC#b4")
            answer = b""
            while not answer.count(b"#"):
                answer += gdb.recv(100)
            self.assertTrue(answer.startswith(b"+$QC"), answer)
        qmp.command("human-monitor-command", **{"command-line": "gdbserver none"})
        self.assertFalse(os.path.exists(self.path("gdb")))


class Options(Folder):
    def test_absent_options_are_refused_by_name(self):
        for words, text in ((["-spice", "port=1"], "-spice: not supported"), (["-icount", "1"], "-icount: not supported"),
                            (["-virtfs", "local"], "-virtfs: not supported"), (["-full-screen"], "-full-screen: not supported"),
                            (["-d", "int"], "log item 'int' is not available")):
            done = self.run_out(*words)
            self.assertEqual(done.returncode, 1)
            self.assertIn(text, done.stderr)

    def test_set_changes_an_option_before_it(self):
        done = self.run_out("-drive", "id=d,if=none,file=/nonexistent,format=raw", "-set", "drive.d.file=/elsewhere/x")
        self.assertIn("/elsewhere/x", done.stderr)
        done = self.run_out("-set", "drive.d.file=x")
        self.assertIn('there is no drive "d" defined', done.stderr)

    def test_guest_name_is_put_before_messages(self):
        done = self.run_out("-name", "vm7", "-msg", "guest-name=on", "-kernel", "/nonexistent")
        self.assertTrue(done.stderr.startswith("vm7 atoll-vmm: "), done.stderr)


class Nodes(Folder):
    NODES = ["-smp", "4,sockets=2,cores=2", "-object", "memory-backend-ram,id=a,size=128M", "-object", "memory-backend-ram,id=b,size=128M",
             "-numa", "node,memdev=a", "-numa", "node,memdev=b", "-numa", "dist,src=0,dst=1,val=31"]

    def test_nodes_are_told_to_the_monitor(self):
        _, qmp = self.start_with_qmp("-M", "pc", "-m", "256", "-nodefaults", "-display", "none", "-S", *self.NODES)
        self.assertEqual([cpu["props"]["node-id"] for cpu in qmp.command("query-cpus-fast")], [0, 0, 1, 1])
        text = qmp.command("human-monitor-command", **{"command-line": "info numa"})
        self.assertIn("2 nodes\r\nnode 0 cpus: 0 1\r\nnode 0 size: 128 MB", text)
        self.assertEqual([memory["id"] for memory in qmp.command("query-memdev")], ["a", "b"])

    def test_the_guest_sees_nodes(self):
        text = boot("cat /sys/devices/system/node/node1/cpulist /sys/devices/system/node/node1/distance", *self.NODES)
        self.assertRegex(text, r"2-3\s+31 10")


if __name__ == "__main__":
    unittest.main()
