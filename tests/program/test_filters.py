"""Network filters of atolld on guests that are network namespaces: what they let pass, and what virsh says of them."""

import subprocess
import unittest

from test_networks import NetworkCase, run, setUpModule, wait_for  # noqa: F401 (the module's set-up is ours, too)

MAC = "52:54:00:00:00:41"
BINDING = """<filterbinding><owner><name>guest</name><uuid>61111111-2222-3333-4444-555555555550</uuid></owner>
<portdev name='{port}'/><mac address='{mac}'/><filterref filter='{filter}'>{parameters}</filterref></filterbinding>"""
# Out: pings and web; in: nothing new.
CAREFUL = """<filter name='careful'><uuid>51111111-2222-3333-4444-555555555550</uuid>
<rule action='accept' direction='out'><icmp/></rule>
<rule action='accept' direction='out'><tcp dstportstart='$PORT'/></rule>
<rule action='drop' direction='inout' priority='900'><all/></rule></filter>"""
PARAMETERS = {"IP": "10.0.0.1", "IPV6": "fd00::1", "GATEWAY_MAC": "52:54:00:00:00:99", "PORT": "80"}


class FilterCase(NetworkCase):
    def setUp(self):
        super().setUp()
        run("ip", "link", "add", "br0", "type", "bridge")
        self.addCleanup(run, "ip", "link", "delete", "br0")
        run("ip", "link", "set", "br0", "up")
        self.addCleanup(self.end_bindings)

    def end_bindings(self):
        """They outlive the daemon."""
        for line in self.virsh("nwfilter-binding-list").splitlines():
            if line.strip():
                self.virsh("nwfilter-binding-delete", line.split()[0])

    def file(self, text):
        path = f"{self.daemon.root}/some.xml"
        with open(path, "w") as file:
            file.write(text)
        return path

    def define_filter(self, text, status=0):
        return self.virsh("nwfilter-define", self.file(text), status=status)

    def bind(self, port, name, status=0, mac=MAC, **parameters):
        text = "".join(f"<parameter name='{key}' value='{value}'/>" for key, values in parameters.items() for value in values.split(","))
        return self.virsh("nwfilter-binding-create", self.file(BINDING.format(port=port, mac=mac, filter=name, parameters=text)), status=status)

    def pair(self):
        guest = self.machine("one", "br0", "10.0.0.1/24", mac=MAC)
        other = self.machine("two", "br0", "10.0.0.2/24")
        wait_for(lambda: guest.reaches("10.0.0.2"), "the two reach each other")
        return guest, other

    def rules(self, port):
        return run("nft", "list", "table", "bridge", f"atoll-{port}").stdout


class Traffic(FilterCase):
    def test_answers_come_in_and_nothing_else(self):
        guest, other = self.pair()
        self.define_filter(CAREFUL)
        self.bind("one", "careful", PORT="80")
        self.assertTrue(guest.reaches("10.0.0.2"))
        self.assertTrue(other.is_kept_from("10.0.0.1"))

    def test_ports_are_told_apart_and_lists_of_values_make_several_rules(self):
        guest, other = self.pair()
        self.define_filter(CAREFUL)
        self.bind("one", "careful", PORT="80,8080")
        for port, open_to_it in ((80, True), (8080, True), (81, False)):
            self.assertEqual(self.connects(guest, other, port), open_to_it, port)

    def connects(self, guest, other, port):
        """Whether a connection to a listening port of the other machine carries a line both ways."""
        listen = f"import socket; s = socket.create_server(('10.0.0.2', {port})); print('x', flush=True); c = s.accept()[0]; c.sendall(c.recv(9))"
        with subprocess.Popen(["nsenter", "-t", str(other.process.pid), "-n", "python3", "-c", listen], stdout=subprocess.PIPE) as server:
            server.stdout.readline()
            call = f"import socket; c = socket.create_connection(('10.0.0.2', {port}), 2); c.sendall(b'hello'); assert c.recv(9) == b'hello'"
            done = guest.run("python3", "-c", call, check=False)
            server.kill()
        return done.returncode == 0

    def test_a_new_definition_counts_at_once_and_a_binding_ends_at_once(self):
        guest, other = self.pair()
        self.define_filter(CAREFUL)
        self.bind("one", "careful", PORT="80")
        self.assertTrue(other.is_kept_from("10.0.0.1"))
        self.define_filter(CAREFUL.replace("direction='out'><icmp/>", "direction='inout'><icmp/>"))
        self.assertTrue(other.reaches("10.0.0.1"))
        self.define_filter(CAREFUL)
        self.assertTrue(other.is_kept_from("10.0.0.1"))
        self.virsh("nwfilter-binding-delete", "one")
        self.assertTrue(other.reaches("10.0.0.1"))
        self.assertNotIn("atoll-one", run("nft", "list", "tables").stdout)

    def test_the_first_address_is_learned_and_others_are_dropped(self):
        guest, _ = self.pair()
        self.bind("one", "clean-traffic")
        self.assertTrue(guest.reaches("10.0.0.2"))
        guest.run("ip", "address", "add", "10.0.0.7/24", "dev", "eth0")
        done = guest.run("ping", "-I", "10.0.0.7", "-c", "1", "-W", "1", "10.0.0.2", check=False)
        self.assertNotEqual(done.returncode, 0)
        guest.run("ip", "link", "set", "eth0", "address", "52:54:00:00:00:77")
        self.assertTrue(guest.is_kept_from("10.0.0.2"))

    def test_addresses_that_are_given_are_not_learned(self):
        guest, _ = self.pair()
        self.bind("one", "clean-traffic", IP="10.0.0.9")
        self.assertTrue(guest.is_kept_from("10.0.0.2"))

    def test_bindings_outlive_a_killed_daemon_and_go_with_their_port(self):
        self.pair()
        self.define_filter(CAREFUL)
        self.bind("one", "careful", PORT="80")
        self.bind("two", "careful", PORT="80")
        self.daemon.stop(9)
        run("ip", "link", "delete", "two")
        self.daemon.start()
        self.assertEqual(self.virsh("nwfilter-binding-list").split(), ["one", "careful"])
        self.assertNotIn("atoll-two", run("nft", "list", "tables").stdout)


class Definitions(FilterCase):
    def test_every_stock_filter_can_guard_a_card_and_fits_the_schema(self):
        self.machine("one", "br0", "10.0.0.1/24", mac=MAC)
        names = [line.split()[1] for line in self.virsh("nwfilter-list").splitlines() if line.strip()]
        self.assertEqual(len(names), 24)
        for name in names:
            with self.subTest(name):
                run("virt-xml-validate", self.file(self.virsh("nwfilter-dumpxml", name)), "nwfilter")
                server = "fd00::2" if "v6" in name else "10.0.0.2"
                self.bind("one", name, DHCPSERVER=server, **PARAMETERS)
                run("virt-xml-validate", self.file(self.virsh("nwfilter-binding-dumpxml", "one")), "nwfilterbinding")
                self.virsh("nwfilter-binding-delete", "one")

    def test_every_protocol_becomes_rules(self):
        attributes = {
            "mac": "srcmacaddr='$MAC' srcmacmask='ff:ff:ff:00:00:00' protocolid='0x88a2'",
            "vlan": "vlanid='7' encap-protocol='ipv6'",
            "stp": "type='0x80' root-priority='1' root-priority-hi='9' root-address='1:2:3:4:5:6' root-cost='5' forward-delay='3'",
            "arp": "hwtype='1' protocoltype='0x800' opcode='Reply' arpsrcmacaddr='$MAC' arpdstipaddr='10.0.0.2'",
            "rarp": "opcode='Request_Reverse' arpsrcmacaddr='$MAC' arpsrcipaddr='10.0.0.1'",
            "ip": "dstipaddr='10.0.0.0' dstipmask='255.0.0.0' protocol='udp' srcportstart='67' srcportend='68' dscp='3'",
            "ipv6": "srcipaddr='fe80::' srcipmask='10' protocol='icmpv6' type='128' typeend='129'",
            "tcp": "dstportstart='80' flags='SYN,ACK/SYN'", "tcp-ipv6": "srcipfrom='fd00::1' srcipto='fd00::9'",
            "udp": "srcmacaddr='$MAC' dscp='4' state='NEW'", "udp-ipv6": "dstportstart='7'", "sctp": "srcportstart='1'", "sctp-ipv6": "",
            "icmp": "type='8' code='0'", "icmpv6": "type='128'", "igmp": "", "esp": "", "esp-ipv6": "", "ah": "", "ah-ipv6": "",
            "udplite": "", "udplite-ipv6": "", "all": "state='ESTABLISHED,RELATED'", "all-ipv6": "srcipaddr='fd00::'"}
        for name, what in attributes.items():
            for match in ("", "match='no' ") if name != "stp" else ("",):
                with self.subTest(name, match=match):
                    rules = "".join(f"<rule action='{action}' direction='{direction}'><{name} {match}{what}/></rule>"
                                    for action in ("accept", "drop", "reject", "return", "continue") for direction in ("in", "out", "inout"))
                    self.define_filter(f"<filter name='one'><uuid>51111111-2222-3333-4444-555555555551</uuid>{rules}</filter>")
                    run("virt-xml-validate", self.file(self.virsh("nwfilter-dumpxml", "one")), "nwfilter")
                    self.bind("port", "one")
                    self.assertIn("to_guest", self.rules("port"))
                    self.virsh("nwfilter-binding-delete", "port")

    def test_what_cannot_be_enforced_is_refused_by_name(self):
        for rule, words in (("<tcp connlimit-above='3'/>", "connlimit-above"), ("<all ipset='a' ipsetflags='src'/>", "ipset"),
                            ("<arp gratuitous='true'/>", "gratuitous"), ("<tcp dstportstart='$NONE'/>", "unresolvable variables")):
            with self.subTest(words):
                self.define_filter("<filter name='one'><uuid>51111111-2222-3333-4444-555555555551</uuid>"
                                   f"<rule action='accept' direction='in'>{rule}</rule></filter>")
                self.assertIn(words, self.bind("port", "one", status=1))
        self.assertEqual(self.virsh("nwfilter-binding-list").strip(), "")

    def test_a_filter_in_use_stays_and_a_change_that_fails_changes_nothing(self):
        self.define_filter(CAREFUL)
        self.bind("port", "careful", PORT="80")
        before = self.rules("port")
        self.assertIn("nwfilter is in use", self.virsh("nwfilter-undefine", "careful", status=1))
        self.assertIn("unresolvable", self.define_filter(CAREFUL.replace("$PORT", "$OTHER"), status=1))
        self.assertEqual(self.rules("port"), before)
        self.assertIn("$PORT", self.virsh("nwfilter-dumpxml", "careful"))
        self.assertIn("loop", self.define_filter(CAREFUL.replace("</filter>", "<filterref filter='careful'/></filter>"), status=1))
        self.virsh("nwfilter-binding-delete", "port")
        self.virsh("nwfilter-undefine", "careful")

    def test_stock_filters_can_be_replaced_and_come_back(self):
        stock = self.virsh("nwfilter-dumpxml", "allow-arp")
        self.assertIn("stock filter", self.virsh("nwfilter-undefine", "allow-arp", status=1))
        self.define_filter(stock.replace("priority='500'", "priority='7'"))
        self.daemon.stop()
        self.daemon.start()
        self.assertIn("priority='7'", self.virsh("nwfilter-dumpxml", "allow-arp"))
        self.virsh("nwfilter-undefine", "allow-arp")
        self.assertEqual(self.virsh("nwfilter-dumpxml", "allow-arp"), stock)


if __name__ == "__main__":
    unittest.main()
