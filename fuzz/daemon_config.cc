// The management daemon's configuration file.
#include <cstdint>
#include <string_view>

#include "manage/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  atl::manage::Config config;
  (void)atl::manage::parse_config(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz", config);
  return 0;
}
