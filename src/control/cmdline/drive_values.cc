// Disks: -drive, -blockdev and blockdev-add, into trees of options as the block layer takes them.
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "block/driver.h"
#include "block/secret.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
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
    drive.mode.cache_direct = mode.direct;
    drive.mode.cache_no_flush = mode.no_flush;
    return {};
  }
  return invalid(fmt::format("invalid cache option '{}'", name));
}

Status read_cache(KeyValues& values, DriveConfig& drive) {
  if (auto mode = values.take("cache")) TRY(apply_cache_mode(*mode, drive));
  drive.write_through = !TRY(values.take_bool("cache.writeback", !drive.write_through));
  drive.mode.cache_direct = TRY(values.take_bool("cache.direct", drive.mode.cache_direct));
  drive.mode.cache_no_flush = TRY(values.take_bool("cache.no-flush", drive.mode.cache_no_flush));
  return {};
}

Status read_mode(KeyValues& values, block::OpenMode& mode) {
  constexpr std::array<std::string_view, 3> kAio = {"io_uring", "threads", "native"};
  constexpr std::array<std::string_view, 4> kDiscard = {"ignore", "unmap", "off", "on"};
  mode.aio = static_cast<block::AioMode>(TRY(values.take_choice("aio", kAio, static_cast<size_t>(mode.aio))));
  mode.discard = TRY(values.take_choice("discard", kDiscard, 0)) % 2 == 1;
  mode.readonly = TRY(values.take_bool("readonly", false));
  mode.readonly = TRY(values.take_bool("read-only", mode.readonly));
  mode.auto_readonly = TRY(values.take_bool("auto-read-only", false));
  return {};
}

Result<ErrorPolicy> take_policy(KeyValues& values, std::string_view key, ErrorPolicy fallback) {
  constexpr std::array<std::string_view, 4> kNames = {"report", "ignore", "stop", "enospc"};
  size_t index = TRY(values.take_choice(key, kNames, static_cast<size_t>(fallback)));
  auto policy = static_cast<ErrorPolicy>(index);
  if (key == "rerror" && policy == ErrorPolicy::StopOnNoSpace) return invalid("'enospc' is not a valid rerror action");
  return policy;
}

/// "/dev/fdset/3" is the descriptor that -add-fd put into set 3.
Status resolve_fd_sets(Json& tree, const FdSets& fd_sets) {
  constexpr std::string_view kPrefix = "/dev/fdset/";
  if (!tree.is_object()) return {};
  for (auto& [key, value] : tree.items()) TRY(resolve_fd_sets(value, fd_sets));
  auto name = tree.find("filename");
  const auto* path = name == tree.end() ? nullptr : name->get_ptr<const std::string*>();
  if (!path || !path->starts_with(kPrefix)) return {};
  auto number = parse_u64(std::string_view(*path).substr(kPrefix.size()));
  auto at = number ? fd_sets.find(*number) : fd_sets.end();
  if (at == fd_sets.end()) return invalid(fmt::format("Could not open '{}': No such file or directory", *path));
  Json file = {{"driver", "file"}, {"filename", *path}, {"fd", at->second}};
  if (tree.contains("driver") && tree["driver"] == "file") {
    tree["fd"] = at->second;
    return {};
  }
  tree.erase("filename");
  tree["file"] = std::move(file);
  return {};
}

Json tree_from_values(const KeyValues& values) {
  Json tree = Json::object();
  for (const auto& entry : values.entries()) tree[entry.key] = entry.value;
  return tree;
}

Result<std::shared_ptr<const Json>> finish_tree(Json tree, const FdSets& fd_sets) {
  tree = TRY(block::nest_options(std::move(tree)));
  TRY(resolve_fd_sets(tree, fd_sets));
  return std::make_shared<const Json>(std::move(tree));
}

/// What names the disk: "file" is a file's name here, and "format" a driver.
Status read_what(KeyValues& values, Json& tree) {
  auto format = values.take("format");
  auto driver = values.take("driver");
  if (format && !driver) driver = format;
  if (driver && !block::find_driver(*driver)) return invalid(fmt::format("Unknown driver '{}'", *driver));
  if (driver) tree["driver"] = *driver;
  if (auto file = values.take("file")) {
    if (file->empty()) return invalid("The 'file' block driver requires a file name");
    tree["filename"] = *file;
  }
  KeyValues inner = values.take_prefix("file.");
  if (tree.contains("filename") && !inner.entries().empty()) {  // options of the protocol below: the name is that one's
    tree["file.filename"] = tree["filename"];
    tree.erase("filename");
  }
  for (const auto& entry : inner.entries()) tree["file." + entry.key] = entry.value;
  bool standalone = driver && block::find_driver(*driver)->protocol;
  const bool empty = !driver && values.entries().empty();
  if (!tree.contains("filename") && inner.empty() && !standalone && !empty) return invalid("Must specify either driver or file");
  return {};
}

// The order of block::ThrottleLimits::Index: as -drive spells them now, and as it did.
struct RateName {
  std::string_view name, old;
};
constexpr RateName kRates[] = {{"iops-total", "iops"}, {"iops-read", "iops_rd"}, {"iops-write", "iops_wr"},
                               {"bps-total", "bps"},   {"bps-read", "bps_rd"},   {"bps-write", "bps_wr"}};

Status read_rates(KeyValues& values, const std::string& prefix, bool old_names, block::ThrottleLimits& limits) {
  for (size_t i = 0; i < std::size(kRates); ++i) {
    block::RateBucket& bucket = limits.buckets[i];
    std::string name = prefix + std::string(kRates[i].name);
    if (old_names) bucket.average = TRY(values.take_u64(kRates[i].old, bucket.average));
    if (old_names) bucket.max = TRY(values.take_u64(fmt::format("{}_max", kRates[i].old), bucket.max));
    bucket.average = TRY(values.take_u64(name, bucket.average));
    bucket.max = TRY(values.take_u64(name + "-max", bucket.max));
    bucket.burst_seconds = TRY(values.take_u64(name + "-max-length", bucket.burst_seconds));
  }
  if (old_names) limits.iops_size = TRY(values.take_u64("iops_size", 0));
  limits.iops_size = TRY(values.take_u64(prefix + "iops-size", limits.iops_size));
  return {};
}

}  // namespace

Result<DriveConfig> drive_from_option(KeyValues values, const FdSets& fd_sets) {
  DriveConfig drive;
  drive.from_drive_option = true;
  drive.id = values.take("id").value_or("");
  if (!drive.id.empty()) TRY(check_id(drive.id));
  const std::string media = values.take("media").value_or("disk");
  if (media != "disk" && media != "cdrom") return invalid(fmt::format("'{}' invalid media", media));
  TRY(read_cache(values, drive));
  TRY(read_mode(values, drive.mode));
  TRY(read_rates(values, "throttling.", true, drive.throttle));
  drive.throttle_group = values.take("throttling.group").value_or("");
  TRY(drive.throttle.check());
  drive.read_error = TRY(take_policy(values, "rerror", ErrorPolicy::Report));
  drive.write_error = TRY(take_policy(values, "werror", ErrorPolicy::StopOnNoSpace));
  drive.serial = values.take("serial").value_or("");
  drive.snapshot = TRY(values.take_bool("snapshot", false));
  drive.copy_on_read = TRY(values.take_bool("copy-on-read", false));
  if (drive.copy_on_read && drive.mode.readonly) return invalid("Can't enable copy-on-read on read-only device");
  if (media == "cdrom") drive.mode.readonly = true;
  Json tree = Json::object();
  TRY(read_what(values, tree));
  if (tree.empty() && values.empty()) return drive;  // no medium
  tree.update(tree_from_values(values));
  drive.tree = TRY(finish_tree(std::move(tree), fd_sets));
  return drive;
}

Result<DriveConfig> drive_from_tree(Json tree, const FdSets& fd_sets) {
  DriveConfig drive;
  drive.tree = TRY(finish_tree(std::move(tree), fd_sets));
  auto text = [&](const char* key) {
    auto found = drive.tree->find(key);
    const auto* value = found == drive.tree->end() ? nullptr : found->get_ptr<const std::string*>();
    return value ? *value : std::string();
  };
  const std::string driver = text("driver");
  if (driver.empty()) return invalid("Parameter 'driver' is missing");
  if (!block::find_driver(driver)) return invalid(fmt::format("Parameter 'driver' does not accept value '{}'", driver));
  drive.id = text("node-name");
  if (drive.id.empty()) return invalid("'node-name' must be specified for the root node");
  if (!is_well_formed_id(drive.id) || drive.id.size() >= 32) return invalid("Invalid node-name: '" + drive.id + "'");
  return drive;
}

Result<DriveConfig> drive_from_blockdev(const KeyValues& values, const FdSets& fd_sets) {
  return drive_from_tree(tree_from_values(values), fd_sets);
}

Result<machine::ThrottleGroupConfig> throttle_group_from_values(KeyValues values) {
  machine::ThrottleGroupConfig group;
  values.take("qom-type");
  group.id = TRY(values.take_required("id"));
  TRY(check_id(group.id));
  TRY(read_rates(values, "limits.", false, group.limits));
  TRY(read_rates(values, "x-", false, group.limits));
  TRY(group.limits.check());
  if (!values.empty()) return invalid(fmt::format("Property 'throttle-group.{}' not found", values.entries()[0].key));
  return group;
}

Result<machine::SecretConfig> secret_from_values(KeyValues values) {
  machine::SecretConfig secret;
  values.take("qom-type");
  secret.id = TRY(values.take_required("id"));
  TRY(check_id(secret.id));
  secret.value = TRY(block::read_secret(std::move(values)).context("secret " + secret.id));
  return secret;
}

}  // namespace atl::control
