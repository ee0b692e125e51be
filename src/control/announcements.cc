#include "control/announcements.h"

#include <algorithm>

#include <fmt/format.h>

namespace atl::control {
namespace {

Status check(const char* name, u64 value, u64 first, u64 last) {
  if (value >= first && value <= last) return {};
  return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' expects a value in the range of {} to {}", name, first, last));
}

}  // namespace

Status Announcements::start(const std::string& id, Plan plan) {
  constexpr u64 kMaxMs = 100'000;
  TRY(check("initial", plan.initial_ms, 0, kMaxMs));
  TRY(check("max", plan.max_ms, 0, kMaxMs));
  TRY(check("rounds", plan.rounds, 1, 1000));
  TRY(check("step", plan.step_ms, 0, 10'000));
  std::erase_if(running_, [](const auto& entry) { return entry.second->round >= entry.second->plan.rounds; });
  auto running = std::make_unique<Running>(loop_, [this, id] { next(id); });
  running->plan = std::move(plan);
  running_[id] = std::move(running);
  next(id);
  return {};
}

/// The pauses: initial, initial + step, ... up to max.
void Announcements::next(const std::string& id) {
  Running& r = *running_.at(id);
  announce_(r.plan.cards);
  if (++r.round >= r.plan.rounds) return;
  const u64 pause_ms = std::min(r.plan.initial_ms + (r.round - 1) * r.plan.step_ms, r.plan.max_ms);
  r.timer.arm_in(pause_ms * 1'000'000);
}

}  // namespace atl::control
