// Registers of the Intel gigabit cards: what reads and writes do (13.4; 82574 chapter 10).
#include <algorithm>

#include "base/endian.h"
#include "devices/nic/e1000.h"

namespace atl::devices {

using namespace e1000;

namespace {

constexpr u64 kIoAddress = 0, kIoData = 4;
constexpr u32 kRingBytesMask = 0xfff80;

/// Registers that are stored as written, in order; every other one without a meaning of its own ignores writes.
struct Stored {
  u32 first, last;  // offsets, inclusive
  u32 mask = ~u32{0};
};
constexpr Stored kStored[] = {
    {0x0028, 0x0030},           // flow control addresses and type
    {kVet, kVet, 0xffff},
    {kItr, kItr, 0xffff},
    {kEiac, kEiac, 0x01f00000}, // 82574
    {kIam, kIvar},
    {0x00e8, 0x00f8},           // EITR
    {0x0170, 0x0178},           // FCTTV, TXCW
    {kTctl, 0x0410}, {0x0458, 0x0458},
    {0x0e00, 0x0e00},           // LEDCTL
    {0x0f10, 0x0f10},
    {kPba, kPba}, {0x1008, 0x1008}, {0x102c, 0x102c},
    {0x2160, 0x2170}, {0x2820, 0x2840}, {0x2920, 0x2940}, {0x2c00, 0x2c08},
    {0x3410, 0x3430}, {0x3820, 0x3840}, {0x3920, 0x3940},
    {kRxcsum, 0x5010}, {kMta, kRalEnd - 4}, {kVfta, kVftaEnd - 4},
    {0x5800, 0x5818}, {0x5820, 0x5820}, {0x5838, 0x5880}, {0x5a00, 0x5afc},
    {0x5b00, 0x5b00}, {0x5b60, 0x5bfc}, {0x5c00, 0x5cfc},
    {0x5f00, 0x5ffc}, {0x9000, 0x93fc}, {0xb600, 0xb6fc},
};

const Stored* find_stored(u32 offset) {
  auto found = std::ranges::find_if(kStored, [&](const Stored& s) { return offset >= s.first && offset <= s.last; });
  return found == std::end(kStored) ? nullptr : found;
}

bool is_receive_ring(u32 offset) { return (offset & ~kQueueStride) >= kRdbal && (offset & ~kQueueStride) <= kRdt; }
bool is_transmit_ring(u32 offset) { return (offset & ~kQueueStride) >= kTdbal && (offset & ~kQueueStride) <= kTdt; }

}  // namespace

u64 E1000::Registers::bus_read(u64 offset, unsigned width) {
  Lock lock(card_.mutex_);
  const u32 value = card_.read_register(static_cast<u32>(offset) & ~3u);
  u64 wide = value;
  if (width == 8) wide |= u64{card_.read_register((static_cast<u32>(offset) & ~3u) + 4)} << 32;
  return wide >> (8 * (offset & 3)) & byte_mask(width);
}

/// Registers are written as a whole (13.3).
void E1000::Registers::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset & 3 || width < 4) return;
  Lock lock(card_.mutex_);
  card_.write_register(static_cast<u32>(offset), static_cast<u32>(value));
  if (width == 8) card_.write_register(static_cast<u32>(offset) + 4, static_cast<u32>(value >> 32));
}

u64 E1000::IoWindow::bus_read(u64 offset, unsigned width) {
  if (offset == kIoAddress) return address;
  return offset == kIoData && address < kRegisterBytes ? card_.window_.bus_read(address & ~3u, width) : 0;
}

void E1000::IoWindow::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset == kIoAddress) address = static_cast<u32>(value) & (kRegisterBytes - 1);
  if (offset == kIoData) card_.window_.bus_write(address & ~3u, value, width);
}

u32 E1000::read_register(u32 offset) {
  switch (offset) {
    case kStatus: return read_status();
    case kEecd: return read_eecd();
    case kIcr: return read_causes();
    case kImc: return reg(kIms);
    case kSwsm: {  // reading takes the semaphore
      const u32 value = reg(kSwsm);
      reg(kSwsm) |= kSwsmSmbi;
      return value;
    }
    default: break;
  }
  if (offset >= kStoredBytes) return 0;
  const u32 value = reg(offset);
  if (offset >= kStatistics && offset < kStatisticsEnd) reg(offset) = 0;
  return value;
}

u32 E1000::read_status() {
  u32 status = kStatusFd | kStatusSpeed1000 | kStatusDetected1000 | (reg(kStatus) & kStatusPhyra);
  if (link_) status |= kStatusLu;
  if (is_82574() && !(reg(kCtrl) & kCtrlMasterDisable)) status |= kStatusMasterEnable;
  return status;
}

u32 E1000::read_eecd() {
  u32 value = (eecd_ & (kEecdSk | kEecdCs | kEecdDi | kEecdReq)) | kEecdPres;
  if (eecd_ & kEecdReq) value |= kEecdGnt;
  if (is_82574()) return value | kEecdAutoRd;  // in the 82540 this bit tells of a large EEPROM
  return value | (!(eecd_ & kEecdCs) || eeprom_.data_out() ? kEecdDo : 0);
}

void E1000::write_register(u32 offset, u32 value) {
  if (offset >= kStoredBytes) return;
  if (is_receive_ring(offset) || is_transmit_ring(offset)) return write_ring_register(offset, value);
  switch (offset) {
    case kCtrl: return write_control(value);
    case kStatus: reg(kStatus) &= value | ~kStatusPhyra; return;
    case kEecd: return write_eecd(value);
    case kEerd: return write_eerd(value);
    case kMdic: return write_mdic(value);
    case kCtrlExt: reg(kCtrlExt) = value; return update_interrupt();
    case kIcr:
      reg(kIcr) &= ~value;
      if (is_82574() && (reg(kCtrlExt) & kCtrlExtIame)) reg(kIms) &= ~reg(kIam);
      return update_interrupt();
    case kIcs: return raise(value & ~kIntAsserted);
    case kIms: reg(kIms) |= value & ~kIntAsserted; return update_interrupt();
    case kImc: reg(kIms) &= ~value; return update_interrupt();
    case kRctl:
      reg(kRctl) = value;
      return port_.resume_receive();
    case kExtcnfCtrl: reg(kExtcnfCtrl) = value; return;  // the PHY's semaphore is always granted
    case kSwsm: reg(kSwsm) = value; return;
    default: break;
  }
  if (const Stored* stored = find_stored(offset)) reg(offset) = value & stored->mask;
  if (offset == kTctl) port_.kick();
}

void E1000::write_ring_register(u32 offset, u32 value) {
  const bool second = offset & kQueueStride;
  if (second && !is_82574()) return;
  const u32 field = offset & ~kQueueStride;
  if (field == kRdbal || field == kTdbal) value &= ~15u;
  else if (field == kRdlen || field == kTdlen) value &= kRingBytesMask;
  else if (field != kRdbah && field != kTdbah) value &= 0xffff;
  reg(offset) = value;
  if (field == kRdt) port_.resume_receive();
  if (field == kTdt) port_.kick();
}

void E1000::write_control(u32 value) {
  if (value & kCtrlRst) {
    outgoing_reset_ = true;
    reset_registers();
    return port_.resume_receive();
  }
  if (value & kCtrlPhyRst) {
    reset_phy();
    reg(kStatus) |= kStatusPhyra;
  }
  reg(kCtrl) = value & ~(kCtrlRst | kCtrlPhyRst);
}

void E1000::write_eecd(u32 value) {
  eecd_ = value;
  if (!is_82574()) eeprom_.set_pins(value & kEecdCs, value & kEecdSk, value & kEecdDi);
}

void E1000::write_eerd(u32 value) {
  if (!(value & kEerdStart)) {
    reg(kEerd) = value;
    return;
  }
  const unsigned index = is_82574() ? value >> 2 & 0x3fff : value >> 8 & 0xff;
  const u32 data = index < eeprom_.size() ? eeprom_.word(index) : 0xffff;
  reg(kEerd) = (value & 0xffff & ~kEerdStart) | (is_82574() ? kEerdDone82574 : kEerdDone) | data << 16;
}

void E1000::write_mdic(u32 value) {
  const u8 index = static_cast<u8>(value >> 16 & 31), address = static_cast<u8>(value >> 21 & 31);
  u32 result = value | kMdicReady;
  if (address != 1) result |= kMdicError;
  else if ((value & (3 << 26)) == kMdicRead) result = (result & 0xffff0000) | phy_[index];
  else if ((value & (3 << 26)) == kMdicWrite) write_phy(index, static_cast<u16>(value));
  reg(kMdic) = result;
  if (value & kMdicInterrupt) raise(kMdac);
}

void E1000::write_phy(u8 index, u16 value) {
  if (index == kPhyStatus || index == kPhyId1 || index == kPhyId2 || index == kPhyPartner || index == kPhyExpansion ||
      index == kPhy1000Status || index == kPhyExtStatus || index == kPhySpecStatus)
    return;
  if (index == kPhyControl && (value & kPhyReset)) return reset_phy();
  const bool negotiates = index == kPhyControl && (value & kPhyRestartAutoneg);
  phy_[index] = negotiates ? static_cast<u16>(value & ~kPhyRestartAutoneg) : value;
  if (negotiates && link_) raise(kLsc);
}

}  // namespace atl::devices
