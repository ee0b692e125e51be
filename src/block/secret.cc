#include "block/secret.h"

#include <fmt/format.h>

#include "base/base64.h"
#include "base/fd.h"

namespace atl::block {
namespace {

constexpr u64 kMaxSecretBytes = 64 * kKiB;

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
  auto bytes = decode_base64(value);
  if (!bytes) return Error(ErrorKind::Invalid, "the secret is not valid base64");
  return *std::move(bytes);
}

}  // namespace atl::block
