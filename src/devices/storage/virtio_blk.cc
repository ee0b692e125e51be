#include "devices/storage/virtio_blk.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/math.h"
#include "block/iovecs.h"

namespace atl::devices {

using namespace virtio_blk;
using block::ErrorPolicy;

namespace {

constexpr u32 kMaxSegments = 16;
constexpr u32 kMaxSegmentSectors = 0x3fffff;  // 2 GiB less one sector
constexpr u16 kDriverOverhead = 2;            // of a queue's descriptors: header and status
constexpr u32 kStatusBytes = 1;

Error bad_option(const char* name, u64 value) {
  return Error(ErrorKind::Invalid, fmt::format("{} cannot be {}", name, value));
}

u64 features_of(const VirtioBlkOptions& options, bool readonly) {
  u64 features = kFeatureSegMax | kFeatureGeometry | kFeatureBlkSize | kFeatureFlush | kFeatureTopology;
  if (readonly) features |= kFeatureRo;
  if (options.config_wce) features |= kFeatureConfigWce;
  if (options.queues > 1) features |= kFeatureMq;
  if (options.discard && !readonly) features |= kFeatureDiscard;
  if (options.write_zeroes && !readonly) features |= kFeatureWriteZeroes;
  return features;
}

VirtioDevice::Shape shape_of(const VirtioBlkOptions& options, bool readonly) {
  return {.device_id = virtio::kIdBlock,
          .features = features_of(options, readonly),
          .queue_sizes = std::vector<u16>(options.queues, options.queue_size),
          .config_bytes = sizeof(Config)};
}

template <class T>
std::span<const u8> bytes_of(const T& object) {
  return {reinterpret_cast<const u8*>(&object), sizeof object};
}

}  // namespace

Status VirtioBlk::check(const VirtioBlkOptions& options) {
  constexpr u32 kMaxBlock = 2 * kMiB;
  auto block_size_ok = [](u32 bytes) { return is_power_of_two(bytes) && bytes >= kSectorBytes && bytes <= kMaxBlock; };
  if (!block_size_ok(options.logical_block_bytes)) return bad_option("logical_block_size", options.logical_block_bytes);
  if (!block_size_ok(options.physical_block_bytes) || options.physical_block_bytes < options.logical_block_bytes)
    return bad_option("physical_block_size", options.physical_block_bytes);
  if (options.min_io_bytes % options.logical_block_bytes || options.min_io_bytes / options.logical_block_bytes > 0xffff)
    return bad_option("min_io_size", options.min_io_bytes);
  if (options.opt_io_bytes % options.logical_block_bytes) return bad_option("opt_io_size", options.opt_io_bytes);
  if (options.queues == 0 || options.queues > 1024) return bad_option("num-queues", options.queues);
  if (!is_power_of_two(options.queue_size) || options.queue_size <= kDriverOverhead || options.queue_size > 1024)
    return bad_option("queue-size", options.queue_size);
  return {};
}

VirtioBlk::VirtioBlk(VirtioBlkOptions options, block::Node& node, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice(shape_of(options, options.readonly || node.info().readonly), loop, memory),
      options_(std::move(options)),
      node_(node),
      readonly_(options_.readonly || node.info().readonly),
      write_cache_(!options_.write_through),
      to_notify_(options_.queues),
      notify_(loop, [this] { notify_queues(); }) {
  set_config(0, bytes_of(make_config()));
  if (options_.config_wce) set_config_writable(offsetof(Config, writeback), 1);
}

VirtioBlk::~VirtioBlk() { drop_kept(); }

// --- configuration ---

u64 VirtioBlk::capacity_sectors() const {
  u64 sectors = align_up(node_.size_bytes(), kSectorBytes) / kSectorBytes;
  return align_down(sectors, options_.logical_block_bytes / kSectorBytes);
}

Config VirtioBlk::make_config() const {
  constexpr u32 kHeads = 16, kTrackSectors = 63, kMaxCylinders = 16383;  // what BIOSes make of any large disk
  const u32 block = options_.logical_block_bytes;
  u64 capacity = capacity_sectors();
  Config config{};
  config.capacity = capacity;
  config.seg_max = options_.queue_size - kDriverOverhead;
  config.cylinders = static_cast<u16>(std::clamp<u64>(capacity / (kHeads * kTrackSectors), 2, kMaxCylinders));
  config.heads = kHeads;
  config.sectors = kTrackSectors;
  config.blk_size = block;
  config.physical_block_exp = static_cast<u8>(std::countr_zero(options_.physical_block_bytes / block));
  config.min_io_size = static_cast<u16>(options_.min_io_bytes / block);
  config.opt_io_size = options_.opt_io_bytes / block;
  config.writeback = !options_.write_through;
  config.num_queues = options_.queues;
  if (options_.discard && !readonly_) {
    config.max_discard_sectors = kMaxSegmentSectors;
    config.max_discard_seg = kMaxSegments;
    config.discard_sector_alignment = block / kSectorBytes;
  }
  if (options_.write_zeroes && !readonly_) {
    config.max_write_zeroes_sectors = kMaxSegmentSectors;
    config.max_write_zeroes_seg = kMaxSegments;
    config.write_zeroes_may_unmap = 1;
  }
  return config;
}

void VirtioBlk::size_changed() { change_config(offsetof(Config, capacity), bytes_of(capacity_sectors())); }

std::string VirtioBlk::describe() const {
  return fmt::format("drive = \"{}\"\nserial = \"{}\"\nwrite cache = {}", node_.info().node_name, options_.serial,
                     write_cache_ ? "on" : "off");
}

// --- life cycle ---

void VirtioBlk::set_write_cache(bool on) {
  write_cache_ = on;
  set_config(offsetof(Config, writeback), bytes_of(u8{on}));
}

/// Section 5.2.5: a driver that can neither flush nor switch the cache gets none.
void VirtioBlk::activated(u64 features) {
  if (!(features & (kFeatureConfigWce | kFeatureFlush))) write_cache_ = false;
}

void VirtioBlk::config_written(u32, u32) { set_write_cache(config_value<u8>(offsetof(Config, writeback)) != 0); }

void VirtioBlk::reset_state() {
  drop_kept();
  set_write_cache(!options_.write_through);
}

void VirtioBlk::stopping() {
  for (Request& request : kept_) request.retry = true;
  notify_queues();  // completions of this turn must not wait out the pause
}

void VirtioBlk::visit(Archive& archive) {
  if (!kept_.empty()) archive.fail("disk requests that failed are waiting for another try");
  archive.field(1, "write_cache", write_cache_);
}

// --- requests: meaning ---

/// What is there beside header and status; the frame of a request is checked by its caller.
u8 VirtioBlk::parse(Request& request) {
  if (!request.chain.read_object(0, request.header)) return kIoErr;
  switch (request.header.type) {
    case kIn:
    case kOut: return parse_transfer(request);
    case kFlush:
    case kGetId: return kOk;
    case kDiscard: return options_.discard ? parse_segments(request) : u8{kUnsupp};
    case kWriteZeroes: return options_.write_zeroes ? parse_segments(request) : u8{kUnsupp};
    default: return kUnsupp;
  }
}

u8 VirtioBlk::parse_transfer(Request& request) {
  const bool in = request.header.type == kIn;
  const Chain& chain = request.chain;
  u64 bytes = in ? chain.writable_bytes() - kStatusBytes : chain.readable_bytes() - sizeof(Header);
  if (bytes % options_.logical_block_bytes || request.header.sector % (options_.logical_block_bytes / kSectorBytes))
    return kIoErr;
  if (!range_fits(request.header.sector, bytes / kSectorBytes, capacity_sectors())) return kIoErr;
  if (!in && readonly_) return kIoErr;
  // Drivers put header and status into descriptors of their own; then the list can be used as it is.
  auto list = in ? chain.writable() : chain.readable();
  if (in && list.back().iov_len == kStatusBytes) {
    request.data = list.first(list.size() - 1);
  } else if (!in && list.front().iov_len == sizeof(Header)) {
    request.data = list.subspan(1);
  } else {
    request.cut = block::iovec_slice(list, in ? 0 : sizeof(Header), bytes);
    request.data = request.cut;
  }
  return kOk;
}

u8 VirtioBlk::parse_segments(Request& request) {
  u64 bytes = request.chain.readable_bytes() - sizeof(Header);
  if (readonly_ || bytes == 0 || bytes % sizeof(Segment) || bytes / sizeof(Segment) > kMaxSegments) return kIoErr;
  request.segments.resize(bytes / sizeof(Segment));
  request.chain.read(sizeof(Header), {reinterpret_cast<u8*>(request.segments.data()), bytes});
  for (const Segment& segment : request.segments)
    if (u8 status = check_segment(request.header.type, segment); status != kOk) return status;
  return kOk;
}

/// Section 5.2.6.2.
u8 VirtioBlk::check_segment(u32 type, const Segment& segment) const {
  u32 allowed_flags = type == kWriteZeroes ? kSegmentUnmap : 0;
  if (segment.flags & ~allowed_flags) return kUnsupp;
  u32 block_sectors = options_.logical_block_bytes / kSectorBytes;
  if (segment.sector % block_sectors || segment.num_sectors % block_sectors) return kIoErr;
  if (segment.num_sectors > kMaxSegmentSectors) return kIoErr;
  return range_fits(segment.sector, segment.num_sectors, capacity_sectors()) ? kOk : kIoErr;
}

void VirtioBlk::answer_id(Request& request) {
  u8 id[kIdBytes] = {};
  std::copy_n(options_.serial.begin(), std::min<size_t>(options_.serial.size(), kIdBytes), id);
  u64 room = request.chain.writable_bytes() - kStatusBytes;
  request.chain.write(0, std::span<const u8>(id).first(std::min<u64>(room, kIdBytes)));
}

// --- requests: doing ---

void VirtioBlk::serve(u16 index) {
  retry_kept(index);
  while (auto chain = queue_at(index).pop()) {
    if (chain->readable_bytes() < sizeof(Header) || chain->writable_bytes() < kStatusBytes) {
      chain->complete();
      return fail("block request without header or status");
    }
    Request request;
    request.queue = index;
    request.chain = std::move(*chain);
    begin(std::move(request));
  }
}

void VirtioBlk::begin(Request request) {
  u8 status = parse(request);
  if (status == kOk && request.header.type == kGetId) answer_id(request);
  if (status != kOk || request.header.type == kGetId) return complete(request, status);
  run(std::move(request));
}

Detached VirtioBlk::run(Request request) {
  Status status = co_await operate(request);
  finish(std::move(request), status);
}

/// Not a coroutine: the node's own task is awaited, without one of ours around it.
Task<Status> VirtioBlk::operate(Request& request) {
  u64 offset = request.header.sector * kSectorBytes;  // inside the disk, so it cannot overflow
  switch (request.header.type) {
    case kIn: return node_.read(offset, request.data);
    case kOut: return node_.write(offset, request.data, write_cache_ ? block::kNoFlags : block::kFua);
    case kFlush: return node_.flush();
    default: return change_segments(request);
  }
}

Task<Status> VirtioBlk::change_segments(Request& request) {
  for (const Segment& segment : request.segments) {
    u64 offset = segment.sector * kSectorBytes, size = u64{segment.num_sectors} * kSectorBytes;
    u32 flags = (segment.flags & kSegmentUnmap ? block::kMayUnmap : 0u) | (write_cache_ ? 0u : block::kFua);
    Status status;
    if (request.header.type == kDiscard)
      status = co_await node_.discard(offset, size);
    else
      status = co_await node_.write_zeroes(offset, size, flags);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

void VirtioBlk::finish(Request request, const Status& status) {
  if (status) return complete(request, kOk);
  BlockError error{.read = request.header.type == kIn,
                   .no_space = status.error().os_errno() == ENOSPC,
                   .text = status.error().text()};
  error.action = error.read ? options_.read_error : options_.write_error;
  if (error.action == ErrorPolicy::StopOnNoSpace)
    error.action = error.no_space ? ErrorPolicy::Stop : ErrorPolicy::Report;
  // The request goes where it belongs first: the callback may pause the machine.
  if (error.action == ErrorPolicy::Stop)
    keep(std::move(request));
  else
    complete(request, error.action == ErrorPolicy::Ignore ? kOk : kIoErr);
  if (options_.on_error) options_.on_error(error);
}

void VirtioBlk::complete(Request& request, u8 status) {
  Chain& chain = request.chain;
  u64 size = chain.writable_bytes();
  chain.write_object(size - kStatusBytes, status);
  chain.add_written(size);
  chain.complete();
  to_notify_[request.queue] = true;
  notify_.schedule();
}

void VirtioBlk::notify_queues() {
  for (u16 i = 0; i < to_notify_.size(); ++i) {
    if (!to_notify_[i]) continue;
    to_notify_[i] = false;
    queue_at(i).notify();
  }
}

// --- requests that wait for another try ---

void VirtioBlk::keep(Request request) {
  request.retry = !running();
  Queue& queue = queue_at(request.queue);
  kept_.push_back(std::move(request));
  queue.park(kept_.back().chain);
}

void VirtioBlk::retry_kept(u16 index) {
  std::vector<Request> due;
  std::erase_if(kept_, [&](Request& request) {
    if (!request.retry || request.queue != index) return false;
    due.push_back(std::move(request));
    return true;
  });
  for (Request& request : due) {
    queue_at(index).unpark(request.chain);
    run(std::move(request));
  }
}

/// The driver is gone, or the device goes: nobody waits for an answer.
void VirtioBlk::drop_kept() {
  for (Request& request : kept_) queue_at(request.queue).unpark(request.chain);
  kept_.clear();
}

}  // namespace atl::devices
