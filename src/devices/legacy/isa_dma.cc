#include "devices/legacy/isa_dma.h"

#include <algorithm>

namespace atl::devices {

namespace {

constexpr u8 kAutoInitialize = 0x10, kDecrement = 0x20;
// Which channel each page register from 0x81 on belongs to.
constexpr int kPageChannel[IsaDma::kPagePorts] = {2, 3, 1, -1, -1, -1, 0, -1, 6, 7, 5};

}  // namespace

u8 IsaDma::Ports::read_byte(u64 offset) {
  Lock lock(owner_.mutex_);
  return owner_.read_register(first_, static_cast<unsigned>(first_ ? offset / 2 : offset));
}

void IsaDma::Ports::write_byte(u64 offset, u8 value) {
  Lock lock(owner_.mutex_);
  if (first_ && (offset & 1)) return;
  owner_.write_register(first_, static_cast<unsigned>(first_ ? offset / 2 : offset), value);
}

u8 IsaDma::Pages::read_byte(u64 offset) {
  Lock lock(owner_.mutex_);
  const int channel = kPageChannel[offset];
  return channel < 0 ? 0xff : owner_.channels_[static_cast<unsigned>(channel)].page;
}

void IsaDma::Pages::write_byte(u64 offset, u8 value) {
  Lock lock(owner_.mutex_);
  const int channel = kPageChannel[offset];
  if (channel >= 0) owner_.channels_[static_cast<unsigned>(channel)].page = value;
}

/// Registers 0 to 7: address and count of each channel, a byte at a time; from 8 on: the controller's.
u8 IsaDma::read_register(unsigned first, unsigned offset) {
  const unsigned controller = first / 4;
  if (offset < 8) {
    const Channel& channel = channels_[first + offset / 2];
    const u16 value = offset & 1 ? channel.count : channel.address;
    const bool high = std::exchange(high_byte_[controller], !high_byte_[controller]);
    return static_cast<u8>(high ? value >> 8 : value);
  }
  if (offset == 8) return std::exchange(done_[controller], u8{0});
  if (offset != 15) return 0;
  u8 masks = 0xf0;
  for (unsigned i = 0; i < 4; ++i) masks |= static_cast<u8>(channels_[first + i].masked << i);
  return masks;
}

void IsaDma::write_register(unsigned first, unsigned offset, u8 value) {
  const unsigned controller = first / 4;
  if (offset < 8) {
    Channel& channel = channels_[first + offset / 2];
    u16& base = offset & 1 ? channel.base_count : channel.base_address;
    const bool high = std::exchange(high_byte_[controller], !high_byte_[controller]);
    base = static_cast<u16>(high ? (base & 0xff) | value << 8 : (base & 0xff00) | value);
    (offset & 1 ? channel.count : channel.address) = base;
    return;
  }
  switch (offset) {
    case 10: channels_[first + (value & 3)].masked = value & 4; return;
    case 11: channels_[first + (value & 3)].mode = value; return;
    case 12: high_byte_[controller] = false; return;
    case 13: return clear(first);
    case 14:
    case 15:
      for (unsigned i = 0; i < 4; ++i) channels_[first + i].masked = offset == 15 && (value >> i & 1);
      return;
    default: return;
  }
}

/// Master clear.
void IsaDma::clear(unsigned first) {
  high_byte_[first / 4] = false;
  done_[first / 4] = 0;
  for (unsigned i = 0; i < 4; ++i) channels_[first + i].masked = true;
}

u64 IsaDma::available(unsigned number) {
  Lock lock(mutex_);
  const Channel& channel = channels_[number];
  return channel.masked ? 0 : (u64{channel.count} + 1) * unit(number);
}

/// The address wraps inside its page of 64 KiB (or 128 KiB, by words).
template <class Move>
u64 IsaDma::run(unsigned number, u64 size, bool& done, Move move) {
  Lock lock(mutex_);
  Channel& channel = channels_[number];
  const unsigned width = unit(number);
  done = false;
  if (channel.masked) return 0;
  const u64 steps = std::min(size / width, u64{channel.count} + 1);
  const auto memory = memory_.guest_memory();
  for (u64 i = 0; i < steps; ++i) {
    const u64 page = width == 1 ? u64{channel.page} << 16 : u64{channel.page & 0xfeu} << 16;
    move(*memory, page + u64{channel.address} * width, i * width, width);
    channel.address = static_cast<u16>(channel.address + (channel.mode & kDecrement ? -1 : 1));
    if (channel.count-- != 0) continue;
    done = true;
    done_[number / 4] |= static_cast<u8>(1 << (number & 3));
    if (channel.mode & kAutoInitialize) {
      channel.address = channel.base_address;
      channel.count = channel.base_count;
    } else {
      channel.masked = true;
    }
    return (i + 1) * width;
  }
  return steps * width;
}

u64 IsaDma::to_memory(unsigned channel, std::span<const u8> data, bool& done) {
  return run(channel, data.size(), done, [data](const memory::GuestMemory& memory, GuestAddr at, u64 offset, unsigned width) {
    memory.write(at, data.subspan(offset, width));
  });
}

u64 IsaDma::from_memory(unsigned channel, std::span<u8> data, bool& done) {
  return run(channel, data.size(), done, [data](const memory::GuestMemory& memory, GuestAddr at, u64 offset, unsigned width) {
    memory.read(at, data.subspan(offset, width));
  });
}

void IsaDma::reset() {
  Lock lock(mutex_);
  channels_ = {};
  clear(0);
  clear(4);
}

void IsaDma::visit(Archive& archive) {
  Lock lock(mutex_);
  for (unsigned i = 0; i < 2; ++i) {
    archive.field(1 + i, "high_byte", high_byte_[i]);
    archive.field(3 + i, "done", done_[i]);
  }
  u32 number = 16;
  for (Channel& channel : channels_) {
    archive.part(number++, "channel", [&](Archive& part) {
      part.field(1, "base_address", channel.base_address);
      part.field(2, "base_count", channel.base_count);
      part.field(3, "address", channel.address);
      part.field(4, "count", channel.count);
      part.field(5, "page", channel.page);
      part.field(6, "mode", channel.mode);
      part.field(7, "masked", channel.masked);
    });
  }
}

}  // namespace atl::devices
