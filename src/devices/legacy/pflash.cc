#include "devices/legacy/pflash.h"

#include <algorithm>
#include <bit>

#include <fmt/core.h>

#include "base/log.h"
#include "base/math.h"

namespace atl::devices {
namespace {

enum Command : u8 {
  kReadArray = 0xff, kReadIdentifier = 0x90, kReadQuery = 0x98, kReadStatus = 0x70, kClearStatus = 0x50,
  kProgram = 0x10, kProgramAlternate = 0x40, kErase = 0x20, kBuffer = 0xe8, kLock = 0x60, kConfirm = 0xd0, kLockBlock = 0x01,
};
enum StatusBit : u8 { kReady = 0x80, kEraseError = 0x20, kProgramError = 0x10, kSequenceError = 0x30 };
constexpr u8 kManufacturer = 0x89, kDevice = 0x18;
constexpr u64 kBufferBytes = 2048;
constexpr int kArrayPriority = 2, kCommandPriority = 1;

/// A byte of the CFI query structure (JESD68.01, section 2.4).
u8 query_byte(u64 at, u64 chip_bytes) {
  const auto blocks = static_cast<u32>(chip_bytes / Pflash::kBlockBytes - 1);
  switch (at) {
    case 0x10: return 'Q';
    case 0x11: return 'R';
    case 0x12: return 'Y';
    case 0x13: return 1;      // primary command set: Intel extended
    case 0x15: return 0x31;   // where its table is
    case 0x1b: return 0x45;   // 4.5 V to 5.5 V
    case 0x1c: return 0x55;
    case 0x1f:                // 128 us a byte or a buffer, 1 s a block; twice at most
    case 0x20: return 7;
    case 0x21: return 10;
    case 0x23:
    case 0x24:
    case 0x25: return 1;
    case 0x27: return static_cast<u8>(std::bit_width(chip_bytes - 1));
    case 0x28: return 2;      // 8 and 16 bits
    case 0x2a: return static_cast<u8>(std::countr_zero(kBufferBytes));
    case 0x2c: return 1;      // regions of equal blocks
    case 0x2d: return static_cast<u8>(blocks);
    case 0x2e: return static_cast<u8>(blocks >> 8);
    case 0x2f: return static_cast<u8>(Pflash::kBlockBytes / 256);
    case 0x30: return static_cast<u8>(Pflash::kBlockBytes >> 16);
    case 0x31: return 'P';
    case 0x32: return 'R';
    case 0x33: return 'I';
    case 0x34: return '1';
    case 0x35: return '0';
    default: return 0;
  }
}

}  // namespace

Pflash::Pflash(memory::AddressSpace& memory, Options options) : memory_(memory), options_(std::move(options)) {
  status_ = kReady;
}

Result<std::unique_ptr<Pflash>> Pflash::create(memory::AddressSpace& memory, Options options) {
  CHECK(options.ram->size() % kBlockBytes == 0);
  std::unique_ptr<Pflash> flash(new Pflash(memory, std::move(options)));
  TRY(flash->map());
  return flash;
}

Pflash::~Pflash() {
  if (array_) memory_.remove(array_);
  if (commands_) memory_.remove(commands_);
  if (public_) memory_.remove(public_);
}

/// The array covers the command registers while it is read.
Status Pflash::map() {
  const u64 size = options_.ram->size();
  commands_ = TRY(memory_.add({.name = options_.name + " commands", .base = options_.base, .size = size, .priority = kCommandPriority, .device = this,
                               .audience = audience()}));
  if (options_.secure)
    public_ = TRY(memory_.add({.name = options_.name, .base = options_.base, .size = size, .priority = kArrayPriority, .ram = options_.ram,
                               .readonly = true, .audience = memory::Audience::NormalOnly}));
  Lock lock(mutex_);
  enter(Mode::Array);
  return {};
}

void Pflash::enter(Mode mode) {
  mode_ = mode;
  if ((mode == Mode::Array) == (array_ != 0)) return;
  if (array_) {
    memory_.remove(std::exchange(array_, memory::RegionId{0}));
    return;
  }
  auto region = memory_.add({.name = options_.name, .base = options_.base, .size = options_.ram->size(), .priority = kArrayPriority,
                             .device = this, .ram = options_.ram, .readonly = true, .audience = audience()});
  if (region) array_ = *region;
}

void Pflash::reset() {
  Lock lock(mutex_);
  status_ = kReady;
  step_ = Step::Command;
  buffer_.clear();
  enter(Mode::Array);
}

void Pflash::visit(Archive& archive) {
  Lock lock(mutex_);
  Mode mode = mode_;
  archive.field(1, "mode", mode);
  archive.field(2, "step", step_);
  archive.field(3, "status", status_);
  archive.field(4, "expected", expected_);
  archive.field(5, "buffer_at", buffer_at_);
  std::vector<u8> data;
  for (auto [offset, value] : buffer_) {
    for (unsigned i = 0; i < 8; ++i) data.push_back(static_cast<u8>(offset >> (8 * i)));
    data.push_back(value);
  }
  archive.blob(6, "buffer", data, 9 * kBufferBytes);
  if (!archive.loading()) return;
  if (mode > Mode::Query || step_ > Step::BufferConfirm || expected_ > kBufferBytes) return archive.fail("flash: no such state");
  buffer_.clear();
  for (size_t at = 0; at + 9 <= data.size(); at += 9) {
    u64 offset = 0;
    for (unsigned i = 0; i < 8; ++i) offset |= u64{data[at + i]} << (8 * i);
    buffer_.emplace_back(offset % options_.ram->size(), data[at + 8]);
  }
  buffer_at_ %= options_.ram->size();
  enter(mode);
}

u8 Pflash::read_byte(u64 offset) {
  Lock lock(mutex_);
  switch (mode_) {
    case Mode::Array: return options_.ram->data()[offset];
    case Mode::Status: return status_;
    case Mode::Query: return query_byte(offset & 0xff, options_.ram->size());
    case Mode::Identifier: break;
  }
  switch (offset & 0xff) {
    case 0: return kManufacturer;
    case 1: return kDevice;
    default: return 0;  // no block is locked
  }
}

void Pflash::write_byte(u64 offset, u8 value) {
  Lock lock(mutex_);
  if (step_ == Step::Command) write_command(value);
  else write_argument(offset, value);
}

void Pflash::write_command(u8 command) {
  switch (command) {
    case kProgram:
    case kProgramAlternate: step_ = Step::Program; return enter(Mode::Status);
    case kErase: step_ = Step::EraseConfirm; return enter(Mode::Status);
    case kLock: step_ = Step::LockConfirm; return enter(Mode::Status);
    case kBuffer:
      step_ = Step::BufferCount;
      status_ |= kReady;
      return enter(Mode::Status);
    case kReadStatus: return enter(Mode::Status);
    case kReadIdentifier: return enter(Mode::Identifier);
    case kReadQuery: return enter(Mode::Query);
    case kClearStatus: status_ = 0; return enter(Mode::Array);
    default: return enter(Mode::Array);
  }
}

/// The second and later cycles of a command.
void Pflash::write_argument(u64 offset, u8 value) {
  switch (step_) {
    case Step::Command: return;
    case Step::Program:
      if (!options_.readonly) program(offset, value);
      return finish(failure(kProgramError));
    case Step::EraseConfirm:
      if (value != kConfirm) return finish(kSequenceError);
      if (!options_.readonly) erase(offset);
      return finish(failure(kEraseError));
    case Step::LockConfirm: return finish(value == kConfirm || value == kLockBlock ? 0 : u8{kSequenceError});
    case Step::BufferCount:
      expected_ = static_cast<u16>(value + 1);
      buffer_at_ = align_down(offset, kBlockBytes);
      buffer_.clear();
      step_ = Step::BufferData;
      return;
    case Step::BufferData:
      buffer_.emplace_back(offset, value);
      if (--expected_ == 0) step_ = Step::BufferConfirm;
      return;
    case Step::BufferConfirm:
      if (value != kConfirm) return finish(kSequenceError);
      if (!options_.readonly) program_buffer();
      return finish(failure(kProgramError));
  }
}

void Pflash::finish(u8 error) {
  status_ |= kReady | error;
  step_ = Step::Command;
  buffer_.clear();
}

/// Programming clears bits; only an erase sets them.
void Pflash::program(u64 offset, u8 value) {
  u8& cell = options_.ram->data()[offset];
  if ((cell & value) == cell) return;
  cell &= value;
  changed(offset);
}

void Pflash::program_buffer() {
  for (auto [offset, value] : buffer_) {
    if (align_down(offset, kBlockBytes) == buffer_at_) program(offset, value);
  }
}

void Pflash::erase(u64 offset) {
  const u64 start = align_down(offset, kBlockBytes);
  std::fill_n(options_.ram->data() + start, kBlockBytes, u8{0xff});
  changed(start);
}

void Pflash::changed(u64 offset) {
  changed_.insert(offset / kBlockBytes);
  if (std::exchange(writing_, true) || !options_.image) return;
  options_.loop->post([this] { start(write_back(), [](bool) {}); });
}

std::vector<u8> Pflash::take_changed(u64& offset) {
  Lock lock(mutex_);
  if (changed_.empty()) return {};
  offset = *changed_.begin() * kBlockBytes;
  changed_.erase(changed_.begin());
  const u8* data = options_.ram->data() + offset;
  return {data, data + kBlockBytes};
}

Task<bool> Pflash::write_back() {
  u64 offset = 0;
  for (std::vector<u8> block = take_changed(offset); !block.empty(); block = take_changed(offset)) {
    const iovec data = {block.data(), block.size()};
    Status written = co_await options_.image->write(offset, std::span(&data, 1), 0);
    if (!written) log_error("{}: {}", options_.name, written.error().text());
  }
  std::vector<std::function<void()>> done;
  bool more = false;
  {
    Lock lock(mutex_);
    more = !changed_.empty();
    writing_ = more;
    if (!more) done.swap(waiting_);
  }
  if (more) options_.loop->post([this] { start(write_back(), [](bool) {}); });
  for (auto& call : done) call();
  co_return true;
}

void Pflash::quiesce(std::function<void()> done) {
  {
    Lock lock(mutex_);
    if (writing_ && options_.image) {
      waiting_.push_back(std::move(done));
      return;
    }
  }
  done();
}

}  // namespace atl::devices
