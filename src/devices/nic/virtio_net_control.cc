// The control queue of the network device and the receive filter it sets: VIRTIO 1.2 section 5.1.6.5.
#include <algorithm>
#include <array>

#include "base/endian.h"
#include "devices/nic/virtio_net.h"
#include "devices/nic/virtio_net_spec.h"

namespace atl::devices {

using namespace virtio_net;

namespace {

constexpr u64 kCommandBytes = 2;  // class and command
constexpr u16 kVlanTag = 0x8100;
constexpr u8 kMulticastBit = 1;
constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/// One of the two lists of a MAC table, at `offset` of the command; moves `offset` behind it. False if it is cut short.
bool read_mac_list(const Chain& chain, u64& offset, std::vector<MacAddress>& list, bool& overflow) {
  u32 entries = 0;
  if (!chain.read_object(offset, entries)) return false;
  offset += 4;
  if (u64{entries} * sizeof(MacAddress) > chain.readable_bytes() - offset) return false;
  list.clear();
  overflow = entries > kMaxMacEntries;
  for (u32 i = 0; i < entries && !overflow; ++i) {
    MacAddress mac;
    if (!chain.read_object(offset + i * sizeof mac, mac)) return false;
    list.push_back(mac);
  }
  offset += u64{entries} * sizeof(MacAddress);
  return true;
}

}  // namespace

u8 VirtioNet::control_command(const Chain& chain) {
  std::array<u8, kCommandBytes> head{};
  if (chain.read(0, head) != kCommandBytes || chain.writable_bytes() == 0) return kError;
  u8 command = head[1];
  switch (head[0]) {
    case kClassRx: return set_receive_mode(chain, command);
    case kClassMac: return command == kMacTableSet ? set_mac_table(chain) : set_mac(chain, command);
    case kClassVlan: return set_vlan(chain, command);
    case kClassAnnounce: return acknowledge_announcement(command);
    case kClassGuestOffloads: return command == 0 ? set_guest_offloads(chain) : kError;
    default: return kError;
  }
}

u8 VirtioNet::set_receive_mode(const Chain& chain, u8 command) {
  bool Filter::* const modes[] = {&Filter::promiscuous, &Filter::all_multicast, &Filter::all_unicast,
                                  &Filter::no_multicast, &Filter::no_unicast, &Filter::no_broadcast};
  u8 on = 0;
  if (command >= std::size(modes) || !chain.read_object(kCommandBytes, on)) return kError;
  filter_.*modes[command] = on != 0;
  return kOk;
}

u8 VirtioNet::set_mac(const Chain& chain, u8 command) {
  MacAddress mac;
  if (command != kMacAddressSet || !chain.read_object(kCommandBytes, mac)) return kError;
  filter_.own = mac;
  set_config(kConfigMac, mac);
  return kOk;
}

u8 VirtioNet::set_mac_table(const Chain& chain) {
  Filter fresh = filter_;
  u64 offset = kCommandBytes;
  if (!read_mac_list(chain, offset, fresh.unicast, fresh.unicast_overflow) ||
      !read_mac_list(chain, offset, fresh.multicast, fresh.multicast_overflow))
    return kError;
  filter_ = std::move(fresh);
  return kOk;
}

u8 VirtioNet::set_vlan(const Chain& chain, u8 command) {
  u16 id = 0;
  if (command > kVlanDelete || !chain.read_object(kCommandBytes, id) || id >= filter_.vlans.size()) return kError;
  filter_.vlans.set(id, command == kVlanAdd);
  return kOk;
}

u8 VirtioNet::acknowledge_announcement(u8 command) {
  if (command != 0) return kError;
  change_status(0, kAnnounce);
  return kOk;
}

u8 VirtioNet::set_guest_offloads(const Chain& chain) {
  u64 offloads = 0;
  if (!chain.read_object(kCommandBytes, offloads) || (offloads & ~(chosen_features() & kGuestOffloads))) return kError;
  guest_offloads_ = offloads;
  apply_offloads();
  return kOk;
}

ReceiveFilter VirtioNet::receive_filter() const {
  using Mode = ReceiveFilter::Mode;
  ReceiveFilter out{.own = filter_.own, .promiscuous = filter_.promiscuous, .broadcast = !filter_.no_broadcast};
  out.unicast = filter_.no_unicast ? Mode::None : filter_.all_unicast ? Mode::All : Mode::Normal;
  out.multicast = filter_.all_multicast ? Mode::All : filter_.no_multicast ? Mode::None : Mode::Normal;
  out.vlan = filter_.filter_vlans ? Mode::Normal : Mode::All;
  out.unicast_overflow = filter_.unicast_overflow;
  out.multicast_overflow = filter_.multicast_overflow;
  out.unicast_table = filter_.unicast;
  out.multicast_table = filter_.multicast;
  for (size_t id = 0; id < filter_.vlans.size(); ++id)
    if (filter_.vlans.test(id)) out.vlan_table.push_back(static_cast<u16>(id));
  return out;
}

bool VirtioNet::Filter::passes(std::span<const u8> frame) const {
  if (promiscuous) return true;
  if (frame.size() < 14) return false;
  if (filter_vlans && frame.size() >= 16 && load_be<u16>(&frame[12]) == kVlanTag &&
      !vlans.test(load_be<u16>(&frame[14]) & 0xfff))
    return false;
  MacAddress to;
  std::ranges::copy(frame.first(to.size()), to.begin());
  if (to == kBroadcast) return !no_broadcast;
  if (to[0] & kMulticastBit)
    return !no_multicast && (all_multicast || multicast_overflow || std::ranges::find(multicast, to) != multicast.end());
  if (no_unicast) return false;
  return to == own || all_unicast || unicast_overflow || std::ranges::find(unicast, to) != unicast.end();
}

void VirtioNet::Filter::visit(Archive& archive) {
  u32 number = 1;
  for (bool* flag : {&promiscuous, &all_multicast, &all_unicast, &no_multicast, &no_unicast, &no_broadcast,
                     &unicast_overflow, &multicast_overflow, &filter_vlans})
    archive.field(number++, "mode", *flag);
  archive.bytes(number++, "own", own);
  for (auto* list : {&unicast, &multicast}) {
    std::vector<u8> bytes;
    for (const MacAddress& mac : *list) bytes.insert(bytes.end(), mac.begin(), mac.end());
    archive.blob(number++, "list", bytes, kMaxMacEntries * sizeof(MacAddress));
    list->resize(bytes.size() / sizeof(MacAddress));
    for (size_t i = 0; i < list->size(); ++i) std::copy_n(&bytes[i * sizeof(MacAddress)], sizeof(MacAddress), (*list)[i].begin());
  }
  for (size_t base = 0; base < vlans.size(); base += 64) {
    u64 word = 0;
    for (size_t i = 0; i < 64; ++i) word |= u64{vlans.test(base + i)} << i;
    archive.field(number++, "vlans", word);
    for (size_t i = 0; i < 64; ++i) vlans.set(base + i, word >> i & 1);
  }
}

}  // namespace atl::devices
