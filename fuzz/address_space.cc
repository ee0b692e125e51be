// Address maps changed in any order, compared with a slow model: the region of the highest priority that holds a byte.
#include "memory/address_space.h"

#include <algorithm>

namespace {

using namespace atl;

struct Model {
  memory::RegionId id;
  u64 base, size;
  int priority;
};

/// Answers with its own number, so that a read tells who was asked.
struct Echo : memory::BusDevice {
  u64 bus_read(u64, unsigned) override { return number; }
  void bus_write(u64, u64, unsigned) override {}
  u8 number = 0;
};

u8 expected(const std::vector<Model>& model, u64 at) {
  const Model* best = nullptr;
  for (const Model& m : model)
    if (at - m.base < m.size && (!best || m.priority > best->priority)) best = &m;
  return best ? static_cast<u8>(best->id) : 0xff;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kStep = 5, kMaxSteps = 60;
  memory::AddressSpace space("fuzz", 300);
  std::vector<std::unique_ptr<Echo>> devices;
  std::vector<Model> model;
  memory::BusView view(space);
  for (size_t step = 0; step < kMaxSteps && size >= kStep; ++step, data += kStep, size -= kStep) {
    u64 base = data[1], length = data[2];
    int priority = data[3] % 4;
    if (data[0] % 3 == 0) {
      devices.push_back(std::make_unique<Echo>());
      auto id =
          space.add({.name = "r", .base = base, .size = length, .priority = priority, .device = devices.back().get()});
      if (!id) continue;
      devices.back()->number = static_cast<u8>(*id);
      model.push_back({*id, base, length, priority});
    } else if (!model.empty()) {
      size_t at = data[4] % model.size();
      if (data[0] % 3 == 1) {
        space.remove(model[at].id);
        model.erase(model.begin() + static_cast<long>(at));
      } else if (space.update(model[at].id, base, {{.offset = data[3], .fd = -1}})) {
        model[at].base = base;
      }
    }
    for (u64 at = 0; at < 320; ++at) CHECK(view.read(at, 1) == expected(model, at));
    view.write(base, ~u64{0}, 8);
    (void)view.read(~u64{0} - 3, 8);
  }
  return 0;
}
