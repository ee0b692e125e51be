#include "manage/domain/definition.h"

#include <gtest/gtest.h>

#include "manage/domain/aliases.h"
#include "manage/domain/command_line.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

std::string domain_with(std::string_view devices, std::string_view more = "") {
  return std::string("<domain type='kvm'><name>n</name><memory>65536</memory><os><type machine='pc'>hvm</type></os>") + std::string(more) +
         "<devices>" + std::string(devices) + "</devices></domain>";
}

Element define(const std::string& text) {
  auto tree = read_definition(text, {});
  EXPECT_TRUE(tree.has_value()) << (tree ? "" : tree.error().message());
  return tree ? *tree : Element("domain");
}

std::string refusal(const std::string& text) {
  auto tree = read_definition(text, {});
  return tree ? "accepted" : tree.error().message();
}

TEST(Definition, MachineMemoryAndLifeCycleAreFilledIn) {
  const Element tree = define(domain_with(""));
  EXPECT_EQ(at(tree, "os/type", "machine"), "pc-i440fx-7.2");
  EXPECT_EQ(at(tree, "os/boot", "dev"), "hd");
  EXPECT_EQ(at(tree, "memory", "unit"), "KiB");
  EXPECT_EQ(kib_at(tree, "currentMemory"), 65536u);
  EXPECT_EQ(at(tree, "vcpu", "placement"), "static");
  EXPECT_EQ(text_at(tree, "on_reboot"), "restart");
  EXPECT_EQ(text_at(tree, "uuid").size(), 36u);
}

std::string with_cells(std::string_view cells) {
  return domain_with("", "<vcpu>4</vcpu><cpu><numa>" + std::string(cells) + "</numa></cpu>");
}

TEST(Definition, NumaCellsAreCompletedAndMakeUpTheMemory) {
  const Element tree = define(with_cells("<cell cpus='1-2' memory='1' unit='GiB'><distances><sibling id='1' value='20'/></distances></cell>"
                                         "<cell memory='2048' cpus='3' memAccess='shared'/>"));
  EXPECT_EQ(kib_at(tree, "memory"), (1u << 20) + 2048);
  const auto cells = tree.find("cpu/numa")->children("cell");
  ASSERT_EQ(cells.size(), 2u);
  EXPECT_EQ(cells[0]->attribute("cpus"), "0-2") << "who is in no cell is in the first";
  EXPECT_EQ(cells[1]->attribute("id"), "1");
  EXPECT_EQ(at(*cells[1], "distances/sibling", "value"), "20") << "both ways";
  auto command = compose_command(tree, {});
  ASSERT_TRUE(command.has_value());
  const std::string text = command->text();
  EXPECT_NE(text.find("-object memory-backend-ram,id=ram-node0,size=1073741824 -numa node,nodeid=0,cpus=0-2,memdev=ram-node0"), text.npos) << text;
  EXPECT_NE(text.find("-object memory-backend-memfd,id=ram-node1,size=2097152,share=on -numa node,nodeid=1,cpus=3,memdev=ram-node1"), text.npos) << text;
  EXPECT_NE(text.find("-numa dist,src=1,dst=0,val=20"), text.npos) << text;
}

TEST(Definition, WrongNumaCellsAreRefused) {
  EXPECT_NE(refusal(with_cells("<cell id='0' cpus='0' memory='1'/><cell id='0' cpus='1' memory='1'/>")).find("Duplicate NUMA cell"), std::string::npos);
  EXPECT_NE(refusal(with_cells("<cell cpus='0-1' memory='1'/><cell cpus='1' memory='1'/>")).find("1 and 0 have overlapping"), std::string::npos);
  EXPECT_NE(refusal(with_cells("<cell cpus='0-7' memory='1'/>")).find("exceeds the <vcpu> count"), std::string::npos);
  EXPECT_NE(refusal(with_cells("<cell cpus='7' memory='1'/>")).find("exceed the <vcpu> count"), std::string::npos);
  EXPECT_NE(refusal(with_cells("<cell cpus='0'/>")).find("'./@memory'"), std::string::npos);
  EXPECT_NE(refusal(with_cells("<cell cpus='x' memory='1'/>")).find("Failed to parse bitmap 'x'"), std::string::npos);
  EXPECT_NE(refusal(with_cells("")).find("without NUMA cells"), std::string::npos);
  EXPECT_NE(refusal(with_cells("<cell memory='18446744073709551615'/>")), "accepted");
  EXPECT_NE(refusal(domain_with("", "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>")).find("1048576 KiB"), std::string::npos);
}

TEST(Definition, OtherManagersXmlIsWrittenAsLibvirtWouldWriteIt) {
  const Element tree = define("<domain type='qemu'><name>n</name><uuid></uuid><memory>65536</memory><vcpu current='1'>4</vcpu><os>"
                              "<type machine='pc' arch='x86_64'>hvm</type></os><cpu match='exact'><topology cores='1' threads='1' sockets='4'/>"
                              "<model>Nehalem</model></cpu><devices><disk><driver io='threads' cache='default' type='raw' name='qemu'/>"
                              "<source file='/a'/><target dev='vda'/></disk></devices></domain>");
  const std::string text = xml::write(tree);
  for (const char* part : {"<vcpu placement='static' current='1'>", "<type arch='x86_64' machine='pc-i440fx-7.2'>", "<model fallback='allow'>Nehalem",
                           "<cpu mode='custom' match='exact' check='none'>", "<topology sockets='4' dies='1' cores='1' threads='1'/>",
                           "<driver name='qemu' type='raw' io='threads'/>"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  auto command = compose_command(tree, {});
  ASSERT_TRUE(command.has_value());
  EXPECT_NE(command->text().find("-smp 1,sockets=1"), std::string::npos) << command->text();
}

TEST(Definition, DisksHaveNamesAndPlacesThatExist) {
  const std::string head = "<disk><source file='/a'/><target dev='";
  EXPECT_NE(refusal(domain_with(head + "bogus'/></disk>")).find("Unknown disk name 'bogus'"), std::string::npos);
  EXPECT_NE(refusal(domain_with(head + "vda'/><driver iothread='7'/></disk>")).find("iothread '7' not defined"), std::string::npos);
  EXPECT_NE(refusal(domain_with(head + "hda'/><readonly/></disk>")).find("readonly ide disks"), std::string::npos);
  EXPECT_NE(refusal(domain_with(head + "hda'/><driver queues='2'/></disk>")).find("only supported by virtio-blk"), std::string::npos);
  EXPECT_NE(refusal(domain_with("<watchdog model='itco'/>")).find("unknown watchdog model 'itco'"), std::string::npos);
  EXPECT_NE(refusal(domain_with(head + "hda'/><driver iothread='1'/></disk>")).find("not available for bus ide"), std::string::npos);
  const Element tree = define(domain_with("<disk device='floppy'><target dev='fdb'/></disk>"));
  const Element* disk = devices_of(tree).child("disk");
  EXPECT_EQ(at(*disk, "target", "bus"), "fdc");
  EXPECT_EQ(at(*disk, "address", "unit"), "1");
  EXPECT_NE(refusal("<domain type='kvm'><name>n</name><memory>1</memory><os><type machine='q35'>hvm</type></os><devices>"
                    "<disk device='floppy'><target dev='fda'/></disk></devices></domain>").find("pc-q35"), std::string::npos);
}

TEST(Definition, ReadingANormalisedTreeAgainChangesNothing) {
  const std::string once = xml::write(define(domain_with(
      "<disk><source file='/a.img'/><target dev='vda'/></disk><disk device='cdrom'><target dev='hdc' bus='ide'/></disk>"
      "<interface type='user'/><graphics type='vnc'/><channel type='unix'><target type='virtio' name='x'/></channel>"
      "<serial type='pty'/><rng model='virtio'><backend model='random'/></rng><input type='tablet' bus='usb'/>")));
  EXPECT_EQ(xml::write(define(once)), once);
}

TEST(Definition, AddressesGoCardsControllersDisksBalloonAsLibvirtAssigns) {
  const Element tree = define(domain_with("<disk><source file='/a'/><target dev='vda'/></disk><interface type='user'/>"));
  EXPECT_EQ(at(*devices_of(tree).child("interface"), "address", "slot"), "0x03");
  EXPECT_EQ(at(*devices_of(tree).child("disk"), "address", "slot"), "0x04");
  EXPECT_EQ(at(*devices_of(tree).child("memballoon"), "address", "slot"), "0x05");
}

TEST(Definition, ExpressDevicesGetRootPortsAndOlderOnesABridge) {
  const Element tree = define("<domain type='qemu'><name>n</name><memory>65536</memory><os><type machine='q35'>hvm</type></os><devices>"
                              "<interface type='user'><model type='virtio'/></interface><interface type='user'><model type='rtl8139'/></interface>"
                              "<memballoon model='none'/></devices></domain>");
  const auto cards = devices_of(tree).children("interface");
  // As libvirt: the bridge takes the first port, the express card the next; the other card is behind the bridge.
  EXPECT_EQ(at(*cards[0], "address", "bus"), "0x02");
  EXPECT_EQ(at(*cards[1], "address", "bus"), "0x03");
  EXPECT_EQ(at(*cards[1], "address", "slot"), "0x01");
  std::string buses;
  for (const Element* controller : devices_of(tree).children("controller"))
    if (controller->attribute("type") == "pci")
      buses += controller->attribute("index") + ":" + controller->attribute("model") + "@" + at(*controller, "address", "slot") + "." + at(*controller, "address", "function") + " ";
  EXPECT_EQ(buses, "0:pcie-root@. 1:pcie-root-port@0x02.0x0 2:pcie-root-port@0x02.0x1 3:pcie-to-pci-bridge@0x00.0x0 4:pcie-root-port@0x02.0x2 "
                   "5:pcie-root-port@0x02.0x3 ");
  EXPECT_EQ(xml::write(define(xml::write(tree))), xml::write(tree));
}

TEST(Definition, AnAddressThatIsTakenTwiceIsRefused) {
  const std::string card = "<interface type='user'><address type='pci' slot='0x07'/></interface>";
  EXPECT_NE(refusal(domain_with(card + card)).find("double use of PCI Address 0000:00:07.0"), std::string::npos);
}

TEST(Definition, CompanionsShareTheSlotOfTheirUsbController) {
  Element tree = define(domain_with("<controller type='usb' model='ich9-ehci1'/><controller type='usb' model='ich9-uhci1'><master startport='0'/></controller>"
                                    "<controller type='usb' model='ich9-uhci2'><master startport='2'/></controller>"));
  assign_aliases(tree);
  number_sources(tree);
  auto command = compose_command(tree, {});
  ASSERT_TRUE(command.has_value());
  for (const char* words : {"ich9-usb-ehci1,id=usb,bus=pci.0,addr=0x3.0x7", "ich9-usb-uhci1,masterbus=usb.0,firstport=0,bus=pci.0,multifunction=on,addr=0x3",
                            "ich9-usb-uhci2,masterbus=usb.0,firstport=2,bus=pci.0,addr=0x3.0x1"})
    EXPECT_NE(command->text().find(words), std::string::npos) << words << "\n" << command->text();
}

TEST(Definition, DriveAddressesFollowFromTheNameOfTheTarget) {
  const Element tree = define(domain_with("<disk device='cdrom'><target dev='hdc' bus='ide'/></disk>"));
  const Element& disk = *devices_of(tree).child("disk");
  EXPECT_EQ(at(disk, "address", "bus"), "1");
  EXPECT_EQ(at(disk, "address", "unit"), "0");
  EXPECT_NE(disk.child("readonly"), nullptr);
}

TEST(Definition, WhatIsNotThereIsRefusedByName) {
  EXPECT_EQ(refusal(domain_with("<sound model='ich6'/>")), "unsupported configuration: device <sound> is not supported by atoll-vmm");
  EXPECT_NE(refusal(domain_with("<graphics type='spice'/>")).find("<graphics type='spice'>"), std::string::npos);
  EXPECT_NE(refusal(domain_with("", "<idmap/>")).find("<idmap>"), std::string::npos);
  EXPECT_NE(refusal("<domain type='xen'><name>n</name><memory>1</memory><os><type>hvm</type></os></domain>").find("domaintype=xen"), std::string::npos);
}

TEST(Definition, CrowdsAreRefused) {
  EXPECT_NE(refusal(domain_with("", "<iothreads>4000000000</iothreads>")).find("at most 1024 I/O threads"), std::string::npos);
  std::string many;
  for (int i = 0; i < 1025; ++i) many += "<rng/>";
  EXPECT_NE(refusal(domain_with(many)).find("at most 1024 devices"), std::string::npos);
}

TEST(Definition, HarmlessStrangersAreKept) {
  const Element tree = define(domain_with("", "<metadata><a:b xmlns:a='urn:x'/></metadata><genid>x</genid>"));
  EXPECT_NE(tree.find("metadata/a:b"), nullptr);
  EXPECT_NE(tree.child("genid"), nullptr);
}

TEST(Definition, WhatOnlyARunningDomainHasIsDropped) {
  const Element tree = define(domain_with("<interface type='user'><alias name='net0'/><target dev='vnet3'/></interface>"
                                          "<graphics type='vnc' port='5901' autoport='yes'/><serial type='pty'><source path='/dev/pts/3'/></serial>"));
  EXPECT_EQ(devices_of(tree).child("interface")->child("alias"), nullptr);
  EXPECT_EQ(devices_of(tree).child("interface")->child("target"), nullptr);
  EXPECT_EQ(devices_of(tree).child("graphics")->attribute("port"), "-1");
  EXPECT_EQ(devices_of(tree).child("serial")->child("source"), nullptr);
}

TEST(CommandLine, EveryDeviceHasItsWords) {
  Element tree = define(domain_with("<disk><driver type='qcow2' cache='none'/><source file='/a,b'/><target dev='vda'/></disk>"
                                    "<interface type='user'><model type='virtio'/></interface><graphics type='vnc' port='5902'/>"));
  assign_aliases(tree);
  number_sources(tree);
  auto command = compose_command(tree, {});
  ASSERT_TRUE(command.has_value());
  const std::string text = command->text();
  for (const char* words : {"-machine pc-i440fx-7.2,accel=kvm:tcg", "\"filename\":\"/a,b\"", "\"node-name\":\"libvirt-1-format\"", "\"direct\":true",
                            "-device virtio-blk-pci,bus=pci.0,addr=0x4,drive=libvirt-1-format,id=virtio-disk0,bootindex=1,write-cache=on",
                            "-netdev user,id=hostnet0", "-device virtio-net-pci,netdev=hostnet0,id=net0,mac=52:54:00:", "-vnc 127.0.0.1:2", "-vga std",
                            "-sandbox on"})
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
}

TEST(CommandLine, AHandedTapIsNamedByItsDescriptor) {
  Element tree = define(domain_with("<interface type='bridge'><source bridge='br0'/></interface>"));
  assign_aliases(tree);
  number_sources(tree);
  auto command = compose_command(tree, {.taps = {{"net0", "33"}}, .monitor = "30", .vhost_vsock = ""});
  ASSERT_TRUE(command.has_value());
  EXPECT_NE(command->text().find("-netdev tap,fd=33,id=hostnet0"), std::string::npos);
  EXPECT_NE(command->text().find("socket,id=charmonitor,fd=30,server=on,wait=off"), std::string::npos);
}

TEST(CommandLine, OwnWordsOfTheDefinitionComeLast) {
  Element tree = define(domain_with("", "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
                                        "<qemu:arg value='-foo'/><qemu:env name='A' value='b c'/></qemu:commandline>"));
  auto command = compose_command(tree, {});
  ASSERT_TRUE(command.has_value());
  EXPECT_EQ(command->arguments.back(), "-foo");
  EXPECT_NE(command->text().find("A='b c'"), std::string::npos);
}

std::string encrypted(const char* where, const char* encryption, const char* format = "raw") {
  const std::string inside = std::string(where) == "source" ? encryption : "", beside = inside.empty() ? encryption : "";
  return domain_with(std::string("<disk type='file'><driver type='") + format + "'/><source file='/a'>" + inside + "</source><target dev='vda'/>" + beside + "</disk>");
}

TEST(Encryption, DisksAreOpenedWithTheSecretOfTheirNode) {
  const char* kLuks = "<encryption format='luks'><secret type='passphrase' uuid='212c459b-b02c-41fc-8ae2-714cc31612c5'/></encryption>";
  for (const char* where : {"source", "disk"}) {
    Element tree = define(encrypted(where, kLuks));
    assign_aliases(tree);
    number_sources(tree);
    auto command = compose_command(tree, {.taps = {}, .secrets = "/vm"});
    ASSERT_TRUE(command);
    const std::string text = command->text();
    EXPECT_NE(text.find("-object secret,id=libvirt-1-format-encryption-secret0,file=/vm/libvirt-1-format-encryption-secret0"), std::string::npos) << text;
    EXPECT_NE(text.find(R"("driver":"luks")"), std::string::npos) << text;
    EXPECT_NE(text.find(R"("key-secret":"libvirt-1-format-encryption-secret0")"), std::string::npos) << text;
  }
  Element tree = define(encrypted("source", kLuks, "qcow2"));
  EXPECT_EQ(at(tree, "devices/disk/source/encryption", "engine"), "qemu");
  assign_aliases(tree);
  number_sources(tree);
  EXPECT_NE(compose_command(tree, {})->text().find(R"("encrypt":{"format":"luks","key-secret":"libvirt-1-format-encryption-secret0"})"), std::string::npos);
}

TEST(Encryption, OtherKindsAreRefusedByName) {
  const std::string uuid = "<secret type='passphrase' uuid='212c459b-b02c-41fc-8ae2-714cc31612c5'/></encryption>";
  EXPECT_NE(refusal(encrypted("source", "<encryption format='foo'/>")).find("type foo"), std::string::npos);
  EXPECT_NE(refusal(encrypted("source", ("<encryption format='qcow'>" + uuid).c_str())).find("old qcow"), std::string::npos);
  EXPECT_NE(refusal(encrypted("source", ("<encryption format='luks' engine='librbd'>" + uuid).c_str())).find("librbd"), std::string::npos);
  EXPECT_NE(refusal(encrypted("source", ("<encryption format='luks'>" + uuid).c_str(), "vmdk")).find("vmdk"), std::string::npos);
  EXPECT_NE(refusal(encrypted("source", "<encryption format='luks'><secret type='passphrase'/></encryption>")).find("missing secret uuid"), std::string::npos);
  EXPECT_NE(refusal(encrypted("source", "<encryption format='luks'><secret type='volume' uuid='x'/></encryption>")).find("secret type volume"), std::string::npos);
}

}  // namespace
}  // namespace atl::manage
