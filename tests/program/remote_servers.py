"""Real servers of remote disks from Debian's packages, on loopback: OpenSSH, vsftpd, nginx, tgt, NFS-Ganesha. Each is one
unprivileged process tree (tgt and Ganesha keep the tests' own rights) that serves the folder `data` and ends with stop()."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

NOBODY = 65534


def need(*programs):
    """Where they are; skips the test if one is not installed."""
    found = [shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin:/sbin") for p in programs]
    for name, path in zip(programs, found):
        if not path:
            raise unittest.SkipTest(f"{name} is not installed")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds} s: {what}")
        time.sleep(0.02)


def children_of(pid):
    """All below it: servers put them into sessions of their own."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(entry))
            except OSError:
                pass  # it has ended
    found, new = [], parents.get(pid, [])
    while new:
        found += new
        new = [child for one in new for child in parents.get(one, [])]
    return found


class Server:
    """A process with a folder of its own. Root's servers run as nobody: what they do must need no rights."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="atoll-remote-", dir=os.environ.get("ATOLL_TMP"))
        self.data = self.top + "/data"
        os.mkdir(self.data)
        self.port = free_port()
        self.process = None
        self.wrapper = []  # words before a client's command
        self.as_nobody = os.geteuid() == 0

    def write(self, name, text):
        with open(f"{self.top}/{name}", "w") as file:
            file.write(text)
        return f"{self.top}/{name}"

    def certificate(self):
        """A self-made certificate of localhost."""
        subprocess.run([*need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-keyout", self.top + "/key.pem", "-out", self.top + "/cert.pem", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)

    def hand_over(self):
        """Lets nobody have the folder."""
        if self.as_nobody:
            for folder, _, files in os.walk(self.top):
                for path in [folder, *(f"{folder}/{name}" for name in files)]:
                    os.chown(path, NOBODY, NOBODY)

    def start(self, *command, env=None):
        self.hand_over()
        if self.as_nobody:
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        self.log = open(self.top + "/log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(env or {})})
        wait_for(self.is_listening, self)

    def is_listening(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self} has ended:\n{self.said()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self):
        with open(self.top + "/log", errors="replace") as file:
            return file.read()[-3000:]

    def kill(self):
        """As a crash ends it, with all that it forked."""
        if self.process:
            for pid in [self.process.pid, *children_of(self.process.pid)]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()
            self.log.close()
            self.process = None

    def stop(self):
        self.kill()
        shutil.rmtree(self.top, ignore_errors=True)

    def __str__(self):
        return type(self).__name__


class Sshd(Server):
    """OpenSSH with a host key and an account's key of its own; the private key sits in an agent."""

    def __init__(self):
        super().__init__()
        sshd, keygen, agent, add = need("sshd", "ssh-keygen", "ssh-agent", "ssh-add")
        for name in ("host", "user"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", f"{self.top}/{name}"], check=True)
        config = self.write("config", f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.top}/host\nPidFile none\nStrictModes no\n"
                            f"UsePAM yes\nAuthorizedKeysFile {self.top}/user.pub\nPasswordAuthentication no\n"
                            "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n")
        self.socket = self.top + "/agent"
        self.agent = subprocess.Popen([agent, "-D", "-a", self.socket], stdout=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.socket), "ssh-agent")
        subprocess.run([add, "-q", self.top + "/user"], check=True, env={**os.environ, "SSH_AUTH_SOCK": self.socket})
        self.environment = {**os.environ, "SSH_AUTH_SOCK": self.socket}
        self.user = "nobody" if self.as_nobody else subprocess.check_output(["id", "-un"], text=True).strip()
        self.command = [sshd, "-D", "-e", "-f", config]
        self.start(*self.command)

    def url(self, name, check="no"):
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.data}/{name}" + (f"?host_key_check={check}" if check else "")

    def fingerprint(self, kind):
        """Hexadecimal digits of the host key's hash."""
        import base64
        import hashlib
        with open(self.top + "/host.pub") as file:
            return hashlib.new(kind, base64.b64decode(file.read().split()[1])).hexdigest()

    def stop(self):
        self.agent.kill()
        self.agent.wait()
        super().stop()


class Ftpd(Server):
    """vsftpd, in the clear or with TLS from the first byte; anonymous readers."""

    def __init__(self, tls=False):
        super().__init__()
        vsftpd, = need("vsftpd")
        self.scheme = "ftps" if tls else "ftp"
        os.mkdir(self.top + "/empty")
        user = "nobody" if self.as_nobody else subprocess.check_output(["id", "-un"], text=True).strip()
        text = (f"listen=YES\nlisten_address=127.0.0.1\nlisten_port={self.port}\nrun_as_launching_user=YES\nbackground=NO\n"
                f"anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nanon_root={self.data}\nftp_username={user}\n"
                f"nopriv_user={user}\nsecure_chroot_dir={self.top}/empty\nseccomp_sandbox=NO\nconnect_from_port_20=NO\nxferlog_enable=NO\n"
                "pasv_address=127.0.0.1\n")
        if tls:
            self.certificate()
            text += (f"ssl_enable=YES\nimplicit_ssl=YES\nallow_anon_ssl=YES\nrequire_ssl_reuse=NO\nrsa_cert_file={self.top}/cert.pem\n"
                     f"rsa_private_key_file={self.top}/key.pem\nssl_ciphers=HIGH\n")
        self.start(vsftpd, self.write("config", text))

    def url(self, name):
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}"


class Nginx(Server):
    """With a self-made certificate. /open/ is for all, /user/ wants a password, /cookie/ a cookie, /whole/ serves no ranges, /moved/ is elsewhere."""

    def __init__(self, tls=True):
        super().__init__()
        nginx, openssl = need("nginx", "openssl")
        self.scheme = "https" if tls else "http"
        self.certificate()
        secret = subprocess.check_output([openssl, "passwd", "-apr1", "open sesame"], text=True)
        self.write("users", "alice:" + secret)
        temporary = "".join(f"{kind}_temp_path {self.top}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        ssl = f"ssl_certificate {self.top}/cert.pem;\nssl_certificate_key {self.top}/key.pem;\n" if tls else ""
        config = self.write("config", f"""
            pid {self.top}/pid; daemon off; worker_processes 1; error_log stderr;
            events {{ worker_connections 256; }}
            http {{ access_log off; {temporary}
              server {{ listen 127.0.0.1:{self.port} {"ssl" if tls else ""}; {ssl}
                location /open/ {{ alias {self.data}/; }}
                location /user/ {{ alias {self.data}/; auth_basic x; auth_basic_user_file {self.top}/users; }}
                location /cookie/ {{ alias {self.data}/; if ($cookie_key != "value") {{ return 403; }} }}
                location /whole/ {{ alias {self.data}/; max_ranges 0; }}
                location /moved/ {{ rewrite ^/moved/(.*)$ /open/$1 redirect; }}
              }} }}""")
        self.start(nginx, "-p", self.top, "-e", "stderr", "-c", config)

    def url(self, name, place="open"):
        return f"{self.scheme}://127.0.0.1:{self.port}/{place}/{name}"


class Nfsd(Server):
    """NFS-Ganesha and rpcbind, in namespaces of their own, as the port mapper's number is fixed: clients run with `wrapper` before them."""

    SCRIPT = """
        ip link set lo up; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib/nfs; mkdir -p /run/rpcbind /run/ganesha
        rpcbind -f -w & ganesha.nfsd -F -f {config} -L /dev/stderr -p /run/ganesha/pid & wait"""

    def __init__(self):
        super().__init__()
        if os.geteuid() != 0:
            raise unittest.SkipTest("namespaces want root")
        need("rpcbind", "ganesha.nfsd", "rpcinfo", "unshare", "nsenter")
        self.as_nobody = False
        self.wrapper = []
        config = self.write("config", f"""
            NFS_CORE_PARAM {{ Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; mount_path_pseudo = false; }}
            NFSv4 {{ RecoveryBackend = fs; RecoveryRoot = {self.top}/recovery; }}
            EXPORT {{ Export_Id = 1; Path = {self.data}; Pseudo = /data; Protocols = 3; Access_Type = RW; Squash = none; SecType = sys;
                      FSAL {{ Name = VFS; }} }}
            LOG {{ Default_Log_Level = WARN; }}""")
        self.start("unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", "bash", "-c", self.SCRIPT.format(config=config))

    def is_listening(self):
        if self.process.poll() is not None:
            raise unittest.SkipTest(f"no namespaces here: {self.said()}")
        inside = children_of(self.process.pid)
        if not inside:
            return False
        self.wrapper = ["nsenter", "-t", str(inside[0]), "-n", "--"]
        done = subprocess.run([*self.wrapper, "rpcinfo", "-p", "127.0.0.1"], capture_output=True, text=True, timeout=60)
        return " 100003 " in done.stdout and " 100005 " in done.stdout

    def url(self, name):
        return f"nfs://127.0.0.1{self.data}/{name}"


class Tgtd(Server):
    """The Linux target framework's iSCSI target."""

    TARGET = "iqn.2026-01.org.example:disk"

    def __init__(self):
        super().__init__()
        tgtd, self.admin = need("tgtd", "tgtadm")
        if os.geteuid() != 0:
            raise unittest.SkipTest("tgtd wants to be root")
        self.as_nobody = False
        self.control = self.port % 32768
        self.environment = {**os.environ, "TGT_IPC_SOCKET": self.top + "/control"}
        self.start(tgtd, "-f", "-C", str(self.control), "--iscsi", f"portal=127.0.0.1:{self.port}", env=self.environment)
        self.manage("new", "target", "-T", self.TARGET)
        self.manage("bind", "target", "-I", "ALL")

    def manage(self, operation, mode, *words, target=True):
        subprocess.run([self.admin, "-C", str(self.control), "--lld", "iscsi", "--op", operation, "--mode", mode,
                        *(["--tid", "1"] if target else []), *words], check=True, env=self.environment, timeout=60)

    def add_unit(self, number, name, *words, **parameters):
        self.manage("new", "logicalunit", "--lun", str(number), "-b", f"{self.data}/{name}", *words)
        for key, value in parameters.items():
            self.manage("update", "logicalunit", "--lun", str(number), "--params", f"{key}={value}")

    def require_password(self, user, password):
        self.manage("new", "account", "--user", user, "--password", password, target=False)
        self.manage("bind", "account", "--user", user)

    def url(self, unit, user=""):
        return f"iscsi://{user}127.0.0.1:{self.port}/{self.TARGET}/{unit}"
