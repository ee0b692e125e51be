// Names as users and images write them: "disk.qcow2", "nbd://host/x", "json:{...}", "fat:rw:/folder".
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/json_quotes.h"
#include "block/driver.h"

namespace atl::block {
namespace {

/// What stands before the first ':' that comes before any '/'; "" if there is none.
std::string_view scheme_of(std::string_view name) {
  size_t end = name.find_first_of(":/");
  if (end == name.npos || end == 0 || name[end] != ':') return {};
  return name.substr(0, end);
}

const Driver* driver_of_scheme(std::string_view scheme) {
  for (const Driver* driver : drivers()) {
    if (std::ranges::find(driver->schemes, scheme) != driver->schemes.end()) return driver;
  }
  return nullptr;
}

const char* driver_of_path(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) < 0 || (!S_ISBLK(info.st_mode) && !S_ISCHR(info.st_mode))) return "file";
  return path.starts_with("/dev/cd") || path.starts_with("/dev/sr") ? "host_cdrom" : "host_device";
}

Result<Json> parse_json_name(std::string_view text) {
  Json tree = Json::parse(with_double_quotes(text), nullptr, false);
  if (tree.is_object()) return nest_options(std::move(tree));   // flat keys ("file.filename") may stand there, too
  return Error(ErrorKind::Invalid, tree.is_discarded() ? "Could not parse the JSON options" : "Invalid JSON object given", EINVAL);
}

}  // namespace

bool has_protocol(std::string_view name) { return !scheme_of(name).empty(); }

Result<Json> parse_image_name(std::string_view name) {
  std::string_view scheme = scheme_of(name);
  if (scheme == "json") return parse_json_name(name.substr(5));
  if (scheme.empty()) {
    std::string path(name);
    return Json{{"driver", driver_of_path(path)}, {"filename", path}};
  }
  const Driver* driver = driver_of_scheme(scheme);
  if (!driver) return Error(ErrorKind::Invalid, fmt::format("Unknown protocol '{}'", scheme), EINVAL);
  if (driver->parse_name) return driver->parse_name(name);
  return Json{{"driver", driver->name}, {"filename", std::string(name)}};
}

std::string resolve_backing_name(std::string_view name, std::string_view image_filename) {
  if (name.starts_with('/') || has_protocol(name)) return std::string(name);
  // blkdebug:CONFIG:IMAGE stands in the folder of its image.
  if (size_t colon = image_filename.find(':', 9); image_filename.starts_with("blkdebug:") && colon != image_filename.npos)
    return resolve_backing_name(name, image_filename.substr(colon + 1));
  // The folder of a URL may be its host alone: "http://host/a" and "b" make "http://host/b".
  size_t slash = image_filename.rfind('/');
  size_t start = 0;
  if (std::string_view scheme = scheme_of(image_filename); !scheme.empty()) {
    start = scheme.size() + 1;
    if (image_filename.substr(start).starts_with("//")) start += 2;
  }
  if (slash == image_filename.npos || slash < start) return std::string(image_filename.substr(0, start)) + std::string(name);
  return std::string(image_filename.substr(0, slash + 1)) + std::string(name);
}

}  // namespace atl::block
