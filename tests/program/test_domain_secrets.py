"""What domains keep to themselves through virsh: encrypted disks, an encrypted TPM, and the secrets that open them."""

import os
import subprocess
import unittest

import managed
from managed import Managed, guest_xml, wait_until
from guest import BUILD

UUID = "212c459b-b02c-41fc-8ae2-714cc31612c5"
SECRET = "<secret ephemeral='no' private='yes'><uuid>" + UUID + "</uuid><usage type='volume'><volume>some disk</volume></usage></secret>"
ENCRYPTION = "<encryption format='luks'><secret type='passphrase' {}/></encryption>"
DISK = "<disk type='file'><driver name='qemu' type='{}'/><source file='{}'>{}</source><target dev='{}' bus='virtio'/></disk>"


class DomainSecrets(unittest.TestCase):
    def setUp(self):
        managed.need("virsh")
        self.d = Managed()
        self.addCleanup(self.d.close)

    def make_secret(self, value):
        self.d.virsh("secret-define", self.d.write("secret.xml", SECRET))
        self.d.virsh("secret-set-value", UUID, "--file", self.d.write("value", value), "--plain")

    def image(self, name, *options):
        path = f"{self.d.root}/{name}"
        subprocess.run([BUILD + "/bin/atoll-img", "create", "-q", "--object", "secret,id=s,data=open sesame", *options, path, "8M"], check=True, timeout=120)
        return path

    def images(self):
        luks = self.image("luks", "-f", "luks", "-o", "key-secret=s,iter-time=10")
        qcow2 = self.image("qcow2", "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10")
        return luks, qcow2

    def test_encrypted_disks_open_with_their_secret_only(self):
        luks, qcow2 = self.images()
        disks = DISK.format("raw", luks, ENCRYPTION.format(f"uuid='{UUID}'"), "vda") + DISK.format("qcow2", qcow2, ENCRYPTION.format("usage='some disk'"), "vdb")
        self.d.define(guest_xml("g", devices="<serial type='pty'/>" + disks))
        self.assertIn("no secret with matching uuid", self.d.virsh("start", "g", fails=True))
        self.make_secret("wrong")
        self.assertIn("Invalid password", self.d.virsh("start", "g", fails=True))
        self.make_secret("open sesame")
        self.d.virsh("start", "g")
        self.assertIn("8388608", self.d.virsh("domblkinfo", "g", "vda"))
        folder = f"{self.d.root}/run/vm"
        self.assertEqual([name for name in os.listdir(f"{folder}/{os.listdir(folder)[0]}") if "secret" in name], [])
        with open(f"/proc/{self.d.vm_pids()[0]}/cmdline") as file:
            self.assertNotIn("sesame", file.read())

    def test_an_encrypted_disk_comes_and_goes_while_the_domain_runs(self):
        self.make_secret("open sesame")
        _, qcow2 = self.images()
        self.d.define(guest_xml("g", append="quiet"))
        self.d.virsh("start", "g")
        device = self.d.write("disk.xml", DISK.format("qcow2", qcow2, ENCRYPTION.format(f"uuid='{UUID}'"), "vdc"))
        self.d.virsh("attach-device", "g", device)
        self.assertIn("8388608", self.d.virsh("domblkinfo", "g", "vdc"))

    def test_a_private_secret_is_told_to_nobody(self):
        self.make_secret("open sesame")
        self.assertIn("Invalid secret: secret is private", self.d.virsh("secret-get-value", UUID, fails=True))

    def test_the_state_of_a_tpm_is_encrypted(self):
        managed.need("swtpm")
        tpm = f"<tpm model='tpm-tis'><backend type='emulator' version='2.0'><encryption secret='{UUID}'/></backend></tpm>"
        self.d.define(guest_xml("t", devices="<serial type='pty'/>" + tpm))
        self.assertIn("no secret with matching uuid", self.d.virsh("start", "t", fails=True))
        self.make_secret("open sesame")
        self.d.virsh("start", "t")
        state = f"{self.d.root}/lib/swtpm/{self.d.virsh('domuuid', 't').strip()}/tpm2/tpm2-00.permall"
        wait_until(lambda: os.path.exists(state), "the TPM has its state")
        self.d.virsh("destroy", "t")
        self.d.virsh("start", "t")
        self.d.virsh("destroy", "t")
        self.make_secret("another")
        # With another passphrase the state cannot be read: the TPM does not come up, and so no VM.
        self.d.virsh("start", "t", fails=True)


if __name__ == "__main__":
    unittest.main()
