// Driver "ssh": a file on another host, over SFTP through libssh.
//
// Supported: server.host, server.port, path, user, host-key-check (none, hash with md5, sha1 or sha256, known_hosts); keys
// from the agent and ~/.ssh, public key authentication only. Creation and resizing.
#include <fcntl.h>
#include <fmt/format.h>

#include "block/driver.h"
#include "block/protocol/late_library.h"
#include "block/protocol/missing.h"
#include "block/protocol/remote_node.h"

#ifdef ATOLL_HAVE_SSH
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <sys/stat.h>

namespace atl::block {
namespace {

constexpr long kTimeoutSeconds = 30;
constexpr u64 kMaxTransfer = 32 * kKiB;   // what every SFTP server takes in one request

struct SshOptions {
  std::string host, user, path;
  u32 port = 22;
  std::string check_mode = "known_hosts", check_type, check_hash;
  bool readonly = false, create = false;
};

struct SshDeleter {
  void operator()(ssh_session session) const {
    ssh_disconnect(session);
    ssh_free(session);
  }
  void operator()(sftp_session session) const { sftp_free(session); }
  void operator()(sftp_file file) const { sftp_close(file); }
};

class SshConnection final : public RemoteConnection {
 public:
  static Result<std::unique_ptr<RemoteConnection>> create(const SshOptions& options);
  Result<u64> size_bytes() override;
  Status read(u64 offset, std::span<u8> out) override;
  Status write(u64 offset, std::span<const u8> data) override;
  Status flush() override;
  Status resize(u64 size_bytes) override;

 private:
  Status connect(const SshOptions& options);
  Status check_host(const SshOptions& options);
  Status check_fingerprint(const SshOptions& options);
  Status open_file(const SshOptions& options);
  Error failed(std::string_view what) const;

  std::unique_ptr<ssh_session_struct, SshDeleter> session_;
  std::unique_ptr<sftp_session_struct, SshDeleter> sftp_;
  std::unique_ptr<sftp_file_struct, SshDeleter> file_;
  std::string path_;
};

Error SshConnection::failed(std::string_view what) const {
  int code = sftp_ ? sftp_get_error(sftp_.get()) : 0;
  int err = code == SSH_FX_NO_SUCH_FILE ? ENOENT : code == SSH_FX_PERMISSION_DENIED ? EACCES : EIO;
  return Error(err == ENOENT ? ErrorKind::NotFound : err == EACCES ? ErrorKind::Permission : ErrorKind::Io,
               fmt::format("ssh: {}: {} (libssh error code {}, sftp error code {})", what, ssh_get_error(session_.get()),
                           ssh_get_error_code(session_.get()), code), err);
}

Status SshConnection::check_fingerprint(const SshOptions& options) {
  ssh_key key = nullptr;
  if (ssh_get_server_publickey(session_.get(), &key) != SSH_OK) return failed("failed to read the server's key");
  const auto type = options.check_type == "md5"    ? SSH_PUBLICKEY_HASH_MD5
                    : options.check_type == "sha1" ? SSH_PUBLICKEY_HASH_SHA1
                                                   : SSH_PUBLICKEY_HASH_SHA256;
  unsigned char* hash = nullptr;
  size_t size = 0;
  int result = ssh_get_publickey_hash(key, type, &hash, &size);
  ssh_key_free(key);
  if (result != 0) return failed("failed to hash the server's key");
  std::string got, wanted;
  for (size_t i = 0; i < size; ++i) got += fmt::format("{:02x}", hash[i]);
  ssh_clean_pubkey_hash(&hash);
  for (char c : options.check_hash)
    if (c != ':') wanted += static_cast<char>(tolower(static_cast<unsigned char>(c)));
  if (got == wanted) return {};
  return Error(ErrorKind::Permission, fmt::format("ssh: remote host key fingerprint '{}:{}' does not match host_key_check", options.check_type, got), EPERM);
}

Status SshConnection::check_host(const SshOptions& options) {
  if (options.check_mode == "none") return {};
  if (options.check_mode == "hash") return check_fingerprint(options);
  auto state = ssh_session_is_known_server(session_.get());
  if (state == SSH_KNOWN_HOSTS_OK) return {};
  const char* why = state == SSH_KNOWN_HOSTS_CHANGED   ? "the host key has changed"
                    : state == SSH_KNOWN_HOSTS_OTHER   ? "the host key has another type than the known one"
                    : state == SSH_KNOWN_HOSTS_UNKNOWN ? "no host key was found in known_hosts"
                                                       : "known_hosts was not found";
  return Error(ErrorKind::Permission, fmt::format("ssh: {}", why), EPERM);
}

Status SshConnection::connect(const SshOptions& options) {
  session_.reset(ssh_new());
  if (!session_) return Error(ErrorKind::NoSpace, "ssh: cannot start", ENOMEM);
  long timeout = kTimeoutSeconds;
  unsigned port = options.port;
  ssh_options_set(session_.get(), SSH_OPTIONS_HOST, options.host.c_str());
  ssh_options_set(session_.get(), SSH_OPTIONS_PORT, &port);
  ssh_options_set(session_.get(), SSH_OPTIONS_TIMEOUT, &timeout);
  int nodelay = 1;  // requests are answered one by one: each would wait for the other side's delayed acknowledgement
  ssh_options_set(session_.get(), SSH_OPTIONS_NODELAY, &nodelay);
  if (!options.user.empty()) ssh_options_set(session_.get(), SSH_OPTIONS_USER, options.user.c_str());
  ssh_options_parse_config(session_.get(), nullptr);
  if (ssh_connect(session_.get()) != SSH_OK) return failed("failed to connect");
  TRY(check_host(options));
  if (ssh_userauth_none(session_.get(), nullptr) != SSH_AUTH_SUCCESS &&
      ssh_userauth_publickey_auto(session_.get(), nullptr, nullptr) != SSH_AUTH_SUCCESS)
    return Error(ErrorKind::Permission, "ssh: failed to authenticate using publickey authentication and the identities held by your ssh-agent", EPERM);
  sftp_.reset(sftp_new(session_.get()));
  if (!sftp_ || sftp_init(sftp_.get()) != SSH_OK) return failed("failed to initialize sftp");
  return {};
}

Status SshConnection::open_file(const SshOptions& options) {
  path_ = options.path;
  int flags = options.readonly ? O_RDONLY : O_RDWR;
  if (options.create) flags |= O_CREAT | O_TRUNC;
  file_.reset(sftp_open(sftp_.get(), path_.c_str(), flags, 0644));
  if (!file_) return failed(fmt::format("failed to open remote file '{}'", path_));
  return {};
}

Result<std::unique_ptr<RemoteConnection>> SshConnection::create(const SshOptions& options) {
  auto connection = std::make_unique<SshConnection>();
  TRY(connection->connect(options));
  TRY(connection->open_file(options));
  return std::unique_ptr<RemoteConnection>(std::move(connection));
}

Result<u64> SshConnection::size_bytes() {
  sftp_attributes attributes = sftp_fstat(file_.get());
  if (!attributes) return failed("failed to read file attributes");
  u64 size = attributes->size;
  sftp_attributes_free(attributes);
  return size;
}

Status SshConnection::read(u64 offset, std::span<u8> out) {
  if (sftp_seek64(file_.get(), offset) < 0) return failed("seek");
  for (u64 done = 0; done < out.size();) {
    ssize_t n = sftp_read(file_.get(), out.data() + done, std::min<u64>(out.size() - done, kMaxTransfer));
    if (n < 0) return failed(fmt::format("read {} bytes at {}", out.size(), offset));
    if (n == 0) {  // the file has become shorter
      std::fill(out.begin() + static_cast<long>(done), out.end(), u8{0});
      return {};
    }
    done += static_cast<u64>(n);
  }
  return {};
}

Status SshConnection::write(u64 offset, std::span<const u8> data) {
  if (sftp_seek64(file_.get(), offset) < 0) return failed("seek");
  for (u64 done = 0; done < data.size();) {
    ssize_t n = sftp_write(file_.get(), data.data() + done, std::min<u64>(data.size() - done, kMaxTransfer));
    if (n <= 0) return failed(fmt::format("write {} bytes at {}", data.size(), offset));
    done += static_cast<u64>(n);
  }
  return {};
}

Status SshConnection::flush() {
  if (!sftp_extension_supported(sftp_.get(), "fsync@openssh.com", "1")) return {};
  if (sftp_fsync(file_.get()) != 0) return failed("flush");
  return {};
}

Status SshConnection::resize(u64 size_bytes) {
  sftp_attributes_struct attributes{};
  attributes.flags = SSH_FILEXFER_ATTR_SIZE;
  attributes.size = size_bytes;
  if (sftp_setstat(sftp_.get(), path_.c_str(), &attributes) != 0) return failed("resize");
  return {};
}

// --- options ---

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Status read_check(OptionReader& reader, SshOptions& options) {
  std::string old = TRY(reader.string("host_key_check", {}));   // "no", "yes", "md5:xx:xx"
  options.check_mode = TRY(reader.string("host-key-check.mode", "known_hosts"));
  options.check_type = TRY(reader.string("host-key-check.type", {}));
  options.check_hash = TRY(reader.string("host-key-check.hash", {}));
  if (old == "no") options.check_mode = "none";
  if (old.starts_with("md5:") || old.starts_with("sha1:") || old.starts_with("sha256:")) {
    size_t colon = old.find(':');
    options.check_mode = "hash";
    options.check_type = old.substr(0, colon);
    options.check_hash = old.substr(colon + 1);
  } else if (!old.empty() && old != "no" && old != "yes") {
    return invalid(fmt::format("unknown host_key_check setting ({})", old));
  }
  if (options.check_mode != "none" && options.check_mode != "hash" && options.check_mode != "known_hosts")
    return invalid(fmt::format("Invalid parameter '{}'", options.check_mode));
  if (options.check_mode == "hash" && options.check_type != "md5" && options.check_type != "sha1" && options.check_type != "sha256")
    return invalid(fmt::format("Invalid parameter '{}'", options.check_type));
  return {};
}

Result<SshOptions> read_ssh_options(OptionReader& reader) {
  SshOptions options;
  options.host = TRY(reader.string("server.host", {}));
  if (options.host.empty()) options.host = TRY(reader.required_string("host"));
  u64 port = TRY(reader.number("server.port", 0));
  if (!port) port = TRY(reader.number("port", 22));
  if (port < 1 || port > 65535) return invalid(fmt::format("ssh: port {} is out of range", port));
  options.port = static_cast<u32>(port);
  options.path = TRY(reader.required_string("path"));
  options.user = TRY(reader.string("user", {}));
  TRY(read_check(reader, options));
  TRY(reader.finish());
  return options;
}

std::string name_of(const SshOptions& o) {
  return fmt::format("ssh://{}{}{}:{}{}", o.user, o.user.empty() ? "" : "@", o.host, o.port, o.path);
}

Task<Result<NodePtr>> open_ssh(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  CO_TRY(load_library(LateLibrary::Ssh));
  OptionReader reader(std::move(tree), "ssh");
  SshOptions options = CO_TRY(read_ssh_options(reader));
  options.readonly = mode.readonly;
  RemoteOptions remote;
  remote.node_name = std::move(node_name);
  remote.driver = "ssh";
  remote.filename = name_of(options);
  remote.readonly = mode.readonly;
  Connect connect = [options] { return SshConnection::create(options); };
  co_return co_await open_remote_node(graph.loop(), std::move(remote), std::move(connect));
}

/// ssh://[user@]host[:port]/path[?host_key_check=no]
Result<Json> parse_ssh_name(std::string_view name) {
  if (!name.starts_with("ssh://")) return invalid("URI scheme must be 'ssh'");
  std::string_view rest = name.substr(6);
  Json tree = {{"driver", "ssh"}};
  size_t slash = rest.find('/');
  if (slash == rest.npos || slash == 0) return invalid("missing host or remote path in URI");
  std::string_view host = rest.substr(0, slash), path = rest.substr(slash);
  if (size_t at = host.rfind('@'); at != host.npos) {
    tree["user"] = std::string(host.substr(0, at));
    host.remove_prefix(at + 1);
  }
  size_t colon = host.rfind(':');
  if (colon != host.npos && host.find(']', colon) == host.npos) {
    tree["port"] = std::string(host.substr(colon + 1));
    host = host.substr(0, colon);
  }
  if (size_t query = path.find('?'); query != path.npos) {
    constexpr std::string_view kCheck = "host_key_check=";
    std::string_view parameter = path.substr(query + 1);
    if (!parameter.starts_with(kCheck)) return invalid(fmt::format("ssh: parameter '{}' is not supported", parameter));
    tree["host_key_check"] = std::string(parameter.substr(kCheck.size()));
    path = path.substr(0, query);
  }
  tree["host"] = std::string(host);
  tree["path"] = std::string(path);
  return tree;
}

Task<Status> create_ssh(Graph& graph, NodePtr, std::string filename, Json create_options) {
  CO_TRY(load_library(LateLibrary::Ssh));
  OptionReader sizes(std::move(create_options), "ssh");
  u64 size = CO_TRY(sizes.size("size", 0));
  Json tree = CO_TRY(parse_ssh_name(filename));
  tree.erase("driver");
  OptionReader reader(std::move(tree), "ssh");
  SshOptions options = CO_TRY(read_ssh_options(reader));
  options.create = true;
  std::function<Status()> work = [&]() -> Status {
    auto connection = TRY(SshConnection::create(options));
    return connection->resize(size);
  };
  co_return co_await run_blocking(graph.loop(), std::move(work));
}

}  // namespace

extern const Driver kSshDriver;
const Driver kSshDriver = {.name = "ssh",
                           .protocol = true,
                           .parse_name = parse_ssh_name,
                           .schemes = {"ssh"},
                           .open = open_ssh,
                           .create = create_ssh,
                           .create_options = {{"size", CreateOption::Size, "Virtual disk size"}}};

}  // namespace atl::block

#else

namespace atl::block {
extern const Driver kSshDriver;
const Driver kSshDriver = missing_driver<"ssh", "this build has no libssh">();
}  // namespace atl::block

#endif
