// Disks: -drive, -blockdev and blockdev-add.
#include <array>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>

#include "base/fd.h"
#include "base/strings.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

using machine::DriveConfig;
using machine::ErrorPolicy;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

struct CacheMode {
  std::string_view name;
  bool writeback, direct, no_flush;
};
// QEMU's manual, -drive cache=.
constexpr CacheMode kCacheModes[] = {
    {"writeback", true, false, false}, {"none", true, true, false}, {"off", true, true, false},
    {"writethrough", false, false, false}, {"directsync", false, true, false}, {"unsafe", true, false, true},
};

Status apply_cache_mode(std::string_view name, DriveConfig& drive) {
  for (const auto& mode : kCacheModes) {
    if (mode.name != name) continue;
    drive.write_through = !mode.writeback;
    drive.file.cache_direct = mode.direct;
    drive.file.cache_no_flush = mode.no_flush;
    return {};
  }
  return invalid(fmt::format("invalid cache option '{}'", name));
}

Status read_cache_switches(KeyValues& values, DriveConfig& drive) {
  drive.file.cache_direct = TRY(values.take_bool("cache.direct", drive.file.cache_direct));
  drive.file.cache_no_flush = TRY(values.take_bool("cache.no-flush", drive.file.cache_no_flush));
  return {};
}

Status read_aio(KeyValues& values, block::FileOptions& file) {
  constexpr std::array<std::string_view, 3> kNames = {"io_uring", "threads", "native"};
  size_t index = TRY(values.take_choice("aio", kNames, static_cast<size_t>(file.aio)));
  file.aio = static_cast<block::AioMode>(index);
  return {};
}

Status read_discard(KeyValues& values, block::FileOptions& file) {
  constexpr std::array<std::string_view, 4> kNames = {"ignore", "unmap", "off", "on"};
  file.discard = TRY(values.take_choice("discard", kNames, file.discard ? 1 : 0)) % 2 == 1;
  return {};
}

Status read_detect_zeroes(KeyValues& values, DriveConfig& drive) {
  constexpr std::array<std::string_view, 3> kNames = {"off", "on", "unmap"};
  size_t index = TRY(values.take_choice("detect-zeroes", kNames, static_cast<size_t>(drive.raw.detect_zeroes)));
  drive.raw.detect_zeroes = static_cast<block::DetectZeroes>(index);
  if (drive.raw.detect_zeroes == block::DetectZeroes::Unmap && !drive.file.discard)
    return invalid("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
  return {};
}

Status read_locking(KeyValues& values, block::FileOptions& file) {
  constexpr std::array<std::string_view, 3> kNames = {"auto", "on", "off"};
  file.locking = TRY(values.take_choice("locking", kNames, 0)) != 2;
  return {};
}

Status read_readonly(KeyValues& values, DriveConfig& drive) {
  bool readonly = TRY(values.take_bool("readonly", false));
  readonly = TRY(values.take_bool("read-only", readonly));
  drive.file.readonly = drive.raw.readonly = readonly;
  drive.file.auto_readonly = TRY(values.take_bool("auto-read-only", false));
  return {};
}

Status read_window(KeyValues& values, block::RawOptions& raw) {
  raw.offset = TRY(values.take_size("offset", 0));
  raw.size = TRY(values.take_size("size", 0));
  return {};
}

/// "/dev/fdset/3" is the descriptor that -add-fd put into set 3.
Status resolve_fd_set(const FdSets& fd_sets, block::FileOptions& file) {
  constexpr std::string_view kPrefix = "/dev/fdset/";
  if (!file.filename.starts_with(kPrefix)) return {};
  auto number = parse_u64(std::string_view(file.filename).substr(kPrefix.size()));
  auto at = number ? fd_sets.find(*number) : fd_sets.end();
  if (at == fd_sets.end()) return invalid(fmt::format("Could not open '{}': No such file or directory", file.filename));
  file.fd = at->second;
  return {};
}

Result<ErrorPolicy> take_policy(KeyValues& values, std::string_view key, ErrorPolicy fallback) {
  constexpr std::array<std::string_view, 4> kNames = {"report", "ignore", "stop", "enospc"};
  size_t index = TRY(values.take_choice(key, kNames, static_cast<size_t>(fallback)));
  auto policy = static_cast<ErrorPolicy>(index);
  if (key == "rerror" && policy == ErrorPolicy::StopOnNoSpace) return invalid("'enospc' is not a valid rerror action");
  return policy;
}

Status refuse_if_on(KeyValues& values, std::string_view key) {
  if (TRY(values.take_bool(key, false))) return invalid(fmt::format("'{}' is not supported", key));
  return {};
}

Status check_format(KeyValues& values) {
  std::string format = values.take("format").value_or("");
  std::string driver = values.take("driver").value_or(format);
  if (driver.empty() || driver == "raw" || driver == "file" || driver == "host_device") return {};
  return invalid(fmt::format("Unknown driver '{}'", driver));
}

struct Magic {
  std::string_view format, bytes;
};
constexpr Magic kMagics[] = {
    {"qcow2", {"QFI\xfb", 4}}, {"qed", {"QED\0", 4}}, {"vmdk", "KDMV"}, {"vmdk", "# Disk DescriptorFile"},
    {"vhdx", "vhdxfile"}, {"vpc", "conectix"}, {"luks", {"LUKS\xba\xbe", 6}}, {"parallels", "WithoutFreeSpace"},
};

/// Without format=, a file that looks like another format is refused: the guest would see its metadata as a disk. A guest
/// can write that, too, so a raw image that begins so only needs format=raw spelled out.
Status refuse_foreign_image(const block::FileOptions& file) {
  auto fd = open_file(file.filename, O_RDONLY | O_NONBLOCK);
  if (!fd) return {};  // opening the drive tells why
  char head[32] = {};
  ssize_t n = ::pread(fd->get(), head, sizeof head, 0);
  std::string_view start(head, n > 0 ? static_cast<size_t>(n) : 0);
  for (const auto& magic : kMagics) {
    if (start.starts_with(magic.bytes))
      return invalid(fmt::format("'{}' looks like a {} image, which is not supported; format=raw gives its bytes as they are",
                                 file.filename, magic.format));
  }
  return {};
}

/// The file's name from "file", "filename" or "file.filename", of a drive.
Status read_drive_file(KeyValues& values, const FdSets& fd_sets, DriveConfig& drive) {
  KeyValues inner = values.take_prefix("file.");
  std::string inner_driver = inner.take("driver").value_or("file");
  if (inner_driver != "file" && inner_driver != "host_device") return invalid(fmt::format("Unknown driver '{}'", inner_driver));
  auto name = inner.take("filename");
  if (auto file = values.take("file")) name = file;
  if (!name) return invalid("Must specify either driver or file");
  if (name->starts_with("file:")) name->erase(0, 5);
  if (name->empty()) return invalid("The 'file' block driver requires a file name");
  drive.file.filename = *name;
  TRY(read_locking(inner, drive.file));
  TRY(read_aio(inner, drive.file));
  TRY(inner.expect_empty());
  return resolve_fd_set(fd_sets, drive.file);
}

}  // namespace

Result<DriveConfig> drive_from_option(KeyValues values, const FdSets& fd_sets) {
  DriveConfig drive;
  drive.from_drive_option = true;
  drive.id = values.take("id").value_or("");
  if (!drive.id.empty()) TRY(check_id(drive.id));
  drive.raw.node_name = values.take("node-name").value_or("");
  bool format_given = values.has("format") || values.has("driver");
  TRY(check_format(values));
  TRY(read_drive_file(values, fd_sets, drive));
  if (!format_given && drive.file.fd < 0) TRY(refuse_foreign_image(drive.file));
  if (auto mode = values.take("cache")) TRY(apply_cache_mode(*mode, drive));
  drive.write_through = !TRY(values.take_bool("cache.writeback", !drive.write_through));
  TRY(read_cache_switches(values, drive));
  TRY(read_readonly(values, drive));
  TRY(read_aio(values, drive.file));
  TRY(read_discard(values, drive.file));
  TRY(read_detect_zeroes(values, drive));
  TRY(read_locking(values, drive.file));
  TRY(read_window(values, drive.raw));
  drive.read_error = TRY(take_policy(values, "rerror", ErrorPolicy::Report));
  drive.write_error = TRY(take_policy(values, "werror", ErrorPolicy::StopOnNoSpace));
  drive.serial = values.take("serial").value_or("");
  for (std::string_view key : {"snapshot", "copy-on-read", "force-share"}) TRY(refuse_if_on(values, key));
  if (values.take("media").value_or("disk") != "disk") return invalid("'media' supports 'disk' only");
  TRY(values.expect_empty());
  return drive;
}

namespace {

Status check_node_name(const std::string& name) {
  if (is_well_formed_id(name) && name.size() < 32) return {};
  return invalid("Invalid node-name: '" + name + "'");
}

/// What "file" and "host_device" nodes understand.
Status read_protocol(KeyValues values, const FdSets& fd_sets, DriveConfig& drive) {
  drive.file.filename = TRY(values.take_required("filename"));
  TRY(read_cache_switches(values, drive));
  drive.file.readonly = TRY(values.take_bool("read-only", false));
  drive.file.auto_readonly = TRY(values.take_bool("auto-read-only", false));
  TRY(read_aio(values, drive.file));
  TRY(read_discard(values, drive.file));
  TRY(read_locking(values, drive.file));
  TRY(refuse_if_on(values, "force-share"));
  TRY(values.expect_empty());
  return resolve_fd_set(fd_sets, drive.file);
}

bool is_protocol(std::string_view driver) { return driver == "file" || driver == "host_device"; }

/// The node below a raw node: inline, or one that was named before.
Status read_child(KeyValues& values, const FdSets& fd_sets, std::map<std::string, DriveConfig>& named, DriveConfig& drive) {
  KeyValues child = values.take_prefix("file.");
  if (auto name = values.take("file")) {
    auto at = named.find(*name);
    if (at == named.end()) return invalid(fmt::format("Cannot find device='{0}' nor node-name='{0}'", *name));
    drive.file = at->second.file;
    named.erase(at);
    return {};
  }
  std::string driver = TRY(child.take_required("driver").context("file"));
  if (!is_protocol(driver)) return invalid(fmt::format("Parameter 'driver' does not accept value '{}'", driver));
  drive.file.node_name = child.take("node-name").value_or("");
  return read_protocol(std::move(child), fd_sets, drive);
}

}  // namespace

Result<DriveConfig> drive_from_blockdev(KeyValues values, const FdSets& fd_sets, std::map<std::string, DriveConfig>& named) {
  DriveConfig drive;
  drive.write_error = ErrorPolicy::StopOnNoSpace;
  std::string driver = TRY(values.take_required("driver"));
  drive.id = values.take("node-name").value_or("");
  if (is_protocol(driver)) {
    drive.file.node_name = drive.id;
    TRY(read_protocol(std::move(values), fd_sets, drive));
  } else if (driver == "raw") {
    drive.raw.node_name = drive.id;
    TRY(read_child(values, fd_sets, named, drive));
    TRY(read_cache_switches(values, drive));
    drive.raw.readonly = TRY(values.take_bool("read-only", drive.file.readonly));
    drive.file.auto_readonly = TRY(values.take_bool("auto-read-only", drive.file.auto_readonly));
    TRY(read_discard(values, drive.file));
    TRY(read_detect_zeroes(values, drive));
    TRY(read_window(values, drive.raw));
    TRY(refuse_if_on(values, "force-share"));
    TRY(values.expect_empty());
  } else {
    return invalid(fmt::format("Parameter 'driver' does not accept value '{}'", driver));
  }
  if (drive.id.empty()) return invalid("'node-name' must be specified for the root node");
  TRY(check_node_name(drive.id));
  if (is_protocol(driver)) drive.raw.readonly = drive.file.readonly;
  return drive;
}

}  // namespace atl::control
