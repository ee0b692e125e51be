// Framing of gdb's remote serial protocol: $payload#checksum, acknowledgements, the interrupt byte.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace atl::control {

/// Collects bytes into packets. Hostile input costs at most kMaxPacket bytes.
class GdbPacketReader {
 public:
  static constexpr size_t kMaxPacket = 16384;  // of payload; told to gdb as PacketSize
  enum class Kind : u8 { Packet, Damaged, Interrupt, Rejected };
  struct Item {
    Kind kind;
    std::string payload;  // Packet: with escapes undone
  };

  /// What the bytes complete, in order.
  std::vector<Item> feed(std::span<const u8> bytes);

 private:
  std::optional<Item> feed(u8 byte);
  Item finish();

  enum class State : u8 { Idle, Payload, Checksum1, Checksum2 } state_ = State::Idle;
  std::string raw_;
  u8 checksum_digits_[2]{};
  bool overflow_ = false;
};

/// A reply as it goes over the wire, escaped where binary data needs it.
std::string gdb_frame(std::string_view payload);

std::string to_hex(std::span<const u8> bytes);
/// nullopt for an odd length or a character that is no hexadecimal digit.
std::optional<std::vector<u8>> from_hex(std::string_view text);
/// A number in hexadecimal, all of `text`, at most 16 digits.
std::optional<u64> hex_number(std::string_view text);

}  // namespace atl::control
