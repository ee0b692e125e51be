// The registers of virtio over PCI before VIRTIO 1.0: VIRTIO 1.2 sections 4.1.4.8 (layout), 2.7.2 (queues), 2.2.3 (features).
#include <array>
#include <bit>

#include "base/endian.h"
#include "base/math.h"
#include "devices/virtio/pci_transport.h"

namespace atl::devices {

using namespace virtio;

namespace {

enum Legacy : u32 {
  kDeviceFeatures = 0,
  kDriverFeatures = 4,
  kQueueAddress = 8,   // in pages
  kQueueSize = 12,
  kQueueSelect = 14,
  kQueueNotify = 16,
  kDeviceStatus = 18,
  kIsrStatus = 19,
  kConfigVector = 20,  // these two only while MSI-X is on
  kQueueVector = 22,
};
constexpr u32 kHeaderBytes = 20, kHeaderBytesWithVectors = 24;

struct TransitionalId {
  u16 device_id, pci_id;
};
constexpr TransitionalId kTransitional[] = {{kIdNet, 0x1000},     {kIdBlock, 0x1001}, {kIdBalloon, 0x1002},
                                            {kIdConsole, 0x1003}, {kIdScsi, 0x1004},  {kIdEntropy, 0x1005}};

}  // namespace

std::optional<u16> transitional_pci_id(u16 device_id) {
  for (const TransitionalId& known : kTransitional)
    if (known.device_id == device_id) return known.pci_id;
  return std::nullopt;
}

u64 VirtioPci::LegacyRegisters::bar_bytes(const VirtioDevice& device, bool msix) {
  return std::bit_ceil<u64>((msix ? kHeaderBytesWithVectors : kHeaderBytes) + device.config_bytes());
}

u32 VirtioPci::LegacyRegisters::config_at() const {
  return owner_.function_.msix_enabled() ? kHeaderBytesWithVectors : kHeaderBytes;
}

u64 VirtioPci::LegacyRegisters::bus_read(u64 offset, unsigned width) {
  const u32 at = static_cast<u32>(offset);
  if (at < config_at()) return header_read(at) & byte_mask(width);
  std::array<u8, 8> bytes{};
  owner_.device_->config_read(at - config_at(), std::span(bytes).first(width));
  return load_le_n(bytes.data(), width);
}

void VirtioPci::LegacyRegisters::bus_write(u64 offset, u64 value, unsigned width) {
  const u32 at = static_cast<u32>(offset);
  if (at < config_at()) return header_write(at, static_cast<u32>(value & byte_mask(width)));
  std::array<u8, 8> bytes{};
  store_le_n(bytes.data(), value, width);
  owner_.device_->config_write(at - config_at(), std::span(bytes).first(width));
}

u64 VirtioPci::LegacyRegisters::header_read(u32 offset) {
  VirtioControl& control = owner_.control_;
  const u16 selected = owner_.selected_queue();
  switch (offset) {
    case kDeviceFeatures: return control.device_features(0);
    case kDriverFeatures: return control.driver_features(0);
    case kQueueAddress: return control.legacy_page(selected);
    case kQueueSize: return control.max_queue_size(selected);
    case kQueueSelect: return selected;
    case kDeviceStatus: return control.status();
    case kIsrStatus: return owner_.take_isr();
    case kConfigVector: return owner_.config_vector_.load();
    case kQueueVector: return selected < owner_.queue_vectors_.size() ? owner_.queue_vectors_[selected].load() : kNoVector;
    default: return 0;
  }
}

void VirtioPci::LegacyRegisters::header_write(u32 offset, u32 value) {
  VirtioControl& control = owner_.control_;
  const u16 selected = owner_.selected_queue();
  switch (offset) {
    case kDriverFeatures: return control.set_legacy_features(value);
    case kQueueAddress: return control.set_legacy_page(selected, value);
    case kQueueSelect: return owner_.select_queue(static_cast<u16>(value));
    case kQueueNotify:
      control.legacy_kicked();
      return owner_.kick(value);
    case kDeviceStatus:
      if (control.write_legacy_status(static_cast<u8>(value))) owner_.reset_registers();
      return;
    case kConfigVector: return owner_.config_vector_.store(owner_.checked_vector(value));
    case kQueueVector:
      if (selected < owner_.queue_vectors_.size()) owner_.queue_vectors_[selected].store(owner_.checked_vector(value));
      return;
    default: return;
  }
}

}  // namespace atl::devices
