// The two cascaded 8237A DMA controllers of a PC with their page registers. Intel 8237A data sheet; 82371SB (290550), 2.5.1.
//
// Supported: what devices on the ISA bus need: base and current address and count, page registers, mask, mode (increment and
// decrement, auto-initialize, direction, verify), terminal count, status. Missing: memory-to-memory, software requests.
//
// Threads: registers on vCPU threads, transfers on a device's loop; a mutex guards both.
#pragma once

#include <array>
#include <span>

#include "base/archive.h"
#include "base/sync.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "memory/address_space.h"

namespace atl::devices {

class IsaDma final : public Device {
 public:
  static constexpr unsigned kChannels = 8;
  static constexpr u16 kFirstPort = 0x00, kFirstPorts = 0x10, kPagePort = 0x81, kPagePorts = 0x0b, kSecondPort = 0xc0, kSecondPorts = 0x20;

  explicit IsaDma(memory::AddressSpace& memory) : memory_(memory) { reset(); }

  memory::BusDevice& first_ports() { return first_; }
  memory::BusDevice& second_ports() { return second_; }
  memory::BusDevice& page_ports() { return pages_; }

  /// Bytes that the channel would still move; 0 while it is masked.
  u64 available(unsigned channel);
  /// Moves at most what is available, and counts it; the bytes moved. `done` tells terminal count.
  u64 to_memory(unsigned channel, std::span<const u8> data, bool& done);
  u64 from_memory(unsigned channel, std::span<u8> data, bool& done);

  std::string_view type() const override { return "i8257"; }
  void reset() override;
  void visit(Archive& archive) override;

 private:
  struct Channel {
    u16 base_address = 0, base_count = 0, address = 0, count = 0;
    u8 page = 0, mode = 0;
    bool masked = true;
  };
  /// One controller: `first` is its channel 0's number; the second one's registers are two bytes apart.
  class Ports final : public BytePorts {
   public:
    Ports(IsaDma& owner, unsigned first) : owner_(owner), first_(first) {}

   private:
    u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    IsaDma& owner_;
    const unsigned first_;
  };
  class Pages final : public BytePorts {
   public:
    explicit Pages(IsaDma& owner) : owner_(owner) {}

   private:
    u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    IsaDma& owner_;
  };

  u8 read_register(unsigned first, unsigned offset) REQUIRES(mutex_);
  void write_register(unsigned first, unsigned offset, u8 value) REQUIRES(mutex_);
  void clear(unsigned first) REQUIRES(mutex_);
  /// Moves `size` bytes and steps the channel; whether it has come to its end.
  template <class Move>
  u64 run(unsigned channel, u64 size, bool& done, Move move);
  static unsigned unit(unsigned channel) { return channel < 4 ? 1 : 2; }

  memory::AddressSpace& memory_;
  Ports first_{*this, 0}, second_{*this, 4};
  Pages pages_{*this};
  Mutex mutex_;
  std::array<Channel, kChannels> channels_ GUARDED_BY(mutex_);
  std::array<bool, 2> high_byte_ GUARDED_BY(mutex_){};  // the flip-flops
  std::array<u8, 2> done_ GUARDED_BY(mutex_){};         // status: channels that reached terminal count
};

}  // namespace atl::devices
