#include "block/nbd/client_handshake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace atl::block::nbd {
namespace {

constexpr size_t kMaxExports = 10'000;
constexpr size_t kMaxInfos = 1000;      // replies to one option

Error protocol_error(std::string text) { return Error(ErrorKind::Io, "NBD server: " + std::move(text), EPROTO); }

struct OptionReply {
  u32 type = 0;
  std::vector<u8> data;

  std::string_view text(size_t from = 0) const {
    return from > data.size() ? std::string_view()
                              : std::string_view(reinterpret_cast<const char*>(data.data()) + from, data.size() - from);
  }
};

std::vector<u8> option_request(u32 option, std::span<const u8> data) {
  std::vector<u8> bytes(16 + data.size());
  Encoder(bytes.data()).put(kOptionMagic).put(option).put(static_cast<u32>(data.size()));
  std::copy(data.begin(), data.end(), bytes.begin() + 16);
  return bytes;
}

void append_be32(std::vector<u8>& to, u32 value) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<u8>(value >> shift));
}

void append_string(std::vector<u8>& to, std::string_view text) {
  append_be32(to, static_cast<u32>(text.size()));
  to.insert(to.end(), text.begin(), text.end());
}

class Negotiation {
 public:
  Negotiation(Channel& channel, ClientHello hello) : channel_(channel), hello_(std::move(hello)) {}

  Task<Result<ExportInfo>> connect();
  Task<Result<std::vector<ExportInfo>>> list();

 private:
  /// False: an oldstyle server, which has sent everything already.
  Task<Result<bool>> greet(ExportInfo& info);
  Task<Status> greet_oldstyle(ExportInfo& info);
  Task<Status> start_tls();
  Task<Status> ask_structured();
  Task<Status> set_context(ExportInfo& info);
  Task<Result<bool>> go(ExportInfo& info, u32 option);
  Task<Status> export_name(ExportInfo& info);
  Task<Status> list_contexts(ExportInfo& info);
  Task<Result<std::vector<ExportInfo>>> list_names();
  Task<Status> leave();

  Task<Status> send(u32 option, std::vector<u8> data);
  Task<Result<OptionReply>> receive(u32 option);
  Error refused(u32 option, const OptionReply& reply) const;
  static Status take_info(ExportInfo& info, const OptionReply& reply);

  Channel& channel_;
  ClientHello hello_;
  bool fixed_ = false, no_zeroes_ = false, structured_ = false;
};

// --- options and replies ---

Task<Status> Negotiation::send(u32 option, std::vector<u8> data) {
  std::vector<u8> bytes = option_request(option, data);
  co_return co_await channel_.write_all(bytes);
}

Task<Result<OptionReply>> Negotiation::receive(u32 option) {
  u8 head[20];
  Status status = co_await channel_.read_exact(std::span<u8>(head));
  CO_TRY(std::move(status));
  OptionReply reply;
  reply.type = load_be<u32>(head + 12);
  u32 length = load_be<u32>(head + 16);
  if (load_be<u64>(head) != kReplyMagic) co_return protocol_error("a reply without its magic");
  if (load_be<u32>(head + 8) != option) co_return protocol_error("a reply to another option");
  if (length > kMaxOptionBytes) co_return protocol_error(fmt::format("a reply of {} bytes", length));
  reply.data.resize(length);
  status = co_await channel_.read_exact(std::span<u8>(reply.data));
  CO_TRY(std::move(status));
  co_return reply;
}

Error Negotiation::refused(u32 option, const OptionReply& reply) const {
  std::string detail(reply.text());
  if (!detail.empty()) detail = "\nserver reported: " + detail;
  auto text = [&](std::string_view what) { return std::string(what) + detail; };
  switch (reply.type) {
    case kRepErrUnsup: return Error(ErrorKind::Unsupported, text(fmt::format("Unsupported option type {}", option)), ENOTSUP);
    case kRepErrPolicy: return Error(ErrorKind::Permission, text("Denied by server for option " + std::to_string(option)), EPERM);
    case kRepErrTlsReqd: return Error(ErrorKind::Permission, text("Server requires TLS for option " + std::to_string(option) + "\nDid you forget a valid tls-creds?"), EPERM);
    case kRepErrUnknown: return Error(ErrorKind::NotFound, text(fmt::format("Requested export not available")), EINVAL);
    case kRepErrShutdown: return Error(ErrorKind::Io, text("Server shutting down before option"), ESHUTDOWN);
    case kRepErrBlockSizeReqd: return Error(ErrorKind::Invalid, text("Server requires INFO_BLOCK_SIZE"), EINVAL);
    default: return Error(ErrorKind::Invalid, text(fmt::format("Unknown error {:#x} for option {}", reply.type, option)), EINVAL);
  }
}

// --- greeting ---

Task<Status> Negotiation::greet_oldstyle(ExportInfo& info) {
  u8 rest[8 + 4 + 124];
  Status status = co_await channel_.read_exact(std::span<u8>(rest));
  CO_TRY(std::move(status));
  if (!hello_.export_name.empty()) co_return protocol_error("an old server has no export names");
  if (hello_.tls) co_return protocol_error("Server does not support STARTTLS");
  info.size_bytes = load_be<u64>(rest);
  u32 flags = load_be<u32>(rest + 8);
  if (flags & ~u32{0xffff}) co_return protocol_error(fmt::format("Unexpected export flags {:#x}", flags));
  info.flags = static_cast<u16>(flags);
  co_return Status{};
}

Task<Result<bool>> Negotiation::greet(ExportInfo& info) {
  u8 magic[16];
  Status status = co_await channel_.read_exact(std::span<u8>(magic));
  CO_TRY(std::move(status));
  if (load_be<u64>(magic) != kInitMagic) co_return protocol_error("Bad initial magic received");
  if (load_be<u64>(magic + 8) == kOldstyleMagic) {
    status = co_await greet_oldstyle(info);
    CO_TRY(std::move(status));
    co_return false;
  }
  if (load_be<u64>(magic + 8) != kOptionMagic) co_return protocol_error("Bad server magic received");
  u8 flags[2];
  status = co_await channel_.read_exact(std::span<u8>(flags));
  CO_TRY(std::move(status));
  u16 server = load_be<u16>(flags);
  fixed_ = server & kFixedNewstyle;
  no_zeroes_ = server & kNoZeroes;
  u8 mine[4];
  store_be<u32>(mine, (fixed_ ? kFixedNewstyle : 0u) | (no_zeroes_ ? kNoZeroes : 0u));
  status = co_await channel_.write_all(std::span<const u8>(mine));
  CO_TRY(std::move(status));
  co_return true;
}

Task<Status> Negotiation::start_tls() {
  if (!hello_.tls) co_return Status{};
  if (!fixed_) co_return protocol_error("Server does not support STARTTLS");
  Status status = co_await send(kOptStartTls, {});
  CO_TRY(std::move(status));
  auto answer = co_await receive(kOptStartTls);
  OptionReply reply = CO_TRY(std::move(answer));
  if (reply.type != kRepAck) co_return refused(kOptStartTls, reply).with_context("Server refused TLS");
  co_return co_await channel_.start_tls(hello_.tls, hello_.tls_hostname);
}

Task<Status> Negotiation::ask_structured() {
  Status status = co_await send(kOptStructuredReply, {});
  CO_TRY(std::move(status));
  auto answer = co_await receive(kOptStructuredReply);
  OptionReply reply = CO_TRY(std::move(answer));
  structured_ = reply.type == kRepAck;
  if (!structured_ && reply.type == kRepErrTlsReqd) co_return refused(kOptStructuredReply, reply);
  co_return Status{};
}

// --- choosing the export ---

Status Negotiation::take_info(ExportInfo& info, const OptionReply& reply) {
  if (reply.data.size() < 2) return protocol_error("a short information reply");
  const u8* at = reply.data.data();
  switch (load_be<u16>(at)) {
    case kInfoExport:
      if (reply.data.size() != 12) return protocol_error("an export reply of a wrong length");
      info.size_bytes = load_be<u64>(at + 2);
      info.flags = load_be<u16>(at + 10);
      return {};
    case kInfoDescription: info.description = reply.text(2); return {};
    case kInfoBlockSize: {
      if (reply.data.size() != 14) return protocol_error("a block size reply of a wrong length");
      info.min_block = load_be<u32>(at + 2);
      info.preferred_block = load_be<u32>(at + 6);
      info.max_block = load_be<u32>(at + 10);
      u32 least = *info.min_block;
      if (least == 0 || (least & (least - 1)) || least > 64 * kKiB)
        return protocol_error(fmt::format("server's minimum block size {} is no power of two up to 64 KiB", least));
      if (*info.max_block < least) return protocol_error("server's block sizes contradict each other");
      return {};
    }
    default: return {};
  }
}

/// NBD_OPT_INFO or NBD_OPT_GO. False: the server does not know the option.
Task<Result<bool>> Negotiation::go(ExportInfo& info, u32 option) {
  std::vector<u8> data;
  append_string(data, info.name);
  const u8 wanted[4] = {0, 1, 0, kInfoBlockSize};
  data.insert(data.end(), wanted, wanted + 4);
  Status status = co_await send(option, std::move(data));
  CO_TRY(std::move(status));
  bool described = false;
  for (size_t replies = 0; replies < kMaxInfos; ++replies) {
    auto answer = co_await receive(option);
    OptionReply reply = CO_TRY(std::move(answer));
    if (reply.type == kRepErrUnsup) co_return false;
    if (reply.type & kRepError) {
      if (reply.type == kRepErrUnknown)
        co_return Error(ErrorKind::NotFound, fmt::format("Requested export not available\nserver reported: {}", reply.text()), EINVAL);
      co_return refused(option, reply);
    }
    if (reply.type == kRepAck && !described) co_return protocol_error("no NBD_INFO_EXPORT");
    if (reply.type == kRepAck) co_return true;
    if (reply.type != kRepInfo) co_return protocol_error(fmt::format("unexpected reply type {:#x}", reply.type));
    CO_TRY(take_info(info, reply));
    described |= reply.data[0] == 0 && reply.data[1] == kInfoExport;
  }
  co_return protocol_error("too many information replies");
}

/// The old way in, whose failure is a closed connection.
Task<Status> Negotiation::export_name(ExportInfo& info) {
  std::vector<u8> name(info.name.begin(), info.name.end());
  Status status = co_await send(kOptExportName, std::move(name));
  CO_TRY(std::move(status));
  u8 answer[10];
  status = co_await channel_.read_exact(std::span<u8>(answer));
  CO_TRY(std::move(status).context(fmt::format("export '{}' not present", info.name)));
  info.size_bytes = load_be<u64>(answer);
  info.flags = load_be<u16>(answer + 8);
  if (no_zeroes_) co_return Status{};
  co_return co_await channel_.skip(124);
}

Task<Status> Negotiation::set_context(ExportInfo& info) {
  std::string wanted = hello_.dirty_bitmap.empty() ? kBaseAllocation : hello_.dirty_bitmap;
  std::vector<u8> data;
  append_string(data, info.name);
  append_be32(data, 1);
  append_string(data, wanted);
  Status status = co_await send(kOptSetMetaContext, std::move(data));
  CO_TRY(std::move(status));
  for (size_t replies = 0; replies < kMaxInfos; ++replies) {
    auto answer = co_await receive(kOptSetMetaContext);
    OptionReply reply = CO_TRY(std::move(answer));
    if (reply.type == kRepAck || reply.type & kRepError) break;
    if (reply.type != kRepMetaContext || reply.data.size() < 4) co_return protocol_error("an unexpected context reply");
    if (reply.text(4) == wanted) info.allocation_context = load_be<u32>(reply.data.data());
  }
  if (!hello_.dirty_bitmap.empty() && !info.allocation_context)
    co_return Error(ErrorKind::NotFound, fmt::format("requested x-dirty-bitmap {} not found", hello_.dirty_bitmap), EINVAL);
  co_return Status{};
}

Task<Result<ExportInfo>> Negotiation::connect() {
  ExportInfo info;
  info.name = hello_.export_name;
  auto greeted = co_await greet(info);
  if (!CO_TRY(std::move(greeted))) co_return info;
  Status status = co_await start_tls();
  CO_TRY(std::move(status));
  bool ready = false;
  if (fixed_) {
    status = co_await ask_structured();
    CO_TRY(std::move(status));
    if (structured_) status = co_await set_context(info);
    CO_TRY(std::move(status));
    auto went = co_await go(info, kOptGo);
    ready = CO_TRY(std::move(went));
  }
  if (!ready) status = co_await export_name(info);
  CO_TRY(std::move(status));
  info.structured = structured_;
  co_return info;
}

// --- listing ---

Task<Result<std::vector<ExportInfo>>> Negotiation::list_names() {
  Status status = co_await send(kOptList, {});
  CO_TRY(std::move(status));
  std::vector<ExportInfo> exports;
  while (exports.size() <= kMaxExports) {
    auto answer = co_await receive(kOptList);
    OptionReply reply = CO_TRY(std::move(answer));
    if (reply.type == kRepAck) co_return exports;
    if (reply.type & kRepError) co_return refused(kOptList, reply);
    if (reply.type != kRepServer || reply.data.size() < 4) co_return protocol_error("an unexpected list reply");
    u32 length = load_be<u32>(reply.data.data());
    std::string_view rest = reply.text(4);
    if (length > rest.size() || length > kMaxString) co_return protocol_error("a list entry with a bad length");
    ExportInfo info;
    info.name = rest.substr(0, length);
    info.description = rest.substr(length);
    exports.push_back(std::move(info));
  }
  co_return protocol_error("too many exports");
}

Task<Status> Negotiation::list_contexts(ExportInfo& info) {
  std::vector<u8> data;
  append_string(data, info.name);
  append_be32(data, 0);
  Status status = co_await send(kOptListMetaContext, std::move(data));
  CO_TRY(std::move(status));
  for (size_t replies = 0; replies < kMaxInfos; ++replies) {
    auto answer = co_await receive(kOptListMetaContext);
    OptionReply reply = CO_TRY(std::move(answer));
    if (reply.type == kRepAck || reply.type & kRepError) co_return Status{};
    info.contexts.emplace_back(reply.text(4));
  }
  co_return protocol_error("too many contexts");
}

Task<Status> Negotiation::leave() {
  co_return co_await send(kOptAbort, {});
}

Task<Result<std::vector<ExportInfo>>> Negotiation::list() {
  ExportInfo old;
  auto greeted = co_await greet(old);
  if (!CO_TRY(std::move(greeted))) co_return std::vector<ExportInfo>{old};
  Status status = co_await start_tls();
  CO_TRY(std::move(status));
  if (!fixed_) co_return protocol_error("the server cannot list its exports");
  status = co_await ask_structured();
  CO_TRY(std::move(status));
  auto names = co_await list_names();
  std::vector<ExportInfo> exports = CO_TRY(std::move(names));
  for (ExportInfo& info : exports) {
    auto known = co_await go(info, kOptInfo);
    if (!CO_TRY(std::move(known))) break;
    if (structured_) status = co_await list_contexts(info);
    CO_TRY(std::move(status));
  }
  status = co_await leave();
  co_return exports;
}

}  // namespace

Task<Result<ExportInfo>> negotiate(Channel& channel, ClientHello hello) {
  Negotiation negotiation(channel, std::move(hello));
  co_return co_await negotiation.connect();
}

Task<Result<std::vector<ExportInfo>>> list_exports(Channel& channel, ClientHello hello) {
  Negotiation negotiation(channel, std::move(hello));
  co_return co_await negotiation.list();
}

}  // namespace atl::block::nbd
