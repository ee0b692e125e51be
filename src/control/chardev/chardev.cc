#include "control/chardev/chardev.h"

#include <fcntl.h>

#include "base/strings.h"

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

Result<Fd> open_output(const std::string& path, bool append, unsigned mode) {
  constexpr std::string_view kDescriptor = "/dev/fd/";
  if (!path.starts_with(kDescriptor)) return open_file(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), mode);
  const auto number = parse_u64(std::string_view(path).substr(kDescriptor.size()));
  const int copy = number && *number < 1 << 24 ? ::fcntl(static_cast<int>(*number), F_DUPFD_CLOEXEC, 3) : -1;
  if (copy < 0) return Error(ErrorKind::NotFound, path + " is no open descriptor");
  return Fd(copy);
}

Result<std::unique_ptr<Chardev>> create_chardev(Loop& loop, const ChardevConfig& config) {
  auto plain = TRY(create_plain(loop, config));
  if (config.log_path.empty()) return plain;
  return with_log(std::move(plain), config);
}

}  // namespace atl::control
