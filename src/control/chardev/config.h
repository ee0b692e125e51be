// What one character back end is: the typed form of a -chardev.
#pragma once

#include <string>

#include "base/types.h"

namespace atl::control {

enum class ChardevKind : u8 { Null, Stdio, Socket, File, Pty, Tty, Pipe, Ringbuf };

struct ChardevConfig {
  std::string id;
  ChardevKind kind = ChardevKind::Null;
  bool mux = false;           // several users share it; Ctrl-a switches between them
  bool signal = true;         // Stdio: Ctrl-C and Ctrl-Z reach the program, not the guest
  std::string path;           // Socket (Unix), File, Tty, Pipe
  std::string input_path;     // File: where input is read from; "" = none
  bool append = false;        // File
  std::string host, port;     // Socket (TCP); host "" = any or localhost
  int fd = -1;                // Socket: an inherited descriptor instead of an address
  bool server = false;        // Socket
  bool wait = true;           // Socket server: creation waits for the first client
  bool nodelay = false;       // Socket (TCP)
  bool telnet = false;        // Socket server: clients speak telnet
  u32 reconnect_seconds = 0;  // Socket client: 0 = give up when the connection ends
  std::string log_path;       // output is kept there too; "" = nowhere
  bool log_append = false;
  u64 ring_bytes = 65536;     // Ringbuf: a power of two

  bool is_tcp() const { return kind == ChardevKind::Socket && path.empty() && fd < 0; }
};

}  // namespace atl::control
