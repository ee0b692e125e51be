// Driver "nfs": a file on an NFS server, through libnfs, without mounting.
//
// Supported: NFS version 3; server.host, path, user, group, creation, resizing. Missing: tcp-syn-count, readahead-size,
// page-cache-size, debug.
#include <fcntl.h>
#include <fmt/format.h>

#include "block/driver.h"
#include "block/protocol/late_library.h"
#include "block/protocol/missing.h"
#include "block/protocol/remote_node.h"

#ifdef ATOLL_HAVE_NFS
extern "C" {
#include <nfsc/libnfs.h>
}
#include <sys/stat.h>

namespace atl::block {
namespace {

struct NfsOptions {
  std::string host, folder, file;
  int uid = -1, gid = -1;
  bool readonly = false, create = false;
};

class NfsConnection final : public RemoteConnection {
 public:
  static Result<std::unique_ptr<RemoteConnection>> create(const NfsOptions& options);
  ~NfsConnection() override {
    if (file_) nfs_close(nfs_, file_);
    if (nfs_) nfs_destroy_context(nfs_);
  }
  Result<u64> size_bytes() override;
  Status read(u64 offset, std::span<u8> out) override;
  Status write(u64 offset, std::span<const u8> data) override;
  Status flush() override { return check(nfs_fsync(nfs_, file_), "flush"); }
  Status resize(u64 size_bytes) override { return check(nfs_ftruncate(nfs_, file_, size_bytes), "resize"); }

 private:
  Status check(int result, std::string_view what) const;

  nfs_context* nfs_ = nullptr;
  nfsfh* file_ = nullptr;
};

Status NfsConnection::check(int result, std::string_view what) const {
  if (result >= 0) return {};
  return Error(-result == ENOENT ? ErrorKind::NotFound : ErrorKind::Io, fmt::format("nfs: {}: {}", what, nfs_get_error(nfs_)), -result);
}

Result<std::unique_ptr<RemoteConnection>> NfsConnection::create(const NfsOptions& o) {
  auto connection = std::make_unique<NfsConnection>();
  NfsConnection& c = *connection;
  c.nfs_ = nfs_init_context();
  if (!c.nfs_) return Error(ErrorKind::NoSpace, "Failed to init NFS context", ENOMEM);
  if (o.uid >= 0) nfs_set_uid(c.nfs_, o.uid);
  if (o.gid >= 0) nfs_set_gid(c.nfs_, o.gid);
  nfs_set_timeout(c.nfs_, 30'000);
  TRY(c.check(nfs_mount(c.nfs_, o.host.c_str(), o.folder.c_str()), "Failed to mount nfs share"));
  if (o.create)
    TRY(c.check(nfs_creat(c.nfs_, o.file.c_str(), 0644, &c.file_), "Failed to create file"));
  else
    TRY(c.check(nfs_open(c.nfs_, o.file.c_str(), o.readonly ? O_RDONLY : O_RDWR, &c.file_), "Failed to open file"));
  return std::unique_ptr<RemoteConnection>(std::move(connection));
}

Result<u64> NfsConnection::size_bytes() {
  nfs_stat_64 info{};
  TRY(check(nfs_fstat64(nfs_, file_, &info), "Failed to fstat file"));
  return info.nfs_size;
}

Status NfsConnection::read(u64 offset, std::span<u8> out) {
  for (u64 done = 0; done < out.size();) {
    int n = nfs_pread(nfs_, file_, offset + done, std::min<u64>(out.size() - done, kMiB), out.data() + done);
    TRY(check(n, fmt::format("read {} bytes at {}", out.size(), offset)));
    if (n == 0) {
      std::fill(out.begin() + static_cast<long>(done), out.end(), u8{0});
      return {};
    }
    done += static_cast<u64>(n);
  }
  return {};
}

Status NfsConnection::write(u64 offset, std::span<const u8> data) {
  for (u64 done = 0; done < data.size();) {
    int n = nfs_pwrite(nfs_, file_, offset + done, std::min<u64>(data.size() - done, kMiB), data.data() + done);
    TRY(check(n ? n : -EIO, fmt::format("write {} bytes at {}", data.size(), offset)));
    done += static_cast<u64>(n);
  }
  return {};
}

/// -1, for the process's own, where none is given.
Result<int> read_identity(OptionReader& reader, const char* key) {
  constexpr u64 kOwn = ~u64{0}, kMost = 0x7fff'ffff;
  const u64 id = TRY(reader.number(key, kOwn));
  if (id == kOwn) return -1;
  if (id > kMost) return Error(ErrorKind::Invalid, fmt::format("nfs: {} {} is out of range", key, id), EINVAL);
  return static_cast<int>(id);
}

Result<NfsOptions> read_nfs_options(OptionReader& reader) {
  NfsOptions o;
  o.host = TRY(reader.required_string("server.host"));
  std::string type = TRY(reader.string("server.type", "inet"));
  if (type != "inet") return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", type), EINVAL);
  std::string path = TRY(reader.required_string("path"));
  size_t slash = path.rfind('/');
  if (slash == path.npos) return Error(ErrorKind::Invalid, "Invalid URL specified", EINVAL);
  o.folder = slash ? path.substr(0, slash) : "/";
  o.file = path.substr(slash);
  o.uid = TRY(read_identity(reader, "user"));
  o.gid = TRY(read_identity(reader, "group"));
  TRY(reader.finish());
  return o;
}

Task<Result<NodePtr>> open_nfs(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  CO_TRY(load_library(LateLibrary::Nfs));
  OptionReader reader(std::move(tree), "nfs");
  NfsOptions options = CO_TRY(read_nfs_options(reader));
  options.readonly = mode.readonly;
  RemoteOptions remote;
  remote.node_name = std::move(node_name);
  remote.driver = "nfs";
  remote.filename = fmt::format("nfs://{}{}{}", options.host, options.folder == "/" ? "" : options.folder, options.file);
  remote.readonly = mode.readonly;
  Connect connect = [options] { return NfsConnection::create(options); };
  co_return co_await open_remote_node(graph.loop(), std::move(remote), std::move(connect));
}

/// nfs://host/path/file[?uid=N&gid=N]
Result<Json> parse_nfs_name(std::string_view name) {
  constexpr std::string_view kScheme = "nfs://";
  std::string_view rest = name.starts_with(kScheme) ? name.substr(kScheme.size()) : "";
  size_t slash = rest.find('/');
  if (slash == rest.npos || slash == 0) return Error(ErrorKind::Invalid, "Invalid URI specified", EINVAL);
  Json tree = {{"driver", "nfs"}, {"server", {{"type", "inet"}, {"host", std::string(rest.substr(0, slash))}}}};
  std::string_view path = rest.substr(slash);
  size_t query = path.find('?');
  if (query != path.npos) {
    for (std::string_view parameters = path.substr(query + 1); !parameters.empty();) {
      std::string_view one = parameters.substr(0, parameters.find('&'));
      parameters.remove_prefix(std::min(one.size() + 1, parameters.size()));
      if (one.starts_with("uid=")) tree["user"] = std::string(one.substr(4));
      else if (one.starts_with("gid=")) tree["group"] = std::string(one.substr(4));
      else return Error(ErrorKind::Invalid, fmt::format("Unknown NFS parameter name: {}", one), EINVAL);
    }
    path = path.substr(0, query);
  }
  tree["path"] = std::string(path);
  return tree;
}

Task<Status> create_nfs(Graph& graph, NodePtr, std::string filename, Json create_options) {
  CO_TRY(load_library(LateLibrary::Nfs));
  OptionReader sizes(std::move(create_options), "nfs");
  u64 size = CO_TRY(sizes.size("size", 0));
  Json tree = CO_TRY(parse_nfs_name(filename));
  tree.erase("driver");
  OptionReader reader(std::move(tree), "nfs");
  NfsOptions options = CO_TRY(read_nfs_options(reader));
  options.create = true;
  std::function<Status()> work = [&]() -> Status {
    auto connection = TRY(NfsConnection::create(options));
    return connection->resize(size);
  };
  co_return co_await run_blocking(graph.loop(), std::move(work));
}

}  // namespace

extern const Driver kNfsDriver;
const Driver kNfsDriver = {.name = "nfs",
                           .protocol = true,
                           .parse_name = parse_nfs_name,
                           .schemes = {"nfs"},
                           .open = open_nfs,
                           .create = create_nfs,
                           .create_options = {{"size", CreateOption::Size, "Virtual disk size"}}};

}  // namespace atl::block

#else

namespace atl::block {
extern const Driver kNfsDriver;
const Driver kNfsDriver = missing_driver<"nfs", "this build has no libnfs">();
}  // namespace atl::block

#endif
