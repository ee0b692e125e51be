// Drivers "file", "host_device" and "host_cdrom": files and devices of the host by name; their creation.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "block/driver.h"

namespace atl::block {
namespace {

Result<AioMode> parse_aio(const std::string& name, AioMode fallback) {
  if (name.empty()) return fallback;
  if (name == "threads") return AioMode::Threads;
  if (name == "native") return AioMode::Native;
  if (name == "io_uring") return AioMode::IoUring;
  return Error(ErrorKind::Invalid, fmt::format("Parameter 'aio' does not accept value '{}'", name));
}

/// "/dev/fdset/N" and descriptors: control resolves the sets and passes "fd".
Result<FileOptions> read_options(OptionReader& reader, const OpenMode& mode) {
  FileOptions options;
  u64 fd = TRY(reader.number("fd", ~u64{0}));
  if (fd != ~u64{0}) options.fd = static_cast<int>(fd);
  options.filename = fd != ~u64{0} ? TRY(reader.string("filename", {})) : TRY(reader.required_string("filename"));
  if (options.filename.starts_with("file:")) options.filename.erase(0, 5);
  std::string locking = TRY(reader.string("locking", "auto"));
  if (locking != "on" && locking != "off" && locking != "auto")
    return Error(ErrorKind::Invalid, fmt::format("Parameter 'locking' does not accept value '{}'", locking));
  options.locking = mode.locking && !mode.no_io && locking != "off";
  std::string aio = TRY(reader.string("aio", {}));
  options.aio = TRY(parse_aio(aio, mode.aio));
  if (options.aio == AioMode::Native && !mode.cache_direct)
    return Error(ErrorKind::Invalid, "aio=native was specified, but it requires cache.direct=on, which was not specified.");
  options.readonly = mode.readonly;
  options.auto_readonly = mode.auto_readonly;
  options.cache_direct = mode.cache_direct;
  options.cache_no_flush = mode.cache_no_flush;
  options.discard = mode.discard;
  return options;
}

enum class Kind : u8 { File, Device };

Status check_kind(const std::string& path, Kind kind) {
  struct stat info{};
  if (path.empty() || ::stat(path.c_str(), &info) < 0) return {};  // opening tells
  bool is_device = S_ISBLK(info.st_mode) || S_ISCHR(info.st_mode);
  if (kind == Kind::File && is_device)
    return Error(ErrorKind::Invalid, "'file' driver requires '" + path + "' to be a regular file");
  if (kind == Kind::Device && !is_device)
    return Error(ErrorKind::Invalid, "'host_device' driver requires '" + path + "' to be either a character or block device");
  return {};
}

Result<NodePtr> open_host(Graph& graph, Json options, const OpenMode& mode, const char* driver, std::string node_name) {
  OptionReader reader(std::move(options), driver);
  FileOptions file = TRY(read_options(reader, mode));
  TRY(reader.finish());
  TRY(check_kind(file.filename, std::string_view(driver) == "file" ? Kind::File : Kind::Device));
  file.node_name = std::move(node_name);
  file.driver = driver;
  return NodePtr(TRY(open_file_node(graph.loop(), file)));
}

Task<Result<NodePtr>> open_file_driver(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  co_return open_host(graph, std::move(options), mode, "file", std::move(node_name));
}
Task<Result<NodePtr>> open_host_device(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  co_return open_host(graph, std::move(options), mode, "host_device", std::move(node_name));
}
Task<Result<NodePtr>> open_host_cdrom(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  mode.readonly = mode.readonly || mode.auto_readonly;
  if (!mode.readonly) co_return Error(ErrorKind::Invalid, "host_cdrom can only be opened read-only");
  co_return open_host(graph, std::move(options), mode, "host_cdrom", std::move(node_name));
}

/// "file:image:1" is the file "image:1"; written as "./image:1" it cannot be taken for a protocol.
Result<Json> parse_file_name(std::string_view name) {
  name.remove_prefix(std::string_view("file:").size());
  return Json{{"driver", "file"}, {"filename", (has_protocol(name) ? "./" : "") + std::string(name)}};
}
Result<Json> parse_device_name(std::string_view name) {
  size_t colon = name.find(':');
  return Json{{"driver", std::string(name.substr(0, colon))}, {"filename", std::string(name.substr(colon + 1))}};
}

/// Btrfs copies nothing on write then; to be asked for while the file is empty. A file system that knows no such thing need not.
void turn_off_copy_on_write(const Fd& fd) {
  int flags = 0;
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) < 0) return;
  flags |= FS_NOCOW_FL;
  static_cast<void>(::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags));
}

Status create_empty(const std::string& path, bool nocow) {
  int fd;
  do fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return os_error("Could not create '" + path + "'");
  Fd owned(fd);
  if (nocow) turn_off_copy_on_write(owned);
  return {};
}

/// Locked before it is emptied, so that an image in use is not destroyed.
Task<Status> create_file(Graph& graph, NodePtr, std::string filename, Json options) {
  OptionReader reader(std::move(options), "file");
  u64 size = CO_TRY(reader.size("size", 0));
  std::string how_name = CO_TRY(reader.string("preallocation", "off"));
  Preallocation how = CO_TRY(parse_preallocation(how_name));
  bool nocow = CO_TRY(reader.boolean("nocow", false));
  CO_TRY(reader.string("extent_size_hint", {}));
  CO_TRY(reader.finish());
  if (filename.starts_with("file:")) filename.erase(0, 5);
  CO_TRY(create_empty(filename, nocow));
  FileOptions file;
  file.filename = filename;
  auto node = CO_TRY(open_file_node(graph.loop(), file));
  Status status = co_await node->resize(0, Preallocation::Off);
  if (status) status = co_await node->resize(size, how);
  co_return std::move(status).context("Could not resize file '" + filename + "'");
}

/// A device is there already: it must be large enough.
Task<Status> create_on_device(Graph& graph, NodePtr, std::string filename, Json options) {
  OptionReader reader(std::move(options), "host_device");
  u64 size = CO_TRY(reader.size("size", 0));
  FileOptions file;
  file.filename = filename;
  auto node = CO_TRY(open_file_node(graph.loop(), file));
  if (node->size_bytes() < size)
    co_return Error(ErrorKind::NoSpace, "The device '" + filename + "' is too small", ENOSPC);
  co_return Status{};
}

const std::vector<CreateOption> kFileCreate = {
    {"size", CreateOption::Size, "Virtual disk size"},
    {"nocow", CreateOption::Flag, "Turn off copy-on-write (valid only on btrfs)"},
    {"preallocation", CreateOption::Text, "Preallocation mode (allowed values: off, falloc, full)"},
    {"extent_size_hint", CreateOption::Size, "Extent size hint for the image file, 0 to disable"},
};

}  // namespace

extern const Driver kFileDriver, kHostDeviceDriver, kHostCdromDriver;
const Driver kFileDriver = {.name = "file",
                            .protocol = true,
                            .parse_name = parse_file_name,
                            .schemes = {"file"},
                            .open = open_file_driver,
                            .create = create_file,
                            .create_options = kFileCreate};
const Driver kHostDeviceDriver = {.name = "host_device",
                                  .protocol = true,
                                  .parse_name = parse_device_name,
                                  .schemes = {"host_device"},
                                  .open = open_host_device,
                                  .create = create_on_device,
                                  .create_options = {{"size", CreateOption::Size, "Virtual disk size"}}};
const Driver kHostCdromDriver = {.name = "host_cdrom",
                                 .protocol = true,
                                 .parse_name = parse_device_name,
                                 .schemes = {"host_cdrom"},
                                 .open = open_host_cdrom};

}  // namespace atl::block
