#include "machine/makers/usb_makers.h"

#include <fmt/core.h>

#include "devices/usb/ehci.h"
#include "devices/usb/uhci.h"
#include "devices/usb/xhci.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr unsigned kUhciPorts = 2;

/// The controller's own bus, or as a companion the one of its EHCI.
Result<MadeDevice> make_uhci(const PropertyReader& p, const usb::Uhci::Model& model, const MakerContext& context) {
  MadeDevice made;
  const std::string master(p.text("masterbus"));
  if (master.empty()) {
    made.usb_bus = std::make_shared<usb::Bus>(context.usb.name_of_bus(p.device().id), kUhciPorts);
    made.pci = std::make_unique<usb::Uhci>(model, context.memory, context.clock, made.usb_bus, std::nullopt);
    return made;
  }
  auto bus = context.usb.find_bus(master);
  const u64 first = p.number("firstport");
  if (!bus) return p.refuse("masterbus", fmt::format("USB bus '{}' not found", master));
  if (first + kUhciPorts > bus->ports()) return p.refuse("firstport", fmt::format("must be at most {}", bus->ports() - kUhciPorts));
  auto uhci = std::make_unique<usb::Uhci>(model, context.memory, context.clock, bus, static_cast<unsigned>(first));
  if (!bus->master() || !bus->master()->add_companion(uhci->controller(), static_cast<unsigned>(first))) {
    return p.refuse("masterbus", fmt::format("the controller of '{}' takes no companions", master));
  }
  made.pci = std::move(uhci);
  return made;
}

Result<MadeDevice> make_ehci(const PropertyReader& p, const usb::Ehci::Model& model, const MakerContext& context) {
  MadeDevice made;
  made.usb_bus = std::make_shared<usb::Bus>(context.usb.name_of_bus(p.device().id), usb::Ehci::kPorts);
  made.pci = std::make_unique<usb::Ehci>(model, context.memory, context.clock, made.usb_bus);
  return made;
}

Result<MadeDevice> make_xhci(const PropertyReader& p, const MakerContext& context) {
  const u64 ports2 = p.number("p2"), ports3 = p.number("p3");
  if (ports2 < 1 || ports2 > usb::xhci::kMaxPorts) return p.refuse("p2", "must be 1 to 15");
  if (ports3 < 1 || ports3 > usb::xhci::kMaxPorts) return p.refuse("p3", "must be 1 to 15");
  if (p.number("slots") != usb::xhci::kSlots) return p.refuse("slots", "64 is the only number");
  MadeDevice made;
  made.usb_bus = std::make_shared<usb::Bus>(context.usb.name_of_bus(p.device().id), static_cast<unsigned>(ports2));
  const usb::Xhci::Options options = {.nec = p.device().type == "nec-usb-xhci", .usb2_ports = static_cast<unsigned>(ports2),
                                      .usb3_ports = static_cast<unsigned>(ports3)};
  made.pci = TRY(usb::Xhci::create(options, {.vm = context.vm, .memory = context.memory, .clock = context.clock}, made.usb_bus));
  return made;
}

}  // namespace

Result<MadeDevice> make_usb_controller(const PropertyReader& p, const MakerContext& context) {
  const usb::Uhci::Model* model = usb::Uhci::find_model(p.device().type);
  const usb::Ehci::Model* fast = usb::Ehci::find_model(p.device().type);
  MadeDevice made = model ? TRY(make_uhci(p, *model, context)) : fast ? TRY(make_ehci(p, *fast, context)) : TRY(make_xhci(p, context));
  made.thread = &context.back_ends.default_thread();
  return made;
}

}  // namespace atl::machine
