#include "machine/makers/nic_makers.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/core.h>

#include "base/strings.h"
#include "devices/nic/e1000.h"
#include "devices/nic/rtl8139.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr const char* kRomFolders[] = {"/usr/lib/ipxe/qemu/", "/usr/share/qemu/", "/usr/share/ipxe/"};

/// Boot code by type, as Debian's ipxe-qemu package names it: images for BIOS and UEFI in one file.
struct Rom {
  std::string_view type;
  const char* file;
};
constexpr Rom kRoms[] = {{"e1000", "efi-e1000.rom"}, {"e1000e", "efi-e1000e.rom"}, {"rtl8139", "efi-rtl8139.rom"}, {"virtio-net-pci", "efi-virtio.rom"},
                          {"virtio-net-pci-non-transitional", "efi-virtio.rom"}, {"virtio-net-pci-transitional", "efi-virtio.rom"}};

std::string find_rom(const std::string& name) {
  if (name.find('/') != std::string::npos || ::access(name.c_str(), R_OK) == 0) return name;
  for (const char* folder : kRomFolders)
    if (std::string path = folder + name; ::access(path.c_str(), R_OK) == 0) return path;
  return {};
}

template <class Card>
void keep(MadeDevice& made, std::unique_ptr<Card> card, const MacAddress& mac) {
  made.set_link = [port = &card->port()](bool up) { port->set_link(up); };
  made.announce = [port = &card->port(), mac] { port->announce(mac); };
  made.pci = std::move(card);
}

Status build(std::string_view type, const MacAddress& mac, net::Backend* backend, const MakerContext& context, MadeDevice& made) {
  Loop& loop = made.thread->loop();
  if (type == "rtl8139") {
    keep(made, std::make_unique<Rtl8139>(mac, Rtl8139::Wiring{.memory = context.memory, .clock = context.clock, .backend = backend, .loop = loop}), mac);
    return {};
  }
  const E1000Model model = type == "e1000e" ? E1000Model::I82574 : E1000Model::I82540;
  keep(made, TRY(E1000::create(model, mac, {.vm = context.vm, .memory = context.memory, .backend = backend, .loop = loop})), mac);
  return {};
}

}  // namespace

Result<MacAddress> card_address(const PropertyReader& p, const std::string& user, const MakerContext& context) {
  if (!p.given("mac")) {
    u8 index = 0;
    for (const auto& network : context.back_ends.networks()) {
      if (network.user == user) break;
      ++index;
    }
    return MacAddress{0x52, 0x54, 0x00, 0x12, 0x34, static_cast<u8>(0x56 + index)};
  }
  MacAddress mac{};
  size_t i = 0;
  for (std::string_view part : split(p.text("mac"), ':')) mac[i++] = static_cast<u8>(*parse_hex(part));
  if (mac[0] & 1) return p.refuse("mac", "a multicast address cannot be a NIC's own");
  return mac;
}

Result<std::string> option_rom_of(const PropertyReader& p) {
  if (p.number("rombar") == 0) return std::string();
  if (p.given("romfile")) {
    const std::string name(p.text("romfile"));
    std::string path = name.empty() ? name : find_rom(name);
    if (path.empty() && !name.empty()) return p.refuse("romfile", fmt::format("failed to find romfile \"{}\"", name));
    return path;
  }
  auto rom = std::ranges::find(kRoms, p.device().type, &Rom::type);
  return rom == std::end(kRoms) ? std::string() : find_rom(rom->file);
}

bool is_emulated_card(std::string_view type) { return type == "e1000" || type == "e1000e" || type == "rtl8139"; }

Result<MadeDevice> make_emulated_card(const PropertyReader& p, const std::string& user, const MakerContext& context) {
  MadeDevice made;
  made.thread = &context.back_ends.default_thread();
  net::Backend* backend = nullptr;
  if (!p.text("netdev").empty()) backend = TRY(context.back_ends.claim_network(std::string(p.text("netdev")), user));
  const MacAddress mac = TRY(card_address(p, user, context));
  TRY(made.thread->run_on([&] { return build(p.device().type, mac, backend, context, made); }));
  return made;
}

}  // namespace atl::machine
