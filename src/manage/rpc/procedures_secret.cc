// Procedures on secrets.
#include <algorithm>

#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/list_filter.h"
#include "manage/rpc/procedure.h"
#include "manage/secret/secrets.h"

namespace atl::manage {
namespace {

enum ListFlags : u32 { kEphemeral = 1, kNotEphemeral = 2, kPrivate = 4, kNotPrivate = 8 };
constexpr i32 kMostSecrets = 16384;

Secrets& secrets(Call& call) { return call.daemon().secrets(); }

Status list_all(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0xf, "virConnectListAllSecrets"));
  std::vector<SecretRef> list;
  for (const Secrets::State& state : secrets(call).list())
    if (passes_filter(flags, {{kEphemeral | kNotEphemeral, state.is_ephemeral ? kEphemeral : kNotEphemeral},
                              {kPrivate | kNotPrivate, state.is_private ? kPrivate : kNotPrivate}}))
      list.push_back(state.ref);
  call.write_list(list, wanted);
  return {};
}

Status number_of(Call& call) {
  call.write(static_cast<i32>(secrets(call).list().size()));
  return {};
}

Status list_uuids(Call& call) {
  i32 most = 0;
  TRY(call.read(most));
  if (most < 0 || most > kMostSecrets) return rpc_error("maxuuids > REMOTE_SECRET_LIST_MAX");
  std::vector<std::string> uuids;
  for (const Secrets::State& state : secrets(call).list()) uuids.push_back(format_uuid(state.ref.uuid));
  uuids.resize(std::min(uuids.size(), static_cast<size_t>(most)));
  call.write(uuids);
  return {};
}

Status lookup_by_uuid(Call& call) {
  Uuid uuid{};
  TRY(call.read(uuid));
  call.write(TRY(secrets(call).find(uuid)));
  return {};
}

Status lookup_by_usage(Call& call) {
  i32 type = 0;
  std::string id;
  TRY(call.read(type, id));
  call.write(TRY(secrets(call).find_usage(type, id)));
  return {};
}

Status define(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, 1, "virSecretDefineXML"));
  call.write(TRY(secrets(call).define(xml)));
  return {};
}

Status get_xml(Call& call) {
  SecretRef secret;
  u32 flags = 0;
  TRY(call.read(secret, flags));
  TRY(check_flags(flags, 0, "virSecretGetXMLDesc"));
  call.write(TRY(secrets(call).xml(secret.uuid)));
  return {};
}

Status set_value(Call& call) {
  SecretRef secret;
  Opaque value;
  u32 flags = 0;
  TRY(call.read(secret, value, flags));
  TRY(check_flags(flags, 0, "virSecretSetValue"));
  return secrets(call).set_value(secret.uuid, std::string(value.bytes.begin(), value.bytes.end()));
}

Status get_value(Call& call) {
  SecretRef secret;
  u32 flags = 0;
  TRY(call.read(secret, flags));
  TRY(check_flags(flags, 0, "virSecretGetValue"));
  std::string value = TRY(secrets(call).value(secret.uuid));
  call.write(Opaque{{value.begin(), value.end()}});
  return {};
}

Status undefine(Call& call) {
  SecretRef secret;
  TRY(call.read(secret));
  return secrets(call).undefine(secret.uuid);
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_SECRETS, Access::Read, list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_SECRETS, Access::Read, number_of, Where::Quick},
    {Proc::CONNECT_LIST_SECRETS, Access::Read, list_uuids, Where::Quick},
    {Proc::SECRET_LOOKUP_BY_UUID, Access::Read, lookup_by_uuid, Where::Quick},
    {Proc::SECRET_LOOKUP_BY_USAGE, Access::Read, lookup_by_usage, Where::Quick},
    {Proc::SECRET_DEFINE_XML, Access::Write, define},
    {Proc::SECRET_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::SECRET_SET_VALUE, Access::Write, set_value},
    {Proc::SECRET_GET_VALUE, Access::Write, get_value},
    {Proc::SECRET_UNDEFINE, Access::Write, undefine},
};

}  // namespace

std::span<const Procedure> secret_procedures() { return kProcedures; }

}  // namespace atl::manage
