#include "control/chardev/mux.h"

#include <poll.h>

#include <fmt/format.h>

namespace atl::control {

// Input is kept for a user that takes none just now, so that the escape character works whatever the guest does. What does
// not fit is lost.
class Mux::Port final : public CharBackend {
 public:
  Port(Mux& mux, std::string id, size_t index) : mux_(mux), id_(std::move(id)), index_(index) {}

  void attach(Frontend frontend) override {
    frontend_ = std::move(frontend);
    mux_.focus_on(index_);
  }
  void detach() override { frontend_ = {}; }
  size_t write(std::span<const u8> data) override { return mux_.write(data); }
  void accept_input() override { signal_eventfd(mux_.wake_); }
  const std::string& id() const override { return id_; }
  std::string describe() const override { return mux_.backend_->describe(); }

  void receive(u8 byte) {
    if (pending_.size() < kPendingLimit) pending_.push_back(static_cast<char>(byte));
    deliver();
  }
  void deliver() {
    while (!pending_.empty() && frontend_.receive) {
      size_t room = frontend_.can_receive ? frontend_.can_receive() : pending_.size();
      size_t count = std::min(room, pending_.size());
      if (count == 0) return;
      std::string part = pending_.substr(0, count);
      pending_.erase(0, count);
      frontend_.receive(std::span<const u8>(reinterpret_cast<const u8*>(part.data()), part.size()));
    }
  }
  void event(CharEvent event) {
    if (frontend_.event) frontend_.event(event);
  }
  void writable() {
    if (frontend_.writable) frontend_.writable();
  }

 private:
  Mux& mux_;
  const std::string id_;
  const size_t index_;
  Frontend frontend_;
  static constexpr size_t kPendingLimit = 4096;
  std::string pending_;
};

Result<std::unique_ptr<Mux>> Mux::create(Loop& loop, std::unique_ptr<Chardev> backend, u8 escape,
                                         std::function<void()> on_exit) {
  Fd wake = TRY(make_eventfd());
  return std::unique_ptr<Mux>(new Mux(loop, std::move(wake), std::move(backend), escape, std::move(on_exit)));
}

Mux::Mux(Loop& loop, Fd wake, std::unique_ptr<Chardev> backend, u8 escape, std::function<void()> on_exit)
    : wake_(std::move(wake)),
      wake_watch_(loop, wake_.get(), POLLIN, [this](u32) {
        drain_eventfd(wake_);
        for (auto& port : ports_) port->deliver();
      }),
      backend_(std::move(backend)), escape_(escape), on_exit_(std::move(on_exit)) {}

Mux::~Mux() { backend_->detach(); }

CharBackend& Mux::add_port(std::string id) {
  ports_.push_back(std::make_unique<Port>(*this, std::move(id), ports_.size()));
  return *ports_.back();
}

void Mux::start() {
  started_ = true;
  backend_->attach({
      .can_receive = [] { return size_t{4096}; },
      .receive = [this](std::span<const u8> data) { receive(data); },
      .event = [this](CharEvent event) { forward_event(event); },
      .writable = [this] { for (auto& port : ports_) port->writable(); },
  });
}

void Mux::focus_on(size_t index) {
  focus_ = index;
  if (started_) ports_[focus_]->event(CharEvent::Opened);
}

size_t Mux::write(std::span<const u8> data) { return backend_->write(data); }

void Mux::print(std::string_view text) {
  backend_->write(std::span<const u8>(reinterpret_cast<const u8*>(text.data()), text.size()));
}

// An open back end is news for the user in focus only; the end of it is for all.
void Mux::forward_event(CharEvent event) {
  if (event == CharEvent::Closed) {
    for (auto& port : ports_) port->event(event);
  } else if (!ports_.empty()) {
    ports_[focus_]->event(event);
  }
}

void Mux::receive(std::span<const u8> data) {
  for (u8 byte : data) receive_byte(byte);
}

void Mux::receive_byte(u8 byte) {
  if (ports_.empty()) return;
  if (escaped_) {
    escaped_ = false;
    command(byte);
  } else if (byte == escape_) {
    escaped_ = true;
  } else {
    ports_[focus_]->receive(byte);
  }
}

void Mux::command(u8 byte) {
  if (byte == escape_) return ports_[focus_]->receive(byte);
  switch (byte) {
    case 'h':
    case '?': return print_help();
    case 'x':
      print("QEMU: Terminated\r\n");
      return on_exit_();
    case 'b': return ports_[focus_]->event(CharEvent::Break);
    case 'c': return focus_on((focus_ + 1) % ports_.size());
    default: return;
  }
}

void Mux::print_help() {
  std::string name = escape_ < 32 ? fmt::format("C-{}", static_cast<char>(escape_ - 1 + 'a')) : fmt::format("{:#x}", escape_);
  print(fmt::format("\r\n{0} h    print this help\r\n{0} x    exit emulator\r\n{0} b    send break\r\n"
                    "{0} c    switch between console and monitor\r\n{0} {0}  sends {0}\r\n", name));
}

}  // namespace atl::control
