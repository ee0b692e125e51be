// Back ends that end inside the process: null, and a ring buffer that monitors read.
#include "base/sync.h"
#include "control/chardev/chardev.h"

namespace atl::control {
namespace {

class NullChardev final : public Chardev {
 public:
  explicit NullChardev(const ChardevConfig& config) : id_(config.id) {}
  void attach(Frontend frontend) override {
    attached_ = true;
    if (frontend.event) frontend.event(CharEvent::Opened);
  }
  void detach() override { attached_ = false; }
  size_t write(std::span<const u8> data) override { return data.size(); }
  void accept_input() override {}
  const std::string& id() const override { return id_; }
  std::string describe() const override { return "null"; }
  bool has_frontend() const override { return attached_; }

 private:
  const std::string id_;
  bool attached_ = false;
};

class RingChardev final : public Chardev {
 public:
  explicit RingChardev(const ChardevConfig& config) : id_(config.id), limit_(config.ring_bytes) {}
  void attach(Frontend frontend) override {
    attached_ = true;
    if (frontend.event) frontend.event(CharEvent::Opened);
  }
  void detach() override { attached_ = false; }
  size_t write(std::span<const u8> data) override {
    Lock lock(mutex_);
    kept_.append(reinterpret_cast<const char*>(data.data()), data.size());
    if (kept_.size() > limit_) kept_.erase(0, kept_.size() - limit_);
    return data.size();
  }
  void accept_input() override {}
  const std::string& id() const override { return id_; }
  std::string describe() const override { return "ringbuf"; }
  bool has_frontend() const override { return attached_; }
  Result<std::string> read_ring(u64 limit_bytes) override {
    Lock lock(mutex_);
    std::string text = kept_.substr(0, limit_bytes);
    kept_.erase(0, text.size());
    return text;
  }

 private:
  const std::string id_;
  const u64 limit_;
  bool attached_ = false;
  Mutex mutex_;
  std::string kept_ GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Chardev> create_memory_chardev(const ChardevConfig& config) {
  if (config.kind == ChardevKind::Ringbuf) return std::make_unique<RingChardev>(config);
  return std::make_unique<NullChardev>(config);
}

}  // namespace atl::control
