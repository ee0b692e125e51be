#include "manage/error.h"

#include <fmt/format.h>

namespace atl::manage {

namespace {

struct Words {
  Code code;
  const char* format;  // with one %s
};

// What libvirt's clients say before the detail. Codes that are not here show the detail alone.
constexpr Words kWords[] = {
    {Code::InternalError, "internal error: %s"},
    {Code::NoMemory, "out of memory: %s"},
    {Code::NoSupport, "this function is not supported by the connection driver: %s"},
    {Code::NoConnect, "no connection driver available for %s"},
    {Code::InvalidArg, "invalid argument: %s"},
    {Code::OperationFailed, "operation failed: %s"},
    {Code::NoName, "missing name information in %s"},
    {Code::XmlError, "XML error: %s"},
    {Code::OperationDenied, "operation forbidden: %s"},
    {Code::DomExist, "this domain exists already: %s"},
    {Code::NoDomain, "Domain not found: %s"},
    {Code::NoNetwork, "Network not found: %s"},
    {Code::InvalidMac, "invalid MAC address: %s"},
    {Code::AuthFailed, "authentication failed: %s"},
    {Code::NoStoragePool, "Storage pool not found: %s"},
    {Code::NoStorageVol, "Storage volume not found: %s"},
    {Code::NoNodeDevice, "Node device not found: %s"},
    {Code::OperationInvalid, "Requested operation is not valid: %s"},
    {Code::NoInterface, "Interface not found: %s"},
    {Code::NoNwfilter, "Network filter not found: %s"},
    {Code::InvalidSecret, "Invalid secret: %s"},
    {Code::NoSecret, "Secret not found: %s"},
    {Code::ConfigUnsupported, "unsupported configuration: %s"},
    {Code::OperationTimeout, "Timed out during operation: %s"},
    {Code::HookScriptFailed, "Hook script execution failed: %s"},
    {Code::NoDomainSnapshot, "Domain snapshot not found: %s"},
    {Code::InvalidStream, "invalid stream pointer: %s"},
    {Code::ArgumentUnsupported, "argument unsupported: %s"},
    {Code::StorageProbeFailed, "Storage pool probe failed: %s"},
    {Code::StoragePoolBuilt, "Storage pool already built: %s"},
    {Code::OperationAborted, "operation aborted: %s"},
    {Code::NoDomainMetadata, "metadata not found: %s"},
    {Code::Overflow, "numerical overflow: %s"},
    {Code::BlockCopyActive, "block copy still active: %s"},
    {Code::OperationUnsupported, "Operation not supported: %s"},
    {Code::AgentUnresponsive, "Guest agent is not responding: %s"},
    {Code::ResourceBusy, "resource busy: %s"},
    {Code::AccessDenied, "access denied: %s"},
    {Code::StorageVolExist, "storage volume %s exists already"},
    {Code::CpuIncompatible, "the CPU is incompatible with host CPU: %s"},
    {Code::XmlInvalidSchema, "XML document failed to validate against schema: %s"},
    {Code::DeviceMissing, "device not found: %s"},
    {Code::NoNwfilterBinding, "Network filter binding not found: %s"},
    {Code::NoDomainCheckpoint, "Domain checkpoint not found: %s"},
    {Code::NoDomainBackup, "Domain backup job id not found: %s"},
    {Code::NetworkPortExist, "network port %s exists already"},
    {Code::NoNetworkPort, "network port not found: %s"},
    {Code::NoHostname, "no hostname found: %s"},
};

std::string_view format_of(Code code) {
  for (const Words& words : kWords)
    if (words.code == code) return words.format;
  return "%s";
}

std::string fill(std::string_view format, std::string_view detail) {
  return std::string(format).replace(format.find("%s"), 2, detail);
}

/// The code for a failure below: refusals of the host are system errors, the rest by kind.
Code code_of(const atl::Error& cause) {
  switch (cause.kind()) {
    case ErrorKind::Unsupported: return Code::OperationUnsupported;
    case ErrorKind::Busy: return Code::ResourceBusy;
    case ErrorKind::Cancelled: return Code::OperationAborted;
    case ErrorKind::Exists: return Code::OperationFailed;
    default: return cause.os_errno() != 0 ? Code::SystemError : Code::InternalError;
  }
}

}  // namespace

Error::Error(Code code, std::string detail, Part part)
    : code_(code),
      part_(part),
      message_(fill(format_of(code), detail)),
      format_(format_of(code)),
      detail_(std::move(detail)) {}

Error::Error(atl::Error cause) : Error(code_of(cause), cause.text()) {}

Error Error::received(Code code, Part part, std::string message) {
  Error error;
  error.code_ = code;
  error.part_ = part;
  error.message_ = error.detail_ = std::move(message);
  error.format_ = "%s";
  return error;
}

Error Error::with_context(std::string_view context) && {
  return {code_, fmt::format("{}: {}", context, detail_), part_};
}

Error no_domain(std::string_view name) {
  return {Code::NoDomain, fmt::format("no domain with matching name '{}'", name)};
}
Error no_domain_uuid(std::string_view uuid) {
  return {Code::NoDomain, fmt::format("no domain with matching uuid '{}'", uuid)};
}

Error no_network(std::string_view name) {
  return {Code::NoNetwork, fmt::format("no network with matching name '{}'", name), Part::NetworkDriver};
}

Error no_storage_pool(std::string_view name) {
  return {Code::NoStoragePool, fmt::format("no storage pool with matching name '{}'", name), Part::Storage};
}

Error no_storage_vol(std::string_view name) {
  return {Code::NoStorageVol, fmt::format("no storage vol with matching name '{}'", name), Part::Storage};
}

Error no_secret(std::string_view uuid) {
  return {Code::NoSecret, fmt::format("no secret with matching uuid '{}'", uuid), Part::Secret};
}

Error no_node_device(std::string_view name) {
  return {Code::NoNodeDevice, fmt::format("no node device with matching name '{}'", name), Part::NodeDevice};
}

Error no_interface(std::string_view name) {
  return {Code::NoInterface, fmt::format("couldn't find interface named '{}'", name), Part::Interface};
}

Error no_nwfilter(std::string_view name) {
  return {Code::NoNwfilter, fmt::format("no nwfilter with matching name '{}'", name), Part::Nwfilter};
}

Error no_snapshot(std::string_view name) {
  return {Code::NoDomainSnapshot, fmt::format("no domain snapshot with matching name '{}'", name)};
}

Error read_only_error(std::string_view function) {
  return {Code::OperationDenied, fmt::format("read only access prevents {}", function), Part::Rpc};
}

Status check_flags(u32 flags, u32 allowed, std::string_view function) {
  if ((flags & ~allowed) == 0) return {};
  // libvirt names its driver's function, and nothing stands before the text.
  std::string name(function);
  if (name.starts_with("virDomain")) name.replace(0, 3, "qemu");
  return Error::received(Code::InvalidArg, Part::Qemu, fmt::format("unsupported flags (0x{:x}) in function {}", flags & ~allowed, name));
}

}  // namespace atl::manage
