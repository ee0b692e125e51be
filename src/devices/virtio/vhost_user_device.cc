#include "devices/virtio/vhost_user_device.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/math.h"
#include "devices/nic/virtio_net_spec.h"

namespace atl::devices {
namespace {

constexpr size_t kTagBytes = 36, kFsConfigBytes = 40;

VirtioDevice::Shape base_shape(const VhostUserShape& shape, const VhostUser& back_end) {
  return {.device_id = shape.device_id,
          .features = shape.own_features | (shape.passed_features & back_end.features()),
          .queue_sizes = shape.queue_sizes,
          .config_bytes = static_cast<u16>(shape.config.size())};
}

bool within(const iovec& part, std::span<const u8> memory) {
  const auto* at = static_cast<const u8*>(part.iov_base);
  return at >= memory.data() && range_fits(static_cast<u64>(at - memory.data()), part.iov_len, memory.size());
}

}  // namespace

VhostUserShape vhost_user_fs(std::string_view tag, u32 request_queues, u16 queue_size) {
  VhostUserShape shape{.device_id = virtio::kIdFileSystem, .queue_sizes = std::vector<u16>(request_queues + 1, queue_size), .keeps_state = true};
  shape.config.resize(kFsConfigBytes);
  std::ranges::copy(tag.substr(0, kTagBytes), shape.config.begin());
  store_le<u32>(&shape.config[kTagBytes], request_queues);
  return shape;
}

VhostUserShape vhost_user_net(std::span<const u8, 6> mac, u16 mtu, u16 queue_size, bool mergeable) {
  using namespace virtio_net;
  VhostUserShape shape{.device_id = virtio::kIdNet,
                       .own_features = kFeatureMac | kFeatureStatus | (mtu ? kFeatureMtu : 0),
                       .passed_features = kFeatureCsum | kFeatureHostTso4 | kFeatureHostTso6 | kFeatureHostEcn | kFeatureHostUfo |
                                          kGuestOffloads | (mergeable ? kFeatureMergeable : 0),
                       .queue_sizes = {queue_size, queue_size},
                       .status_at = kConfigStatus};
  shape.config.resize(kConfigBytes);
  std::ranges::copy(mac, shape.config.begin() + kConfigMac);
  store_le<u16>(&shape.config[kConfigStatus], kLinkUp);
  store_le<u16>(&shape.config[kConfigPairs], 1);
  store_le<u16>(&shape.config[kConfigMtu], mtu);
  return shape;
}

VhostUserDevice::VhostUserDevice(VhostUserShape shape, std::unique_ptr<VhostUser> back_end, std::shared_ptr<memory::RamBlock> ram,
                                 Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice(base_shape(shape, *back_end), loop, memory),
      shape_(std::move(shape)),
      back_end_(std::move(back_end)),
      ram_(std::move(ram)) {
  set_config(0, shape_.config);
}

VhostUserDevice::~VhostUserDevice() = default;

Result<std::unique_ptr<VhostUserDevice>> VhostUserDevice::create(VhostUserShape shape, std::unique_ptr<VhostUser> back_end,
                                                                 std::shared_ptr<memory::RamBlock> ram, Loop& loop,
                                                                 memory::AddressSpace& memory) {
  if (!(back_end->features() & virtio::kFeatureVersion1))
    return Error(ErrorKind::Unsupported, "vhost-user: the back end does not know VIRTIO 1");
  std::unique_ptr<VhostUserDevice> device(
      new VhostUserDevice(std::move(shape), std::move(back_end), std::move(ram), loop, memory));
  TRY(device->build());
  return device;
}

Status VhostUserDevice::build() {
  const u64 bytes = ShadowRing::kBytes * queue_count();
  ring_file_ = Fd(::memfd_create("vhost-user rings", MFD_CLOEXEC));
  if (!ring_file_) return os_error("vhost-user: create a memfd");
  if (::ftruncate(ring_file_.get(), static_cast<off_t>(bytes)) < 0) return os_error("vhost-user: size a memfd");
  ring_memory_ = TRY(Mapping::of_file(ring_file_, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED));
  for (u16 i = 0; i < queue_count(); ++i) {
    Fd kick = TRY(make_eventfd()), call = TRY(make_eventfd());
    rings_.push_back(std::make_unique<ShadowRing>(ring_memory_.data() + ShadowRing::kBytes * i, std::move(kick), std::move(call)));
    call_watches_.push_back(std::make_unique<Loop::Watch>(loop(), rings_[i]->call_fd().get(), POLLIN, [this, i](u32) { finished(i); }));
  }
  socket_watch_ = std::make_unique<Loop::Watch>(loop(), back_end_->socket().get(), POLLIN, [this](u32) { socket_event(); });
  return {};
}

void VhostUserDevice::activated(u64) {
  if (start_rings()) return;
  if (gone_) fail("the vhost-user back end is gone");
}

bool VhostUserDevice::start_rings() {
  if (started_) return true;
  if (gone_) return false;
  if (auto status = start_all(); !status) lose(status.error().text());
  return started_ = !gone_;
}

/// Both sides call memory by our addresses of it.
Status VhostUserDevice::start_all() {
  TRY(back_end_->set_features(chosen_features() & (shape_.passed_features | virtio::kFeatureVersion1)));
  const std::array<VhostUser::Region, 2> regions = {
      {{.address = reinterpret_cast<u64>(ram_->data()), .size = ram_->size(), .fd = ram_->fd().get()},
       {.address = reinterpret_cast<u64>(ring_memory_.data()), .size = ring_memory_.size(), .fd = ring_file_.get()}}};
  TRY(back_end_->set_memory(regions));
  for (u16 i = 0; i < queue_count(); ++i) {
    if (!queue_at(i).running()) continue;
    ShadowRing& ring = *rings_[i];
    ring.clear();
    TRY(back_end_->start_ring({.index = i,
                               .size = ShadowRing::kSize,
                               .descriptors = reinterpret_cast<u64>(ring.descriptors()),
                               .driver = reinterpret_cast<u64>(ring.driver()),
                               .device = reinterpret_cast<u64>(ring.device()),
                               .kick = ring.kick_fd().get(),
                               .call = ring.call_fd().get()}));
    if (!link_) TRY(back_end_->enable_ring(i, false));
  }
  return {};
}

bool VhostUserDevice::reaches(const Chain& chain) const {
  auto inside = [this](const iovec& part) { return within(part, ram_->bytes()); };
  return std::ranges::all_of(chain.readable(), inside) && std::ranges::all_of(chain.writable(), inside);
}

void VhostUserDevice::serve(u16 index) {
  if (!start_rings()) return;
  Queue& queue = queue_at(index);
  while (auto chain = queue.pop()) {
    if (!reaches(*chain)) {
      fail("a buffer outside of the memory that is shared with the vhost-user back end");
      break;
    }
    if (chain->readable().size() + chain->writable().size() > ShadowRing::kSize) {
      fail("a request of more pieces than a vhost-user ring has");
      break;
    }
    if (rings_[index]->push(*chain)) continue;
    queue.put_back(std::move(*chain));
    break;
  }
  rings_[index]->kick();
  queue.notify();
}

/// The back end called: something is finished, and there is room for more.
void VhostUserDevice::finished(u16 index) {
  drain_eventfd(rings_[index]->call_fd());
  if (!started_) return;
  if (!rings_[index]->collect()) return lose("its used ring names what it was not given");
  queue_at(index).notify();
  if (running()) serve_later(index);
}

void VhostUserDevice::socket_event() {
  if (back_end_->is_gone()) lose("it has hung up");
}

/// Requests that it had end without data, so that nobody waits for them.
void VhostUserDevice::lose(const std::string& why) {
  if (std::exchange(gone_, true)) return;
  log_warning("vhost-user: the back end is lost: {}", why);
  socket_watch_.reset();
  started_ = false;
  for (u16 i = 0; i < queue_count(); ++i) {
    rings_[i]->clear();
    if (queue_at(i).running()) queue_at(i).notify();
  }
  if (running()) fail("the vhost-user back end is gone");
}

void VhostUserDevice::stopping() {
  if (std::exchange(started_, false)) stop_rings();
}

void VhostUserDevice::stop_rings() {
  for (u16 i = 0; i < queue_count(); ++i) {
    Queue& queue = queue_at(i);
    if (gone_ || !queue.running()) continue;
    const auto taken = back_end_->stop_ring(i);
    if (!taken || !rings_[i]->collect()) {
      lose(taken ? "its used ring names what it was not given" : taken.error().text());
      return;
    }
    rings_[i]->drain(*taken, [&](Chain chain) { queue.put_back(std::move(chain)); });
    queue.notify();
  }
}

void VhostUserDevice::set_link(bool up) {
  CHECK(shape_.status_at != ~u32{0});
  std::array<u8, 2> status{};
  store_le<u16>(status.data(), up ? virtio_net::kLinkUp : u16{0});
  change_config(shape_.status_at, status);
  post([this, up] {
    if (std::exchange(link_, up) == up || !started_) return;
    for (u16 i = 0; i < queue_count() && !gone_; ++i) {
      if (!queue_at(i).running()) continue;
      if (auto told = back_end_->enable_ring(i, up); !told) lose(told.error().text());
    }
  });
}

void VhostUserDevice::visit(Archive& archive) {
  if (shape_.keeps_state) archive.fail("the vhost-user back end's state cannot be saved");
}

std::string VhostUserDevice::describe() const { return gone_ ? "vhost-user: the back end is gone" : "vhost-user"; }

}  // namespace atl::devices
