// Handlers that networks and storage pools have in common: both are defined, started, listed and named in the same
// ways.
//
// `Kind` says which: its Manager (with State, list, find, state, xml, set_autostart), Ref, functions' names for errors,
// and which types a list may ask for.
#pragma once

#include <string>
#include <vector>

#include "manage/rpc/call.h"
#include "manage/rpc/list_filter.h"
#include "manage/rpc/name_list.h"

namespace atl::manage {

// virConnectListAllNetworksFlags, and the first of virConnectListAllStoragePoolsFlags.
enum ManagedListFlags : u32 {
  kListInactive = 1,
  kListActive = 2,
  kListPersistent = 4,
  kListTransient = 8,
  kListAutostart = 16,
  kListNoAutostart = 32,
  kListStates = 63
};

template <class Kind>
struct Managed {
  using Manager = typename Kind::Manager;
  using Ref = typename Kind::Ref;
  using State = typename Manager::State;

  static bool passes(const State& state, u32 flags) {
    return passes_filter(flags,
                         {{kListInactive | kListActive, state.active ? kListActive : kListInactive},
                          {kListPersistent | kListTransient, state.persistent ? kListPersistent : kListTransient},
                          {kListAutostart | kListNoAutostart, state.autostart ? kListAutostart : kListNoAutostart},
                          {Kind::kTypeFlags, Kind::type_flag(state)}});
  }

  static Status list_all(Call& call) {
    bool wanted = false;
    u32 flags = 0;
    TRY(call.read(wanted, flags));
    TRY(check_flags(flags, kListStates | Kind::kTypeFlags, Kind::kListAllFunction));
    std::vector<Ref> list;
    for (const State& state : Kind::manager(call).list())
      if (passes(state, flags)) list.push_back(state.ref);
    call.write_list(list, wanted);
    return {};
  }

  static std::vector<std::string> names(Call& call, u32 flags) {
    std::vector<std::string> found;
    for (const State& state : Kind::manager(call).list())
      if (passes(state, flags)) found.push_back(state.ref.name);
    return found;
  }

  template <u32 kFlags>
  static Status number_of(Call& call) {
    call.write(static_cast<i32>(names(call, kFlags).size()));
    return {};
  }

  template <u32 kFlags>
  static Status list_names(Call& call) {
    i32 most = 0;
    TRY(call.read(most));
    return write_names(call, names(call, kFlags), most, Kind::kMostNames, Kind::kListLimit);
  }

  static Status lookup_by_name(Call& call) {
    std::string name;
    TRY(call.read(name));
    call.write(TRY(Kind::manager(call).find(name)));
    return {};
  }

  static Status lookup_by_uuid(Call& call) {
    Uuid uuid{};
    TRY(call.read(uuid));
    call.write(TRY(Kind::manager(call).state(uuid)).ref);
    return {};
  }

  static Status get_xml(Call& call) {
    constexpr u32 kInactive = 1;
    Ref ref;
    u32 flags = 0;
    TRY(call.read(ref, flags));
    TRY(check_flags(flags, kInactive, Kind::kXmlFunction));
    call.write(TRY(Kind::manager(call).xml(ref.uuid, (flags & kInactive) != 0)));
    return {};
  }

  template <bool State::* kField>
  static Status get_state(Call& call) {
    Ref ref;
    TRY(call.read(ref));
    State state = TRY(Kind::manager(call).state(ref.uuid));
    call.write(i32{state.*kField});
    return {};
  }

  static Status set_autostart(Call& call) {
    Ref ref;
    bool on = false;
    TRY(call.read(ref, on));
    return Kind::manager(call).set_autostart(ref.uuid, on);
  }

  /// Calls that take the object and nothing else, or flags of which none is allowed.
  template <Status (Manager::*kMethod)(const Uuid&), bool kHasFlags = false>
  static Status act(Call& call) {
    Ref ref;
    u32 flags = 0;
    TRY(call.read(ref));
    if (kHasFlags) TRY(call.read(flags));
    TRY(check_flags(flags, 0, Kind::kActFunction));
    return (Kind::manager(call).*kMethod)(ref.uuid);
  }
};

}  // namespace atl::manage
