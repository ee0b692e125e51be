// Makers of bridges and of small PCI functions.
#include "devices/legacy/i6300esb.h"
#include "devices/legacy/pvpanic.h"
#include "devices/pci/bridge.h"
#include "machine/makers/device_makers.h"

namespace atl::machine {

using devices::PciBridge;

namespace {

constexpr u64 kMaxPort = 0xff, kMaxSlot = 0x1fff;  // PCI Express 3.0, 7.8.6 and 7.8.9

PciBridge::Kind kind_of(std::string_view type) {
  if (type == "pcie-root-port") return PciBridge::Kind::RootPort;
  return type == "pcie-pci-bridge" ? PciBridge::Kind::ExpressToPci : PciBridge::Kind::Conventional;
}

}  // namespace

Result<MadeDevice> make_pci_bridge(const Order& order) {
  const PropertyReader& p = order.properties;
  PciBridge::Options options{.type = p.device().type, .kind = kind_of(p.device().type)};
  if (options.kind == PciBridge::Kind::RootPort) {
    if (p.number("port") > kMaxPort) return p.refuse("port", "must be below 256");
    if (p.number("slot") > kMaxSlot) return p.refuse("slot", "must be below 8192");
    options.port = static_cast<u8>(p.number("port"));
    options.slot = static_cast<u16>(p.number("slot"));
    options.hotplug = p.flag("hotplug");
  }
  if (p.has("shpc") && p.text("shpc") == "on") return p.refuse("shpc", "the hot-plug controller is not implemented");
  MadeDevice made;
  made.pci = TRY(PciBridge::create(order.context.vm, std::move(options)));
  return made;
}

Result<MadeDevice> make_watchdog(const Order& order) {
  MadeDevice made;
  made.pci = std::make_unique<devices::I6300Esb>(order.context.clock, order.context.system);
  return made;
}

Result<MadeDevice> make_pvpanic(const Order& order) {
  MadeDevice made;
  made.pci = std::make_unique<devices::PvpanicPci>(order.context.system, static_cast<u8>(order.properties.number("events")));
  return made;
}

}  // namespace atl::machine
