#include "manage/storage/volumes.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "manage/storage/images.h"
#include "manage/tool/run_tool.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

constexpr std::string_view kUnfinished = ".atoll-new~";

std::string seconds(const timespec& time) { return fmt::format("{}.{}", time.tv_sec, time.tv_nsec); }

void add_permissions(Element& target, const struct stat& status) {
  Element& permissions = target.add("permissions");
  permissions.add("mode", fmt::format("0{:o}", status.st_mode & 07777));
  permissions.add("owner", u64{status.st_uid});
  permissions.add("group", u64{status.st_gid});
}

Element target_of(const Volume& volume) {
  Element target("target");
  target.add("path", volume.path);
  target.add("format").set("type", volume.type == VolumeType::Dir ? "dir" : volume.format);
  add_permissions(target, volume.status);
  Element& times = target.add("timestamps");
  times.add("atime", seconds(volume.status.st_atim));
  times.add("mtime", seconds(volume.status.st_mtim));
  times.add("ctime", seconds(volume.status.st_ctim));
  if (volume.is_encrypted) {
    Element& encryption = target.add("encryption").set("format", "luks");
    if (volume.secret) encryption.add("secret").set("type", "passphrase").set("uuid", format_uuid(*volume.secret));
  }
  if (volume.format == "qcow2") {
    target.add("compat", volume.is_old_qcow2 ? "0.10" : "1.1");
    if (volume.cluster_bytes) target.add("clusterSize", volume.cluster_bytes).set("unit", "B");
    if (volume.lazy_refcounts) target.add("features").add("lazy_refcounts");
  }
  return target;
}

/// A relative backing file lies beside the image that names it.
std::string absolute_backing(const std::string& image, const std::string& backing) {
  if (backing.empty() || backing.starts_with('/') || backing.find(':') != std::string::npos) return backing;
  return image.substr(0, image.rfind('/') + 1) + backing;
}

Status fill_from_header(Volume& volume) {
  auto facts = inspect_image(volume.path, driver_of_format(volume.format));
  if (!facts) return facts.error();
  volume.capacity_bytes = facts->capacity_bytes;
  volume.cluster_bytes = facts->cluster_bytes;
  volume.is_old_qcow2 = facts->is_old_qcow2;
  volume.lazy_refcounts = facts->lazy_refcounts;
  volume.is_encrypted = facts->encrypted || volume.format == "luks";
  volume.backing_path = absolute_backing(volume.path, facts->backing_file);
  volume.backing_format = facts->backing_format;
  return {};
}

}  // namespace

std::string unfinished_name(const std::string& volume) { return fmt::format(".{}{}", volume, kUnfinished); }

std::string volume_xml(const Volume& volume) {
  constexpr std::string_view kTypes[] = {"file", "block", "dir"};
  Element element("volume");
  element.set("type", kTypes[static_cast<size_t>(volume.type)]);
  element.add("name", volume.name);
  element.add("key", volume.path);
  element.add("capacity", volume.capacity_bytes).set("unit", "bytes");
  element.add("allocation", volume.allocation_bytes).set("unit", "bytes");
  element.add("physical", volume.physical_bytes).set("unit", "bytes");
  element.add(target_of(volume));
  if (!volume.backing_path.empty()) {
    Element& backing = element.add("backingStore");
    backing.add("path", volume.backing_path);
    backing.add("format").set("type", volume.backing_format.empty() ? "raw" : volume.backing_format);
  }
  return xml::write(element);
}

void FormatRecord::load() {
  auto text = folder_.contains(name_) ? folder_.read(name_) : Result<std::string>(Error(Code::NoStorageVol, ""));
  if (!text) return;
  auto tree = xml::parse(*text, name_, "formats");
  if (!tree) return log_warning("formats of pool {}: {}", name_, tree.error().message());
  for (const Element* file : tree->children("file")) {
    auto inode = parse_u64(file->attribute("inode"));
    if (!inode || !is_volume_format(file->attribute("format"))) continue;
    entries_[file->attribute("name")] = {*inode, file->attribute("format"), parse_uuid(file->attribute("secret"))};
  }
}

Status FormatRecord::save() const {
  Element tree("formats");
  for (const auto& [name, entry] : entries_) {
    Element& file = tree.add("file").set("name", name).set("inode", entry.inode).set("format", entry.format);
    if (entry.secret) file.set("secret", format_uuid(*entry.secret));
  }
  return folder_.write(name_, xml::write(tree));
}

const FormatRecord::Entry* FormatRecord::find(const std::string& volume, u64 inode) const {
  auto found = entries_.find(volume);
  return found != entries_.end() && found->second.inode == inode ? &found->second : nullptr;
}

void FormatRecord::keep(const std::vector<Volume>& volumes) {
  std::erase_if(entries_, [&](const auto& entry) {
    return std::ranges::none_of(volumes, [&](const Volume& volume) { return volume.name == entry.first; });
  });
}

Result<Volume> read_volume_file(const std::string& folder, const std::string& name, FormatRecord& record) {
  Volume volume;
  volume.name = name;
  volume.path = fmt::format("{}/{}", folder == "/" ? "" : folder, name);
  if (::stat(volume.path.c_str(), &volume.status) < 0) return os_error("stat " + volume.path);
  if (S_ISDIR(volume.status.st_mode)) {
    volume.type = VolumeType::Dir;
    volume.allocation_bytes = static_cast<u64>(volume.status.st_blocks) * 512;
    return volume;
  }
  if (!S_ISREG(volume.status.st_mode))
    return Error(Code::NoStorageVol, fmt::format("'{}' is no file", volume.path), Part::Storage);
  volume.physical_bytes = volume.capacity_bytes = static_cast<u64>(volume.status.st_size);
  volume.allocation_bytes = static_cast<u64>(volume.status.st_blocks) * 512;
  const FormatRecord::Entry* entry = record.find(name, volume.status.st_ino);
  if (!entry) {
    auto guess = guess_format(volume.path);
    record.set(name, {volume.status.st_ino, guess && is_volume_format(*guess) ? *guess : "raw", {}});
    entry = record.find(name, volume.status.st_ino);
  }
  volume.format = entry->format;
  volume.secret = entry->secret;
  if (driver_of_format(volume.format) != "raw")
    if (Status read = fill_from_header(volume); !read) log_warning("{}: {}", volume.path, read.error().message());
  return volume;
}

Result<std::vector<Volume>> scan_folder(const std::string& path, FormatRecord& record) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder)
    return Error(Code::SystemError, fmt::format("cannot open directory '{}': {}", path, std::strerror(errno)),
                 Part::Storage);
  std::vector<Volume> volumes;
  while (const dirent* entry = ::readdir(folder.get())) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (name.starts_with('.') && name.ends_with(kUnfinished)) {
      ::unlinkat(::dirfd(folder.get()), name.c_str(), 0);
      continue;
    }
    if (auto volume = read_volume_file(path, name, record)) volumes.push_back(*std::move(volume));
  }
  std::ranges::sort(volumes, {}, &Volume::name);
  record.keep(volumes);
  return volumes;
}

Result<std::vector<Volume>> scan_volume_group(const std::string& group) {
  std::string text = TRY(run_tool_checked({.words = {"lvs", "--noheadings", "--nosuffix", "--units", "b", "--separator",
                                                     "|", "-o", "lv_name,lv_size,lv_attr", group},
                                           .input = {}}));
  std::vector<Volume> volumes;
  for (std::string_view line : split(text, '\n')) {
    auto fields = split(trim(line), '|');
    if (fields.size() != 3) continue;
    auto size = parse_u64(fields[1]);
    // lvs(8): the first letter is the type; thin pools and the like hold no guest's data themselves.
    if (!size || fields[2].empty() || std::string_view("tTdDeEiI").find(fields[2][0]) != std::string_view::npos)
      continue;
    Volume volume;
    volume.name = fields[0];
    volume.path = fmt::format("/dev/{}/{}", group, volume.name);
    volume.type = VolumeType::Block;
    volume.capacity_bytes = volume.allocation_bytes = volume.physical_bytes = *size;
    (void)::stat(volume.path.c_str(), &volume.status);  // inactive volumes have no node
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

}  // namespace atl::manage
