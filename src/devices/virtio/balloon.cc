#include "devices/virtio/balloon.h"

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/clock.h"
#include "base/endian.h"
#include "base/math.h"

namespace atl::devices {

namespace {

// Features (5.5.3).
constexpr u64 kFeatureStatsQueue = 1 << 1, kFeatureDeflateOnOom = 1 << 2, kFeatureReporting = 1 << 5;
// Configuration (5.5.4).
constexpr u32 kNumPages = 0, kActual = 4, kConfigBytes = 8;

constexpr u16 kInflateQueue = 0;  // 1: deflate
constexpr u16 kQueueSize = 128, kReportingQueueSize = 32;
constexpr u64 kPageNumbersARequest = 64 * kKiB;  // of hostile drivers only so many are looked at
constexpr size_t kStatisticBytes = 10, kMaxStatistics = 32;

u64 features_of(const VirtioBalloonOptions& options) {
  return kFeatureStatsQueue | (options.deflate_on_oom ? kFeatureDeflateOnOom : 0) |
         (options.free_page_reporting ? kFeatureReporting : 0);
}

std::vector<u16> queues_of(const VirtioBalloonOptions& options) {
  std::vector<u16> sizes = {kQueueSize, kQueueSize, kQueueSize};
  if (options.free_page_reporting) sizes.push_back(kReportingQueueSize);
  return sizes;
}

/// Gives the whole pages of a guest range back to the host, as far as it is RAM.
void discard(const memory::GuestMemory& memory, GuestAddr at, u64 size) {
  auto end = checked_add(at, size);
  if (!end) return;
  GuestAddr next = align_up(at, kPageSize), last = align_down(*end, kPageSize);
  while (next < last) {
    const memory::RamRange* range = memory.find(next);
    if (!range || range->readonly) return;
    u64 count = std::min(last, range->end()) - next;
    range->block->discard(range->offset + (next - range->base), count);
    memory.wrote(next, count);
    next += count;
  }
}

}  // namespace

VirtioBalloon::VirtioBalloon(VirtioBalloonOptions options, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice({.device_id = virtio::kIdBalloon, .features = features_of(options),
                    .queue_sizes = queues_of(options), .config_bytes = kConfigBytes},
                   loop, memory),
      options_(std::move(options)),
      statistics_timer_(loop, [this] { ask_for_statistics(); }) {
  set_config_writable(kActual, 4);
}

void VirtioBalloon::set_target(u64 guest_bytes) {
  u64 pages = (options_.ram_bytes - std::min(guest_bytes, options_.ram_bytes)) / kPageSize;
  std::array<u8, 4> bytes{};
  store_le<u32>(bytes.data(), static_cast<u32>(pages));
  change_config(kNumPages, bytes);
}

u64 VirtioBalloon::actual_bytes() {
  u64 taken = u64{config_value<u32>(kActual)} * kPageSize;
  return options_.ram_bytes - std::min(taken, options_.ram_bytes);
}

void VirtioBalloon::config_written(u32, u32) {
  if (options_.on_change) options_.on_change(actual_bytes());
}

/// Optional queues take the numbers after the first two, in order, as far as the driver chose them.
u16 VirtioBalloon::statistics_queue() const { return chosen_features() & kFeatureStatsQueue ? 2 : 0xffff; }
u16 VirtioBalloon::reporting_queue() const {
  if (!(chosen_features() & kFeatureReporting)) return 0xffff;
  return chosen_features() & kFeatureStatsQueue ? 3 : 2;
}

void VirtioBalloon::serve(u16 index) {
  Queue& queue = queue_at(index);
  while (auto chain = queue.pop()) {
    if (index == kInflateQueue) inflate(*chain);
    if (index == reporting_queue()) report(*chain);
    if (index == statistics_queue()) keep_statistics(std::move(*chain));
    // Deflated pages need nothing: they come back as the guest touches them.
  }
  queue.notify();
}

/// Page numbers of 4 KiB pages (5.5.6); neighbours are discarded together.
void VirtioBalloon::inflate(const Chain& chain) {
  auto memory = guest_memory();
  u64 total = std::min(chain.readable_bytes() / 4, kPageNumbersARequest);
  std::array<u8, 1024> bytes;
  GuestAddr start = 0;
  u64 size = 0;
  for (u64 done = 0; done < total;) {
    u64 count = std::min<u64>(total - done, bytes.size() / 4);
    chain.read(4 * done, std::span(bytes).first(4 * count));
    for (u64 i = 0; i < count; ++i) {
      GuestAddr page = u64{load_le<u32>(&bytes[4 * i])} * kPageSize;
      if (page != start + size) {
        discard(*memory, start, size);
        start = page;
        size = 0;
      }
      size += kPageSize;
    }
    done += count;
  }
  discard(*memory, start, size);
}

/// Free page reporting (5.5.6.7): the buffers are the pages.
void VirtioBalloon::report(const Chain& chain) {
  auto memory = guest_memory();
  for (const Chain::Buffer& buffer : chain.writable_buffers()) discard(*memory, buffer.address, buffer.size);
}

/// The driver's answer stays with us until we want the next one (5.5.6.3).
void VirtioBalloon::keep_statistics(Chain chain) {
  Statistics fresh{.update_s = static_cast<i64>(realtime_ns() / 1'000'000'000)};
  std::array<u8, kStatisticBytes> entry;
  for (size_t i = 0; i < kMaxStatistics && chain.read(i * kStatisticBytes, entry) == kStatisticBytes; ++i)
    fresh.list.push_back({load_le<u16>(&entry[0]), load_le<u64>(&entry[2])});
  {
    Lock lock(statistics_mutex_);
    statistics_ = std::move(fresh);
  }
  statistics_chain_ = std::move(chain);
  if (statistics_interval_ns_) statistics_timer_.arm_in(statistics_interval_ns_);
}

void VirtioBalloon::ask_for_statistics() {
  if (!running() || !statistics_chain_) return;
  statistics_chain_.complete();
  queue_at(statistics_queue()).notify();
}

void VirtioBalloon::set_statistics_interval(u64 ns) {
  post([this, ns] {
    statistics_interval_ns_ = ns;
    ns ? statistics_timer_.arm_in(ns) : statistics_timer_.cancel();
  });
}

VirtioBalloon::Statistics VirtioBalloon::statistics() {
  Lock lock(statistics_mutex_);
  return statistics_;
}

/// The chain goes back unasked; the driver answers with fresh statistics after a pause.
void VirtioBalloon::stopping() {
  statistics_timer_.cancel();
  if (!statistics_chain_) return;
  Queue& queue = statistics_chain_.queue();
  statistics_chain_.complete();
  queue.notify();
}

void VirtioBalloon::reset_state() { set_config(kActual, std::array<u8, 4>{}); }

}  // namespace atl::devices
