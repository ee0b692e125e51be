// Errors as libvirt's clients know them: a code, the part of the library that complains (its "domain"), and a text.
//
// Inside atl::manage, Result, Status and Error are these; an atl::Error of a lower layer turns into one by itself, with the code that fits its
// kind. Codes and domains are those of libvirt's virterror.h and never change.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/types.h"

namespace atl::manage {

/// Codes that we send; the numbers are on the wire.
enum class Code : i32 {
  Ok = 0,
  InternalError = 1,
  NoMemory = 2,
  NoSupport = 3,
  NoConnect = 5,
  InvalidArg = 8,
  OperationFailed = 9,
  NoName = 21,
  XmlError = 27,
  OperationDenied = 29,
  DomExist = 33,
  XmlDetail = 35,
  SystemError = 38,
  Rpc = 39,
  NoDomain = 42,
  NoNetwork = 43,
  InvalidMac = 44,
  AuthFailed = 45,
  NoStoragePool = 49,
  NoStorageVol = 50,
  NoNodeDevice = 53,
  OperationInvalid = 55,
  NoInterface = 57,
  NoNwfilter = 62,
  InvalidSecret = 65,
  NoSecret = 66,
  ConfigUnsupported = 67,
  OperationTimeout = 68,
  HookScriptFailed = 70,
  NoDomainSnapshot = 72,
  InvalidStream = 73,
  ArgumentUnsupported = 74,
  StorageProbeFailed = 75,
  StoragePoolBuilt = 76,
  OperationAborted = 78,
  NoDomainMetadata = 80,
  Overflow = 82,
  BlockCopyActive = 83,
  OperationUnsupported = 84,
  AgentUnresponsive = 86,
  ResourceBusy = 87,
  AccessDenied = 88,
  StorageVolExist = 90,
  CpuIncompatible = 91,
  XmlInvalidSchema = 92,
  DeviceMissing = 99,
  NoNwfilterBinding = 101,
  NoDomainCheckpoint = 103,
  NoDomainBackup = 104,
  NetworkPortExist = 106,
  NoNetworkPort = 107,
  NoHostname = 108,
  MultipleDomains = 110,
};

/// The part of libvirt that a client takes an error to come from.
enum class Part : i32 {
  None = 0,
  Xml = 5,
  Domain = 6,
  Rpc = 7,
  Qemu = 10,
  Network = 12,       // a network's definition
  Storage = 18,
  NetworkDriver = 19,
  DomainConf = 20,
  NodeDevice = 22,
  Security = 24,
  Interface = 26,
  Secret = 30,
  Nwfilter = 33,
  Cpu = 31,
  Event = 35,
  Streams = 38,
  Capabilities = 40,
};

class Error {
 public:
  /// `detail` is put behind the words that libvirt has for the code: NoDomain gives "Domain not found: detail".
  Error(Code code, std::string detail, Part part = Part::Qemu);
  /// What a lower layer said.
  Error(atl::Error cause);
  /// What a peer sent: `message` is whole.
  static Error received(Code code, Part part, std::string message);

  Code code() const { return code_; }
  Part part() const { return part_; }
  /// The whole text that the client shows.
  const std::string& message() const { return message_; }
  /// What str1 and str2 of the wire form hold: the message's format, and its argument.
  const std::string& format() const { return format_; }
  const std::string& detail() const { return detail_; }
  Error with_context(std::string_view context) &&;

 private:
  Error() = default;

  Code code_ = Code::Ok;
  Part part_ = Part::None;
  std::string message_, format_, detail_;
};

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
  Result(Error error) : std::expected<T, Error>(std::unexpect, std::move(error)) {}
  Result(atl::Error error) : std::expected<T, Error>(std::unexpect, Error(std::move(error))) {}
  Result(atl::Result<T> other) : std::expected<T, Error>(convert(std::move(other))) {}

 private:
  static std::expected<T, Error> convert(atl::Result<T> other) {
    if (!other) return std::unexpected(Error(std::move(other).error()));
    if constexpr (std::is_void_v<T>)
      return {};
    else
      return *std::move(other);
  }
};

using Status = Result<void>;

// The usual refusals, by what is missing or wrong.
Error no_domain(std::string_view name);
Error no_domain_uuid(std::string_view uuid);
Error no_network(std::string_view name);
Error no_storage_pool(std::string_view name);
Error no_storage_vol(std::string_view name);
Error no_secret(std::string_view uuid);
Error no_node_device(std::string_view name);
Error no_interface(std::string_view name);
Error no_nwfilter(std::string_view name);
Error no_snapshot(std::string_view name);
inline Error invalid_arg(std::string detail) { return {Code::InvalidArg, std::move(detail)}; }
inline Error operation_invalid(std::string detail) { return {Code::OperationInvalid, std::move(detail)}; }
inline Error operation_failed(std::string detail) { return {Code::OperationFailed, std::move(detail)}; }
inline Error operation_unsupported(std::string detail) { return {Code::OperationUnsupported, std::move(detail)}; }
inline Error config_unsupported(std::string detail) { return {Code::ConfigUnsupported, std::move(detail)}; }
inline Error xml_error(std::string detail) { return {Code::XmlError, std::move(detail), Part::DomainConf}; }
inline Error internal_error(std::string detail) { return {Code::InternalError, std::move(detail)}; }
/// A fault of the protocol; the text stands alone.
inline Error rpc_error(std::string text) { return {Code::Rpc, std::move(text), Part::Rpc}; }
/// What a read-only client is told.
Error read_only_error(std::string_view function);

/// An error if `flags` has bits outside `allowed`.
Status check_flags(u32 flags, u32 allowed, std::string_view function);

}  // namespace atl::manage

// TRY and CO_TRY of base, but the error keeps its type: base's would cut a manage::Error down to an atl::Error.
#undef TRY
#define TRY(...)                                                                          \
  ({                                                                                      \
    auto try_result_ = (__VA_ARGS__);                                                     \
    if (!try_result_) [[unlikely]] return std::move(try_result_).error();                 \
    *std::move(try_result_);                                                              \
  })
#undef CO_TRY
#define CO_TRY(...)                                                                          \
  ({                                                                                         \
    auto try_result_ = (__VA_ARGS__);                                                        \
    if (!try_result_) [[unlikely]] co_return std::move(try_result_).error();                 \
    *std::move(try_result_);                                                                 \
  })
