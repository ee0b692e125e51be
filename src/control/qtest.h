// The protocol of QEMU's device tests (-qtest; QEMU's docs/devel/qtest.rst): a program at the other end reads and writes
// ports and memory as a vCPU would, and puts guest time forward. One command a line, one answer a line.
//
// Supported: inb inw inl, outb outw outl, readb readw readl readq, writeb writew writel writeq, read, write, memset,
// endianness, clock_step, clock_set. Missing: b64read, b64write, interception of interrupt lines (irq_intercept_in,
// irq_intercept_out, set_irq_in), clock_step without a number (the next timer's deadline): each is answered with FAIL.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/char_backend.h"
#include "machine/machine.h"

namespace atl::control {

/// Control thread. The machine and the back end outlive it.
class DeviceTestServer {
 public:
  DeviceTestServer(machine::Machine& machine, CharBackend& backend);
  ~DeviceTestServer() { backend_.detach(); }
  DeviceTestServer(const DeviceTestServer&) = delete;
  DeviceTestServer& operator=(const DeviceTestServer&) = delete;

  /// The answer to one line.
  std::string answer(std::string_view line);

 private:
  static constexpr size_t kMaxLine = 4 * kMiB;
  void receive(std::span<const u8> bytes);
  void send(std::string_view text);

  machine::Machine& machine_;
  CharBackend& backend_;
  std::string input_, output_;
};

}  // namespace atl::control
