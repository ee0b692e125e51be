// A 93C46 (64 words) or 93C66 (256 words) EEPROM on its three wires, as cards let drivers wiggle them. Microchip DS21794.
// Supported: READ (with the next words following), WRITE, ERASE, EWEN, EWDS. Missing: WRAL, ERAL.
//
// Not thread-safe: the card's mutex guards it.
#pragma once

#include <vector>

#include "base/archive.h"
#include "base/types.h"

namespace atl::devices {

class MicrowireEeprom {
 public:
  /// `words` is 64 or 256.
  explicit MicrowireEeprom(unsigned words) : address_bits_(words == 64 ? 6 : 8), words_(words) {}

  u16 word(unsigned index) const { return words_[index % words_.size()]; }
  void set_word(unsigned index, u16 value) { words_[index % words_.size()] = value; }
  unsigned size() const { return static_cast<unsigned>(words_.size()); }

  /// Chip select, clock and data in, as they are now.
  void set_pins(bool select, bool clock, bool data);
  bool data_out() const { return out_; }
  /// The wires at rest; the contents stay.
  void reset();
  void visit(Archive& archive);

 private:
  enum class Phase : u8 { Idle, Command, Reading, Writing, Done };
  void clock_in(bool bit);
  void decode();
  void start_word();

  const unsigned address_bits_;
  std::vector<u16> words_;
  Phase phase_ = Phase::Idle;
  u8 bits_ = 0;          // of the phase so far
  u16 shift_ = 0;
  u16 address_ = 0;
  bool clock_ = false, out_ = true, write_enabled_ = false;
};

}  // namespace atl::devices
