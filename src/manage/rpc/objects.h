// How the things that libvirt manages are named on the wire, and typed parameters.
#pragma once

#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "manage/rpc/xdr.h"

namespace atl::manage {

/// Clients send name and id as they once saw them: look domains up by uuid alone. Replies carry the true id, -1 if inactive.
struct DomainRef {
  std::string name;
  Uuid uuid{};
  i32 id = -1;
  static constexpr auto kFields = std::tuple{&DomainRef::name, &DomainRef::uuid, &DomainRef::id};
};

struct NetworkRef {
  std::string name;
  Uuid uuid{};
  static constexpr auto kFields = std::tuple{&NetworkRef::name, &NetworkRef::uuid};
};

struct NetworkPortRef {
  NetworkRef network;
  Uuid uuid{};
  static constexpr auto kFields = std::tuple{&NetworkPortRef::network, &NetworkPortRef::uuid};
};

struct PoolRef {
  std::string name;
  Uuid uuid{};
  static constexpr auto kFields = std::tuple{&PoolRef::name, &PoolRef::uuid};
};

struct VolumeRef {
  std::string pool, name, key;
  static constexpr auto kFields = std::tuple{&VolumeRef::pool, &VolumeRef::name, &VolumeRef::key};
};

struct InterfaceRef {
  std::string name, mac;
  static constexpr auto kFields = std::tuple{&InterfaceRef::name, &InterfaceRef::mac};
};

struct NodeDeviceRef {
  std::string name;
  static constexpr auto kFields = std::tuple{&NodeDeviceRef::name};
};

struct NwfilterRef {
  std::string name;
  Uuid uuid{};
  static constexpr auto kFields = std::tuple{&NwfilterRef::name, &NwfilterRef::uuid};
};

struct NwfilterBindingRef {
  std::string port_dev, filter;
  static constexpr auto kFields = std::tuple{&NwfilterBindingRef::port_dev, &NwfilterBindingRef::filter};
};

struct SecretRef {
  Uuid uuid{};
  i32 usage_type = 0;
  std::string usage_id;
  static constexpr auto kFields = std::tuple{&SecretRef::uuid, &SecretRef::usage_type, &SecretRef::usage_id};
};

struct SnapshotRef {
  std::string name;
  DomainRef domain;
  static constexpr auto kFields = std::tuple{&SnapshotRef::name, &SnapshotRef::domain};
};

struct CheckpointRef {
  std::string name;
  DomainRef domain;
  static constexpr auto kFields = std::tuple{&CheckpointRef::name, &CheckpointRef::domain};
};

/// A name with a value of one of seven types; on the wire the type's number (int 1, unsigned 2, 64-bit 3 and 4, double 5, bool 6,
/// string 7) goes before the value.
struct TypedParam {
  using Value = std::variant<i32, u32, i64, u64, double, bool, std::string>;
  std::string name;
  Value value;

  TypedParam() = default;
  TypedParam(std::string n, Value v) : name(std::move(n)), value(std::move(v)) {}
  bool decode(XdrReader& in);
  void encode(XdrWriter& out) const;
};
using TypedParams = std::vector<TypedParam>;

/// The parameter of that name; null if there is none.
const TypedParam* find_param(const TypedParams& params, std::string_view name);

}  // namespace atl::manage
