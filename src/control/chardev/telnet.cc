#include "control/chardev/telnet.h"

namespace atl::control {
namespace {

constexpr u8 kSe = 240, kBreak = 243, kSb = 250, kWill = 251, kDo = 253, kDont = 254, kIac = 255;
constexpr u8 kBinary = 0, kEcho = 1, kSuppressGoAhead = 3;
constexpr u8 kGreeting[] = {kIac, kWill, kEcho, kIac, kWill, kSuppressGoAhead, kIac, kWill, kBinary, kIac, kDo, kBinary};

}  // namespace

std::span<const u8> TelnetDecoder::greeting() { return kGreeting; }

/// The byte after IAC.
TelnetDecoder::State TelnetDecoder::command(u8 byte, Result& out) const {
  if (byte == kIac) out.text += static_cast<char>(kIac);
  if (byte == kBreak) out.break_sent = true;
  if (byte == kSb) return State::Subnegotiation;
  return byte >= kWill && byte <= kDont ? State::Option : State::Text;
}

TelnetDecoder::Result TelnetDecoder::feed(std::span<const u8> input) {
  Result out;
  for (u8 byte : input) {
    switch (state_) {
      case State::Text:
        if (byte == kIac) state_ = State::Command;
        else out.text += static_cast<char>(byte);
        break;
      case State::Command: state_ = command(byte, out); break;
      case State::Option: state_ = State::Text; break;
      case State::Subnegotiation:
        if (byte == kIac) state_ = State::SubnegotiationCommand;
        break;
      case State::SubnegotiationCommand: state_ = byte == kSe ? State::Text : State::Subnegotiation; break;
    }
  }
  return out;
}

}  // namespace atl::control
