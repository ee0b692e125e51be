"""atoll-img nbd and our NBD client, with QEMU, libnbd and nbdkit at the other end; TLS with certificates and keys."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import unittest

from img_pair import IMG, MIB, ImgTest, call, pattern, read

CA = "cn = Test CA\nca\ncert_signing_key\n"
SERVER = "cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nencryption_key\nsigning_key\n"
CLIENT = "cn = client\ntls_www_client\nencryption_key\nsigning_key\n"


def make_certificates(folder):
    """ca-cert.pem and the pairs of a server and a client."""
    os.makedirs(folder, exist_ok=True)
    tool = lambda *words: call("certtool", *words, cwd=folder)
    for name, text in (("ca", CA), ("server", SERVER), ("client", CLIENT)):
        with open(f"{folder}/{name}.info", "w") as file:
            file.write(text)
        tool("--generate-privkey", "--key-type", "ecdsa", "--outfile", f"{name}-key.pem")
    tool("--generate-self-signed", "--load-privkey", "ca-key.pem", "--template", "ca.info", "--outfile", "ca-cert.pem")
    for name in ("server", "client"):
        tool("--generate-certificate", "--load-ca-certificate", "ca-cert.pem", "--load-ca-privkey", "ca-key.pem",
             "--load-privkey", f"{name}-key.pem", "--template", f"{name}.info", "--outfile", f"{name}-cert.pem")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class NbdTest(ImgTest):
    def setUp(self):
        super().setUp()
        self.path = self.ours + "/socket"
        self.uri = "nbd+unix:///?socket=" + self.path
        self.servers = []
        self.put("a.raw", 16 * MIB, (0, pattern(3 * MIB)), (8 * MIB, pattern(MIB, 3)))

    def tearDown(self):
        for server in self.servers:
            if server.poll() is None:
                server.kill()
            server.wait()
        super().tearDown()

    def spawn(self, *command, ready=None):
        server = subprocess.Popen(command, cwd=self.ours, stdin=subprocess.DEVNULL)
        self.servers.append(server)
        deadline = time.monotonic() + 30
        while not (os.path.exists(self.path) if ready is None else ready()):
            self.assertIsNone(server.poll(), command)
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return server

    def serve(self, *words):
        return self.spawn(IMG, "nbd", "-k", self.path, *words)


class Server(NbdTest):
    def test_nbdinfo_sees_what_qemu_nbd_shows(self):
        self.qemu("create", "-q", "-f", "qcow2", "b.qcow2", "16M")
        self.qemu("bitmap", "--add", "b.qcow2", "b0")
        self.io("b.qcow2", "write -P 1 1M 1M")
        words = ["-t", "-r", "-x", "name", "-D", "some text", "-f", "qcow2", "-B", "b0", "-A", "b.qcow2"]
        answers = []
        for command in (["qemu-nbd"], [IMG, "nbd"]):
            server = self.spawn(*command, "-k", self.path, *words)
            uri = "nbd+unix:///name?socket=" + self.path
            info = json.loads(call("nbdinfo", "--json", "--list", self.uri))
            maps = [json.loads(call("nbdinfo", "--json", "--map=" + context, uri))
                    for context in ("base:allocation", "qemu:dirty-bitmap:b0", "qemu:allocation-depth")]
            listing = [call("qemu-nbd", "-L", "-k", self.path), call(IMG, "nbd", "-L", "-k", self.path)]
            self.assertEqual(*listing)
            answers.append((info, maps, listing))
            server.terminate()
            server.wait(30)
        self.assertEqual(answers[0], answers[1])

    def test_nbdcopy_and_qemu_img_read_and_write(self):
        self.serve("-t", "-e", "0", "-f", "raw", "a.raw")
        call("nbdcopy", self.uri, self.ours + "/copy.raw")
        self.reads_alike(self.ours + "/a.raw", self.ours + "/copy.raw", "raw")
        call("qemu-img", "compare", "-f", "raw", "-F", "raw", self.uri, self.ours + "/a.raw")
        self.put("new.raw", 16 * MIB, (MIB, pattern(5 * MIB, 9)))
        call("nbdcopy", "--flush", self.ours + "/new.raw", self.uri)
        self.reads_alike(self.ours + "/a.raw", self.ours + "/new.raw", "raw")
        call("qemu-io", "-f", "raw", "-c", "write -P 7 1000 3000", "-c", "read -P 7 1000 3000", "-c", "write -z 8M 1M", "-c", "discard 0 1M",
             "-c", "flush", "-c", "write -f -P 8 0 4k", self.uri)
        call("qemu-io", "-f", "raw", "-c", "read -P 7 1000 24", "-c", "read -P 8 0 4k", "-c", "read -P 0 8M 1M", self.ours + "/a.raw", status=None)

    def test_several_clients_at_once(self):
        self.serve("-t", "-e", "4", "-r", "-f", "raw", "a.raw")
        clients = [subprocess.Popen(["nbdcopy", "--connections=1", self.uri, f"{self.ours}/copy{i}.raw"]) for i in range(6)]
        for i, client in enumerate(clients):
            self.assertEqual(client.wait(60), 0)
            self.reads_alike(self.ours + "/a.raw", f"{self.ours}/copy{i}.raw", "raw")

    def test_it_ends_with_its_last_client(self):
        server = self.serve("-f", "raw", "a.raw")
        call("nbdinfo", self.uri)
        self.assertEqual(server.wait(30), 0)
        self.assertFalse(os.path.exists(self.path))

    def test_fork_returns_once_it_serves(self):
        pid_file = self.ours + "/pid"
        self.img("nbd", "--fork", "--pid-file", pid_file, "-t", "-k", self.path, "-f", "raw", "a.raw")
        pid = int(read(pid_file))
        try:
            self.assertEqual(call("nbdinfo", "--size", self.uri).strip(), str(16 * MIB))
        finally:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while os.path.exists(pid_file) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertFalse(os.path.exists(self.path))
        call(IMG, "nbd", "--fork", "-k", self.path, "nosuch", status=1, cwd=self.ours)

    def test_read_only_and_windows_and_temporary_writes(self):
        server = self.serve("-t", "-r", "-o", "8M", "-f", "raw", "a.raw")
        self.assertEqual(call("nbdinfo", "--size", self.uri).strip(), str(8 * MIB))
        self.assertEqual(json.loads(call("nbdinfo", "--json", self.uri))["exports"][0]["is_read_only"], True)
        server.terminate()
        server.wait(30)
        before = read(self.ours + "/a.raw")
        self.serve("-s", "-f", "raw", "a.raw")
        call("qemu-io", "-f", "raw", "-c", "write -P 1 0 1M", "-c", "read -P 1 0 1M", self.uri)
        self.assertEqual(before, read(self.ours + "/a.raw"))

    def test_snapshots_are_exported(self):
        self.qemu("create", "-q", "-f", "qcow2", "b.qcow2", "4M")
        self.io("b.qcow2", "write -P 1 0 1M")
        self.qemu("snapshot", "-c", "one", "b.qcow2")
        self.io("b.qcow2", "write -P 2 0 1M")
        self.serve("-l", "one", "-f", "qcow2", "b.qcow2")
        call("qemu-io", "-r", "-f", "raw", "-c", "read -P 1 0 1M", self.uri)

    def test_wrong_command_lines(self):
        for words, text in ((["-c", "/dev/nbd0", "a.raw"], "--connect"), (["--tls-authz=x", "a.raw"], "--tls-authz"), ([], "number of arguments"),
                            (["-k", "rel", "a.raw"], "absolute"), (["-e", "x", "a.raw"], "shared device number"), (["-L", "a.raw"], "List mode"),
                            (["--discard=x", "a.raw"], "discard"), (["-B", "nope", "-f", "raw", "-k", self.path, "a.raw"], "not found")):
            done = subprocess.run([IMG, "nbd", *words], capture_output=True, cwd=self.ours, timeout=30)
            self.assertEqual(done.returncode, 1)
            self.assertIn(text, done.stderr.decode())


class Sockets(NbdTest):
    @unittest.skipUnless(shutil.which("nbdinfo"), "no libnbd")
    def test_socket_of_a_service_manager_is_served(self):
        """As libnbd's square brackets start a server."""
        serve = ("[", IMG, "nbd", "-f", "raw", self.ours + "/a.raw")
        self.assertEqual(call("nbdinfo", "--size", "--", *serve, "]").strip(), str(16 * MIB))
        call("nbdinfo", "--size", "--", *serve, "-k", self.path, "]", status=1)

    def test_a_server_that_ends_leaves_its_successors_socket(self):
        command = (IMG, "nbd", "-t", "-r", "-f", "raw", "-k", self.path, "a.raw")
        first = self.spawn(*command)
        before = os.stat(self.path).st_ino
        self.spawn(*command, ready=lambda: os.path.exists(self.path) and os.stat(self.path).st_ino != before)
        first.terminate()
        self.assertEqual(first.wait(30), 0)
        self.assertEqual(call("nbdinfo", "--size", self.uri).strip(), str(16 * MIB))


class Tls(NbdTest):
    def setUp(self):
        super().setUp()
        self.pki = self.ours + "/pki"
        make_certificates(self.pki)
        self.port = free_port()
        with open(self.pki + "/keys.psk", "w") as file:
            file.write("alice:" + os.urandom(32).hex() + "\n")

    def listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def serve_tls(self, program, *objects):
        self.spawn(*program, "-t", "-e", "0", "-b", "127.0.0.1", "-p", str(self.port), *objects, "--tls-creds", "tls0", "-r", "-f", "raw", "a.raw",
                   ready=self.listening)

    def x509(self, endpoint):
        return f"tls-creds-x509,id=tls0,dir={self.pki},endpoint={endpoint},verify-peer=on"

    def psk(self, endpoint):
        name = ",username=alice" if endpoint == "client" else ""
        return f"tls-creds-psk,id=tls0,dir={self.pki},endpoint={endpoint}{name}"

    def clients(self, kind):
        options = f"driver=nbd,host=localhost,port={self.port},tls-creds=tls0"
        for program in ("qemu-img", IMG):
            yield program, [program, "compare", "--object", kind("client"), "--image-opts", options,
                            f"driver=raw,file.filename={self.ours}/a.raw"]

    def test_certificates_and_keys_with_every_pair_of_peers(self):
        for kind in (self.x509, self.psk):
            for server in (["qemu-nbd"], [IMG, "nbd"]):
                self.serve_tls(server, "--object", kind("server"))
                for name, command in self.clients(kind):
                    with self.subTest(kind=kind.__name__, server=server, client=name):
                        call(*command)
                if server[0] == IMG:
                    psk = kind == self.psk
                    uri = f"nbds://{'alice@' if psk else ''}localhost:{self.port}/"
                    uri += f"?tls-psk-file={self.pki}/keys.psk" if psk else f"?tls-certificates={self.pki}"
                    self.assertEqual(call("nbdinfo", "--size", uri).strip(), str(16 * MIB))
                self.servers[-1].kill()
                self.servers[-1].wait()
                self.port = free_port()

    def test_nbdcopy_writes_and_reads_through_tls(self):
        self.put("new.raw", 16 * MIB, (MIB, pattern(5 * MIB, 9)))
        for kind, uri in ((self.x509, f"nbds://localhost:{{}}/?tls-certificates={self.pki}"),
                          (self.psk, f"nbds://alice@localhost:{{}}/?tls-psk-file={self.pki}/keys.psk")):
            self.put("target.raw", 16 * MIB)
            self.spawn(IMG, "nbd", "-t", "-e", "0", "-b", "127.0.0.1", "-p", str(self.port), "--object", kind("server"), "--tls-creds", "tls0",
                       "-f", "raw", "target.raw", ready=self.listening)
            call("nbdcopy", "--flush", self.ours + "/new.raw", uri.format(self.port))
            self.reads_alike(self.ours + "/new.raw", self.ours + "/target.raw", "raw")
            call("nbdcopy", uri.format(self.port), self.ours + "/back.raw")
            self.reads_alike(self.ours + "/new.raw", self.ours + "/back.raw", "raw")
            self.servers[-1].kill()
            self.servers[-1].wait()
            self.port = free_port()

    def test_nbdkit_serves_our_client_through_tls(self):
        for kind, words in ((self.x509, [f"--tls-certificates={self.pki}", "--tls-verify-peer"]), (self.psk, [f"--tls-psk={self.pki}/keys.psk"])):
            self.spawn("nbdkit", "-f", "--exit-with-parent", "-i", "127.0.0.1", "-p", str(self.port), "--tls=require", *words, "memory", "16M",
                       ready=self.listening)
            target = f"driver=nbd,host=localhost,port={self.port},tls-creds=tls0"
            self.img("convert", "--object", kind("client"), "-n", "--target-image-opts", "-f", "raw", "a.raw", target)
            self.img("compare", "--object", kind("client"), "--image-opts", target, "driver=raw,file.filename=a.raw")
            call("qemu-img", "compare", "--object", kind("client"), "--image-opts", target, f"driver=raw,file.filename={self.ours}/a.raw")
            self.servers[-1].kill()
            self.servers[-1].wait()
            self.port = free_port()

    def test_whoever_is_not_trusted_stays_outside(self):
        self.serve_tls([IMG, "nbd"], "--object", self.x509("server"))
        plain = subprocess.run(["nbdinfo", f"nbd://localhost:{self.port}"], capture_output=True, timeout=30)
        self.assertNotEqual(plain.returncode, 0)
        ours = subprocess.run([IMG, "info", f"nbd://localhost:{self.port}"], capture_output=True, timeout=30)
        self.assertEqual(ours.returncode, 1)
        self.assertIn("TLS", ours.stderr.decode())
        other = self.ours + "/other"
        make_certificates(other)
        stranger = self.x509("client").replace(self.pki, other)
        for program in ("qemu-img", IMG):
            done = subprocess.run([program, "info", "--object", stranger, "--image-opts", f"driver=nbd,host=localhost,port={self.port},tls-creds=tls0"],
                                  capture_output=True, timeout=30)
            self.assertEqual(done.returncode, 1)
        mixed = self.ours + "/mixed"  # trusts the server, but shows a stranger's certificate
        shutil.copytree(other, mixed)
        shutil.copy(self.pki + "/ca-cert.pem", mixed + "/ca-cert.pem")
        done = subprocess.run(["qemu-img", "info", "--object", self.x509("client").replace(self.pki, mixed), "--image-opts",
                               f"driver=nbd,host=localhost,port={self.port},tls-creds=tls0"], capture_output=True, timeout=30)
        self.assertEqual(done.returncode, 1)


class Client(NbdTest):
    def test_qemu_nbd_is_read_and_written(self):
        self.spawn("qemu-nbd", "-t", "-e", "0", "-k", self.path, "-f", "raw", "--discard=unmap", "a.raw")
        for name in (self.uri, "nbd:unix:" + self.path):
            self.img("compare", "-U", "-f", "raw", "-F", "raw", name, "a.raw")
        self.assertEqual(call("qemu-img", "map", "--output=json", "-f", "raw", self.uri), self.img("map", "--output=json", "-f", "raw", self.uri))
        self.assertEqual(call("qemu-img", "info", "-f", "raw", self.uri), self.img("info", "-f", "raw", self.uri))
        self.put("new.raw", 16 * MIB, (MIB, pattern(2 * MIB, 5)))
        self.img("convert", "-n", "-f", "raw", "-O", "raw", "new.raw", self.uri)
        self.reads_alike(self.ours + "/new.raw", self.ours + "/a.raw", "raw")
        self.img("convert", "-f", "raw", "-O", "qcow2", self.uri, "copy.qcow2")
        self.reads_alike(self.ours + "/new.raw", self.ours + "/copy.qcow2", "raw", "qcow2")

    def test_nbdkit_with_every_kind_of_server(self):
        for words in ([], ["-n"], ["--no-sr"], ["-o"], ["--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-error-policy=error"],
                      ["--filter=nozero"], ["--filter=noextents"], ["--mask-handshake=0"]):
            filters = [w for w in words if w.startswith("-")]
            values = [w for w in words if not w.startswith("-")]
            server = self.spawn("nbdkit", "-f", "-U", self.path, *filters, "file", self.ours + "/a.raw", *values)
            with self.subTest(words=words):
                self.img("compare", "-f", "raw", "-F", "raw", self.uri, "a.raw")
                if "-o" not in words:  # where nbdkit 1.32 offers flushes and refuses them
                    self.img("bench", "-w", "-c", "20", "-s", "512", "-S", "700", "--pattern=5", "-f", "raw", self.uri)
            server.terminate()
            server.wait(30)
            if os.path.exists(self.path):
                os.unlink(self.path)

    def test_an_image_is_made_in_an_export(self):
        self.spawn("nbdkit", "-f", "-U", self.path, "pattern", "64M", "--filter=cow")  # of fixed size, and not empty
        self.img("convert", "-f", "raw", "-O", "qcow2", "a.raw", self.uri)
        self.img("bench", "-w", "-c", "50", "-d", "4", "-s", "10k", "-S", "33k", "--pattern=9", "-f", "qcow2", self.uri)
        self.img("check", "-f", "qcow2", self.uri)
        call("qemu-img", "check", "-q", "-f", "qcow2", self.uri)
        self.img("create", "-q", "-f", "qcow2", self.uri, "16M")
        call("qemu-io", "-f", "qcow2", "-c", "read -P 0 0 16M", "-c", "write -P 5 100000 1000", "-c", "read -P 0 101000 30000", self.uri)
        self.img("create", "-q", "-f", "qcow2", self.uri, "128M", status=1)

    def test_a_server_that_comes_back_is_waited_for(self):
        command = ["qemu-nbd", "-t", "-e", "0", "-k", self.path, "-f", "raw", "-r", "a.raw"]
        server = self.spawn(*command)
        options = f"driver=nbd,path={self.path},reconnect-delay=30"
        process = subprocess.Popen([IMG, "convert", "-r", "8M", "--image-opts", "-O", "raw", options, "b.raw"], cwd=self.ours)
        time.sleep(0.7)
        server.kill()
        server.wait()
        os.unlink(self.path)
        time.sleep(0.5)
        self.spawn(*command)
        self.assertEqual(process.wait(60), 0)
        self.reads_alike(self.ours + "/a.raw", self.ours + "/b.raw", "raw")

    def test_a_server_that_dies_is_an_error(self):
        server = self.spawn("qemu-nbd", "-t", "-k", self.path, "-f", "raw", "-r", "a.raw")
        process = subprocess.Popen([IMG, "convert", "-r", "4M", "-f", "raw", "-O", "raw", self.uri, "b.raw"], cwd=self.ours, stderr=subprocess.PIPE)
        time.sleep(0.5)
        server.kill()
        _, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.assertIn("error while reading", err.decode())

    def test_missing_servers_are_refused_alike(self):
        for name in ("nbd:unix:/nonexistent", "nbd+unix:///?socket=/nonexistent", "nbd:localhost:1"):
            self.same("info", name, ignore=r"\(?127\.0\.0\.1|\[?::1|localhost")


if __name__ == "__main__":
    unittest.main()
