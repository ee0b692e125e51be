// A back end whose output is kept in a file, too (logfile=).
#include "base/log.h"
#include "base/sync.h"
#include "control/chardev/chardev.h"

namespace atl::control {
namespace {

class LoggedChardev final : public Chardev {
 public:
  LoggedChardev(std::unique_ptr<Chardev> inner, Fd file) : inner_(std::move(inner)), file_(std::move(file)) {}

  void attach(Frontend frontend) override { inner_->attach(std::move(frontend)); }
  void detach() override { inner_->detach(); }
  /// What the back end did not take will be written again, and is kept then.
  size_t write(std::span<const u8> data) override {
    const size_t taken = inner_->write(data);
    Lock lock(mutex_);
    if (!file_ || taken == 0) return taken;
    if (Status kept = write_all(file_, data.first(taken)); !kept) {
      log_error("chardev {}: logfile: {}; nothing more is written there", id(), kept.error().text());
      file_.reset();
    }
    return taken;
  }
  void accept_input() override { inner_->accept_input(); }
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
  const std::unique_ptr<Chardev> inner_;
  Mutex mutex_;
  Fd file_ GUARDED_BY(mutex_);
};

}  // namespace

Result<std::unique_ptr<Chardev>> with_log(std::unique_ptr<Chardev> inner, const ChardevConfig& config) {
  Fd file = TRY(open_output(config.log_path, config.log_append, 0644));
  return std::make_unique<LoggedChardev>(std::move(inner), std::move(file));
}

}  // namespace atl::control
