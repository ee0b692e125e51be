// Names and times in FAT directories.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "base/types.h"

namespace atl::block::vvfat {

inline constexpr u64 kEntryBytes = 32;
enum Attribute : u8 { kReadOnly = 1, kVolumeLabel = 8, kDirectory = 16, kArchive = 32, kLongName = 15 };

/// Eleven characters that no other entry of the directory has.
std::string short_name(std::string_view name, std::set<std::string>& taken);
/// The entries that stand before that of `short_form` and hold the name itself; "" if the short form says all.
std::string long_name_entries(std::string_view name, const std::string& short_form);
struct EntryFields {
  u8 attributes = kArchive;
  i64 modified = 0;  // seconds since the epoch
  u32 cluster = 0, bytes = 0;
};
std::string directory_entry(const std::string& short_form, const EntryFields& fields);

}  // namespace atl::block::vvfat
