// The admin commands of an NVMe controller: NVM Express 1.4, section 5.
#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "base/endian.h"
#include "devices/storage/nvme.h"
#include "devices/storage/nvme_spec.h"

namespace atl::devices {

using namespace nvme;

namespace {

void put_text(std::span<u8> field, std::string_view text) {
  std::ranges::fill(field, u8{' '});
  std::copy_n(text.begin(), std::min(text.size(), field.size()), field.begin());
}

/// A structure of 4 KiB that Identify gives, by byte offset.
class Page {
 public:
  void put8(size_t at, u8 value) { bytes_[at] = value; }
  void put16(size_t at, u16 value) { store_le<u16>(&bytes_[at], value); }
  void put32(size_t at, u32 value) { store_le<u32>(&bytes_[at], value); }
  void put64(size_t at, u64 value) { store_le<u64>(&bytes_[at], value); }
  std::span<u8> field(size_t at, size_t size) { return std::span(bytes_).subspan(at, size); }
  std::span<const u8> bytes() const { return bytes_; }

 private:
  std::array<u8, kPage> bytes_{};
};

// Identify's CNS values (5.15.1).
enum Structure : u8 { kNamespace = 0, kController = 1, kActiveNamespaces = 2, kDescriptors = 3 };
constexpr u32 kAllNamespaces = 0xffffffff;

/// Figure 245: the namespace.
Page namespace_page(const NvmeOptions& options, u64 blocks) {
  constexpr u8 kThinProvisioning = 1, kReadsZeroes = 1, kDeallocates = 1 << 3, kWriteProtected = 1;
  Page page;
  for (size_t at : {0, 8, 16}) page.put64(at, blocks);  // size, capacity, use
  page.put8(24, kThinProvisioning);
  page.put8(33, options.discard ? kReadsZeroes | kDeallocates : 0);
  page.put8(99, options.readonly ? kWriteProtected : 0);
  page.put8(130, static_cast<u8>(std::countr_zero(options.block_bytes)));  // format 0
  return page;
}

/// Figure 247: the controller.
Page controller_page(const NvmeOptions& options) {
  constexpr u16 kDatasets = 1 << 2, kZeroes = 1 << 3;
  Page page;
  page.put16(0, 0x1b36);
  page.put16(2, 0x1af4);
  put_text(page.field(4, 20), options.serial);
  put_text(page.field(24, 40), options.model);
  put_text(page.field(64, 8), "1.0");
  page.put8(72, 6);   // arbitration burst
  page.put8(77, kMaxTransferPower);
  page.put32(80, kVersion);
  page.put8(111, 1);  // an I/O controller
  page.put8(258, 3);  // aborts and events at a time
  page.put8(259, 3);
  page.put8(260, 3);  // one firmware slot, read-only
  page.put16(266, 343);  // warning and critical temperature, kelvins
  page.put16(268, 373);
  page.put8(512, 0x66);  // entries of submission queues: 2^6 bytes, of completion queues: 2^4
  page.put8(513, 0x44);
  page.put32(516, 1);    // namespaces
  page.put16(520, kDatasets | kZeroes);
  page.put8(525, 1);     // a volatile write cache
  const std::string name = fmt::format("nqn.2019-08.org.qemu:{}", options.serial);
  std::copy_n(name.begin(), std::min<size_t>(name.size(), 223), page.field(768, 256).begin());
  page.put16(2048, 2500);  // power state 0, in centiwatts
  return page;
}

/// Figure 249: one identifier, an EUI-64.
Page descriptors_page() {
  constexpr std::array<u8, 8> kEui = {0x52, 0x54, 0, 0, 0, 0, 0, 1};
  Page page;
  page.put8(0, 1);
  page.put8(1, kEui.size());
  std::ranges::copy(kEui, page.field(4, kEui.size()).begin());
  return page;
}

}  // namespace

void Nvme::run_admin(Command& command) {
  switch (command.opcode()) {
    case kIdentify: return identify(command);
    case kCreateCq: return create_completion_queue(command);
    case kCreateSq: return create_submission_queue(command);
    case kDeleteSq: return delete_queue(command, true);
    case kDeleteCq: return delete_queue(command, false);
    case kSetFeatures: return features(command, true);
    case kGetFeatures: return features(command, false);
    case kGetLog: return log_page(command);
    case kAbort: command.result = 1; return;           // not aborted: it will end by itself
    case kAsyncEvent: command.status = kHeld; return;  // nothing to tell ever
    default: command.status = kInvalidOpcode;
  }
}

void Nvme::create_completion_queue(Command& command) {
  const u32 id = command.dword(10) & 0xffff, size = (command.dword(10) >> 16) + 1, flags = command.dword(11);
  Lock lock(mutex_);
  if (id == 0 || id > options_.io_queues || completions_[id].valid) command.status = kBadQueueId;
  else if (size < 2 || size > kMaxEntries) command.status = kBadQueueSize;
  else if (!(flags & 1) || command.qword(6) % kPage) command.status = kInvalidField;
  else if ((flags >> 16) > options_.io_queues) command.status = kBadVector;
  else completions_[id] = {.valid = true, .interrupts = (flags & 2) != 0, .base = command.qword(6), .size = size, .vector = static_cast<u16>(flags >> 16)};
}

void Nvme::create_submission_queue(Command& command) {
  const u32 id = command.dword(10) & 0xffff, size = (command.dword(10) >> 16) + 1, flags = command.dword(11), target = flags >> 16;
  Lock lock(mutex_);
  if (id == 0 || id > options_.io_queues || submissions_[id].valid) command.status = kBadQueueId;
  else if (size < 2 || size > kMaxEntries) command.status = kBadQueueSize;
  else if (target == 0 || target > options_.io_queues || !completions_[target].valid) command.status = kBadCompletion;
  else if (!(flags & 1) || command.qword(6) % kPage) command.status = kInvalidField;
  else submissions_[id] = {.valid = true, .base = command.qword(6), .size = size, .completion = static_cast<u16>(target)};
}

void Nvme::delete_queue(Command& command, bool submission) {
  const u32 id = command.dword(10) & 0xffff;
  Lock lock(mutex_);
  const bool known = id != 0 && id <= options_.io_queues && (submission ? submissions_[id].valid : completions_[id].valid);
  if (!known) {
    command.status = kBadQueueId;
  } else if (submission) {
    submissions_[id] = {};
  } else if (std::ranges::any_of(submissions_, [id](const Submission& sq) { return sq.valid && sq.completion == id; })) {
    command.status = kBadDeletion;
  } else {
    completions_[id] = {};
    update_intx();
  }
}

/// 5.21.1.
void Nvme::features(Command& command, bool set) {
  const u8 feature = static_cast<u8>(command.dword(10));
  const u32 value = command.dword(11);
  Lock lock(mutex_);
  switch (feature) {
    case 0x01: case 0x02: case 0x04: case 0x09: case 0x0a: return;  // arbitration, power, temperature, vectors, atomicity
    case 0x06:
      if (set) io_.set_write_cache(value & 1);
      command.result = io_.write_cache();
      return;
    case 0x07: command.result = (options_.io_queues - 1u) << 16 | (options_.io_queues - 1u); return;
    case 0x08:
      if (set) coalescing_ = value & 0xffff;
      command.result = coalescing_;
      return;
    case 0x0b:
      if (set) event_mask_ = value;
      command.result = event_mask_;
      return;
    default: command.status = kInvalidField;
  }
}

/// 5.14: error, health and firmware slot, all of them empty but for what must be there.
void Nvme::log_page(Command& command) {
  const u8 log = static_cast<u8>(command.dword(10));
  const u64 size = ((command.dword(10) >> 16) + u64{1}) * 4, offset = command.qword(12);
  if (log < 1 || log > 3) {
    command.status = kBadLog;
    return;
  }
  std::vector<u8> page(log == 1 ? 64 : 512);
  if (log == 2) {
    store_le<u16>(&page[1], 0x141);  // kelvins
    page[3] = page[4] = 100;
  }
  if (log == 3) put_text(std::span(page).subspan(8, 8), "1.0");
  if (log == 3) page[0] = 1;
  if (offset >= page.size()) {
    command.status = kInvalidField;
    return;
  }
  reply(command, std::span(page).subspan(offset, std::min<u64>(size, page.size() - offset)));
}

/// 5.15.
void Nvme::identify(Command& command) {
  const u8 what = static_cast<u8>(command.dword(10));
  const u32 space = command.namespace_id();
  const bool known = space == 1 || (what == kNamespace && space == kAllNamespaces);
  if ((what == kNamespace || what == kDescriptors) && !known) {
    command.status = kInvalidNamespace;
    return;
  }
  Page page;
  switch (what) {
    case kNamespace: page = namespace_page(options_, blocks()); break;
    case kController: page = controller_page(options_); break;
    case kActiveNamespaces: page.put32(0, space == 0 ? 1 : 0); break;
    case kDescriptors: page = descriptors_page(); break;
    default: command.status = kInvalidField; return;
  }
  reply(command, page.bytes());
}

}  // namespace atl::devices
