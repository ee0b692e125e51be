#include "devices/pci/msi.h"

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "base/math.h"

namespace atl::devices {
namespace {

// Offsets in the capability's body.
constexpr size_t kControl = 0, kAddress = 2, kData = 10, kBodyBytes = 12;
constexpr u16 kEnable = 1 << 0, kWideAddress = 1 << 7;
constexpr unsigned kCapableShift = 1, kEnabledShift = 4;

}  // namespace

Result<std::unique_ptr<Msi>> Msi::create(cpu::Vm& vm, unsigned vectors) {
  CHECK(is_power_of_two(vectors) && vectors <= 32);
  auto msi = std::make_unique<Msi>();
  for (unsigned i = 0; i < vectors; ++i) msi->routes_.push_back(TRY(vm.create_msi_route()));
  return msi;
}

std::vector<u8> Msi::capability() const {
  std::vector<u8> body(kBodyBytes);
  const auto capable = static_cast<u16>(std::countr_zero(routes_.size()));
  store_le(&body[kControl], static_cast<u16>(kWideAddress | capable << kCapableShift));
  return body;
}

std::vector<u8> Msi::writable() const {
  std::vector<u8> mask(kBodyBytes, 0xff);
  store_le(&mask[kControl], static_cast<u16>(kEnable | 7 << kEnabledShift));
  mask[kAddress] = 0xfc;
  return mask;
}

void Msi::set_registers(std::span<const u8> body) {
  const u16 control = load_le<u16>(&body[kControl]);
  const u64 wanted = u64{1} << (control >> kEnabledShift & 7);
  const auto count = static_cast<unsigned>(std::min<u64>(wanted, routes_.size()));
  if (!(control & kEnable)) return enabled_.store(0, std::memory_order_release);
  const u64 address = load_le<u64>(&body[kAddress]);
  const u32 data = load_le<u16>(&body[kData]);
  for (unsigned i = 0; i < count; ++i) routes_[i]->set_message({address, (data & ~(count - 1)) | i});
  enabled_.store(count, std::memory_order_release);
}

void Msi::fire(unsigned vector) {
  if (const unsigned count = enabled_.load(std::memory_order_acquire)) routes_[vector & (count - 1)]->fire();
}

}  // namespace atl::devices
