#include "base/base64.h"

#include <nettle/base64.h>

#include "base/types.h"

namespace atl {

std::string encode_base64(std::string_view bytes) {
  std::string out(BASE64_ENCODE_RAW_LENGTH(bytes.size()), '\0');
  nettle_base64_encode_raw(out.data(), bytes.size(), reinterpret_cast<const u8*>(bytes.data()));
  return out;
}

std::optional<std::string> decode_base64(std::string_view text) {
  base64_decode_ctx state;
  nettle_base64_decode_init(&state);
  size_t size = BASE64_DECODE_LENGTH(text.size());
  std::string out(size, '\0');
  const bool right = nettle_base64_decode_update(&state, &size, reinterpret_cast<u8*>(out.data()), text.size(), text.data());
  if (!right || !nettle_base64_decode_final(&state)) return std::nullopt;
  out.resize(size);
  return out;
}

}  // namespace atl
