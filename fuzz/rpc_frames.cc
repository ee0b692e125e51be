// Bytes from a client of the management daemon: frames, and payloads as each kind of argument list.
#include <cstdint>

#include "manage/rpc/frame.h"
#include "manage/rpc/objects.h"

namespace {

using namespace atl;
using namespace atl::manage;

template <class... T>
void decode(std::span<const u8> payload) {
  std::tuple<T...> values;
  std::apply([&](auto&... v) { (void)XdrReader(payload).read(v...); }, values);
}

void decode_all(std::span<const u8> payload) {
  decode<DomainRef, TypedParams, u32>(payload);
  decode<std::optional<NetworkRef>, i32>(payload);
  decode<std::vector<DomainRef>, u32, u32>(payload);
  decode<VolumeRef, u64, u64, u32>(payload);
  decode<std::string, bool, CharArray>(payload);
  decode<std::vector<std::string>, Opaque>(payload);
  decode<CheckpointRef, SecretRef, NwfilterBindingRef, NetworkPortRef>(payload);
  (void)rpc::decode_error(payload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const u8> rest(data, size);
  while (true) {
    u32 length = 0;
    if (rpc::scan_frame(rest, length) != rpc::Scan::Whole) break;
    decode_all(rpc::parse_frame(rest.first(length)).payload);
    rest = rest.subspan(length);
  }
  decode_all(rest);
  return 0;
}
