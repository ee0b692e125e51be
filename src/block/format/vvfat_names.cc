#include "block/format/vvfat_names.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "base/endian.h"

namespace atl::block::vvfat {
namespace {

constexpr size_t kUnitsPerEntry = 13, kMaxUnits = 255;

bool is_plain(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'()-@^_`{}~").find(c) != std::string_view::npos;
}

/// Upper case, what cannot stand in a short name replaced or dropped; `lossy` if that changes more than the case.
std::string squeeze(std::string_view text, size_t most, bool& lossy) {
  std::string out;
  for (char c : text) {
    char upper = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    if (c == ' ' || c == '.') {
      lossy = true;
      continue;
    }
    if (!is_plain(upper)) lossy = true;
    out += is_plain(upper) ? upper : '_';
  }
  lossy = lossy || out.size() > most;
  return out.substr(0, most);
}

std::string padded(std::string base, std::string extension) {
  base.resize(8, ' ');
  extension.resize(3, ' ');
  return base + extension;
}

/// UTF-8 as UTF-16; what is no UTF-8 becomes '_'.
std::vector<u16> units_of(std::string_view name) {
  std::vector<u16> units;
  for (size_t i = 0; i < name.size() && units.size() < kMaxUnits;) {
    const u8 first = static_cast<u8>(name[i]);
    const size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
    u32 point = length <= 1 ? first : first & (0x7fu >> length);
    bool good = length != 0 && i + length <= name.size();
    for (size_t k = 1; good && k < length; ++k) {
      good = (name[i + k] & 0xc0) == 0x80;
      point = point << 6 | (name[i + k] & 0x3f);
    }
    i += good ? length : 1;
    if (!good || point > 0x10ffff) point = '_';
    if (point >= 0x10000) units.push_back(static_cast<u16>(0xd800 + ((point - 0x10000) >> 10)));
    units.push_back(static_cast<u16>(point >= 0x10000 ? 0xdc00 + (point & 0x3ff) : point));
  }
  return units;
}

u8 checksum(const std::string& short_form) {
  u8 sum = 0;
  for (char c : short_form) sum = static_cast<u8>((sum >> 1 | sum << 7) + static_cast<u8>(c));
  return sum;
}

}  // namespace

std::string short_name(std::string_view name, std::set<std::string>& taken) {
  size_t dot = name.rfind('.');
  if (dot == 0) dot = name.npos;
  bool lossy = false;
  std::string base = squeeze(name.substr(0, dot), 8, lossy);
  std::string extension = dot == name.npos ? "" : squeeze(name.substr(dot + 1), 3, lossy);
  if (base.empty()) base = "_";
  std::string form = padded(base, extension);
  for (u32 n = 1; lossy || taken.contains(form); ++n) {
    lossy = false;
    std::string tail = fmt::format("~{}", n);
    form = padded(base.substr(0, 8 - tail.size()) + tail, extension);
  }
  taken.insert(form);
  return form;
}

std::string long_name_entries(std::string_view name, const std::string& short_form) {
  std::string dotted = short_form.substr(0, short_form.find_last_not_of(' ', 7) + 1);
  if (short_form[8] != ' ') dotted += "." + short_form.substr(8, short_form.find_last_not_of(' ') - 7);
  if (name == dotted) return "";
  std::vector<u16> units = units_of(name);
  const size_t count = (units.size() + kUnitsPerEntry - 1) / kUnitsPerEntry;
  if (units.size() % kUnitsPerEntry) units.push_back(0);
  units.resize(count * kUnitsPerEntry, 0xffff);
  constexpr u8 kPlaces[kUnitsPerEntry] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
  std::string all;
  for (size_t i = count; i-- > 0;) {
    std::string entry(kEntryBytes, '\0');
    entry[0] = static_cast<char>((i + 1) | (i + 1 == count ? 0x40 : 0));
    entry[11] = kLongName;
    entry[13] = static_cast<char>(checksum(short_form));
    for (size_t k = 0; k < kUnitsPerEntry; ++k) store_le(&entry[kPlaces[k]], units[i * kUnitsPerEntry + k]);
    all += entry;
  }
  return all;
}

std::string directory_entry(const std::string& short_form, const EntryFields& fields) {
  std::string entry = short_form;
  entry.resize(kEntryBytes, '\0');
  entry[11] = static_cast<char>(fields.attributes);
  tm when{};
  const time_t seconds = fields.modified;
  ::localtime_r(&seconds, &when);
  const u32 year = static_cast<u32>(std::clamp(when.tm_year - 80, 0, 127));
  const u16 date =
      static_cast<u16>(year << 9 | static_cast<u32>(when.tm_mon + 1) << 5 | static_cast<u32>(when.tm_mday));
  const u16 clock = static_cast<u16>(when.tm_hour << 11 | when.tm_min << 5 | when.tm_sec / 2);
  store_le(&entry[14], clock);
  store_le(&entry[16], date);
  store_le(&entry[18], date);
  store_le(&entry[20], static_cast<u16>(fields.cluster >> 16));
  store_le(&entry[22], clock);
  store_le(&entry[24], date);
  store_le(&entry[26], static_cast<u16>(fields.cluster));
  store_le(&entry[28], fields.bytes);
  return entry;
}

}  // namespace atl::block::vvfat
