#include "manage/host/firmware_files.h"

#include <dirent.h>
#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "base/log.h"

namespace atl::manage::host {
namespace {

using Json = nlohmann::json;

constexpr u64 kLargestText = 1 << 20;
constexpr size_t kMostFiles = 1024;

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const Json& part_of(const Json& object, const char* key) {
  static const Json kNone;
  if (!object.is_object()) return kNone;
  auto found = object.find(key);
  return found == object.end() ? kNone : *found;
}

std::vector<std::string> texts_of(const Json& object, const char* key) {
  std::vector<std::string> texts;
  for (const Json& item : part_of(object, key))
    if (item.is_string()) texts.push_back(item.get<std::string>());
  return texts;
}

Result<std::string> raw_file(const Json& mapping, const char* key) {
  const Json& file = part_of(mapping, key);
  const std::string format = text_of(file, "format"), name = text_of(file, "filename");
  if (name.empty()) return operation_failed(fmt::format("'{}' has no 'filename'", key));
  if (format != "raw") return operation_failed(fmt::format("'{}' is of format '{}', not 'raw'", key, format));
  return name;
}

Status read_mapping(const Json& mapping, FirmwareFile& firmware) {
  const std::string device = text_of(mapping, "device");
  if (device == "memory") {
    firmware.code = text_of(mapping, "filename");
    return firmware.code.empty() ? Status(operation_failed("'mapping' has no 'filename'")) : Status();
  }
  if (device != "flash") return operation_failed(fmt::format("the device '{}' is unknown", device));
  firmware.flash = true;
  firmware.code = TRY(raw_file(mapping, "executable"));
  const std::string mode = text_of(mapping, "mode");
  firmware.stateless = mode == "stateless";
  if (mode == "combined") return operation_failed("code and variables in one file are not supported");
  if (!firmware.stateless) firmware.variables = TRY(raw_file(mapping, "nvram-template"));
  return {};
}

/// Names and paths; of two with the same name the later folder's.
std::map<std::string, std::string> files_in(std::span<const std::string> folders) {
  std::map<std::string, std::string> files;
  for (const std::string& path : folders) {
    std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
    while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
      const std::string name = entry->d_name;
      if (name.ends_with(".json") && !name.starts_with('.') && files.size() < kMostFiles) files[name] = path + "/" + name;
    }
  }
  return files;
}

}  // namespace

bool FirmwareFile::has(std::string_view feature) const { return std::ranges::find(features, feature) != features.end(); }
bool FirmwareFile::is(std::string_view interface) const { return std::ranges::find(interfaces, interface) != interfaces.end(); }

bool FirmwareFile::fits(std::string_view arch, std::string_view machine) const {
  const std::string name(machine);
  return std::ranges::any_of(targets, [&](const FirmwareTarget& target) {
    return target.arch == arch &&
           std::ranges::any_of(target.machines, [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
  });
}

Result<FirmwareFile> read_firmware_file(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return operation_failed("this is no JSON object");
  FirmwareFile firmware;
  firmware.interfaces = texts_of(json, "interface-types");
  firmware.features = texts_of(json, "features");
  for (const Json& target : part_of(json, "targets"))
    firmware.targets.push_back({text_of(target, "architecture"), texts_of(target, "machines")});
  TRY(read_mapping(part_of(json, "mapping"), firmware));
  return firmware;
}

std::vector<FirmwareFile> firmware_files(std::span<const std::string> folders) {
  std::vector<FirmwareFile> found;
  for (const auto& [name, path] : files_in(folders)) {
    auto text = read_file(path, kLargestText);
    if (text && text->empty()) continue;  // hides the one of the earlier folder
    auto firmware = text ? read_firmware_file(*text) : Result<FirmwareFile>(std::move(text).error());
    if (firmware) found.push_back(std::move(*firmware));
    else log_error("firmware description {}: {}", path, firmware.error().message());
  }
  return found;
}

std::span<const std::string> firmware_folders() {
  static const std::string kFolders[] = {"/usr/share/qemu/firmware", "/etc/qemu/firmware"};
  return kFolders;
}

}  // namespace atl::manage::host
