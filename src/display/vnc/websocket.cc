#include "display/vnc/websocket.h"

#include <nettle/sha1.h>

#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/base64.h"
#include "base/endian.h"
#include "base/strings.h"

namespace atl::display::vnc {
namespace {

constexpr size_t kMaxRequest = 8192;
constexpr size_t kMaxControl = 125;
enum Opcode : u8 { kContinuation = 0, kBinary = 2, kClose = 8, kPing = 9, kPong = 10 };
constexpr u8 kFinal = 0x80, kMasked = 0x80, kReserved = 0x70, kControlBit = 8;
constexpr std::string_view kEnd = "\r\n\r\n";

void append(std::vector<u8>& out, std::string_view text) { out.insert(out.end(), text.begin(), text.end()); }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

/// The header lines by their names in lower case. A line without a colon counts for nothing.
std::map<std::string, std::string> header_fields(std::string_view request) {
  std::map<std::string, std::string> fields;
  for (std::string_view line : split(request, '\n')) {
    const size_t colon = line.find(':');
    if (colon != line.npos) fields[lower(trim(line.substr(0, colon)))] = std::string(trim(line.substr(colon + 1)));
  }
  return fields;
}

/// Section 4.2.2: the key with a fixed text behind it, hashed.
std::string accept_value(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  sha1_ctx context;
  nettle_sha1_init(&context);
  nettle_sha1_update(&context, text.size(), reinterpret_cast<const u8*>(text.data()));
  u8 digest[SHA1_DIGEST_SIZE];
  nettle_sha1_digest(&context, sizeof digest, digest);
  return encode_base64({reinterpret_cast<const char*>(digest), sizeof digest});
}

bool lists(const std::string& values, std::string_view wanted) {
  return std::ranges::any_of(split(values, ','), [&](std::string_view v) { return lower(trim(v)) == wanted; });
}

void put_header(u8 first, size_t size, std::vector<u8>& out) {
  out.push_back(first);
  if (size < 126) {
    out.push_back(static_cast<u8>(size));
  } else if (size < 65536) {
    out.insert(out.end(), {126, static_cast<u8>(size >> 8), static_cast<u8>(size)});
  } else {
    out.push_back(127);
    for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<u8>(size >> shift));
  }
}

}  // namespace

bool WebSocket::receive(std::span<const u8> bytes, std::vector<u8>& content, std::vector<u8>& answer) {
  input_.insert(input_.end(), bytes.begin(), bytes.end());
  if (!open_) {
    const auto end = std::ranges::search(input_, kEnd);
    if (end.empty()) return input_.size() <= kMaxRequest;
    if (!open_by_request(answer)) return false;
    input_.erase(input_.begin(), end.end());
    open_ = true;
  }
  return take_frames(content, answer);
}

/// Section 4.2.1. A wrong request is told so, in HTTP.
bool WebSocket::open_by_request(std::vector<u8>& answer) {
  const std::string_view request(reinterpret_cast<const char*>(input_.data()), input_.size());
  auto fields = header_fields(request.substr(0, request.find(kEnd)));
  const std::string& key = fields["sec-websocket-key"];
  const bool good = request.starts_with("GET ") && lower(fields["upgrade"]) == "websocket" && lists(fields["connection"], "upgrade") &&
                    fields["sec-websocket-version"] == "13" && !key.empty();
  if (!good) {
    append(answer, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n\r\n");
    return false;
  }
  append(answer, fmt::format("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: {}\r\n{}\r\n", accept_value(key),
                             lists(fields["sec-websocket-protocol"], "binary") ? "Sec-WebSocket-Protocol: binary\r\n" : ""));
  return true;
}

bool WebSocket::take_frames(std::vector<u8>& content, std::vector<u8>& answer) {
  while (true) {
    if (!in_frame_) {
      const size_t before = input_.size();
      if (!begin_frame()) return false;
      if (!in_frame_ || input_.size() == before) return true;  // the header is not complete
    }
    take_payload(content);
    if (left_ > 0) return true;
    in_frame_ = false;
    if ((opcode_ & kControlBit) && !end_control(answer)) return false;
    if (input_.empty()) return true;
  }
}

/// Section 5.2. False: not allowed.
bool WebSocket::begin_frame() {
  if (input_.size() < 2) return true;
  const u8 first = input_[0], second = input_[1];
  opcode_ = first & 15;
  const bool control = opcode_ & kControlBit;
  const bool known = opcode_ == kContinuation || opcode_ == kBinary || (opcode_ >= kClose && opcode_ <= kPong);
  if (!known || (first & kReserved) || !(second & kMasked)) return false;
  const size_t length = second & 0x7f, extra = length == 127 ? 8 : length == 126 ? 2 : 0;
  if (control && (length > kMaxControl || !(first & kFinal))) return false;
  if (input_.size() < 2 + extra + sizeof mask_) return true;
  left_ = extra == 8 ? load_be<u64>(&input_[2]) : extra == 2 ? load_be<u16>(&input_[2]) : length;
  std::copy_n(input_.begin() + static_cast<i64>(2 + extra), sizeof mask_, mask_);
  mask_at_ = 0;
  input_.erase(input_.begin(), input_.begin() + static_cast<i64>(2 + extra + sizeof mask_));
  control_.clear();
  in_frame_ = true;
  return true;
}

void WebSocket::take_payload(std::vector<u8>& content) {
  const size_t size = static_cast<size_t>(std::min<u64>(left_, input_.size()));
  std::vector<u8>& to = opcode_ & kControlBit ? control_ : content;
  for (size_t i = 0; i < size; ++i) to.push_back(input_[i] ^ mask_[mask_at_++ % 4]);
  input_.erase(input_.begin(), input_.begin() + static_cast<i64>(size));
  left_ -= size;
}

/// Pings and closings are answered with their own payload.
bool WebSocket::end_control(std::vector<u8>& answer) {
  if (opcode_ == kPong) return true;
  put_header(static_cast<u8>(kFinal | (opcode_ == kPing ? kPong : kClose)), control_.size(), answer);
  answer.insert(answer.end(), control_.begin(), control_.end());
  return opcode_ == kPing;
}

void WebSocket::frame(std::span<const u8> data, std::vector<u8>& out) {
  put_header(kFinal | kBinary, data.size(), out);
  out.insert(out.end(), data.begin(), data.end());
}

}  // namespace atl::display::vnc
