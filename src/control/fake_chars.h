// A character back end in memory, for tests and fuzzing of the monitors.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/char_backend.h"

namespace atl::control {

class FakeChars final : public CharBackend {
 public:
  std::string output;
  size_t room = ~size_t{0};  // bytes that write() still takes

  void type(std::string_view text) {
    if (frontend_.receive) frontend_.receive(std::span<const u8>(reinterpret_cast<const u8*>(text.data()), text.size()));
  }
  void event(CharEvent event) {
    if (frontend_.event) frontend_.event(event);
  }
  void writable() {
    if (frontend_.writable) frontend_.writable();
  }
  size_t can_receive() const { return frontend_.can_receive ? frontend_.can_receive() : 0; }
  std::string take_output() { return std::exchange(output, {}); }

  void attach(Frontend frontend) override {
    frontend_ = std::move(frontend);
    event(CharEvent::Opened);
  }
  void detach() override { frontend_ = {}; }
  size_t write(std::span<const u8> data) override {
    size_t taken = std::min(room, data.size());
    output.append(reinterpret_cast<const char*>(data.data()), taken);
    room -= taken;
    return taken;
  }
  void accept_input() override {}
  const std::string& id() const override { return id_; }
  std::string describe() const override { return "fake"; }

 private:
  const std::string id_ = "fake";
  Frontend frontend_;
};

}  // namespace atl::control
