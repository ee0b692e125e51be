"""virt-manager and virt-viewer, unmodified, under an X server without a screen: they find the daemon at libvirt's own sockets, list its
domains, start one, and show what is on its screen."""

import os
import tempfile
import unittest

import managed
from desktop import Desktop
from managed import Managed, wait_until

# Nothing to boot from: SeaBIOS says so on the screen, and stays.
SCREEN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><cpu mode='maximum'/>
<devices><controller type='usb' model='none'/><graphics type='vnc' port='-1'><listen type='socket'/></graphics>
<video><model type='vga'/></video></devices></domain>"""


@unittest.skipUnless(os.geteuid() == 0, "needs a mount namespace")
class DesktopClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "Xvfb", "xdotool", "import", "tesseract", "dbus-run-session", "nsenter")

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="desktop-")
        self.addCleanup(folder.cleanup)
        self.desktop = Desktop(folder.name)
        self.addCleanup(self.desktop.close)
        self.d = Managed(prefix=self.desktop.prefix, config="libvirt_sockets = 1\n")
        self.addCleanup(self.d.close)
        for name in ("alpha", "beta"):
            self.d.define(SCREEN.replace("<listen type='socket'/>", "").format(name=name))

    def test_virt_manager_lists_starts_and_shows(self):
        managed.need("virt-manager")
        self.d.virsh("start", "beta")
        self.desktop.start("virt-manager", "--no-fork", "--connect", "qemu:///system")
        self.desktop.wait_for_text("alpha", "beta", "Running", "Shutoff")

    def press_run(self):
        """"Virtual Machine" in the menu, its first entry. There is no window manager: the window is given the keyboard, and keys that came too
        early are pressed again."""
        if self.d.state("alpha") == "running":
            return True
        for window in self.desktop.x("search", "--name", "alpha on").split()[:1]:
            self.desktop.x("windowfocus", window)
        for key in ("Escape", "alt+m", "r"):
            self.desktop.x("key", "--clearmodifiers", key)
        return False

    def test_virt_manager_starts_a_domain_and_shows_its_console(self):
        managed.need("virt-manager")
        self.desktop.start("virt-manager", "--no-fork", "--connect", "qemu:///system", "--show-domain-console", "alpha")
        self.desktop.wait_for_text("Guest is not running")
        wait_until(self.press_run, "virt-manager starts it")
        self.desktop.wait_for_text("bootable device")

    def test_virt_viewer_shows_the_screen(self):
        managed.need("virt-viewer")
        self.d.virsh("start", "beta")
        self.desktop.start("virt-viewer", "-c", "qemu:///system", "--attach", "--wait", "beta")
        self.desktop.wait_for_text("bootable device")


if __name__ == "__main__":
    unittest.main()
