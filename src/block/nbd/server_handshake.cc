// The server's side of a negotiation (doc/proto.md, "Fixed newstyle negotiation" and "Option types").
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/nbd/server_session.h"

namespace atl::block::nbd {
namespace {

constexpr u64 kHandshakeNs = 60'000'000'000;
constexpr unsigned kMaxOptions = 1000;
constexpr u32 kPreferredBlock = 4096;

Error hostile(std::string text) { return Error(ErrorKind::Invalid, "NBD client: " + std::move(text), EPROTO); }

/// Takes an option's data apart. Everything that is missing makes it not ok.
class Reader {
 public:
  explicit Reader(std::span<const u8> data) : data_(data) {}
  template <class T>
  T number() {
    if (data_.size() < sizeof(T)) return fail<T>();
    T value = load_be<T>(data_.data());
    data_ = data_.subspan(sizeof(T));
    return value;
  }
  std::string string() {
    u32 size = number<u32>();
    if (!ok_ || size > kMaxString || size > data_.size()) return fail<std::string>();
    std::string text(reinterpret_cast<const char*>(data_.data()), size);
    data_ = data_.subspan(size);
    return text;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && data_.empty(); }

 private:
  template <class T>
  T fail() {
    ok_ = false;
    return {};
  }
  std::span<const u8> data_;
  bool ok_ = true;
};

template <class T>
void append(std::vector<u8>& to, T value) {
  for (int shift = 8 * (static_cast<int>(sizeof(T)) - 1); shift >= 0; shift -= 8) to.push_back(static_cast<u8>(value >> shift));
}

void append_text(std::vector<u8>& to, std::string_view text) { to.insert(to.end(), text.begin(), text.end()); }

}  // namespace

// --- messages ---

Task<Status> Session::reply(u32 option, u32 type, std::vector<u8> data) {
  std::vector<u8> bytes(20 + data.size());
  Encoder(bytes.data()).put(kReplyMagic).put(option).put(type).put(static_cast<u32>(data.size()));
  std::ranges::copy(data, bytes.begin() + 20);
  co_return co_await channel_.write_all(bytes);
}

Task<Status> Session::refuse(u32 option, u32 type, std::string message) {
  std::vector<u8> data(message.begin(), message.end());
  co_return co_await reply(option, type, std::move(data));
}

Task<Status> Session::greet() {
  u8 bytes[18];
  Encoder(bytes).put(kInitMagic).put(kOptionMagic).put(static_cast<u16>(kFixedNewstyle | kNoZeroes));
  Status status = co_await channel_.write_all(std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  u8 flags[4];
  status = co_await channel_.read_exact(std::span<u8>(flags));
  CO_TRY(std::move(status));
  u32 theirs = load_be<u32>(flags);
  if (theirs & ~u32{kFixedNewstyle | kNoZeroes}) co_return hostile(fmt::format("unknown client flags {:#x}", theirs));
  if (!(theirs & kFixedNewstyle)) co_return hostile("not fixed newstyle");
  no_zeroes_ = theirs & kNoZeroes;
  co_return Status{};
}

Task<Result<Session::Option>> Session::receive_option() {
  u8 head[16];
  Status status = co_await channel_.read_exact(std::span<u8>(head));
  CO_TRY(std::move(status));
  if (load_be<u64>(head) != kOptionMagic) co_return hostile("an option without its magic");
  Option option;
  option.number = load_be<u32>(head + 8);
  u32 length = load_be<u32>(head + 12);
  if (length > kMaxOptionBytes) co_return hostile(fmt::format("an option of {} bytes", length));
  option.data.resize(length);
  status = co_await channel_.read_exact(std::span<u8>(option.data));
  CO_TRY(std::move(status));
  co_return option;
}

Task<Status> Session::negotiate() {
  // Whoever dawdles is cut off.
  Loop::Timer deadline(loop_, [this] { channel_.shutdown(); });
  deadline.arm_in(kHandshakeNs);
  Status status = co_await greet();
  CO_TRY(std::move(status));
  for (unsigned count = 0; count < kMaxOptions; ++count) {
    auto received = co_await receive_option();
    Option option = CO_TRY(std::move(received));
    auto handled = co_await handle(std::move(option));
    Next next = CO_TRY(std::move(handled));
    if (next == Next::Transmission) co_return Status{};
    if (next == Next::Leave) co_return Error(ErrorKind::Cancelled, "the client left");
  }
  co_return hostile("too many options");
}

// --- options ---

Task<Result<Session::Next>> Session::handle(Option option) {
  const u32 number = option.number;
  Status status;
  if (number == kOptAbort) {
    status = co_await reply(number, kRepAck, {});
    co_return Next::Leave;
  }
  bool locked = tls_ && !channel_.is_encrypted();
  if (locked && number != kOptStartTls) {
    if (number == kOptExportName) co_return hostile("an export without TLS");
    status = co_await refuse(number, kRepErrTlsReqd, fmt::format("Option {:#x} not permitted before TLS", number));
    CO_TRY(std::move(status));
    co_return Next::MoreOptions;
  }
  switch (number) {
    case kOptExportName: co_return co_await choose_by_name(option);
    case kOptStartTls: co_return co_await start_tls(option);
    case kOptInfo: case kOptGo: co_return co_await describe(option);
    case kOptList: status = co_await list_exports(option); break;
    case kOptListMetaContext: case kOptSetMetaContext: status = co_await set_contexts(option); break;
    case kOptStructuredReply:
      if (!option.data.empty()) {
        status = co_await refuse(number, kRepErrInvalid, "option has unexpected data");
      } else if (structured_) {
        status = co_await refuse(number, kRepErrInvalid, "structured reply already negotiated");
      } else {
        structured_ = true;
        status = co_await reply(number, kRepAck, {});
      }
      break;
    default: status = co_await refuse(number, kRepErrUnsup, fmt::format("Unsupported option {:#x}", number)); break;
  }
  CO_TRY(std::move(status));
  co_return Next::MoreOptions;
}

Task<Result<Session::Next>> Session::start_tls(const Option& option) {
  Status status;
  const char* problem = !option.data.empty() ? "option has unexpected data" : channel_.is_encrypted() ? "TLS already enabled" : nullptr;
  if (problem) {
    status = co_await refuse(option.number, kRepErrInvalid, problem);
  } else if (!tls_) {
    status = co_await refuse(option.number, kRepErrPolicy, "TLS not configured");
  } else {
    status = co_await reply(option.number, kRepAck, {});
    CO_TRY(std::move(status));
    // What was agreed on before may have been forged.
    structured_ = false;
    contexts_.clear();
    context_export_.reset();
    status = co_await channel_.start_tls(tls_, "");
  }
  CO_TRY(std::move(status));
  co_return Next::MoreOptions;
}

u16 Session::transmission_flags(const Export& exported) const {
  u16 flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
  flags |= exported.readonly ? kReadOnly : kSendTrim | kSendWriteZeroes;
  if (exported.multi_conn) flags |= kCanMultiConn;
  if (structured_) flags |= kSendDf;
  return flags;
}

Task<Result<Session::Next>> Session::choose_by_name(const Option& option) {
  std::string name(option.data.begin(), option.data.end());
  if (name.size() > kMaxString) co_return hostile("an export name that is too long");
  export_ = server_ ? server_->find_export(name) : nullptr;
  if (!export_) co_return hostile("asks for an export that is not there");  // the option knows no error reply
  if (context_export_ != export_) contexts_.clear();
  std::vector<u8> bytes;
  append<u64>(bytes, export_->size_bytes());
  append<u16>(bytes, transmission_flags(*export_));
  if (!no_zeroes_) bytes.resize(bytes.size() + 124);
  Status status = co_await channel_.write_all(bytes);
  CO_TRY(std::move(status));
  co_return Next::Transmission;
}

Task<Status> Session::send_infos(const Option& option, const Export& exported, std::vector<u16> wanted) {
  auto asked = [&](u16 info) { return std::ranges::find(wanted, info) != wanted.end(); };
  Status status;
  std::vector<u8> data;
  if (asked(kInfoName)) {
    append<u16>(data, kInfoName);
    append_text(data, exported.name);
    status = co_await reply(option.number, kRepInfo, std::exchange(data, {}));
    CO_TRY(std::move(status));
  }
  if (asked(kInfoDescription) && !exported.description.empty()) {
    append<u16>(data, kInfoDescription);
    append_text(data, exported.description);
    status = co_await reply(option.number, kRepInfo, std::exchange(data, {}));
    CO_TRY(std::move(status));
  }
  append<u16>(data, kInfoBlockSize);
  // A client that does not know of block sizes is told the least that the specification lets it assume.
  append<u32>(data, asked(kInfoBlockSize) ? 1 : static_cast<u32>(kSectorBytes));
  append<u32>(data, kPreferredBlock);
  append<u32>(data, kMaxPayload);
  status = co_await reply(option.number, kRepInfo, std::exchange(data, {}));
  CO_TRY(std::move(status));
  append<u16>(data, kInfoExport);
  append<u64>(data, exported.size_bytes());
  append<u16>(data, transmission_flags(exported));
  status = co_await reply(option.number, kRepInfo, std::exchange(data, {}));
  CO_TRY(std::move(status));
  co_return co_await reply(option.number, kRepAck, {});
}

/// NBD_OPT_INFO and NBD_OPT_GO.
Task<Result<Session::Next>> Session::describe(const Option& option) {
  Reader reader(option.data);
  std::string name = reader.string();
  std::vector<u16> wanted;
  for (u16 count = reader.number<u16>(); count > 0 && reader.ok(); --count) wanted.push_back(reader.number<u16>());
  Status status;
  auto exported = server_ ? server_->find_export(name) : nullptr;
  if (!reader.at_end()) {
    status = co_await refuse(option.number, kRepErrInvalid, "malformed option");
  } else if (!exported) {
    status = co_await refuse(option.number, kRepErrUnknown, fmt::format("export '{}' not present", name));
  } else {
    status = co_await send_infos(option, *exported, std::move(wanted));
    CO_TRY(std::move(status));
    if (option.number == kOptInfo) co_return Next::MoreOptions;
    export_ = exported;
    if (context_export_ != export_) contexts_.clear();
    co_return Next::Transmission;
  }
  CO_TRY(std::move(status));
  co_return Next::MoreOptions;
}

Task<Status> Session::list_exports(const Option& option) {
  if (!option.data.empty()) co_return co_await refuse(option.number, kRepErrInvalid, "option has unexpected data");
  std::vector<std::vector<u8>> entries;
  if (server_) {
    for (const auto& [name, exported] : server_->exports()) {
      std::vector<u8> data;
      append<u32>(data, static_cast<u32>(name.size()));
      append_text(data, name);
      append_text(data, exported->description);
      entries.push_back(std::move(data));
    }
  }
  for (auto& data : entries) {
    Status status = co_await reply(option.number, kRepServer, std::move(data));
    CO_TRY(std::move(status));
  }
  co_return co_await reply(option.number, kRepAck, {});
}

// --- metadata contexts ---

/// Numbers of the contexts that a query means. Listings take a namespace ("base:") for all that is in it.
std::vector<u32> Session::matching_contexts(const Export& exported, std::string_view query, bool listing) const {
  std::vector<u32> found;
  auto consider = [&](u32 number, std::string_view name) {
    bool prefix = listing && query.ends_with(':') && name.starts_with(query);
    if (name == query || prefix) found.push_back(number);
  };
  consider(0, kBaseAllocation);
  for (u32 i = 0; i < exported.contexts.size(); ++i) consider(i + 1, exported.contexts[i].name);
  return found;
}

Task<Status> Session::set_contexts(const Option& option) {
  bool listing = option.number == kOptListMetaContext;
  if (!structured_) co_return co_await refuse(option.number, kRepErrInvalid, "request option when structured reply is not negotiated");
  Reader reader(option.data);
  std::string name = reader.string();
  std::vector<std::string> queries;
  for (u32 count = reader.number<u32>(); count > 0 && reader.ok(); --count) queries.push_back(reader.string());
  if (!reader.at_end()) co_return co_await refuse(option.number, kRepErrInvalid, "malformed option");
  auto exported = server_ ? server_->find_export(name) : nullptr;
  if (!exported) co_return co_await refuse(option.number, kRepErrUnknown, fmt::format("export '{}' not present", name));
  if (listing && queries.empty()) queries = {"base:", "qemu:"};
  std::vector<u32> chosen;
  for (const std::string& query : queries)
    for (u32 number : matching_contexts(*exported, query, listing))
      if (std::ranges::find(chosen, number) == chosen.end()) chosen.push_back(number);
  for (u32 number : chosen) {
    std::vector<u8> data;
    append<u32>(data, listing ? 0 : number);
    append_text(data, number == 0 ? kBaseAllocation : exported->contexts[number - 1].name);
    Status status = co_await reply(option.number, kRepMetaContext, std::move(data));
    CO_TRY(std::move(status));
  }
  if (!listing) {
    contexts_ = std::move(chosen);
    context_export_ = exported;
  }
  co_return co_await reply(option.number, kRepAck, {});
}

}  // namespace atl::block::nbd
