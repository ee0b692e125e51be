// Option lists and sizes, as the command line and human monitor commands hand them in.
#include "base/key_values.h"

#include <cstdlib>

#include "base/strings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto list = atl::KeyValues::parse(text, "driver");
  if (!list) return 0;
  // Every byte of the text is part of some key or value, a comma, an equals sign, or was doubled.
  size_t bytes = 0;
  for (const auto& entry : list->entries()) bytes += entry.key.size() + (entry.bare ? 0 : entry.value.size());
  if (bytes > size + std::string_view("driver").size()) std::abort();

  auto copy = *list;
  (void)copy.asks_help();
  (void)copy.take_bool("server", false);
  (void)copy.take_u64("addr", 0, 100);
  (void)copy.take_size("size", 0, 'M');
  (void)copy.take_prefix("file.");
  for (const auto& entry : list->entries()) {
    (void)copy.take(entry.key);
    (void)atl::parse_i64(entry.value);
    (void)atl::parse_size(entry.value);
  }
  return 0;
}
