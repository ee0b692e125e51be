// What the files procedures_snapshot*.cc share.
#pragma once

#include <span>

#include "manage/domain/snapshots.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {

std::span<const Procedure> snapshot_change_rows();
std::span<const Procedure> checkpoint_rows();
std::span<const Procedure> backup_rows();

inline SnapshotStore snapshots_of(Call& call, const std::string& domain) { return {call.daemon().config().paths.state, domain}; }

/// A snapshot that a call begins with, and its domain.
struct NamedSnapshot {
  DomainPtr domain;
  SnapshotStore store;
  Snapshot snapshot;
};

template <class... T>
Result<NamedSnapshot> read_snapshot(Call& call, T&... rest) {
  SnapshotRef ref;
  TRY(call.read(ref, rest...));
  auto domain = TRY(call.daemon().domains().find(ref.domain.uuid));
  SnapshotStore store = snapshots_of(call, domain->name());
  Snapshot snapshot = TRY(store.find(ref.name));
  return NamedSnapshot{std::move(domain), std::move(store), std::move(snapshot)};
}

}  // namespace atl::manage
