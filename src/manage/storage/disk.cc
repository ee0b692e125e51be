#include "manage/storage/disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/strings.h"
#include "manage/tool/run_tool.h"

namespace atl::manage {
namespace {

// Partitions begin and end at multiples of this, as all tools do it today.
constexpr u64 kAlignment = kMiB;

Error storage_error(Code code, std::string text) { return {code, std::move(text), Part::Storage}; }

/// "1048576B"
std::optional<u64> bytes_of(std::string_view text) {
  if (!text.ends_with('B')) return {};
  text.remove_suffix(1);
  return parse_u64(text);
}

Result<DiskTable> read_table(const PoolDefinition& pool) {
  const std::string& disk = pool.devices.front();
  return parse_disk_table(
      TRY(run_tool_checked({.words = {"parted", "-m", "-s", disk, "unit", "B", "print", "free"}, .input = {}})));
}

/// "/dev/sda1", "/dev/loop0p1".
std::string node_of(const std::string& disk, unsigned number) {
  bool ends_in_digit = std::isdigit(static_cast<unsigned char>(disk.back()));
  return fmt::format("{}{}{}", disk, ends_in_digit ? "p" : "", number);
}

}  // namespace

Result<DiskTable> parse_disk_table(std::string_view text) {
  DiskTable table;
  bool seen_disk = false;
  for (std::string_view line : split(text, '\n')) {
    auto fields = split(trim(line), ':');
    if (fields.size() < 4) continue;
    if (!seen_disk) {
      auto size = bytes_of(fields[1]);
      if (!size) break;
      table.bytes = *size;
      seen_disk = true;
      continue;
    }
    auto number = parse_u64(fields[0]);
    auto begin = bytes_of(fields[1]), last = bytes_of(fields[2]);
    if (!number || *number > 1024 || !begin || !last || *last < *begin || *last >= table.bytes) continue;
    bool is_free = fields[4 < fields.size() ? 4 : 3].starts_with("free");
    table.extents.push_back({*begin, *last + 1, is_free ? 0 : static_cast<unsigned>(*number)});
  }
  if (!seen_disk) return storage_error(Code::InternalError, "cannot make sense of what parted says");
  return table;
}

Status label_disk(const PoolDefinition& pool, bool overwrite) {
  const std::string& disk = pool.devices.front();
  if (!overwrite) {
    ToolResult probe = TRY(run_tool({.words = {"blkid", "-p", disk}, .input = {}}));
    if (probe.exit_status == 0)
      return storage_error(Code::OperationInvalid, fmt::format("Device '{}' already formatted or partitioned", disk));
  }
  TRY(run_tool_checked(
      {.words = {"parted", "-s", disk, "mklabel", pool.format == "gpt" ? "gpt" : "msdos"}, .input = {}}));
  return {};
}

Result<PlaceSizes> measure_disk(const PoolDefinition& pool) {
  DiskTable table = TRY(read_table(pool));
  PlaceSizes sizes;
  sizes.capacity_bytes = table.bytes;
  for (const DiskExtent& extent : table.extents)
    (extent.number ? sizes.allocation_bytes : sizes.available_bytes) += extent.bytes();
  (void)::stat(pool.path.c_str(), &sizes.status);
  return sizes;
}

Result<std::vector<Volume>> scan_disk(const PoolDefinition& pool) {
  std::vector<Volume> volumes;
  DiskTable table = TRY(read_table(pool));
  for (const DiskExtent& extent : table.extents) {
    if (!extent.number) continue;
    Volume volume;
    volume.path = node_of(pool.devices.front(), extent.number);
    volume.name = volume.path.substr(volume.path.rfind('/') + 1);
    volume.type = VolumeType::Block;
    volume.format = "none";
    volume.capacity_bytes = volume.allocation_bytes = volume.physical_bytes = extent.bytes();
    (void)::stat(volume.path.c_str(), &volume.status);
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

Status add_partition(const PoolDefinition& pool, u64 bytes) {
  const u64 wanted = (std::max<u64>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  DiskTable table = TRY(read_table(pool));
  for (const DiskExtent& extent : table.extents) {
    const u64 begin = (std::max(extent.begin, kAlignment) + kAlignment - 1) / kAlignment * kAlignment;
    if (extent.number || begin >= extent.end || extent.end - begin < wanted) continue;
    TRY(run_tool_checked({.words = {"parted", "-s", pool.devices.front(), "unit", "B", "mkpart", "primary",
                                    fmt::format("{}B", begin), fmt::format("{}B", begin + wanted - 1)},
                          .input = {}}));
    return {};
  }
  return storage_error(Code::InternalError, "no large enough free extent");
}

Status delete_partition(const PoolDefinition& pool, const std::string& volume) {
  DiskTable table = TRY(read_table(pool));
  for (const DiskExtent& extent : table.extents) {
    const std::string node = node_of(pool.devices.front(), extent.number);
    if (!extent.number || node.substr(node.rfind('/') + 1) != volume) continue;
    TRY(run_tool_checked(
        {.words = {"parted", "-s", pool.devices.front(), "rm", std::to_string(extent.number)}, .input = {}}));
    return {};
  }
  return no_storage_vol(volume);
}

}  // namespace atl::manage
