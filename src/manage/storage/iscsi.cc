#include "manage/storage/iscsi.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/fd.h"
#include "base/strings.h"
#include "manage/tool/run_tool.h"

namespace atl::manage {
namespace {

// iscsiadm(8), exit statuses: what is asked for is so already.
constexpr int kSessionExists = 15, kNoSession = 21;

Status iscsiadm(const PoolDefinition& pool, std::initializer_list<std::string> what, int also_fine) {
  std::vector<std::string> words = {
      "iscsiadm", "--mode", "node", "--portal", portal_of(pool.host), "--targetname", pool.devices.front()};
  words.insert(words.end(), what);
  ToolResult result = TRY(run_tool({.words = words, .input = {}}));
  if (result.exit_status == 0 || result.exit_status == also_fine) return {};
  return Error(Code::InternalError,
               fmt::format("iscsiadm of '{}' failed: {}", pool.devices.front(), trim(result.errors)), Part::Storage);
}

Result<Volume> read_unit(const std::string& path, u64 number) {
  Volume volume;
  volume.name = fmt::format("unit:0:0:{}", number);
  volume.path = path;
  volume.type = VolumeType::Block;
  Fd device = TRY(open_file(path, O_RDONLY | O_NONBLOCK));
  off_t end = ::lseek(device.get(), 0, SEEK_END);
  if (end < 0 || ::fstat(device.get(), &volume.status) < 0) return os_error("measure " + path);
  volume.capacity_bytes = volume.allocation_bytes = volume.physical_bytes = static_cast<u64>(end);
  return volume;
}

}  // namespace

std::string portal_of(const std::string& host) {
  constexpr std::string_view kPort = "3260";  // RFC 7143, section 13
  bool has_port = host.find(':') != std::string::npos && !host.ends_with(']');
  return has_port ? host : fmt::format("{}:{}", host, kPort);
}

Result<std::vector<std::string>> discover_targets(const std::string& portal) {
  std::string text = TRY(run_tool_checked(
      {.words = {"iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal", portal}, .input = {}}));
  std::vector<std::string> targets;
  for (std::string_view line : split(text, '\n')) {
    auto words = split(trim(line), ' ');  // "10.0.0.1:3260,1 iqn..."
    if (words.size() == 2 && std::ranges::find(targets, words[1]) == targets.end()) targets.emplace_back(words[1]);
  }
  return targets;
}

Status log_in(const PoolDefinition& pool) {
  TRY(discover_targets(portal_of(pool.host)));
  return iscsiadm(pool, {"--login"}, kSessionExists);
}

Status log_out(const PoolDefinition& pool) { return iscsiadm(pool, {"--logout"}, kNoSession); }

Status rescan(const PoolDefinition& pool) { return iscsiadm(pool, {"--rescan"}, 0); }

Result<std::vector<Volume>> scan_units(const PoolDefinition& pool) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(pool.path.c_str()), ::closedir);
  if (!folder)
    return Error(Code::SystemError, fmt::format("cannot open path '{}': {}", pool.path, std::strerror(errno)),
                 Part::Storage);
  const std::string mark = fmt::format("-iscsi-{}-lun-", pool.devices.front());
  std::vector<std::pair<u64, Volume>> found;
  while (const dirent* entry = ::readdir(folder.get())) {
    std::string_view name = entry->d_name;
    size_t at = name.find(mark);
    auto number = at == name.npos ? std::nullopt : parse_u64(name.substr(at + mark.size()));
    if (!number) continue;  // also "-lun-0-part1"
    if (auto volume = read_unit(fmt::format("{}/{}", pool.path, name), *number))
      found.emplace_back(*number, *std::move(volume));
  }
  std::ranges::sort(found, {}, [](const auto& entry) { return entry.first; });
  std::vector<Volume> volumes;
  for (auto& [number, volume] : found) volumes.push_back(std::move(volume));
  return volumes;
}

}  // namespace atl::manage
