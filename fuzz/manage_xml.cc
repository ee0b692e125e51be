// The daemon's XML reader: whatever it takes, it writes so that it reads the same again.
#include <cstdlib>

#include "manage/xml/parse.h"
#include "manage/xml/write.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace atl::manage;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto element = xml::parse(text, "(fuzz)");
  if (!element) return 0;
  xml::Limits wide;  // escapes make text longer
  wide.bytes = 64 << 20;
  wide.attribute_bytes = 4 << 20;
  std::string once = xml::write(*element);
  auto again = xml::parse(once, "(fuzz)", wide);
  if (!again || xml::write(*again) != once) std::abort();
  return 0;
}
