// Back ends on descriptors that are simply there: stdio, files, serial ports and other terminals, named pipes.
#include <fcntl.h>
#include <termios.h>

#include <fmt/format.h>

#include "control/chardev/channel.h"
#include "control/chardev/chardev.h"
#include "control/chardev/terminal.h"

namespace atl::control {
namespace {

class StreamChardev final : public Chardev {
 public:
  StreamChardev(const ChardevConfig& config, std::unique_ptr<Channel> channel, Fd in, Fd out, std::string description)
      : id_(config.id), description_(std::move(description)), in_(std::move(in)), out_(std::move(out)),
        channel_(std::move(channel)) {
    channel_->on_closed([this] { channel_->notify(CharEvent::Closed); });
    channel_->open(in_.get(), out_.get());
  }

  /// Standard input and output; the terminal is raw as long as the back end lives.
  StreamChardev(const ChardevConfig& config, std::unique_ptr<Channel> channel)
      : id_(config.id), description_("stdio"), terminal_(std::make_unique<Terminal>(config.signal)),
        channel_(std::move(channel)) {
    channel_->on_closed([this] { channel_->notify(CharEvent::Closed); });
    channel_->open(STDIN_FILENO, STDOUT_FILENO);
  }

  void attach(Frontend frontend) override {
    channel_->set_frontend(std::move(frontend));
    channel_->notify(CharEvent::Opened);
  }
  void detach() override { channel_->set_frontend({}); }
  size_t write(std::span<const u8> data) override { return channel_->write(data); }
  void accept_input() override { channel_->accept_input(); }
  const std::string& id() const override { return id_; }
  std::string describe() const override { return description_; }
  bool has_frontend() const override { return channel_->has_frontend(); }
  void drain(u64 timeout_ns) override { channel_->drain(timeout_ns); }

 private:
  const std::string id_;
  const std::string description_;
  Fd in_, out_;
  std::unique_ptr<Terminal> terminal_;
  std::unique_ptr<Channel> channel_;
};

using Made = Result<std::unique_ptr<Chardev>>;

Made create_file(Loop& loop, const ChardevConfig& config) {
  Fd out = TRY(open_output(config.path, config.append, 0666));
  Fd in;
  if (!config.input_path.empty()) in = TRY(open_file(config.input_path, O_RDONLY | O_NONBLOCK));
  auto channel = TRY(Channel::create(loop));
  return std::make_unique<StreamChardev>(config, std::move(channel), std::move(in), std::move(out), "file");
}

Made create_tty(Loop& loop, const ChardevConfig& config) {
  Fd fd = TRY(open_file(config.path, O_RDWR | O_NONBLOCK | O_NOCTTY));
  termios settings;
  if (::tcgetattr(fd.get(), &settings) < 0) return os_error(config.path + " is not a terminal");
  ::cfmakeraw(&settings);
  if (::tcsetattr(fd.get(), TCSANOW, &settings) < 0) return os_error("set up " + config.path);
  Fd out = TRY(duplicate(fd));
  auto channel = TRY(Channel::create(loop));
  return std::make_unique<StreamChardev>(config, std::move(channel), std::move(fd), std::move(out),
                                         "serial:" + config.path);
}

// A pair of FIFOs PATH.in and PATH.out, or one FIFO for both directions. Opened for reading and writing, so that neither
// waits for a peer nor ends with one.
Made create_pipe(Loop& loop, const ChardevConfig& config) {
  constexpr int kFlags = O_RDWR | O_NONBLOCK;
  auto in = open_file(config.path + ".in", kFlags);
  auto out = open_file(config.path + ".out", kFlags);
  if (!in || !out) {
    in = TRY(open_file(config.path, kFlags));
    out = TRY(duplicate(*in));
  }
  auto channel = TRY(Channel::create(loop));
  return std::make_unique<StreamChardev>(config, std::move(channel), std::move(*in), std::move(*out),
                                         "pipe:" + config.path);
}

}  // namespace

Made create_stream_chardev(Loop& loop, const ChardevConfig& config) {
  switch (config.kind) {
    case ChardevKind::File: return create_file(loop, config);
    case ChardevKind::Tty: return create_tty(loop, config);
    case ChardevKind::Pipe: return create_pipe(loop, config);
    default: break;
  }
  return std::make_unique<StreamChardev>(config, TRY(Channel::create(loop)));
}

}  // namespace atl::control
