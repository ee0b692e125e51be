"""Firmware that domains ask for through virsh: which one they get, secure boot, and what becomes of its variables."""

import os
import re
import unittest

import managed
from managed import Managed, guest_xml

OVMF = "/usr/share/OVMF/OVMF_CODE_4M"


def efi_xml(name, inner="", machine="q35"):
    text = guest_xml(name).replace("</name>", "</name><uuid>11111111-2222-3333-4444-555555555555</uuid>").replace("<os>", "<os firmware='efi'>").replace("machine='pc'", f"machine='{machine}'")
    return text.replace("</type>", "</type>" + inner, 1)


class DomainFirmware(unittest.TestCase):
    def setUp(self):
        managed.need("virsh")
        if not os.path.exists("/usr/share/qemu/firmware/40-edk2-x86_64-secure-enrolled.json"):
            self.skipTest("package ovmf is missing")
        self.d = Managed()
        self.addCleanup(self.d.close)
        self.variables = f"{self.d.root}/lib/nvram/g_VARS.fd"

    def live(self, inner="", machine="q35"):
        self.d.define(efi_xml("g", inner, machine))
        self.assertNotIn("<nvram", self.d.virsh("dumpxml", "g"))
        self.d.virsh("start", "g")
        text = self.d.virsh("dumpxml", "g")
        self.assertIn("<os firmware='efi'>", self.d.virsh("dumpxml", "g", "--inactive"))
        self.d.virsh("destroy", "g")
        return text

    def test_the_description_that_fits_first_is_what_starts(self):
        text = self.live()
        self.assertIn(f"<loader readonly='yes' secure='yes' type='pflash'>{OVMF}.ms.fd</loader>", text)
        self.assertIn("<smm state='on'/>", text)
        self.assertIn(f">{self.variables}</nvram>", text)

    def test_features_choose_among_them(self):
        feature = "<firmware><feature enabled='{}' name='{}'/></firmware>"
        self.assertIn(f">{OVMF}.fd<", self.live(feature.format("no", "secure-boot")))
        self.assertIn(f">{OVMF}.fd<", self.live(feature.format("no", "secure-boot"), machine="pc"))
        both = "<firmware><feature enabled='yes' name='secure-boot'/><feature enabled='no' name='enrolled-keys'/></firmware>"
        self.assertIn(f">{OVMF}.secboot.fd<", self.live(both))
        self.d.define(efi_xml("g", feature.format("yes", "secure-boot"), "pc"))
        self.assertIn("Unable to find any firmware to satisfy 'efi'", self.d.virsh("start", "g", fails=True))

    def test_the_vm_has_management_mode_and_guarded_flash(self):
        self.d.define(efi_xml("g", "<loader secure='yes'/>"))
        self.d.virsh("start", "g")
        with open(f"/proc/{self.d.vm_pids()[0]}/cmdline") as file:
            words = file.read().split("\0")
        self.assertIn("driver=cfi.pflash01,property=secure,value=on", words)
        self.assertRegex(" ".join(words), r"-machine \S*smm=on")

    def test_variables_go_with_the_domain_or_stay_as_told(self):
        self.live()
        self.assertTrue(os.path.exists(self.variables))
        self.assertIn("cannot undefine domain with nvram", self.d.virsh("undefine", "g", fails=True))
        self.d.virsh("undefine", "g", "--keep-nvram")
        self.assertTrue(os.path.exists(self.variables))
        self.d.define(efi_xml("g"))
        self.d.virsh("undefine", "g", "--nvram")
        self.assertFalse(os.path.exists(self.variables))
        self.d.define(efi_xml("g"))
        self.d.virsh("undefine", "g")  # there are none yet

    def test_capabilities_list_what_a_machine_can_have(self):
        def loaders(machine):
            text = self.d.virsh("domcapabilities", "--virttype", "qemu", "--machine", machine)
            return re.findall(r"<value>(/\S+)</value>", text), "<enum name='secure'>\n        <value>yes</value>" in text
        self.assertEqual(loaders("q35"), ([f"{OVMF}.ms.fd", f"{OVMF}.secboot.fd", f"{OVMF}.fd"], True))
        self.assertEqual(loaders("pc"), ([f"{OVMF}.fd"], False))


if __name__ == "__main__":
    unittest.main()
