#include "devices/virtio/device.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/math.h"

namespace atl::devices {

using namespace virtio;

VirtioDevice::VirtioDevice(Shape shape, Loop& loop, memory::AddressSpace& memory)
    : device_id_(shape.device_id),
      features_(shape.features | kRingFeatures),
      config_bytes_(shape.config_bytes),
      loop_(loop),
      memory_(memory),
      config_(shape.config_bytes),
      config_writable_(shape.config_bytes),
      alive_(std::make_shared<bool>(true)) {
  QueueOwner& owner = *this;
  for (u16 size : shape.queue_sizes) {
    auto kick = make_eventfd();  // a transport refuses a queue without one
    queues_.push_back(std::make_unique<Queue>(owner, queue_count(), size, kick ? std::move(*kick) : Fd()));
  }
}

VirtioDevice::~VirtioDevice() { *alive_ = false; }

bool VirtioDevice::accepts(u64 features) const {
  return (features & ~this->features()) == 0 && (features & kFeatureVersion1);
}

void VirtioDevice::config_read(u32 offset, std::span<u8> out) {
  std::ranges::fill(out, 0);
  if (offset >= config_bytes_) return;
  Lock lock(config_mutex_);
  std::memcpy(out.data(), &config_[offset], std::min<size_t>(out.size(), config_bytes_ - offset));
}

void VirtioDevice::config_write(u32 offset, std::span<const u8> data) {
  if (!range_fits(offset, data.size(), config_bytes_)) return;
  bool changed = false;
  {
    Lock lock(config_mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
      if (!config_writable_[offset + i]) continue;
      config_[offset + i] = data[i];
      changed = true;
    }
    if (changed) config_selected(config_);
  }
  u32 size = static_cast<u32>(data.size());
  if (changed) enqueue([this, offset, size] { config_written(offset, size); });
}

void VirtioDevice::set_config(u32 offset, std::span<const u8> data) {
  CHECK(range_fits(offset, data.size(), config_bytes_));
  Lock lock(config_mutex_);
  std::ranges::copy(data, config_.begin() + offset);
}

void VirtioDevice::change_config(u32 offset, std::span<const u8> data) {
  set_config(offset, data);
  config_generation_.fetch_add(1, std::memory_order_acq_rel);
  if (interrupts_) interrupts_->config_interrupt();
}

void VirtioDevice::set_config_writable(u32 offset, u32 size) {
  Lock lock(config_mutex_);
  std::fill_n(config_writable_.begin() + offset, size, u8{1});
}

// Life cycle.

void VirtioDevice::enqueue(std::function<void()> step) {
  post([this, step = std::move(step)] { run_step(step); });
}

void VirtioDevice::post(std::function<void()> function) {
  loop_.post([alive = alive_, function = std::move(function)] {
    if (*alive) function();
  });
}

void VirtioDevice::run_step(std::function<void()> step) {
  if (stopping_)
    deferred_.push_back(std::move(step));
  else
    step();
}

void VirtioDevice::activate(Activation activation) {
  enqueue([this, activation = std::move(activation)]() mutable { apply_activation(std::move(activation)); });
}

void VirtioDevice::apply_activation(Activation activation) {
  if (activation_) {  // a driver whose vCPUs race: what it set up before goes first
    return begin_stop([this, activation = std::move(activation)]() mutable {
      forget_driver();
      apply_activation(std::move(activation));
    });
  }
  activation_ = std::move(activation);
  start_queues();
  activated(activation_->features);
  watch_queues();
}

void VirtioDevice::start_queues() {
  memory_generation_ = memory_.generation();
  auto memory = memory_.guest_memory();
  size_t count = std::min(queues_.size(), activation_->queues.size());
  for (size_t i = 0; i < count; ++i)
    if (activation_->queues[i].enabled) queues_[i]->start(activation_->queues[i], activation_->features, memory);
}

void VirtioDevice::watch_queues() {
  if (!running()) return;
  for (auto& queue : queues_) {
    if (!queue->running()) continue;
    u16 index = queue->index();
    watches_.push_back(std::make_unique<Loop::Watch>(loop_, queue->kick_fd().get(), POLLIN,
                                                     [this, index](u32) { kicked(index); }));
  }
}

void VirtioDevice::deactivate(std::function<void()> done) {
  enqueue([this, done = std::move(done)]() mutable {
    begin_stop([this, done = std::move(done)] {
      forget_driver();
      done();
    });
  });
}

void VirtioDevice::forget_driver() {
  for (auto& queue : queues_) queue->stop();
  activation_.reset();
  broken_ = activated_due_ = false;
  reset_state();
}

void VirtioDevice::quiesce(std::function<void()> done) {
  enqueue([this, done = std::move(done)]() mutable {
    begin_stop([this, done = std::move(done)] {
      paused_ = true;
      done();
    });
  });
}

void VirtioDevice::resume() {
  enqueue([this] {
    if (!std::exchange(paused_, false) || !running()) return;
    if (std::exchange(activated_due_, false)) activated(activation_->features);
    watch_queues();
    for (u16 i = 0; i < queue_count(); ++i)
      if (queues_[i]->running()) run_queue(i);
  });
}

void VirtioDevice::begin_stop(std::function<void()> then) {
  stopping_ = true;
  after_stop_ = std::move(then);
  watches_.clear();
  stopping();
  if (total_in_flight() == 0) finish_stop();
}

void VirtioDevice::finish_stop() {
  stopping_ = finish_posted_ = false;
  std::exchange(after_stop_, nullptr)();
  while (!stopping_ && !deferred_.empty()) {
    auto step = std::move(deferred_.front());
    deferred_.pop_front();
    step();
  }
}

/// Comes from inside a Chain's end, so the stop is finished in a turn of its own.
void VirtioDevice::queue_idle(u16) {
  if (!stopping_ || finish_posted_ || total_in_flight() != 0) return;
  finish_posted_ = true;
  post([this] {
    if (stopping_ && finish_posted_) finish_stop();
  });
}

u32 VirtioDevice::total_in_flight() const {
  u32 total = 0;
  for (const auto& queue : queues_) total += queue->in_flight();
  return total;
}

// Serving.

void VirtioDevice::kicked(u16 index) {
  drain_eventfd(queues_[index]->kick_fd());
  counters_.kicks.fetch_add(1, std::memory_order_relaxed);
  run_queue(index);
}

/// One turn handles at most a ring's worth of requests, so that other queues of the loop get theirs.
void VirtioDevice::run_queue(u16 index) {
  if (!running()) return;
  refresh_memory();
  Queue& queue = *queues_[index];
  queue.set_budget(queue.max_size());
  serve(index);
  bool more = queue.budget_spent();
  queue.set_budget(0);
  if (more) serve_later(index);
}

void VirtioDevice::serve_later(u16 index) { signal_eventfd(queues_[index]->kick_fd()); }

void VirtioDevice::refresh_memory() {
  u64 generation = memory_.generation();
  if (generation == memory_generation_) return;
  memory_generation_ = generation;
  auto memory = memory_.guest_memory();
  for (auto& queue : queues_)
    if (queue->running()) queue->set_memory(memory);
}

void VirtioDevice::queue_interrupt(u16 index) {
  if (interrupts_) interrupts_->queue_interrupt(index);
}

void VirtioDevice::queue_malformed(u16, const char* why) { fail(why); }

void VirtioDevice::fail(const char* why) {
  counters_.malformed.fetch_add(1, std::memory_order_relaxed);
  problem_.store(why, std::memory_order_relaxed);
  broken_ = true;
  if (interrupts_) interrupts_->needs_reset();
}

// Saved state.

void VirtioDevice::power_on_reset() { forget_driver(); }

void VirtioDevice::visit_all(Archive& archive, const std::optional<Activation>& activation) {
  {
    Lock lock(config_mutex_);
    archive.bytes(1, "config", config_);
  }
  if (archive.loading()) {
    forget_driver();
    activation_ = activation;
    activated_due_ = activation.has_value();
    if (activation_) start_queues();
  }
  u32 number = 16;
  for (auto& queue : queues_) archive.part(number++, "queue", [&](Archive& part) { queue->visit(part); });
  archive.part(2, "device", [this](Archive& part) { visit(part); });
}

}  // namespace atl::devices
