// Procedures by which a client says who it is: the only ones that it may call before that.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"
#include "manage/rpc/sasl.h"

namespace atl::manage {

namespace {

// remote_auth_type; polkit would be 2.
enum AuthKind : i32 { kAuthNone = 0, kAuthSasl = 1 };

Error auth_failed() { return {Code::AuthFailed, "authentication failed", Part::Rpc}; }

Status auth_list(Call& call) {
  std::vector<i32> kinds = {call.session().auth() == Auth::Sasl && !call.session().is_authenticated() ? kAuthSasl
                                                                                                      : kAuthNone};
  call.write(kinds);
  return {};
}

Status sasl_init(Call& call) {
  Session& session = call.session();
  if (session.auth() != Auth::Sasl || session.is_authenticated() || session.sasl()) return auth_failed();
  auto sasl = TRY(rpc::SaslSession::create(session.peer().local || session.peer().encrypted));
  session.set_sasl(sasl);
  call.write(TRY(sasl->mechanisms()));
  return {};
}

/// The client's data: "nil" tells none from empty.
std::optional<std::string> given(bool nil, CharArray data) {
  return nil ? std::nullopt : std::optional(std::move(data.text));
}

Status admit_user(Call& call, rpc::SaslSession& sasl) {
  std::string user = TRY(sasl.user());
  const std::vector<std::string>& allowed = call.daemon().config().sasl_users;
  if (!allowed.empty() && std::ranges::find(allowed, user) == allowed.end()) {
    log_warning("SASL user '{}' is not in sasl_allowed_username_list", user);
    return auth_failed();
  }
  return {};
}

Status give_answer(Call& call, const std::shared_ptr<rpc::SaslSession>& sasl, const rpc::SaslSession::Answer& answer) {
  if (answer.complete) {
    TRY(admit_user(call, *sasl));
    call.session().set_authenticated();
    if (sasl->has_layer()) call.start_layer(sasl);
  }
  call.write(i32{answer.complete}, i32{!answer.data}, CharArray{answer.data.value_or("")});
  return {};
}

Status sasl_start(Call& call) {
  std::string mechanism;
  bool nil = false;
  CharArray data;
  TRY(call.read(mechanism, nil, data));
  auto sasl = call.session().sasl();
  if (!sasl) return auth_failed();
  return give_answer(call, sasl, TRY(sasl->start(mechanism, given(nil, data))));
}

Status sasl_step(Call& call) {
  bool nil = false;
  CharArray data;
  TRY(call.read(nil, data));
  auto sasl = call.session().sasl();
  if (!sasl) return auth_failed();
  return give_answer(call, sasl, TRY(sasl->step(given(nil, data))));
}

// On the loop: the tables are local, and a login's calls must not run at once.
constexpr Procedure kProcedures[] = {
    {Proc::AUTH_LIST, Access::Anyone, auth_list, Where::Loop},
    {Proc::AUTH_SASL_INIT, Access::Anyone, sasl_init, Where::Loop},
    {Proc::AUTH_SASL_START, Access::Anyone, sasl_start, Where::Loop},
    {Proc::AUTH_SASL_STEP, Access::Anyone, sasl_step, Where::Loop},
};

}  // namespace

std::span<const Procedure> auth_procedures() { return kProcedures; }

}  // namespace atl::manage
