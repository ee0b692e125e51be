// The protocol of QEMU's device tests (-qtest; QEMU's docs/devel/qtest.rst): a program at the other end reads and writes
// ports and memory as a vCPU would, and puts guest time forward. One command a line, one answer a line.
//
// Supported: inb inw inl, outb outw outl, readb readw readl readq, writeb writew writel writeq, read, write, b64read,
// b64write, memset, endianness, clock_step, clock_set, irq_intercept_in of the I/O APIC. Time and interrupts need -accel qtest to
// be of use. Missing: irq_intercept_in of others, irq_intercept_out, set_irq_in, module_load: each is answered with FAIL.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/char_backend.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/sync.h"
#include "machine/machine.h"

namespace atl::control {

/// Control thread. The machine, the back end and the loop outlive it.
class DeviceTestServer {
 public:
  /// `log` gets all lines, each with its direction and time; without a descriptor there is none.
  DeviceTestServer(machine::Machine& machine, CharBackend& backend, Loop& loop, Fd log = {});
  ~DeviceTestServer();
  DeviceTestServer(const DeviceTestServer&) = delete;
  DeviceTestServer& operator=(const DeviceTestServer&) = delete;

  /// The answer to one line.
  std::string answer(std::string_view line);

 private:
  static constexpr size_t kMaxLine = 4 * kMiB;
  /// Changes of lines that were not told yet.
  struct Interrupts {
    Mutex mutex;
    std::vector<std::pair<u32, bool>> changes GUARDED_BY(mutex);
  };
  std::optional<std::string> intercept(std::string_view command, std::string_view device);
  void tell_interrupts();
  void log(char direction, std::string_view line);
  void receive(std::span<const u8> bytes);
  void send(std::string_view text);

  machine::Machine& machine_;
  CharBackend& backend_;
  Loop& loop_;
  const Fd log_;
  const u64 start_ns_ = monotonic_ns();
  std::string input_, output_;
  bool intercepting_ = false;
  std::shared_ptr<Interrupts> interrupts_ = std::make_shared<Interrupts>();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // control thread
};

}  // namespace atl::control
