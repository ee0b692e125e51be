"""USB controllers and devices as Linux's drivers use them."""

import unittest

from driven_guest import DrivenGuest

# x, y and left button of a tablet, in the order in which Linux tells them: type, code, value of each event.
EXPECTED = ("0003 0000 1234", "0003 0001 5678", "0001 0110 0001")


class Usb(DrivenGuest):
    def tablet_events(self, *options):
        """Moves and clicks, and returns what the guest's event device told."""
        qmp = self.start("until grep -q USB.Tablet /proc/bus/input/devices; do sleep 1; done; "
                         "n=$(grep -A4 USB.Tablet /proc/bus/input/devices | grep -o event[0-9]*); exec 3</dev/input/$n; echo listening; "
                         "dd bs=24 count=7 <&3 2>/dev/null | od -An -v -tx2 -w24 | cut -c41-", *options)
        self.read_until("listening")
        qmp.command("input-send-event", events=[
            {"type": "abs", "data": {"axis": "x", "value": 0x1234}}, {"type": "abs", "data": {"axis": "y", "value": 0x5678}}])
        for down in (True, False):
            qmp.command("input-send-event", events=[{"type": "btn", "data": {"button": "left", "down": down}}])
        return self.read_until("guest command ended")

    def check_tablet(self, *options):
        text = self.tablet_events(*options)
        for event in EXPECTED:
            self.assertIn(event, text)

    def test_tablet_on_uhci(self):
        self.check_tablet("-usb", "-device", "usb-tablet,id=input0")

    def test_tablet_of_the_old_option(self):
        self.check_tablet("-usbdevice", "tablet")

    def test_tablet_on_xhci(self):
        self.check_tablet("-device", "qemu-xhci,id=usb", "-device", "usb-tablet,bus=usb.0,port=1")

    def test_tablet_on_ehci(self):
        self.check_tablet("-device", "usb-ehci,id=usb", "-device", "usb-tablet,bus=usb.0")

    def test_keyboard_behind_a_companion_of_ehci(self):
        qmp = self.start("until grep -q USB.Keyboard /proc/bus/input/devices; do sleep 1; done; echo keyboard came",
                         "-device", "ich9-usb-ehci1,id=usb,addr=05.0", "-device", "ich9-usb-uhci1,masterbus=usb.0,firstport=0,addr=06.0",
                         "-device", "usb-kbd,bus=usb.0,port=1,usb_version=1")
        self.read_until("keyboard came")
        self.assertIn("Port 1, Speed 12 Mb/s", qmp.command("human-monitor-command", command_line="info usb"))

    def test_devices_come_and_go_behind_a_hub(self):
        # Not on xHCI: Linux suspends an idle hub there, and remote wake-up is missing.
        for controller, bus in (("piix3-usb-uhci,id=u", "u.0"),):
            with self.subTest(controller):
                qmp = self.start("until [ -e /sys/bus/usb/drivers/hub/*:1.0 ]; do sleep 1; done; echo booted; "
                                 "until grep -q USB.Keyboard /proc/bus/input/devices; do sleep 1; done; echo keyboard came; "
                                 "while grep -q USB.Keyboard /proc/bus/input/devices; do sleep 1; done; echo keyboard went",
                                 "-device", controller, "-device", f"usb-hub,bus={bus},port=1")
                self.read_until("booted")
                qmp.command("device_add", driver="usb-kbd", id="kbd", bus=bus, port="1.2")
                self.read_until("keyboard came")
                listing = qmp.command("human-monitor-command", command_line="info usb")
                self.assertIn("Port 1.2, Speed 12 Mb/s, Product QEMU USB Keyboard, ID: kbd", listing)
                qmp.command("device_del", id="kbd")
                self.read_until("keyboard went")


if __name__ == "__main__":
    unittest.main()
