#include "devices/nic/microwire_eeprom.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices {
namespace {

enum Opcode : u16 { kExtended = 0, kWrite = 1, kRead = 2, kErase = 3 };
constexpr u16 kEnable = 3, kDisable = 0;  // the upper two address bits of an extended command
constexpr u8 kWordBits = 16;

}  // namespace

void MicrowireEeprom::set_pins(bool select, bool clock, bool data) {
  const bool rising = clock && !clock_;
  clock_ = clock;
  if (!select) {
    phase_ = Phase::Idle;
    bits_ = 0;
    out_ = true;
    return;
  }
  if (rising) clock_in(data);
}

void MicrowireEeprom::clock_in(bool bit) {
  switch (phase_) {
    case Phase::Idle:  // a start bit begins a command
      if (bit) phase_ = Phase::Command, bits_ = 0, shift_ = 0;
      return;
    case Phase::Command:
      shift_ = static_cast<u16>(shift_ << 1 | (bit ? 1 : 0));
      if (++bits_ == 2 + address_bits_) decode();
      return;
    case Phase::Reading:
      out_ = (shift_ & 0x8000) != 0;
      shift_ = static_cast<u16>(shift_ << 1);
      if (++bits_ < kWordBits) return;
      ++address_;
      return start_word();
    case Phase::Writing:
      shift_ = static_cast<u16>(shift_ << 1 | (bit ? 1 : 0));
      if (++bits_ < kWordBits) return;
      if (write_enabled_) set_word(address_, shift_);
      phase_ = Phase::Done;
      out_ = true;  // ready again
      return;
    case Phase::Done: return;
  }
}

void MicrowireEeprom::start_word() {
  shift_ = word(address_);
  bits_ = 0;
}

void MicrowireEeprom::decode() {
  const u16 opcode = static_cast<u16>(shift_ >> address_bits_ & 3);
  address_ = static_cast<u16>(shift_ & ((1u << address_bits_) - 1));
  phase_ = Phase::Done;
  bits_ = 0;
  if (opcode == kRead) {
    phase_ = Phase::Reading;
    out_ = false;  // the dummy bit
    start_word();
  } else if (opcode == kWrite) {
    phase_ = Phase::Writing;
    shift_ = 0;
  } else if (opcode == kErase) {
    if (write_enabled_) set_word(address_, 0xffff);
  } else {
    const u16 which = static_cast<u16>(address_ >> (address_bits_ - 2));
    if (which == kEnable || which == kDisable) write_enabled_ = which == kEnable;
  }
}

void MicrowireEeprom::reset() {
  phase_ = Phase::Idle;
  bits_ = 0;
  clock_ = write_enabled_ = false;
  out_ = true;
}

void MicrowireEeprom::visit(Archive& archive) {
  std::vector<u8> bytes(words_.size() * 2);
  for (size_t i = 0; i < words_.size(); ++i) store_le<u16>(&bytes[2 * i], words_[i]);
  archive.bytes(1, "words", bytes);
  for (size_t i = 0; i < words_.size(); ++i) words_[i] = load_le<u16>(&bytes[2 * i]);
  archive.field(2, "phase", phase_);
  archive.field(3, "bits", bits_);
  archive.field(4, "shift", shift_);
  archive.field(5, "address", address_);
  archive.field(6, "clock", clock_);
  archive.field(7, "out", out_);
  archive.field(8, "write_enabled", write_enabled_);
  if (phase_ > Phase::Done || bits_ > kWordBits) archive.fail("the EEPROM's wires are in no known phase");
}

}  // namespace atl::devices
