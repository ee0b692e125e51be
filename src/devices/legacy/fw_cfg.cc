#include "devices/legacy/fw_cfg.h"

#include "base/endian.h"
#include "base/math.h"

namespace atl::devices {
namespace {

enum Port : u64 { kSelector = 0, kData = 1, kDmaHigh = 4, kDmaLow = 8 };
enum DmaControl : u32 { kError = 1, kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16 };
constexpr u32 kInterfaces = 3;  // traditional and DMA
constexpr u64 kDmaSignature = 0x51454d5520434647;  // "QEMU CFG", read back from the DMA register
constexpr size_t kNameBytes = 56;
constexpr size_t kDirectoryEntryBytes = 64;

}  // namespace

FwCfg::FwCfg(memory::AddressSpace& memory) : memory_(memory) {
  add(kSignature, {'Q', 'E', 'M', 'U'});
  add_u32(kId, kInterfaces);
  Lock lock(mutex_);
  publish_directory();
}

void FwCfg::reset() {
  Lock lock(mutex_);
  select(0);
  dma_high_ = 0;
}

void FwCfg::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "selector", selector_);
  archive.field(2, "offset", offset_);
  archive.field(3, "dma_high", dma_high_);
}

void FwCfg::add(u16 key, std::vector<u8> data) {
  Lock lock(mutex_);
  items_[key] = std::move(data);
}

void FwCfg::add_u16(u16 key, u16 value) {
  std::vector<u8> data(2);
  store_le(data.data(), value);
  add(key, std::move(data));
}

void FwCfg::add_u32(u16 key, u32 value) {
  std::vector<u8> data(4);
  store_le(data.data(), value);
  add(key, std::move(data));
}

void FwCfg::add_file(const std::string& name, std::vector<u8> data) {
  CHECK(name.size() < kNameBytes);
  Lock lock(mutex_);
  const u16 next = static_cast<u16>(kFirstFile + files_.size());
  const u16 key = files_.try_emplace(name, next).first->second;
  items_[key] = std::move(data);
  publish_directory();
}

void FwCfg::add_live_file(const std::string& name, LiveFile file) {
  add_file(name, std::vector<u8>(file.size_bytes));
  Lock lock(mutex_);
  live_[files_[name]] = std::move(file);
}

/// The directory: a big-endian count, then size, key, reserved and name of each file, ordered by name.
void FwCfg::publish_directory() {
  std::vector<u8> directory(4 + files_.size() * kDirectoryEntryBytes);
  store_be(directory.data(), static_cast<u32>(files_.size()));
  u8* entry = directory.data() + 4;
  for (const auto& [name, key] : files_) {
    store_be(entry, static_cast<u32>(items_[key].size()));
    store_be(entry + 4, key);
    std::memcpy(entry + 8, name.data(), name.size());
    entry += kDirectoryEntryBytes;
  }
  items_[kFileDirectory] = std::move(directory);
}

u64 FwCfg::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  if (offset == kSelector) return selector_ & byte_mask(width);
  if (offset == kData) return width == 1 ? next_byte() : 0;
  if (offset >= kDmaHigh && width <= 4 && offset % width == 0) {
    u8 signature[8];
    store_be(signature, kDmaSignature);
    return load_le_n(signature + (offset - kDmaHigh), width);
  }
  return 0;
}

void FwCfg::bus_write(u64 offset, u64 value, unsigned width) {
  Lock lock(mutex_);
  if (offset == kSelector && width == 2) select(static_cast<u16>(value));
  if (width != 4) return;
  const u32 word = std::byteswap(static_cast<u32>(value));  // the DMA register is big-endian
  if (offset == kDmaHigh) dma_high_ = word;
  if (offset == kDmaLow) run_dma(u64{std::exchange(dma_high_, 0u)} << 32 | word);
}

void FwCfg::select(u16 key) {
  selector_ = key;
  offset_ = 0;
  if (auto live = live_.find(key); live != live_.end()) items_[key] = live->second.read();
}

const std::vector<u8>* FwCfg::selected() const {
  auto found = items_.find(selector_);
  return found == items_.end() ? nullptr : &found->second;
}

u8 FwCfg::next_byte() {
  const std::vector<u8>* item = selected();
  return item && offset_ < item->size() ? (*item)[offset_++] : 0;
}

void FwCfg::run_dma(u64 request_address) {
  const auto memory = memory_.guest_memory();
  u8 raw[16];
  if (!memory->read(request_address, raw)) return;  // nowhere to report an error to
  const DmaRequest request{load_be<u32>(raw), load_be<u32>(raw + 4), load_be<u64>(raw + 8)};
  u8 result[4];
  store_be(result, execute(request, *memory) ? u32{0} : u32{kError});
  (void)memory->write(request_address, result);
}

bool FwCfg::execute(const DmaRequest& request, const memory::GuestMemory& memory) {
  if (request.control & kSelect) select(static_cast<u16>(request.control >> 16));
  if (request.control & kRead) return read_to(memory, request);
  if (request.control & kWrite) return write_from(memory, request);
  if (request.control & kSkip) offset_ += request.length;
  return true;
}

/// Only what lies within the item.
bool FwCfg::write_from(const memory::GuestMemory& memory, const DmaRequest& request) {
  auto live = live_.find(selector_);
  if (live == live_.end() || !live->second.written) return false;
  std::vector<u8>& item = items_[selector_];
  if (offset_ > item.size() || request.length > item.size() - offset_) return false;
  if (!memory.read(request.address, std::span(item).subspan(offset_, request.length))) return false;
  offset_ += request.length;
  live->second.written(item);
  return true;
}

/// Past the item's end, zeroes are read.
bool FwCfg::read_to(const memory::GuestMemory& memory, const DmaRequest& request) {
  const std::vector<u8>* item = selected();
  const u64 size = item ? item->size() : 0;
  const u64 left = offset_ < size ? size - offset_ : 0;
  const u64 copied = std::min<u64>(left, request.length);
  if (copied && !memory.write(request.address, {item->data() + offset_, copied})) return false;
  offset_ += request.length;
  const u64 zeroes = request.length - copied;
  const auto tail = checked_add(request.address, copied);
  return zeroes == 0 || (tail && memory.fill(*tail, 0, zeroes));
}

}  // namespace atl::devices
