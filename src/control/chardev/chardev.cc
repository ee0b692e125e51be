#include "control/chardev/chardev.h"

namespace atl::control {

namespace {

Result<std::unique_ptr<Chardev>> create_plain(Loop& loop, const ChardevConfig& config) {
  switch (config.kind) {
    case ChardevKind::Stdio:
    case ChardevKind::File:
    case ChardevKind::Tty:
    case ChardevKind::Pipe: return create_stream_chardev(loop, config);
    case ChardevKind::Socket: return create_socket_chardev(loop, config);
    case ChardevKind::Pty: return create_pty_chardev(loop, config);
    case ChardevKind::Null:
    case ChardevKind::Ringbuf: break;
  }
  return create_memory_chardev(config);
}

}  // namespace

Result<std::unique_ptr<Chardev>> create_chardev(Loop& loop, const ChardevConfig& config) {
  auto plain = TRY(create_plain(loop, config));
  if (config.log_path.empty()) return plain;
  return with_log(std::move(plain), config);
}

}  // namespace atl::control
