// Saved state of a device: records, nested parts, hostile lengths.
#include "base/archive.h"

namespace {

struct Device {
  atl::u64 a = 0;
  bool b = false;
  atl::u8 array[16] = {};
  std::vector<atl::u8> blob;
  atl::i16 inner = 0;

  void visit(atl::Archive& archive) {
    archive.field(1, "a", a);
    archive.field(2, "b", b);
    archive.bytes(3, "array", array);
    archive.blob(4, "blob", blob, 64);
    archive.part(5, "part", [&](atl::Archive& part) { part.field(1, "inner", inner); });
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  atl::Archive in(std::span<const atl::u8>(data, size));
  Device first;
  first.visit(in);
  if (!in.status()) return 0;
  // What could be read can be written, and reads back the same.
  atl::Archive out;
  first.visit(out);
  auto saved = out.take();
  atl::Archive again{std::span<const atl::u8>(saved)};
  Device second;
  second.visit(again);
  CHECK(again.status().has_value());
  CHECK(second.a == first.a && second.b == first.b && second.blob == first.blob && second.inner == first.inner);
  return 0;
}
