#include "control/gdb/packet.h"

#include <charconv>
#include <numeric>

namespace atl::control {
namespace {

constexpr char kEscape = '}', kEscapeMask = 0x20;

std::optional<u8> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<u8>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<u8>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<u8>(c - 'A' + 10);
  return std::nullopt;
}

u8 checksum(std::string_view raw) {
  return std::accumulate(raw.begin(), raw.end(), u8{0}, [](u8 sum, char c) { return static_cast<u8>(sum + static_cast<u8>(c)); });
}

std::string unescape(std::string_view raw) {
  std::string out;
  for (size_t i = 0; i < raw.size(); ++i) {
    bool escaped = raw[i] == kEscape && i + 1 < raw.size();
    out.push_back(escaped ? static_cast<char>(raw[++i] ^ kEscapeMask) : raw[i]);
  }
  return out;
}

}  // namespace

std::vector<GdbPacketReader::Item> GdbPacketReader::feed(std::span<const u8> bytes) {
  std::vector<Item> items;
  for (u8 byte : bytes) {
    if (auto item = feed(byte)) items.push_back(std::move(*item));
  }
  return items;
}

std::optional<GdbPacketReader::Item> GdbPacketReader::feed(u8 byte) {
  switch (state_) {
    case State::Idle:
      if (byte == 3) return Item{Kind::Interrupt, {}};
      if (byte == '-') return Item{Kind::Rejected, {}};
      if (byte == '$') state_ = State::Payload;
      return std::nullopt;
    case State::Payload:
      if (byte == '#') {
        state_ = State::Checksum1;
      } else if (raw_.size() < kMaxPacket) {
        raw_.push_back(static_cast<char>(byte));
      } else {
        overflow_ = true;
      }
      return std::nullopt;
    case State::Checksum1:
      checksum_digits_[0] = byte;
      state_ = State::Checksum2;
      return std::nullopt;
    default:
      checksum_digits_[1] = byte;
      return finish();
  }
}

GdbPacketReader::Item GdbPacketReader::finish() {
  auto high = digit(static_cast<char>(checksum_digits_[0])), low = digit(static_cast<char>(checksum_digits_[1]));
  bool good = !overflow_ && high && low && (*high << 4 | *low) == checksum(raw_);
  Item item{good ? Kind::Packet : Kind::Damaged, good ? unescape(raw_) : std::string()};
  raw_.clear();
  overflow_ = false;
  state_ = State::Idle;
  return item;
}

std::string gdb_frame(std::string_view payload) {
  std::string raw;
  for (char c : payload) {
    if (c == '$' || c == '#' || c == kEscape || c == '*') {
      raw.push_back(kEscape);
      c = static_cast<char>(c ^ kEscapeMask);
    }
    raw.push_back(c);
  }
  u8 sum = checksum(raw);
  return "$" + raw + "#" + to_hex({&sum, 1});
}

std::string to_hex(std::span<const u8> bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (u8 byte : bytes) {
    text.push_back("0123456789abcdef"[byte >> 4]);
    text.push_back("0123456789abcdef"[byte & 15]);
  }
  return text;
}

std::optional<std::vector<u8>> from_hex(std::string_view text) {
  if (text.size() % 2) return std::nullopt;
  std::vector<u8> bytes;
  bytes.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    auto high = digit(text[i]), low = digit(text[i + 1]);
    if (!high || !low) return std::nullopt;
    bytes.push_back(static_cast<u8>(*high << 4 | *low));
  }
  return bytes;
}

std::optional<u64> hex_number(std::string_view text) {
  u64 value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace atl::control
