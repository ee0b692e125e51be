// A domain's XML from a client: whatever is accepted stays as it is when it is read again, and has a command line or an error.
#include <cstdlib>

#include "manage/domain/aliases.h"
#include "manage/domain/command_line.h"
#include "manage/domain/definition.h"
#include "manage/domain/status_file.h"
#include "manage/xml/write.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace atl::manage;
  constexpr size_t kEnough = 16 << 10;
  if (size > kEnough) return 0;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)read_status(text);
  auto domain = read_definition(text, {});
  if (!domain) return 0;
  const std::string once = xml::write(*domain);
  auto again = read_definition(once, {});
  if (again && xml::write(*again) != once) std::abort();
  assign_aliases(*domain);
  (void)compose_command(*domain, {});
  return 0;
}
