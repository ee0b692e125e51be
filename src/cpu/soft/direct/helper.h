// A process whose address space holds pages of the guest and a stub, and which may make no system call but by the VMM's leave.
//
// Its seccomp filter lets the stub's instruction ask for three system calls: the one that hands over, mmap and munmap. Each
// stops in the kernel until the VMM answers. So a helper that has handed over provably runs nothing, and maps nothing but what it was told.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <span>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "cpu/soft/direct/exchange.h"

namespace atl::soft::direct {

class Helper {
 public:
  /// Forks. The child begins with nothing of this process' memory and descriptors.
  static Result<std::unique_ptr<Helper>> create();
  ~Helper();
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  Exchange& exchange() { return *reinterpret_cast<Exchange*>(memory_.data()); }
  /// False once it died, or did something that its stub does not do.
  bool alive() const { return alive_; }
  pid_t pid() const { return pid_; }

  struct Exit {
    bool alive = false;
    u64 context = 0;        // the signal's ucontext by the helper's address, 0: none
    size_t orders_done = 0;
  };
  /// Has it perform the orders and go on from the exchange's registers, until it hands over again. Own thread.
  Exit run(std::span<const Order> orders);
  /// Has it hand over soon, if it does not do so anyway. Any thread.
  void kick() const;
  /// A descriptor of the helper for the same open file; the helper has handed over.
  Result<int> give(const Fd& fd);

 private:
  Helper() = default;
  Status start();
  Status receive_listener(int socket);
  bool receive();
  bool answer(u64 value, u32 flags);
  void end();

  Mapping memory_;
  Fd memory_file_;
  Fd process_, listener_;
  pid_t pid_ = 0;
  bool alive_ = false;
  struct {
    u64 id = 0;
    Order call;
    u64 from = 0;
  } pending_;
};

}  // namespace atl::soft::direct
