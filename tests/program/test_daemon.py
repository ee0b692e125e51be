"""atolld as libvirt's clients see it: the host, the protocol, and clients that misbehave."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import unittest
import unittest.mock

from daemon_fixture import ATOLLD, KEEPALIVE, MESSAGE, REPLY, STREAM, Daemon, DaemonCase, Wire
from guest import ROOT
from managed import wait_until

SCHEMAS = "/usr/share/libvirt/schemas"


class Host(DaemonCase):
    def test_versions(self):
        text = self.daemon.virsh("version", "--daemon")
        self.assertIn("Using API: QEMU 9.0.0", text)
        self.assertIn("Running against daemon: 9.0.0", text)

    def test_uri_and_hostname(self):
        self.assertEqual(self.daemon.virsh("hostname").strip().split(".")[0], socket.gethostname().split(".")[0])
        self.assertIn("qemu", self.daemon.virsh("uri"))

    def test_node_info_counts_processors(self):
        info = dict(line.split(":", 1) for line in self.daemon.virsh("nodeinfo").splitlines() if ":" in line)
        self.assertEqual(info["CPU model"].strip(), "x86_64")
        self.assertEqual(int(info["CPU(s)"]), os.cpu_count())

    def test_statistics(self):
        self.assertRegex(self.daemon.virsh("nodecpustats"), r"user:\s+\d+")
        self.assertRegex(self.daemon.virsh("nodecpustats", "--cpu", "0"), r"idle:\s+\d+")
        self.assertIn("error", self.daemon.virsh("nodecpustats", "--cpu", "99999", status=1))
        self.assertRegex(self.daemon.virsh("nodememstats"), r"total\s*:\s+\d+ KiB")
        self.assertRegex(self.daemon.virsh("freecell"), r"\d+ KiB")
        self.assertRegex(self.daemon.virsh("freecell", "--all"), r"0:\s+\d+ KiB")
        self.assertRegex(self.daemon.virsh("nodecpumap"), r"CPUs online:\s+%d" % os.cpu_count())
        self.assertRegex(self.daemon.virsh("freepages", "--cellno", "0", "--pagesize", "4"), r"4KiB: \d+")
        self.assertEqual(self.daemon.virsh("maxvcpus").strip(), "255")
        self.assertIn("<sysinfo type='smbios'", self.daemon.virsh("sysinfo"))

    def validate(self, text, schema):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            done = subprocess.run(["xmllint", "--noout", "--relaxng", f"{SCHEMAS}/{schema}.rng", file.name],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr + text)

    def test_documents_follow_libvirts_schemas(self):
        capabilities = self.daemon.virsh("capabilities")
        self.assertIn("<domain type='kvm'", capabilities)
        self.assertRegex(capabilities, r"<machine canonical='pc-i440fx-[\d.]+' maxCpus='\d+'>pc</machine>")
        domain = self.daemon.virsh("domcapabilities")
        self.assertIn("<mode name='host-model' supported='yes'>", domain)
        if not os.path.exists(SCHEMAS) or not shutil.which("xmllint"):
            self.skipTest("no schemas or xmllint")
        self.validate(capabilities, "capability")
        self.validate(domain, "domaincaps")

    def test_domain_capabilities_refuse_what_is_not_there(self):
        self.assertIn("error", self.daemon.virsh("domcapabilities", "--machine", "nonesuch", status=1))
        self.assertIn("error", self.daemon.virsh("domcapabilities", "--arch", "riscv64", status=1))
        self.assertIn("error", self.daemon.virsh("domcapabilities", "--virttype", "xen", status=1))

    def test_processors_are_compared(self):
        self.assertIn("qemu64", self.daemon.virsh("cpu-models", "x86_64").split())
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write("<cpu><arch>x86_64</arch><model>qemu64</model></cpu>")
            file.flush()
            self.assertRegex(self.daemon.virsh("cpu-compare", file.name, status=None), "superset|identical|incompatible")
            self.assertIn("<model", self.daemon.virsh("cpu-baseline", file.name))
            self.assertIn("<feature", self.daemon.virsh("cpu-baseline", "--features", file.name))

    def test_what_is_not_served_is_said_to_be_unsupported(self):
        # The library makes code 3 of it; virsh prints the text as it came.
        self.assertIn("this function is not supported by the connection driver: virNodeSuspendForDuration", self.daemon.virsh("nodesuspend", "mem", "60", status=1))

    def test_events_are_registered(self):
        self.assertIn("timed out", self.daemon.virsh("event", "--all", "--timeout", "1", status=1))

    def test_python_binding(self):
        script = ("import libvirt, sys\n"
                  "libvirt.virEventRegisterDefaultImpl()\n"
                  "c = libvirt.open(sys.argv[1])\n"
                  "c.domainEventRegisterAny(None, 0, lambda *a: None, None)\n"
                  "c.setKeepAlive(5, 3)\n"
                  "print(c.getInfo()[0], c.getLibVersion(), c.isAlive(), c.isEncrypted(), c.isSecure())\n"
                  "assert c.getCPUMap()[0] > 0 and c.getMemoryStats(-1)['total'] > 0\n"
                  "c.close()\n")
        done = subprocess.run(["/usr/bin/python3", "-c", script, self.daemon.uri], capture_output=True, text=True, timeout=60)
        if "No module named" in done.stderr:
            self.skipTest("no python3-libvirt")
        self.assertEqual(done.stdout.split(), ["x86_64", "9000000", "1", "0", "1"], done.stderr)

    def test_perl_binding(self):
        if subprocess.run(["perl", "-MSys::Virt", "-e", "1"], capture_output=True).returncode:
            self.skipTest("no Sys::Virt")
        script = 'use Sys::Virt; my $c = Sys::Virt->new(uri => $ARGV[0]); print $c->get_type(), " ", $c->get_node_info()->{model}'
        done = subprocess.run(["perl", "-e", script, self.daemon.uri], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout, "QEMU x86_64", done.stderr)


class Protocol(DaemonCase):
    def setUp(self):
        self.wire = Wire(self.daemon.socket)
        self.addCleanup(self.wire.close)

    def test_authentication_is_none(self):
        self.assertEqual(self.wire.call(66), struct.pack(">II", 1, 0))

    def test_calls_before_open_are_refused(self):
        self.assertEqual(self.wire.call(6), (1, 7, "internal error: hypervisor connection not open"))
        self.assertEqual(self.wire.call(60, struct.pack(">I", 10)), struct.pack(">I", 1))

    def test_second_open_loses_the_first(self):
        self.assertEqual(self.wire.open(), b"")
        self.assertEqual(self.wire.open()[0], 1)
        self.assertEqual(self.wire.call(6)[0], 1)

    def test_other_hypervisors_are_refused(self):
        self.assertEqual(self.wire.open("xen:///system")[0], 5)

    def test_features(self):
        answers = {f: struct.unpack(">I", self.wire.call(60, struct.pack(">I", f)))[0] for f in range(20)}
        self.assertEqual([f for f, on in answers.items() if on][-4:], [10, 14, 15, 16])

    def test_nonsense_is_answered(self):
        self.wire.open()
        self.assertEqual(self.wire.call(60), (39, 7, "Unable to decode message payload"))
        self.assertEqual(self.wire.call(9999), (39, 7, "unknown procedure: 9999"))
        self.assertEqual(self.wire.call(1, program=5), (39, 7, "Cannot find program 5 version 1"))
        self.assertEqual(self.wire.call(1, version=2)[:2], (39, 7))
        self.assertEqual(self.wire.call(6, status=1)[:2], (39, 7))
        self.assertEqual(len(self.wire.call(6, b"trailing bytes..")), 160)

    def test_frames_that_are_no_calls_are_dropped(self):
        self.wire.send(6, kind=REPLY, serial=77)
        self.wire.send(6, kind=STREAM, serial=77, status=2)
        self.wire.send(6, kind=MESSAGE, serial=77)
        self.assertEqual(self.wire.call(66), struct.pack(">II", 1, 0))

    def test_impossible_lengths_end_the_connection(self):
        for length in (0, 27, 0x7FFFFFFF, 0xFFFFFFFF):
            wire = Wire(self.daemon.socket)
            wire.sock.sendall(struct.pack(">I", length) + b"x" * 60)
            with self.assertRaises((EOFError, ConnectionResetError)):
                wire.receive()
            wire.close()
        self.assertEqual(self.wire.call(66), struct.pack(">II", 1, 0))

    def test_pings_are_answered(self):
        self.wire.send(1, program=KEEPALIVE, kind=MESSAGE, serial=0)
        header, payload = self.wire.receive()
        self.assertEqual((header, payload), ((KEEPALIVE, 1, 2, MESSAGE, 0, 0), b""))

    def test_calls_in_pieces_and_in_bulk(self):
        self.wire.open()
        frame = struct.pack(">7I", 28, 0x20008086, 1, 6, 0, 1000, 0)
        for byte in frame:
            self.wire.sock.sendall(bytes([byte]))
        self.assertEqual(self.wire.receive()[0][4], 1000)
        self.wire.sock.sendall(b"".join(struct.pack(">7I", 28, 0x20008086, 1, 59, 0, serial, 0) for serial in range(2000, 2200)))
        self.assertEqual({self.wire.receive()[0][4] for _ in range(200)}, set(range(2000, 2200)))

    def test_read_only_clients_change_nothing(self):
        wire = Wire(self.daemon.socket + "-ro")
        self.addCleanup(wire.close)
        self.assertEqual(wire.open(), b"")
        self.assertEqual(len(wire.call(6)), 160)
        served = set(self.writes())
        self.assertTrue(served)
        for number in served:
            answer = wire.call(number, b"\0" * 64)
            self.assertEqual(answer[0] if isinstance(answer, tuple) else answer, 29, number)

    def test_read_only_by_flag(self):
        self.wire.open(flags=1)
        self.assertEqual(self.wire.call(next(iter(self.writes())), b"\0" * 64)[0], 29)

    @staticmethod
    def writes():
        page = subprocess.run([ATOLLD, "--list-procedures"], capture_output=True, text=True, check=True).stdout
        return [int(number) for number in re.findall(r"^\| (\d+) \| \w+ \| read-write \|$", page, re.M)]

    def test_random_payloads_do_no_harm(self):
        page = subprocess.run([ATOLLD, "--list-procedures"], capture_output=True, text=True, check=True).stdout
        reads = [int(n) for n in re.findall(r"^\| (\d+) \| \w+ \| read \|$", page, re.M)]
        state = 12345
        for number in reads:
            if number in (1, 2, 67, 68, 69):
                continue
            wire = Wire(self.daemon.socket)
            wire.open()
            for size in (0, 4, 16, 64):
                payload = b""
                while len(payload) < size:
                    state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
                    payload += struct.pack(">I", state >> 60 if state & 1 << 40 else state >> 32)
                wire.send(number, payload)
            wire.close()
        self.assertEqual(self.wire.call(66), struct.pack(">II", 1, 0))
        self.assertIsNone(self.daemon.process.poll())


class Silence(DaemonCase):
    CONFIG = "keepalive_interval = 1\nkeepalive_count = 2\n"

    def test_silent_client_is_pinged_and_dropped(self):
        wire = Wire(self.daemon.socket)
        self.addCleanup(wire.close)
        wire.call(60, struct.pack(">I", 10))
        pings = 0
        with self.assertRaises(EOFError):
            while True:
                header, _ = wire.receive()
                self.assertEqual((header[0], header[2]), (KEEPALIVE, 1))
                pings += 1
        self.assertEqual(pings, 2)

    def test_client_without_keepalive_is_left_alone(self):
        wire = Wire(self.daemon.socket)
        self.addCleanup(wire.close)
        wire.sock.settimeout(4)
        with self.assertRaises(TimeoutError):
            wire.receive()


class Process(unittest.TestCase):
    def test_signals_end_it_and_leave_no_pid_file(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            daemon = Daemon()
            self.addCleanup(shutil.rmtree, daemon.root)
            self.assertTrue(os.path.exists(daemon.root + "/run/atolld.pid"))
            self.assertEqual(daemon.stop(number), 0)
            self.assertFalse(os.path.exists(daemon.root + "/run/atolld.pid"))

    def test_second_daemon_on_the_same_folders_is_refused(self):
        daemon = Daemon()
        self.addCleanup(daemon.remove)
        done = subprocess.run([ATOLLD, "--root", daemon.root], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("pid", done.stderr)

    def test_timeout_waits_for_the_last_client(self):
        daemon = Daemon(arguments=["--timeout", "1"])
        self.addCleanup(shutil.rmtree, daemon.root)
        wire = Wire(daemon.socket)
        self.assertEqual(wire.open(), b"")
        with self.assertRaises(subprocess.TimeoutExpired):
            daemon.process.wait(timeout=3)
        wire.close()
        self.assertEqual(daemon.process.wait(timeout=60), 0)
        daemon.stop()

    def test_background(self):
        with tempfile.TemporaryDirectory(prefix="atolld.") as root:
            subprocess.run([ATOLLD, "--daemon", "--root", root], timeout=60, check=True)
            with open(root + "/run/atolld.pid") as file:
                pid = int(file.read())
            wire = Wire(root + "/run/libvirt-sock")
            self.assertEqual(wire.open(), b"")
            os.kill(pid, signal.SIGTERM)
            with self.assertRaises(EOFError):
                wire.receive()
            wire.close()

    def test_sockets_of_systemd(self):
        with tempfile.TemporaryDirectory(prefix="atolld.") as root:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(root + "/mine")
            listener.listen()
            environment = dict(os.environ, LISTEN_FDS="1")
            script = f'export LISTEN_PID=$$; exec "{ATOLLD}" --root "{root}" 3<&{listener.fileno()}'
            process = subprocess.Popen(["bash", "-c", script], env=environment, pass_fds=[listener.fileno()],
                                       stderr=subprocess.DEVNULL)
            wire = Wire(root + "/mine")
            self.assertEqual(wire.open(), b"")
            self.assertFalse(os.path.exists(root + "/run/libvirt-sock"))
            wire.close()
            process.terminate()
            self.assertEqual(process.wait(timeout=60), 0)
            listener.close()

    def test_mistakes_in_the_configuration_are_named(self):
        for text, says in (("nonesuch = 1\n", "atolld.conf:1: unknown key 'nonesuch'"), ('auth_unix_rw = "polkit"\n', "polkit")):
            with self.assertRaisesRegex(AssertionError, re.escape(says)):
                Daemon(text)

    def test_page_of_procedures_is_up_to_date(self):
        page = subprocess.run([ATOLLD, "--list-procedures"], capture_output=True, text=True, check=True).stdout
        with open(ROOT + "/docs/procedures.md") as file:
            self.assertEqual(file.read(), page, "make it anew: build/bin/atolld --list-procedures > docs/procedures.md")


class Access(unittest.TestCase):
    def test_group_and_modes_of_the_sockets(self):
        daemon = Daemon('unix_sock_group = "nogroup"\nunix_sock_rw_perms = "0770"\nunix_sock_ro_perms = "0777"\n')
        self.addCleanup(daemon.remove)
        status = os.stat(daemon.socket)
        self.assertEqual(status.st_mode & 0o777, 0o770)
        if os.getuid() == 0:
            import grp
            self.assertEqual(status.st_gid, grp.getgrnam("nogroup").gr_gid)
        self.assertEqual(os.stat(daemon.socket + "-ro").st_mode & 0o777, 0o777)

    def test_nothing_is_served_before_the_login(self):
        with tempfile.TemporaryDirectory(prefix="atolld.") as folder:
            # The host's may name mechanisms that nobody has installed.
            with unittest.mock.patch.dict(os.environ, SASL_CONF_PATH=folder):
                daemon = Daemon('auth_unix_rw = "sasl"\n')
        self.addCleanup(daemon.remove)
        wire = Wire(daemon.socket)
        self.addCleanup(wire.close)
        self.assertEqual(wire.call(66), struct.pack(">II", 1, 1))
        for number in (1, 2, 4, 6, 60, 360, 9999):
            self.assertEqual(wire.call(number), (39, 7, "authentication required"))
        self.assertEqual(wire.call(68, struct.pack(">I", 0) + struct.pack(">II", 1, 0))[0], 45)
        self.assertIsInstance(wire.call(67), bytes)
        self.assertEqual(wire.call(67)[0], 45)


class Limits(unittest.TestCase):
    """Clients beyond what the configuration allows wait; those that are in are served."""

    def start(self, config):
        daemon = Daemon(config)
        self.addCleanup(daemon.remove)
        return daemon

    def connect(self, daemon):
        wire = Wire(daemon.socket)
        self.addCleanup(wire.close)
        return wire

    def waits(self, wire):
        wire.send(66)
        wire.sock.settimeout(1)
        with self.assertRaises(TimeoutError):
            wire.sock.recv(1)
        wire.sock.settimeout(60)

    def test_a_client_too_many_waits_until_another_goes(self):
        daemon = self.start("max_clients = 3\nmax_anonymous_clients = 3\n")
        inside = [self.connect(daemon) for _ in range(3)]
        for wire in inside:
            self.assertEqual(wire.open(), b"")
        late = self.connect(daemon)
        self.waits(late)
        self.assertEqual(len(inside[0].call(6)), 160)
        inside[1].close()
        self.assertEqual(late.receive()[1], struct.pack(">II", 1, 0))

    def test_strangers_are_few(self):
        daemon = self.start('auth_unix_rw = "sasl"\nmax_anonymous_clients = 2\n')
        strangers = [self.connect(daemon) for _ in range(2)]
        for wire in strangers:
            self.assertEqual(wire.call(66), struct.pack(">II", 1, 1))
        late = self.connect(daemon)
        self.waits(late)
        strangers[0].close()
        self.assertEqual(late.receive()[1], struct.pack(">II", 1, 1))

    def test_a_flood_of_connections_does_no_harm(self):
        daemon = self.start("max_clients = 10\n")
        descriptors = f"/proc/{daemon.process.pid}/fd"
        before = len(os.listdir(descriptors))
        for _ in range(3):
            flood = [socket.socket(socket.AF_UNIX) for _ in range(200)]
            for client in flood:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):  # the backlog is full
                    client.connect(daemon.socket)
            for client in flood:
                client.close()
            self.assertIn("x86_64", daemon.virsh("nodeinfo"))
        wait_until(lambda: len(os.listdir(descriptors)) <= before, "the flood's descriptors are gone")

    def test_calls_of_one_client_one_at_a_time(self):
        daemon = self.start("max_client_requests = 1\n")
        wire = self.connect(daemon)
        wire.open()
        for serial in range(100, 200):
            wire.send((6, 59, 7)[serial % 3], serial=serial)
        self.assertEqual([wire.receive()[0][4] for _ in range(100)], list(range(100, 200)))


def make_certificates(folder):
    """A certificate authority, a server and a client, as the daemon and libvirt's clients lay them out."""
    def certtool(*arguments):
        subprocess.run(["certtool", *arguments], check=True, capture_output=True, timeout=120)

    def template(text):
        with open(folder + "/template", "w") as file:
            file.write(text)
        return ["--template", folder + "/template"]

    for name in ("ca", "server", "client"):
        certtool("--generate-privkey", "--key-type", "rsa", "--bits", "2048", "--outfile", f"{folder}/{name}-key.pem")
    certtool("--generate-self-signed", *template("cn = test\nca\ncert_signing_key\n"), "--load-privkey", f"{folder}/ca-key.pem",
             "--outfile", f"{folder}/ca-cert.pem")
    kinds = {"server": 'cn = localhost\ndns_name = "localhost"\ntls_www_server\nencryption_key\nsigning_key\n',
             "client": "cn = client\ntls_www_client\nencryption_key\nsigning_key\n"}
    for name, text in kinds.items():
        certtool("--generate-certificate", *template(text), "--load-privkey", f"{folder}/{name}-key.pem", "--load-ca-certificate",
                 f"{folder}/ca-cert.pem", "--load-ca-privkey", f"{folder}/ca-key.pem", "--outfile", f"{folder}/{name}-cert.pem")
    os.makedirs(folder + "/pki")
    for ours, theirs in (("ca-cert", "cacert"), ("client-cert", "clientcert"), ("client-key", "clientkey")):
        shutil.copy(f"{folder}/{ours}.pem", f"{folder}/pki/{theirs}.pem")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Network(unittest.TestCase):
    def start(self, config):
        """A daemon on a port that was free a moment ago."""
        for attempt in range(5):
            port = free_port()
            try:
                daemon = Daemon(config.replace("PORT", str(port)))
            except AssertionError as error:
                if "listen" not in str(error) or attempt == 4:
                    raise
                continue
            self.addCleanup(daemon.remove)
            return daemon, port

    def test_tcp(self):
        daemon, port = self.start('listen_tcp = 1\nlisten_addr = "127.0.0.1"\ntcp_port = "PORT"\nauth_tcp = "none"\n')
        self.assertIn("x86_64", daemon.virsh("nodeinfo", uri=f"qemu+tcp://127.0.0.1:{port}/system"))

    @unittest.skipUnless(shutil.which("certtool"), "no certtool")
    def test_tls_with_client_certificates(self):
        with tempfile.TemporaryDirectory(prefix="atolld.") as folder:
            make_certificates(folder)
            daemon, port = self.start(f'listen_tls = 1\nlisten_addr = "127.0.0.1"\ntls_port = "PORT"\ntls_dir = "{folder}"\n')
            uri = f"qemu+tls://localhost:{port}/system?pkipath={folder}/pki"
            self.assertIn("x86_64", daemon.virsh("nodeinfo", uri=uri))
            self.assertGreater(len(daemon.virsh("capabilities", uri=uri)), 1000)
            for names, allowed in (('"CN=cl*nt"', True), ('"CN=other", "CN=nobody"', False)):
                named, its_port = self.start(f'listen_tls = 1\nlisten_addr = "127.0.0.1"\ntls_port = "PORT"\ntls_dir = "{folder}"\n'
                                             f'tls_allowed_dn_list = [{names}]\n')
                answer = named.virsh("nodeinfo", uri=f"qemu+tls://localhost:{its_port}/system?pkipath={folder}/pki", status=None)
                self.assertEqual("x86_64" in answer, allowed, answer)
            os.remove(f"{folder}/pki/clientcert.pem")
            os.remove(f"{folder}/pki/clientkey.pem")
            self.assertIn("error", daemon.virsh("nodeinfo", uri=uri, status=1))
            with socket.create_connection(("127.0.0.1", port)) as nonsense:
                nonsense.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
            self.assertIn("x86_64", daemon.virsh("nodeinfo"))

    @unittest.skipUnless(shutil.which("certtool"), "no certtool")
    def test_a_tls_handshake_that_is_not_made_ends_and_makes_room(self):
        with tempfile.TemporaryDirectory(prefix="atolld.") as folder:
            make_certificates(folder)
            daemon, port = self.start(f'listen_tls = 1\nlisten_addr = "127.0.0.1"\ntls_port = "PORT"\ntls_dir = "{folder}"\n'
                                      "tls_handshake_timeout = 2\nmax_anonymous_clients = 1\n")
            with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
                # Nobody else gets in while the only stranger that may be is silent, and then it is dropped.
                self.assertIn("x86_64", daemon.virsh("nodeinfo"))
                self.assertEqual(silent.recv(1), b"")


@unittest.skipUnless(shutil.which("saslpasswd2"), "no saslpasswd2")
class Sasl(unittest.TestCase):
    """Logins of users that a private database knows."""

    def run_virsh(self, mechanism, make_uri, config):
        with tempfile.TemporaryDirectory(prefix="atolld.") as folder:
            database = folder + "/users.db"
            subprocess.run(["saslpasswd2", "-p", "-f", database, "-a", "libvirt", "-u", "realm", "joe"], input=b"secret", check=True,
                           capture_output=True, timeout=60)
            with open(folder + "/libvirt.conf", "w") as file:
                file.write(f"mech_list: {mechanism}\nsasldb_path: {database}\npwcheck_method: auxprop\nauxprop_plugin: sasldb\n")
            os.environ["SASL_CONF_PATH"] = folder
            self.addCleanup(os.environ.pop, "SASL_CONF_PATH")
            daemon, port = Network.start(self, config)
            answers = {}
            for password in ("secret", "wrong"):
                with open(folder + "/auth", "w") as file:
                    file.write(f"[credentials-x]\nauthname=joe@realm\npassword={password}\n[auth-libvirt-localhost]\ncredentials=x\n")
                answers[password] = daemon.virsh("nodeinfo", uri=make_uri(daemon, port) + f"authfile={folder}/auth", status=None)
            return answers

    def test_scram_over_the_local_socket(self):
        answers = self.run_virsh("scram-sha-256", lambda daemon, port: daemon.uri + "&", 'auth_unix_rw = "sasl"\n')
        self.assertIn("x86_64", answers["secret"])
        self.assertIn("authentication failed", answers["wrong"])

    def test_digest_encrypts_plain_tcp(self):
        answers = self.run_virsh("digest-md5", lambda daemon, port: f"qemu+tcp://localhost:{port}/system?",
                                 'listen_tcp = 1\nlisten_addr = "127.0.0.1"\ntcp_port = "PORT"\n')
        self.assertIn("x86_64", answers["secret"])
        self.assertIn("authentication failed", answers["wrong"])


if __name__ == "__main__":
    unittest.main()
