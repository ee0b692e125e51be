#include "display/input.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/clock.h"

namespace atl::display {

void InUse::set(bool on) { since_.store(on ? monotonic_ns() : 0, std::memory_order_relaxed); }

KeySink* InputRouter::keyboard() const {
  KeySink* best = nullptr;
  for (KeySink* sink : keyboards_)
    if (sink->in_use_.since() > (best ? best->in_use_.since() : 0)) best = sink;
  return best;
}

PointerSink* InputRouter::newest(std::optional<bool> absolute) const {
  PointerSink* best = nullptr;
  for (PointerSink* sink : pointers_) {
    if (absolute && sink->absolute() != *absolute) continue;
    if (sink->in_use_.since() > (best ? best->in_use_.since() : 0)) best = sink;
  }
  return best;
}

Status InputRouter::key(u8 number, bool down) {
  KeySink* sink = keyboard();
  if (!sink) return Error(ErrorKind::NotFound, "this machine has no keyboard");
  sink->key(number, down);
  return {};
}

Status InputRouter::send(const PointerEvent& event, bool absolute) {
  PointerSink* sink = newest(absolute);
  if (!sink) return Error(ErrorKind::NotFound, fmt::format("Input handler not found for event type {}", absolute ? "abs" : "rel"));
  sink->pointer(event);
  return {};
}

bool InputRouter::absolute() const {
  const PointerSink* sink = newest(std::nullopt);
  return sink && sink->absolute();
}

u8 InputRouter::leds() const {
  const KeySink* sink = keyboard();
  return sink ? sink->leds() : 0;
}

std::vector<InputRouter::Mouse> InputRouter::mice() const {
  std::vector<Mouse> out;
  const PointerSink* current = newest(std::nullopt);
  for (const PointerSink* sink : pointers_)
    out.push_back({sink->name(), static_cast<u32>(out.size()), sink->absolute(), sink == current});
  return out;
}

Status InputRouter::select_mouse(u64 index) {
  if (index >= pointers_.size()) return Error(ErrorKind::NotFound, fmt::format("Mouse at index '{}' not found", index));
  pointers_[index]->set_in_use(true);
  return {};
}

}  // namespace atl::display
