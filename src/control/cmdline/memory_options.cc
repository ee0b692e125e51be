// -m, -mem-path, -mem-prealloc, memory backend objects, -overcommit.
#include <fmt/format.h>

#include "base/math.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/translate.h"

namespace atl::control {

using memory::RamOptions;

namespace {

constexpr u64 kMaxRamBytes = u64{1} << 46;  // what 48 address bits of the host process leave for one block

Status check_ram_size(u64 bytes) {
  if (bytes <= kMaxRamBytes) return {};
  return invalid_option(fmt::format("ram size too large: {} bytes, at most {}", bytes, kMaxRamBytes));
}

}  // namespace

Status option_memory(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "size"));
  u64 bytes = TRY(values.take_size("size", 0, 'M'));
  for (const char* key : {"slots", "maxmem"})
    if (values.has(key)) return invalid_option(fmt::format("'{}' is not supported: there is no memory hotplug", key));
  TRY(values.expect_empty());
  TRY(check_ram_size(bytes));
  if (bytes == 0) return {};  // as with QEMU, the default size
  b.config().ram_bytes = align_up(bytes, 2 * kPageSize);
  b.ram_size_given = true;
  return {};
}

Status option_mem_path(Builder& b, const OptionUse& use) {
  b.config().ram.backing = RamOptions::Backing::File;
  b.config().ram.path = use.value;
  return {};
}

Status option_mem_prealloc(Builder& b, const OptionUse&) {
  b.config().ram.prealloc = true;
  return {};
}

Status option_overcommit(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  b.program().lock_memory = TRY(values.take_bool("mem-lock", b.program().lock_memory));
  TRY(expect_switch(values, "cpu-pm", false));
  return values.expect_empty();
}

bool is_memory_object(std::string_view type) {
  return type == "memory-backend-ram" || type == "memory-backend-file" || type == "memory-backend-memfd";
}

Result<MemoryObject> memory_from_values(KeyValues values) {
  const std::string type = TRY(values.take_required("qom-type"));
  MemoryObject object{.type = type, .id = TRY(values.take_required("id"))};
  TRY(check_id(object.id));
  object.size_bytes = TRY(values.take_size("size", 0));
  if (object.size_bytes == 0) return invalid_option("can't create backend with size 0");
  TRY(check_ram_size(object.size_bytes));
  RamOptions& ram = object.ram;
  ram.shared = TRY(values.take_bool("share", type == "memory-backend-memfd"));
  ram.prealloc = TRY(values.take_bool("prealloc", false));
  ram.merge = TRY(values.take_bool("merge", true));
  ram.dump = TRY(values.take_bool("dump", true));
  if (type == "memory-backend-file") {
    ram.backing = RamOptions::Backing::File;
    ram.path = TRY(values.take_required("mem-path"));
  } else if (type == "memory-backend-memfd") {
    ram.backing = TRY(values.take_bool("hugetlb", false)) ? RamOptions::Backing::HugePages : RamOptions::Backing::Memfd;
  } else if (ram.shared) {
    ram.backing = RamOptions::Backing::Memfd;
  }
  TRY(values.expect_empty());
  return object;
}

Status add_memory_backend(Builder& b, const OptionUse& use, KeyValues values) {
  const MemoryObject object = TRY(memory_from_values(std::move(values)));
  MemoryBackend backend{.origin = use, .size_bytes = object.size_bytes, .ram = object.ram};
  if (!b.memory_backends.emplace(object.id, std::move(backend)).second)
    return invalid_option(fmt::format("attempt to add duplicate property '{}' to object (type 'container')", object.id));
  return {};
}

}  // namespace atl::control
