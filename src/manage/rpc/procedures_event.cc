// Procedures that register for events.
#include <fmt/format.h>

#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {

namespace {

using Family = Events::Family;

std::string filter_of(const DomainRef& domain) { return Events::key_of(domain.uuid); }
std::string filter_of(const NetworkRef& network) { return Events::key_of(network.uuid); }
std::string filter_of(const PoolRef& pool) { return Events::key_of(pool.uuid); }
std::string filter_of(const NodeDeviceRef& device) { return device.name; }
std::string filter_of(const SecretRef& secret) { return Events::key_of(secret.uuid); }

Error no_such_event(i32 event) {
  return {Code::InternalError, fmt::format("unexpected event ID {}", event), Part::Rpc};
}

/// The events of a registration follow the reply that carries its number.
void register_after_reply(Call& call, Events::Registration registration) {
  Events& events = call.daemon().events();
  call.after_reply([&events, session = call.shared_session(), registration] { events.add(session, registration); });
}

/// Arguments: the event's number, and the only object that is of interest, if any. Reply: the registration's number.
template <Family family, class Ref>
Status register_any(Call& call) {
  i32 event = 0;
  std::optional<Ref> only;
  TRY(call.read(event, only));
  if (Events::message_number(family, event, false) == 0) return no_such_event(event);
  Events::Registration registration{family, event, call.session().next_callback_id(), false,
                                    only ? filter_of(*only) : ""};
  register_after_reply(call, registration);
  call.write(registration.callback_id);
  return {};
}

template <Family family>
Status deregister_any(Call& call) {
  i32 id = 0;
  TRY(call.read(id));
  if (!call.daemon().events().remove(call.session(), family, id))
    return Error(Code::InternalError, fmt::format("event callback {} not registered", id), Part::Rpc);
  return {};
}

Status add_legacy(Call& call, i32 event) {
  if (Events::message_number(Family::Domain, event, true) == 0) return no_such_event(event);
  if (call.daemon().events().has_legacy(call.session(), event))
    return Error(Code::InternalError, fmt::format("domain event {} already registered", event), Part::Rpc);
  register_after_reply(call, {Family::Domain, event, 0, true, ""});
  return {};
}

Status remove_legacy(Call& call, i32 event) {
  if (!call.daemon().events().remove_legacy(call.session(), event))
    return Error(Code::InternalError, fmt::format("domain event {} not registered", event), Part::Rpc);
  return {};
}

Status register_legacy(Call& call) {
  call.write(i32{1});
  return add_legacy(call, 0);
}

Status deregister_legacy(Call& call) {
  call.write(i32{1});
  return remove_legacy(call, 0);
}

Status register_legacy_any(Call& call) {
  i32 event = 0;
  TRY(call.read(event));
  return add_legacy(call, event);
}

Status deregister_legacy_any(Call& call) {
  i32 event = 0;
  TRY(call.read(event));
  return remove_legacy(call, event);
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_DOMAIN_EVENT_REGISTER, Access::Read, register_legacy, Where::Loop},
    {Proc::CONNECT_DOMAIN_EVENT_DEREGISTER, Access::Read, deregister_legacy, Where::Loop},
    {Proc::CONNECT_DOMAIN_EVENT_REGISTER_ANY, Access::Read, register_legacy_any, Where::Loop},
    {Proc::CONNECT_DOMAIN_EVENT_DEREGISTER_ANY, Access::Read, deregister_legacy_any, Where::Loop},
    {Proc::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, Access::Read, register_any<Family::Domain, DomainRef>,
     Where::Loop},
    {Proc::CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, Access::Read, deregister_any<Family::Domain>, Where::Loop},
    {Proc::CONNECT_NETWORK_EVENT_REGISTER_ANY, Access::Read, register_any<Family::Network, NetworkRef>, Where::Loop},
    {Proc::CONNECT_NETWORK_EVENT_DEREGISTER_ANY, Access::Read, deregister_any<Family::Network>, Where::Loop},
    {Proc::CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY, Access::Read, register_any<Family::StoragePool, PoolRef>,
     Where::Loop},
    {Proc::CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY, Access::Read, deregister_any<Family::StoragePool>, Where::Loop},
    {Proc::CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY, Access::Read, register_any<Family::NodeDevice, NodeDeviceRef>,
     Where::Loop},
    {Proc::CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY, Access::Read, deregister_any<Family::NodeDevice>, Where::Loop},
    {Proc::CONNECT_SECRET_EVENT_REGISTER_ANY, Access::Read, register_any<Family::Secret, SecretRef>, Where::Loop},
    {Proc::CONNECT_SECRET_EVENT_DEREGISTER_ANY, Access::Read, deregister_any<Family::Secret>, Where::Loop},
};

}  // namespace

std::span<const Procedure> event_procedures() { return kProcedures; }

}  // namespace atl::manage
