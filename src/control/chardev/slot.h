// A character back end that can be put in another one's place while its user stays (chardev-change), and whose user can be
// told of a break from outside (chardev-send-break).
#pragma once

#include <memory>

#include "base/sync.h"
#include "control/chardev/chardev.h"

namespace atl::control {

/// Loop thread, but for what CharBackend allows from any.
class ChardevSlot final : public Chardev {
 public:
  explicit ChardevSlot(std::shared_ptr<Chardev> inner) : inner_(std::move(inner)) {}

  /// The user sees the old connection's end, then the state of the new one.
  void exchange(std::shared_ptr<Chardev> inner);
  void send_break();

  void attach(Frontend frontend) override;
  void detach() override;
  size_t write(std::span<const u8> data) override { return current()->write(data); }
  void accept_input() override { current()->accept_input(); }
  Result<Fd> take_connection() override { return current()->take_connection(); }
  const std::string& id() const override { return inner_->id(); }
  std::string describe() const override { return inner_->describe(); }
  bool has_frontend() const override { return inner_->has_frontend(); }
  bool is_waiting() const override { return inner_->is_waiting(); }
  void drain(u64 timeout_ns) override { inner_->drain(timeout_ns); }
  Fd take_received_fd() override { return inner_->take_received_fd(); }
  Result<std::string> read_ring(u64 limit_bytes) override { return inner_->read_ring(limit_bytes); }
  Status add_client(Fd fd) override { return inner_->add_client(std::move(fd)); }
  bool has_connection() const override { return inner_->has_connection(); }
  void cut_connection() override { inner_->cut_connection(); }
  bool can_be_exchanged() const override { return inner_->can_be_exchanged(); }

 private:
  /// What other threads write to stays alive meanwhile.
  std::shared_ptr<Chardev> current() {
    Lock lock(mutex_);
    return inner_;
  }

  Mutex mutex_;
  std::shared_ptr<Chardev> inner_;  // changed under mutex_, on the loop's thread
  Frontend frontend_;
  bool attached_ = false;
};

}  // namespace atl::control
