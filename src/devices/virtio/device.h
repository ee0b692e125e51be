// What all virtio devices share: features, configuration bytes, queues, and a life cycle that runs on one loop.
// VIRTIO 1.2 chapters 2 and 3.
//
// Threads: a device lives on its loop; serve(), activated() and the other hooks are called there. Transports call, from
// vCPU threads, only what is marked so: those functions post to the loop or use the small mutex of the configuration
// bytes. Nothing waits. Construction before the loop runs or on any thread while nothing is activated; destruction on
// the loop's thread or after the loop has ended, once quiesce() has called back.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/archive.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/types.h"
#include "devices/virtio/queue.h"
#include "memory/address_space.h"

namespace atl::devices {

/// How a device reaches its driver; a transport implements it. Any thread.
class VirtioInterrupts {
 public:
  virtual ~VirtioInterrupts() = default;
  virtual void queue_interrupt(u16 queue) = 0;
  virtual void config_interrupt() = 0;
  /// Sets the NEEDS_RESET status bit and sends a configuration interrupt.
  virtual void needs_reset() = 0;
};

class VirtioDevice : private QueueOwner {
 public:
  struct Shape {
    u16 device_id = 0;
    u64 features = 0;               // the device's own; the ring features come by themselves
    std::vector<u16> queue_sizes;   // powers of two up to 1024
    u16 config_bytes = 0;
  };
  /// Takes the features and layouts that the driver chose with DRIVER_OK.
  struct Activation {
    u64 features = 0;
    std::vector<QueueLayout> queues;
  };
  struct Counters {
    std::atomic<u64> kicks = 0, malformed = 0;
  };

  /// `memory` is the guest physical address space that rings and buffers lie in.
  VirtioDevice(Shape shape, Loop& loop, memory::AddressSpace& memory);
  ~VirtioDevice() override;

  // For transports, any thread.
  u16 device_id() const { return device_id_; }
  u64 features() const { return features_ & ~hidden_features_; }
  /// Features to withhold (a property such as packed=off). Before the machine starts.
  void hide_features(u64 mask) { hidden_features_ |= mask; }
  u16 queue_count() const { return static_cast<u16>(queues_.size()); }
  const Queue& queue(u16 index) const { return *queues_[index]; }
  u16 config_bytes() const { return config_bytes_; }
  void config_read(u32 offset, std::span<u8> out);
  void config_write(u32 offset, std::span<const u8> data);
  u8 config_generation() const { return config_generation_.load(std::memory_order_acquire); }
  /// Whether a driver may choose these features together. The base asks for a subset and VERSION_1.
  virtual bool accepts(u64 features) const;
  void set_interrupts(VirtioInterrupts* interrupts) { interrupts_ = interrupts; }
  /// Posts; the calls take effect in order.
  void activate(Activation activation);
  /// Stops the queues, waits for chains in flight, goes back to power-on state, then calls `done` on the loop.
  void deactivate(std::function<void()> done);
  /// Pauses serving; `done` on the loop, once no chain is in flight.
  void quiesce(std::function<void()> done);
  void resume();

  Loop& loop() const { return loop_; }
  const Counters& counters() const { return counters_; }

  /// With the device quiesced: back to power-on state, queues stopped.
  void power_on_reset();
  /// Everything but the transport's registers. With the device quiesced; when reading, `activation` is what the transport
  /// restored (nullopt: the driver was not up).
  void visit_all(Archive& archive, const std::optional<Activation>& activation);
  virtual std::string describe() const { return {}; }
  /// The rule that the driver broke last; nullptr if none. Any thread.
  const char* problem() const { return problem_.load(std::memory_order_relaxed); }

 protected:
  // Hooks, all on the loop.
  /// The driver kicked queue `index`, or there may be work in it: pop until it gives nothing, complete, notify() once.
  virtual void serve(u16 index) = 0;
  /// The driver is up; queues run.
  virtual void activated(u64 features) { (void)features; }
  /// No more work: let go of chains kept for later, cancel what can be. Called for pause and for reset.
  virtual void stopping() {}
  /// Back to power-on state (queues are stopped). The control thread may call it while the device is quiesced: what
  /// belongs to the loop, such as timers, ends in stopping().
  virtual void reset_state() {}
  /// The driver wrote to the configuration bytes (already stored).
  virtual void config_written(u32 offset, u32 size) { (void)offset, (void)size; }
  /// The same, at once: the driver reads on what depends on it. On the thread that wrote, under the lock of the bytes.
  virtual void config_selected(std::span<u8> config) { (void)config; }
  virtual void visit(Archive& archive) { (void)archive; }

  Queue& queue_at(u16 index) { return *queues_[index]; }
  /// Whether the driver is up and the device is not paused: guest memory may be touched.
  bool running() const { return activation_ && !paused_ && !stopping_ && !broken_; }
  /// Looks for changes of the guest's memory. The base does it before serve(); for work that begins elsewhere.
  void refresh_memory();
  std::shared_ptr<const memory::GuestMemory> guest_memory() const { return memory_.guest_memory(); }
  u64 chosen_features() const { return activation_ ? activation_->features : 0; }
  /// Serves a queue soon, as if the driver had kicked it.
  void serve_later(u16 index);
  /// Runs `function` on the loop, unless the device is gone by then. Any thread.
  void post(std::function<void()> function);
  /// The device cannot go on with this driver: NEEDS_RESET.
  void fail(const char* why);

  // Configuration bytes. Any thread.
  void set_config(u32 offset, std::span<const u8> data);       // no interrupt
  void change_config(u32 offset, std::span<const u8> data);    // new generation, configuration interrupt
  template <class T>
  T config_value(u32 offset) {
    T value{};
    config_read(offset, {reinterpret_cast<u8*>(&value), sizeof value});
    return value;
  }
  /// Bytes [offset, offset + size) are the driver's to write; by default none.
  void set_config_writable(u32 offset, u32 size);

 private:
  void queue_interrupt(u16 index) override;
  void queue_malformed(u16 index, const char* why) override;
  void queue_idle(u16 index) override;
  /// Runs `step` on the loop, after the steps before it, and after a stop under way has ended.
  void enqueue(std::function<void()> step);
  void run_step(std::function<void()> step);
  void apply_activation(Activation activation);
  void start_queues();
  void watch_queues();
  /// Calls `then` once the queues are quiet.
  void begin_stop(std::function<void()> then);
  void finish_stop();
  void forget_driver();
  void kicked(u16 index);
  void run_queue(u16 index);
  u32 total_in_flight() const;

  const u16 device_id_;
  const u64 features_;
  u64 hidden_features_ = 0;
  const u16 config_bytes_;
  Loop& loop_;
  memory::AddressSpace& memory_;
  VirtioInterrupts* interrupts_ = nullptr;
  Counters counters_;

  Mutex config_mutex_;
  std::vector<u8> config_ GUARDED_BY(config_mutex_), config_writable_ GUARDED_BY(config_mutex_);
  std::atomic<u8> config_generation_ = 0;

  std::atomic<const char*> problem_ = nullptr;

  // Loop only.
  std::optional<Activation> activation_;        // the driver is up
  bool paused_ = false, stopping_ = false, broken_ = false;
  bool activated_due_ = false;                  // restored: activated() comes with resume()
  std::function<void()> after_stop_;
  bool finish_posted_ = false;
  std::deque<std::function<void()>> deferred_;  // steps that came during a stop
  std::vector<std::unique_ptr<Queue>> queues_;
  std::vector<std::unique_ptr<Loop::Watch>> watches_;
  u64 memory_generation_ = 0;
  std::shared_ptr<bool> alive_;  // false after destruction: posted calls do nothing
};

}  // namespace atl::devices
