#include "manage/sockets.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/strings.h"

namespace atl::manage {

namespace {

constexpr int kFirstActivated = 3;

Auth auth_of(const std::string& text) { return text == "sasl" ? Auth::Sasl : Auth::None; }

Result<mode_t> permissions(const std::string& text) {
  u32 mode = 0;
  for (char digit : text) {
    if (digit < '0' || digit > '7' || mode > 0777)
      return config_unsupported(fmt::format("'{}' is no octal mode", text));
    mode = mode * 8 + static_cast<u32>(digit - '0');
  }
  return static_cast<mode_t>(mode);
}

Result<gid_t> group_id(const std::string& name) {
  group* entry = ::getgrnam(name.c_str());
  if (!entry) return config_unsupported(fmt::format("unix_sock_group: there is no group '{}'", name));
  return entry->gr_gid;
}

/// Nobody but root reaches the socket before its group and mode are set.
Result<Fd> listen_local(const std::string& path, const std::string& perms, const std::string& group) {
  mode_t mode = TRY(permissions(perms));
  mode_t before = ::umask(0177);
  auto socket = listen_unix(path);
  ::umask(before);
  if (!socket) return std::move(socket).error();
  if (!group.empty() && ::chown(path.c_str(), static_cast<uid_t>(-1), TRY(group_id(group))) < 0)
    return atl::Error(os_error("chown " + path));
  if (::chmod(path.c_str(), mode) < 0) return atl::Error(os_error("chmod " + path));
  return *std::move(socket);
}

Status open_pair(rpc::Server& server, const Config& config, const std::string& dir) {
  server.listen(TRY(listen_local(dir + "/libvirt-sock", config.rw_perms, config.socket_group)),
                {false, auth_of(config.auth_rw), {}});
  server.listen(TRY(listen_local(dir + "/libvirt-sock-ro", config.ro_perms, "")), {true, auth_of(config.auth_ro), {}});
  return {};
}

Result<rpc::ListenOptions> tls_options(const Config& config) {
  TlsOptions options;
  options.dir = config.tls_dir;
  options.priority = config.tls_priority;
  options.server = true;
  options.verify_peer = config.tls_verify_client;
  rpc::ListenOptions listen{.auth = auth_of(config.auth_tls)};
  listen.tls = TRY(TlsCredentials::load(options));
  listen.tls_names = config.tls_names;
  return listen;
}

/// What an activated socket is for, by its address.
Result<rpc::ListenOptions> options_of(int fd, const Config& config) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0)
    return atl::Error(os_error("activated socket"));
  if (address.ss_family == AF_UNIX) {
    std::string path = reinterpret_cast<sockaddr_un*>(&address)->sun_path;
    bool read_only = path.ends_with("-ro");
    return rpc::ListenOptions{read_only, auth_of(read_only ? config.auth_ro : config.auth_rw), {}};
  }
  u16 port = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                                 : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  if (fmt::format("{}", port) == config.tls_port) return tls_options(config);
  return rpc::ListenOptions{false, auth_of(config.auth_tcp), {}};
}

}  // namespace

unsigned take_activation_fds() {
  const char* pid = ::getenv("LISTEN_PID");
  const char* fds = ::getenv("LISTEN_FDS");
  const u64 for_whom = parse_u64(pid ? pid : "").value_or(0);
  const u64 count = parse_u64(fds ? fds : "").value_or(0);
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  constexpr u64 kMostSockets = 64;
  if (for_whom != static_cast<u64>(::getpid()) || count > kMostSockets) return 0;
  return static_cast<unsigned>(count);
}

Status open_sockets(rpc::Server& server, const Config& config, unsigned activated) {
  for (unsigned i = 0; i < activated; ++i) {
    Fd fd(kFirstActivated + static_cast<int>(i));
    ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
    ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    auto options = TRY(options_of(fd.get(), config));
    server.listen(std::move(fd), options);
  }
  if (activated == 0) TRY(open_pair(server, config, config.socket_dir.empty() ? config.paths.run : config.socket_dir));
  if (activated == 0 && config.libvirt_sockets) {
    ::mkdir("/run/libvirt", 0755);
    TRY(open_pair(server, config, "/run/libvirt"));
  }
  if (config.listen_tcp)
    server.listen(TRY(listen_tcp(config.listen_addr, config.tcp_port)), {false, auth_of(config.auth_tcp), {}});
  if (config.listen_tls) {
    auto options = TRY(tls_options(config));
    server.listen(TRY(listen_tcp(config.listen_addr, config.tls_port)), options);
  }
  return {};
}

}  // namespace atl::manage
