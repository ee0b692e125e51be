// Procedures on the connection itself: opening, what both sides can do.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {

namespace {

constexpr u32 kOpenReadOnly = 1, kOpenNoAliases = 2;

// virDrvFeature. Asked with 60; what is not listed here is answered 0.
enum Feature : i32 {
  kFdPassing = 8,
  kTypedParamString = 9,
  kKeepalive = 10,
  kEventFiltering = 14,
  kCloseCallback = 15,
  kNetworkUpdateOrder = 16,
};
constexpr i32 kFeatures[] = {kFdPassing,      kTypedParamString, kKeepalive,
                             kEventFiltering, kCloseCallback,    kNetworkUpdateOrder};

/// The names of our hypervisor: libvirt's for QEMU, or none at all.
bool is_our_name(std::string_view name) {
  std::string_view path = name.substr(0, name.find('?'));
  return path.empty() || path == "qemu:///system" || path == "qemu:///session";
}

Status connect_open(Call& call) {
  std::optional<std::string> name;
  u32 flags = 0;
  TRY(call.read(name, flags));
  TRY(check_flags(flags, kOpenReadOnly | kOpenNoAliases, "virConnectOpen"));
  Session& session = call.session();
  if (session.is_open()) {
    session.set_open(false);  // as libvirtd has it: the first is lost, too
    return Error(Code::InternalError, "connection already open", Part::Rpc);
  }
  if (!is_our_name(name.value_or(""))) return Error(Code::NoConnect, *name, Part::None);
  if (flags & kOpenReadOnly) session.make_read_only();
  session.set_open(true);
  return {};
}

Status connect_close(Call& call) {
  call.session().set_open(false);
  return {};
}

Status supports_feature(Call& call) {
  i32 feature = 0;
  TRY(call.read(feature));
  if (feature == kKeepalive) call.session().want_keepalive();
  call.write(i32{std::ranges::find(kFeatures, feature) != std::end(kFeatures)});
  return {};
}

Status get_type(Call& call) {
  call.write("QEMU");
  return {};
}

Status get_uri(Call& call) {
  call.write("qemu:///system");
  return {};
}

Status is_secure(Call& call) {
  call.write(i32{call.session().peer().local || call.session().peer().encrypted});
  return {};
}

/// The connection's end is told by the end of the connection: nothing to remember.
Status close_callback(Call&) { return {}; }

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_OPEN, Access::Handshake, connect_open, Where::Loop},
    {Proc::CONNECT_CLOSE, Access::Handshake, connect_close, Where::Loop},
    {Proc::CONNECT_SUPPORTS_FEATURE, Access::Handshake, supports_feature, Where::Loop},
    {Proc::CONNECT_GET_TYPE, Access::Read, get_type, Where::Loop},
    {Proc::CONNECT_GET_URI, Access::Read, get_uri, Where::Loop},
    {Proc::CONNECT_IS_SECURE, Access::Read, is_secure, Where::Loop},
    {Proc::CONNECT_REGISTER_CLOSE_CALLBACK, Access::Handshake, close_callback, Where::Loop},
    {Proc::CONNECT_UNREGISTER_CLOSE_CALLBACK, Access::Handshake, close_callback, Where::Loop},
};

}  // namespace

std::span<const Procedure> connect_procedures() { return kProcedures; }

}  // namespace atl::manage
