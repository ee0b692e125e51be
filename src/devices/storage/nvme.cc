#include "devices/storage/nvme.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "base/math.h"
#include "block/iovecs.h"
#include "devices/storage/nvme_spec.h"

namespace atl::devices {

using namespace nvme;

u16 Nvme::Command::id() const { return load_le<u16>(&bytes[2]); }
u32 Nvme::Command::dword(unsigned index) const { return load_le<u32>(&bytes[4 * index]); }
u64 Nvme::Command::qword(unsigned index) const { return load_le<u64>(&bytes[4 * index]); }

Nvme::Nvme(NvmeOptions options, Loop& loop, memory::AddressSpace& memory)
    : options_(std::move(options)),
      loop_(loop),
      memory_(memory),
      io_(loop, options_.io),
      function_("nvme", {.vendor = 0x1b36, .device = 0x0010, .revision = 2, .class_code = 0x010802, .subsystem_vendor = 0x1af4,
                         .subsystem = 0x1100}) {}

Result<std::unique_ptr<Nvme>> Nvme::create(cpu::Vm& vm, NvmeOptions options, Loop& loop, memory::AddressSpace& memory) {
  std::unique_ptr<Nvme> nvme(new Nvme(std::move(options), loop, memory));
  nvme->function_.set_interrupt_pin(1);
  nvme->function_.set_bar(0, {.kind = PciBar::Kind::Memory64, .size = kBarBytes, .device = &nvme->registers_});
  TRY(nvme->function_.add_msix(vm, nvme->options_.io_queues + 1u, kMsixBar));
  return nvme;
}

Nvme::~Nvme() {
  {
    Lock lock(mutex_);
    ++epoch_;
  }
  io_.drop_kept();
}

std::string Nvme::describe() const { return fmt::format("serial = \"{}\"\nqueues = {}", options_.serial, options_.io_queues); }

// --- registers ---

u64 Nvme::Registers::bus_read(u64 offset, unsigned width) {
  Lock lock(owner_.mutex_);
  const u32 at = static_cast<u32>(offset) & ~3u;
  u64 value = owner_.read_register(at);
  if (width == 8) value |= u64{owner_.read_register(at + 4)} << 32;
  return value >> (8 * (offset & 3)) & byte_mask(width);
}

void Nvme::Registers::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset & 3 || width < 4) return;
  Lock lock(owner_.mutex_);
  owner_.write_register(static_cast<u32>(offset), static_cast<u32>(value));
  if (width == 8) owner_.write_register(static_cast<u32>(offset) + 4, static_cast<u32>(value >> 32));
}

u32 Nvme::read_register(u32 offset) {
  switch (offset) {
    case kCapLow: return (kMaxEntries - 1) | 1u << 16 | 15u << 24;  // contiguous queues, 7.5 s
    case kCapHigh: return 1u << 5;                                   // NVM command set, doorbells 4 bytes apart, 4 KiB pages
    case kVersionAt: return kVersion;
    case kMaskSet:
    case kMaskClear: return masked_;
    case kConfiguration: return configuration_;
    case kStatusAt: return status_;
    case kAdminSizes: return admin_sizes_;
    case kAdminSubmission: return static_cast<u32>(admin_submission_);
    case kAdminSubmission + 4: return static_cast<u32>(admin_submission_ >> 32);
    case kAdminCompletion: return static_cast<u32>(admin_completion_);
    case kAdminCompletion + 4: return static_cast<u32>(admin_completion_ >> 32);
    default: return 0;
  }
}

void Nvme::write_register(u32 offset, u32 value) {
  auto low = [value](u64 old) { return (old & ~u64{0xffffffff}) | (value & ~0xfffu); };
  auto high = [value](u64 old) { return (old & 0xffffffff) | u64{value} << 32; };
  if (offset >= kDoorbells) return write_doorbell((offset - kDoorbells) / 4, value);
  switch (offset) {
    case kMaskSet: masked_ |= value; return update_intx();
    case kMaskClear: masked_ &= ~value; return update_intx();
    case kConfiguration: return write_configuration(value);
    case kAdminSizes: admin_sizes_ = value & 0x0fff0fff; return;
    case kAdminSubmission: admin_submission_ = low(admin_submission_); return;
    case kAdminSubmission + 4: admin_submission_ = high(admin_submission_); return;
    case kAdminCompletion: admin_completion_ = low(admin_completion_); return;
    case kAdminCompletion + 4: admin_completion_ = high(admin_completion_); return;
    default: return;
  }
}

/// 3.1.5: enabling takes the admin queue; disabling forgets all queues.
void Nvme::write_configuration(u32 value) {
  const u32 before = std::exchange(configuration_, value);
  if ((before & kEnable) && !(value & kEnable)) {
    clear();
    configuration_ = value;
  } else if (!(before & kEnable) && (value & kEnable)) {
    const u32 page_shift = value >> 7 & 0xf, submission = value >> 16 & 0xf, completion = value >> 20 & 0xf;
    const bool sizes_ok = (submission == 6 || submission == 0) && (completion == 4 || completion == 0);
    if (page_shift != 0 || !sizes_ok) {
      status_ |= kFatal;
      return;
    }
    submissions_[0] = {.valid = true, .base = admin_submission_, .size = (admin_sizes_ & 0xfff) + 1, .completion = 0};
    completions_[0] = {.valid = true, .interrupts = true, .base = admin_completion_, .size = (admin_sizes_ >> 16 & 0xfff) + 1};
    status_ = kReady;
  }
  if (value & kShutdownMask) status_ = (status_ & ~u32{0xc}) | kShutdownDone;
  else status_ &= ~u32{0xc};
}

void Nvme::clear() {
  ++epoch_;
  submissions_ = {};
  completions_ = {};
  configuration_ = status_ = 0;
  update_intx();
}

void Nvme::write_doorbell(u32 index, u32 value) {
  const u32 queue = index / 2;
  if (queue >= kMaxQueues || !(status_ & kReady)) return;
  if (index & 1) {
    Completion& cq = completions_[queue];
    if (!cq.valid || value >= cq.size) return;
    const bool was_full = (cq.tail + 1) % cq.size == cq.head;
    cq.head = value;
    update_intx();
    if (!was_full) return;
  } else {
    Submission& sq = submissions_[queue];
    if (!sq.valid || value >= sq.size) return;
    sq.tail = value;
  }
  loop_.post([this] { serve(); });
}

/// The pin is high while any queue that interrupts holds entries that the host has not taken (7.1).
void Nvme::update_intx() {
  bool level = false;
  for (const Completion& cq : completions_) level |= cq.valid && cq.interrupts && cq.head != cq.tail;
  function_.set_intx(level && !(masked_ & 1) && !function_.msix_enabled());
}

// --- queues, on the loop ---

/// A queue's worth from each in turn.
void Nvme::serve() {
  for (bool found = true; found;) {
    found = false;
    for (u16 queue = 0; queue < kMaxQueues; ++queue) found |= take_one(queue);
  }
}

bool Nvme::take_one(u16 queue) {
  auto command = std::make_shared<Command>();
  {
    Lock lock(mutex_);
    Submission& sq = submissions_[queue];
    if (!sq.valid || sq.head == sq.tail) return false;
    const Completion& cq = completions_[sq.completion];
    if (!cq.valid || (cq.tail + 1) % cq.size == cq.head) return false;  // goes on when the host has taken some
    command->queue = queue;
    command->epoch = epoch_;
    const u64 at = sq.base + u64{sq.head} * kSubmissionBytes;
    sq.head = (sq.head + 1) % sq.size;
    if (!memory_.guest_memory()->read(at, command->bytes)) {
      status_ |= kFatal;
      return false;
    }
  }
  run(std::move(command));
  return true;
}

Detached Nvme::run(CommandPtr command) {
  if (command->queue == 0) {
    run_admin(*command);
  } else {
    Status status = co_await run_io(*command);
    fail_host(*command, status);
  }
  complete(*command);
}

void Nvme::fail_host(Command& command, const Status& status) const {
  if (status || command.status) return;
  const bool read = command.opcode() == kRead;
  command.status = status.error().kind() == ErrorKind::Invalid ? kLbaRange : read ? kReadFault : kWriteFault;
}

void Nvme::complete(const Command& command) {
  if (command.status == kHeld) return;
  Lock lock(mutex_);
  if (command.epoch != epoch_) return;
  const Submission& sq = submissions_[command.queue];
  if (!sq.valid) return;  // deleted meanwhile
  Completion& cq = completions_[sq.completion];
  if (!cq.valid) return;
  u8 entry[kCompletionBytes] = {};
  store_le<u32>(&entry[0], command.result);
  store_le<u16>(&entry[8], static_cast<u16>(sq.head));
  store_le<u16>(&entry[10], command.queue);
  store_le<u16>(&entry[12], command.id());
  store_le<u16>(&entry[14], static_cast<u16>(command.status << 1 | (cq.phase ? 1 : 0)));
  const u64 at = cq.base + u64{cq.tail} * kCompletionBytes;
  const auto memory = memory_.guest_memory();
  memory->write(at, std::span<const u8>(entry).first(12));
  memory->write(at + 12, std::span<const u8>(entry).subspan(12));  // the phase last
  cq.tail = (cq.tail + 1) % cq.size;
  if (cq.tail == 0) cq.phase = !cq.phase;
  if (!cq.interrupts) return;
  if (function_.msix_enabled()) function_.fire_msix(cq.vector);
  else update_intx();
}

/// 4.3: the first entry may begin inside a page; a second page, or a list of the rest, follows. The last entry of a page of
/// the list points to more of it, if there is more.
bool Nvme::gather(const Command& command, u64 bytes, DmaList& list) const {
  const u64 first = command.qword(6), second = command.qword(8);
  const u64 head = std::min(bytes, kPage - first % kPage);
  if (!list.add(first, head)) return false;
  u64 left = bytes - head;
  if (left == 0) return true;
  if (left <= kPage) return second % kPage == 0 && list.add(second, left);
  const auto memory = memory_.guest_memory();
  for (u64 at = second; left;) {
    u64 entry = 0;
    if (at % 8 || !memory->read_object(at, entry)) return false;
    const bool last_of_page = at % kPage == kPage - 8;
    if (last_of_page && left > kPage) {
      at = entry;
      if (at % kPage) return false;
      continue;
    }
    const u64 step = std::min(left, kPage);
    if (entry % kPage || !list.add(entry, step)) return false;
    left -= step;
    at += 8;
  }
  return true;
}

/// Gives a structure to the host.
void Nvme::reply(Command& command, std::span<const u8> data) {
  DmaList list(memory_.guest_memory(), true);
  if (!gather(command, data.size(), list)) {
    command.status = kPrpOffset;
    return;
  }
  block::iovec_copy_to(list.iovecs(), data);
  list.wrote();
}

// --- I/O commands ---

bool Nvme::range_ok(Command& command, u64 lba, u64 count) const {
  if (range_fits(lba, count, blocks())) return true;
  command.status = kLbaRange;
  return false;
}

Task<Status> Nvme::run_io(Command& command) {
  const u8 opcode = command.opcode();
  const bool all = opcode == kFlush && command.namespace_id() == 0xffffffff;
  if (command.namespace_id() != 1 && !all) {
    command.status = kInvalidNamespace;
    co_return Status{};
  }
  const bool changes = opcode == kWrite || opcode == kWriteZeroes || opcode == kDatasetManagement;
  if (changes && options_.readonly) {
    command.status = kReadOnly;
    co_return Status{};
  }
  const u64 lba = command.qword(10), count = (command.dword(12) & 0xffff) + u64{1};
  switch (opcode) {
    case kFlush: co_return co_await io_.flush();
    case kRead: co_return co_await transfer(command, false);
    case kWrite: co_return co_await transfer(command, true);
    case kDatasetManagement: co_return co_await deallocate(command);
    case kWriteZeroes:
      if (!range_ok(command, lba, count)) co_return Status{};
      co_return co_await io_.write_zeroes(lba * options_.block_bytes, count * options_.block_bytes, command.dword(12) >> 25 & 1);
    default: command.status = kInvalidOpcode; co_return Status{};
  }
}

Task<Status> Nvme::transfer(Command& command, bool write) {
  const u64 lba = command.qword(10), count = (command.dword(12) & 0xffff) + u64{1}, bytes = count * options_.block_bytes;
  if (bytes > kMaxTransfer || (command.bytes[1] & 0xc0)) {  // SGLs are not announced
    command.status = kInvalidField;
    co_return Status{};
  }
  if (!range_ok(command, lba, count)) co_return Status{};
  DmaList list(memory_.guest_memory(), !write);
  if (!gather(command, bytes, list)) {
    command.status = kTransferError;
    co_return Status{};
  }
  const bool fua = command.dword(12) >> 30 & 1;
  Status status;
  if (write) status = co_await io_.write(lba * options_.block_bytes, list.iovecs(), fua);
  else status = co_await io_.read(lba * options_.block_bytes, list.iovecs());
  list.wrote();
  co_return status;
}

/// 6.7: ranges of 16 bytes; only deallocation does something.
Task<Status> Nvme::deallocate(Command& command) {
  const u32 count = (command.dword(10) & 0xff) + 1;
  std::vector<u8> ranges(16 * count);
  DmaList list(memory_.guest_memory(), false);
  if (!gather(command, ranges.size(), list)) {
    command.status = kTransferError;
    co_return Status{};
  }
  block::iovec_copy_from(list.iovecs(), ranges);
  if (!(command.dword(11) & 4) || !options_.discard) co_return Status{};
  for (size_t at = 0; at < ranges.size(); at += 16) {
    const u64 blocks_here = load_le<u32>(&ranges[at + 4]), lba = load_le<u64>(&ranges[at + 8]);
    if (!range_ok(command, lba, blocks_here)) co_return Status{};
    if (blocks_here == 0) continue;
    Status status = co_await io_.discard(lba * options_.block_bytes, blocks_here * options_.block_bytes);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

// --- pause, reset, saved state ---

void Nvme::quiesce(std::function<void()> done) {
  loop_.post([this, done = std::move(done)]() mutable { io_.when_idle(std::move(done)); });
}

void Nvme::resume() {
  loop_.post([this] {
    io_.retry_kept();
    serve();
  });
}

void Nvme::reset() {
  {
    Lock lock(mutex_);
    clear();
    masked_ = admin_sizes_ = coalescing_ = event_mask_ = 0;
    admin_submission_ = admin_completion_ = 0;
  }
  io_.drop_kept();
  io_.reset_write_cache();
  function_.reset();
}

void Nvme::visit(Archive& archive) {
  if (io_.has_kept()) archive.fail("disk requests that failed are waiting for another try");
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  bool cache = io_.write_cache();
  archive.field(2, "write_cache", cache);
  io_.set_write_cache(cache);
  Lock lock(mutex_);
  archive.field(3, "configuration", configuration_);
  archive.field(4, "status", status_);
  archive.field(5, "masked", masked_);
  archive.field(6, "admin_sizes", admin_sizes_);
  archive.field(7, "admin_submission", admin_submission_);
  archive.field(8, "admin_completion", admin_completion_);
  archive.field(9, "coalescing", coalescing_);
  archive.field(10, "event_mask", event_mask_);
  u32 number = 16;
  for (Submission& sq : submissions_) {
    archive.part(number++, "submission_queue", [&](Archive& part) {
      part.field(1, "valid", sq.valid);
      part.field(2, "base", sq.base);
      part.field(3, "size", sq.size);
      part.field(4, "head", sq.head);
      part.field(5, "tail", sq.tail);
      part.field(6, "completion", sq.completion);
      if (sq.valid && (sq.size > 4096 || sq.head >= sq.size || sq.tail >= sq.size || sq.completion >= kMaxQueues)) {
        part.fail("impossible submission queue");
        sq = {};
      }
    });
  }
  for (Completion& cq : completions_) {
    archive.part(number++, "completion_queue", [&](Archive& part) {
      part.field(1, "valid", cq.valid);
      part.field(2, "interrupts", cq.interrupts);
      part.field(3, "phase", cq.phase);
      part.field(4, "base", cq.base);
      part.field(5, "size", cq.size);
      part.field(6, "head", cq.head);
      part.field(7, "tail", cq.tail);
      part.field(8, "vector", cq.vector);
      if (cq.valid && (cq.size > 4096 || cq.head >= cq.size || cq.tail >= cq.size)) {
        part.fail("impossible completion queue");
        cq = {};
      }
    });
  }
  if (!archive.loading()) return;
  ++epoch_;
  update_intx();
}

}  // namespace atl::devices
