// Names of images, trees of block options, and blkdebug's rules: the first byte says which.
#include <cstdlib>

#include "block/blkdebug_rules.h"
#include "block/driver.h"

using namespace atl;

namespace {

void read_name(std::string_view text) {
  (void)block::has_protocol(text);
  auto tree = block::parse_image_name(text);
  if (tree && !tree->is_object()) std::abort();
  (void)block::resolve_backing_name(text, "/images/a.qcow2");
  (void)block::resolve_backing_name("b", text);
}

void read_tree(std::string_view text) {
  auto json = block::Json::parse(text, nullptr, false);
  if (json.is_discarded()) return;
  auto nested = block::nest_options(std::move(json));
  if (!nested || !nested->is_object()) return;
  block::OptionReader reader(*nested, "fuzz");
  for (const auto& [key, value] : nested->items()) {
    (void)reader.has(key + ".x.y");
    (void)reader.size(key + ".size", 0);
    (void)reader.boolean(key + ".on", false);
    (void)reader.rest(key + ".rest");
    (void)reader.string(key, {});
    if (reader.has(key)) std::abort();  // taken
  }
  (void)reader.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: read_name(text); break;
    case 1: read_tree(text); break;
    default: (void)block::parse_debug_config(text);
  }
  return 0;
}
