// A pseudo-terminal whose other side someone opens later: -serial pty.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>

#include "base/log.h"
#include "control/chardev/channel.h"
#include "control/chardev/chardev.h"

namespace atl::control {
namespace {

constexpr u64 kLookInterval_ns = 250'000'000;

class PtyChardev final : public Chardev {
 public:
  PtyChardev(const ChardevConfig& config, std::unique_ptr<Channel> channel, Fd master, std::string name)
      : id_(config.id), name_(std::move(name)), master_(std::move(master)), channel_(std::move(channel)),
        look_(channel_->loop(), [this] { look_for_reader(); }) {
    channel_->discard_while_closed(true);
    channel_->on_closed([this] {
      channel_->notify(CharEvent::Closed);
      look_.arm_in(kLookInterval_ns);
    });
    look_.arm_in(0);
  }

  void attach(Frontend frontend) override {
    channel_->set_frontend(std::move(frontend));
    if (channel_->is_open()) channel_->notify(CharEvent::Opened);
  }
  void detach() override { channel_->set_frontend({}); }
  size_t write(std::span<const u8> data) override { return channel_->write(data); }
  void accept_input() override { channel_->accept_input(); }
  const std::string& id() const override { return id_; }
  std::string describe() const override { return "pty:" + name_; }
  bool has_frontend() const override { return channel_->has_frontend(); }
  void drain(u64 timeout_ns) override { channel_->drain(timeout_ns); }

 private:
  // The kernel tells of a hang-up, but not of an open: that has to be looked for.
  void look_for_reader() {
    pollfd state{master_.get(), POLLIN, 0};
    ::poll(&state, 1, 0);
    if (state.revents & POLLHUP) return look_.arm_in(kLookInterval_ns);
    channel_->open(master_.get(), master_.get());
    channel_->notify(CharEvent::Opened);
  }

  const std::string id_;
  const std::string name_;
  Fd master_;
  std::unique_ptr<Channel> channel_;
  Loop::Timer look_;
};

// Opening and closing the slave once makes the master report a hang-up until someone opens it again.
Status set_raw(const std::string& slave) {
  Fd fd = TRY(open_file(slave, O_RDWR | O_NOCTTY));
  termios settings;
  if (::tcgetattr(fd.get(), &settings) < 0) return os_error("read settings of " + slave);
  ::cfmakeraw(&settings);
  if (::tcsetattr(fd.get(), TCSANOW, &settings) < 0) return os_error("set up " + slave);
  return {};
}

}  // namespace

Result<std::unique_ptr<Chardev>> create_pty_chardev(Loop& loop, const ChardevConfig& config) {
  Fd master = TRY(open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK));
  char name[64];
  if (::grantpt(master.get()) < 0 || ::unlockpt(master.get()) < 0 || ::ptsname_r(master.get(), name, sizeof name) != 0)
    return os_error("create a pseudo-terminal");
  TRY(set_raw(name));
  log_info("char device redirected to {} (label {})", name, config.id);
  auto channel = TRY(Channel::create(loop));
  return std::make_unique<PtyChardev>(config, std::move(channel), std::move(master), name);
}

}  // namespace atl::control
