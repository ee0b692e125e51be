// What hangs on a connector of the keyboard controller: bytes go to it, bytes come from it. IBM PS/2 Hardware Interface
// Technical Reference, "Keyboards" and "Auxiliary device".
//
// Not thread-safe: the controller's mutex guards it.
#pragma once

#include <deque>
#include <initializer_list>
#include <optional>

#include "base/archive.h"
#include "base/types.h"

namespace atl::devices::ps2 {

inline constexpr u8 kAck = 0xfa, kResend = 0xfe, kSelfTestPassed = 0xaa;

class Device {
 public:
  virtual ~Device() = default;
  virtual void reset() = 0;
  virtual void visit(Archive& archive) = 0;
  /// A byte from the host; answers go to the output.
  virtual void take(u8 byte) = 0;

  bool has_output() const { return !output_.empty(); }
  u8 next_output() {
    last_ = output_.front();
    output_.pop_front();
    return last_;
  }

 protected:
  static constexpr size_t kLimit = 256;  // a bound for what waits: events beyond are lost, as with a full key buffer

  void answer(std::initializer_list<u8> bytes) { output_.insert(output_.end(), bytes); }
  /// All of an event's bytes or none.
  void event(std::initializer_list<u8> bytes) {
    if (output_.size() + bytes.size() <= kLimit / 2) answer(bytes);
  }
  void clear_output() { output_.clear(); }
  void visit_output(Archive& archive);
  u8 last_output() const { return last_; }

 private:
  std::deque<u8> output_;
  u8 last_ = 0;  // for Resend
};

}  // namespace atl::devices::ps2
