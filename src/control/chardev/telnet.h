// The server's side of telnet on a character back end (RFC 854, RFC 856, RFC 857, RFC 858): characters go one by one, both ways
// unchanged, and are echoed by the guest. Commands of the client are taken out of its input; it is not argued with.
#pragma once

#include <span>
#include <string>

#include "base/types.h"

namespace atl::control {

class TelnetDecoder {
 public:
  struct Result {
    std::string text;        // what the user typed
    bool break_sent = false;
  };
  Result feed(std::span<const u8> input);

  /// What a client is told first: WILL ECHO, WILL SUPPRESS-GO-AHEAD, WILL and DO TRANSMIT-BINARY.
  static std::span<const u8> greeting();

 private:
  enum class State : u8 { Text, Command, Option, Subnegotiation, SubnegotiationCommand };
  State command(u8 byte, Result& out) const;
  State state_ = State::Text;
};

}  // namespace atl::control
