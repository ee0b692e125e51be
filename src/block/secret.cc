#include "block/secret.h"

#include <fmt/format.h>

#include "base/fd.h"

namespace atl::block {
namespace {

constexpr u64 kMaxSecretBytes = 64 * kKiB;

Result<std::string> decode_base64(std::string_view text) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  u32 bits = 0;
  unsigned count = 0;
  for (char c : text) {
    if (c == '=' || c == '\n' || c == '\r' || c == ' ') continue;
    size_t digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return Error(ErrorKind::Invalid, "the secret is not valid base64");
    bits = bits << 6 | static_cast<u32>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count);
  }
  return out;
}

}  // namespace

Result<std::string> read_secret(KeyValues options) {
  auto data = options.take("data");
  auto file = options.take("file");
  static constexpr std::string_view kFormats[] = {"raw", "base64"};
  bool base64 = TRY(options.take_choice("format", kFormats, 0)) == 1;
  for (const char* key : {"keyid", "iv"})
    if (options.has(key)) return Error(ErrorKind::Unsupported, fmt::format("'{}' of secrets is not supported", key));
  TRY(options.expect_empty());
  if (data.has_value() == file.has_value())
    return Error(ErrorKind::Invalid, data ? "'file' and 'data' are mutually exclusive" : "Must provide 'file' or 'data'");
  std::string value = data ? *data : TRY(read_file(*file, kMaxSecretBytes));
  if (!base64) return value;
  return decode_base64(value);
}

}  // namespace atl::block
