#include "manage/rpc/frame.h"

#include "base/endian.h"
#include "manage/rpc/objects.h"

namespace atl::manage::rpc {

Scan scan_frame(std::span<const u8> data, u32& length) {
  length = 0;
  if (data.size() < kLengthBytes) return Scan::NeedsMore;
  length = load_be<u32>(data.data());
  if (length < kHeaderBytes || length > kFrameMax) return Scan::Bad;
  return data.size() < length ? Scan::NeedsMore : Scan::Whole;
}

Frame parse_frame(std::span<const u8> data) {
  auto word = [&](size_t index) { return load_be<u32>(data.data() + kLengthBytes + 4 * index); };
  Frame frame;
  frame.header = {
      word(0), word(1), word(2), static_cast<FrameType>(word(3)), word(4), static_cast<FrameStatus>(word(5))};
  frame.payload.assign(data.begin() + kHeaderBytes, data.end());
  return frame;
}

namespace {

void put_header(XdrWriter& out, const Header& h, size_t payload_bytes) {
  out.write(static_cast<u32>(kHeaderBytes + payload_bytes), h.program, h.version, h.procedure, static_cast<u32>(h.type),
            h.serial, static_cast<u32>(h.status));
}

}  // namespace

std::vector<u8> encode_frame(const Header& header, std::span<const u8> payload) {
  XdrWriter out;
  put_header(out, header, payload.size());
  out.append(payload);
  return out.take();
}

std::vector<u8> encode_frame_with_fds(const Header& header, u32 fds, std::span<const u8> payload) {
  XdrWriter out;
  put_header(out, header, payload.size() + 4);
  out.write(fds);
  out.append(payload);
  return out.take();
}

Header reply_to(const Header& call, FrameType type, FrameStatus status) {
  return {call.program, call.version, call.procedure, type, call.serial, status};
}

std::vector<u8> encode_error(const Error& error) {
  constexpr i32 kLevelError = 2;
  XdrWriter out;
  const std::optional<std::string> none;
  out.write(static_cast<i32>(error.code()), static_cast<i32>(error.part()), std::optional(error.message()), kLevelError,
            std::optional<DomainRef>(), std::optional(error.format()), std::optional(error.detail()), none, i32{-1},
            i32{-1}, std::optional<NetworkRef>());
  return out.take();
}

atl::Result<Error> decode_error(std::span<const u8> payload) {
  XdrReader in(payload);
  i32 code = 0, part = 0;
  bool has_text = false;
  std::string message;
  TRY(in.read(code, part, has_text));
  if (has_text) TRY(in.read(message));
  // The text is whole already: the code's words must not be put before it again.
  return Error::received(static_cast<Code>(code), static_cast<Part>(part), has_text ? message : "Unknown error");
}

}  // namespace atl::manage::rpc
