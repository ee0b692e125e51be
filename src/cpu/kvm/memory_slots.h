// Keeps KVM's memory slots and ioeventfds in step with an address space.
#pragma once

#include <map>
#include <vector>

#include "cpu/kvm/wrappers.h"
#include "memory/address_space.h"

namespace atl::cpu::kvm {

/// The RAM of the memory space. What the kernel refuses is logged once and stays reachable through exits.
/// Thread: the control thread's map changes.
class MemorySlots {
 public:
  explicit MemorySlots(VmFd& vm) : vm_(vm) {}
  void follow(const memory::AddressMap& map);
  /// The slot number at `gpa`, for its dirty log.
  std::optional<u32> slot_at(u64 gpa) const;

 private:
  struct Slot {
    u32 number = 0;
    u64 size = 0;
    u8* host = nullptr;
    bool readonly = false;
    std::shared_ptr<memory::RamBlock> ram;  // lives as long as the kernel may use its memory
    bool same_memory(const Slot& other) const {
      return size == other.size && host == other.host && readonly == other.readonly;
    }
  };
  using Slots = std::map<u64, Slot>;  // by guest address

  static Slots wanted(const memory::AddressMap& map);
  void add(u64 gpa, Slot slot);
  void remove(u64 gpa, const Slot& slot);
  u32 free_number() const;

  VmFd& vm_;
  Slots slots_;
};

/// The ioeventfds of one space.
class EventSlots {
 public:
  EventSlots(VmFd& vm, bool ports) : vm_(vm), ports_(ports) {}
  void follow(const memory::AddressMap& map);

 private:
  struct Event {
    u64 address = 0;
    u32 width = 0;
    std::optional<u64> value;
    int fd = -1;
    bool operator==(const Event&) const = default;
  };

  static std::vector<Event> wanted(const memory::AddressMap& map);
  bool assign(const Event& event, bool on);

  VmFd& vm_;
  const bool ports_;
  std::vector<Event> events_;
};

/// The listener of both spaces.
class MemoryFollower final : public memory::MapListener {
 public:
  explicit MemoryFollower(VmFd& vm) : slots_(vm), events_(vm, false) {}
  void map_changed(const memory::AddressMap&, const memory::AddressMap& after) override {
    slots_.follow(after);
    events_.follow(after);
  }

 private:
  MemorySlots slots_;
  EventSlots events_;
};

class PortFollower final : public memory::MapListener {
 public:
  explicit PortFollower(VmFd& vm) : events_(vm, true) {}
  void map_changed(const memory::AddressMap&, const memory::AddressMap& after) override { events_.follow(after); }

 private:
  EventSlots events_;
};

}  // namespace atl::cpu::kvm
