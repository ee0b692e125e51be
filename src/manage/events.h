// Events to clients: who registered for what, and one frame to each registration that an event matches.
//
// Managers call the emitters below from any thread, holding no lock that a client's call could need. Frames are queued to the connections at
// once, in the order of the calls.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/error.h"
#include "manage/rpc/objects.h"
#include "manage/rpc/session.h"

namespace atl::manage {

/// Ids of domain events, as in virConnectDomainEventRegisterAny.
enum class DomainEvent : i32 {
  Lifecycle = 0,         // int event, int detail
  Reboot = 1,            // nothing
  RtcChange = 2,         // hyper offset
  Watchdog = 3,          // int action
  IoError = 4,           // string path, string alias, int action
  Graphics = 5,
  IoErrorReason = 6,     // string path, string alias, int action, string reason
  ControlError = 7,      // nothing
  BlockJob = 8,          // string path, int type, int status
  DiskChange = 9,        // optional string old, optional string new, string alias, int reason
  TrayChange = 10,       // string alias, int reason
  PmWakeup = 11,         // 11, 12 and 14 have an int before the domain: no emitter yet
  PmSuspend = 12,
  BalloonChange = 13,    // unsigned hyper actual, KiB
  PmSuspendDisk = 14,
  DeviceRemoved = 15,    // string alias
  BlockJob2 = 16,        // string target, int type, int status
  Tunable = 17,          // list of typed parameters
  AgentLifecycle = 18,   // int state, int reason
  DeviceAdded = 19,      // string alias
  MigrationIteration = 20,
  JobCompleted = 21,     // list of typed parameters
  DeviceRemovalFailed = 22,
  MetadataChange = 23,   // int type, optional string namespace
  BlockThreshold = 24,
  MemoryFailure = 25,
  MemoryDeviceSizeChange = 26,
};

class Events {
 public:
  enum class Family : u8 { Domain, Network, StoragePool, NodeDevice, Secret, QemuMonitor };
  struct Registration {
    Family family = Family::Domain;
    i32 event = 0;
    i32 callback_id = 0;
    bool legacy = false;       // registered by event number alone: old messages, without a callback id
    std::string filter;        // key of the only object, or the name of the only monitor event; "": all
  };

  /// Number of the message, 0 if there is no such event (in the legacy form).
  static u32 message_number(Family family, i32 event, bool legacy);

  /// Called on the server's loop, after the reply.
  void add(std::shared_ptr<Session> session, Registration registration);
  /// False if there is none.
  bool remove(const Session& session, Family family, i32 callback_id);
  bool remove_legacy(const Session& session, i32 event);
  bool has_legacy(const Session& session, i32 event) const;
  /// The connection is gone.
  void drop(const Session& session);

  /// `rest`: what the event's message holds after the domain.
  template <class... T>
  void domain(DomainEvent event, const DomainRef& domain, const T&... rest) {
    emit(Family::Domain, static_cast<i32>(event), key_of(domain.uuid), encode(domain, rest...));
  }
  void domain_lifecycle(const DomainRef& ref, i32 event, i32 detail) { domain(DomainEvent::Lifecycle, ref, event, detail); }
  void network_lifecycle(const NetworkRef& network, i32 event, i32 detail) {
    emit(Family::Network, 0, key_of(network.uuid), encode(network, event, detail));
  }
  void pool_lifecycle(const PoolRef& pool, i32 event, i32 detail) {
    emit(Family::StoragePool, 0, key_of(pool.uuid), encode(pool, event, detail));
  }
  void pool_refresh(const PoolRef& pool) { emit(Family::StoragePool, 1, key_of(pool.uuid), encode(pool)); }
  void node_device_lifecycle(const NodeDeviceRef& device, i32 event, i32 detail) {
    emit(Family::NodeDevice, 0, device.name, encode(device, event, detail));
  }
  void node_device_update(const NodeDeviceRef& device) { emit(Family::NodeDevice, 1, device.name, encode(device)); }
  void secret_lifecycle(const SecretRef& secret, i32 event, i32 detail) {
    emit(Family::Secret, 0, key_of(secret.uuid), encode(secret, event, detail));
  }
  void secret_value_changed(const SecretRef& secret) { emit(Family::Secret, 1, key_of(secret.uuid), encode(secret)); }
  /// An event of a VM's own monitor: `data` is JSON.
  void qemu_monitor(const DomainRef& domain, const std::string& name, i64 seconds, u32 micros,
                    const std::optional<std::string>& data);

  static std::string key_of(const Uuid& uuid) { return {uuid.begin(), uuid.end()}; }

 private:
  struct Entry {
    std::shared_ptr<Session> session;
    Registration registration;
  };
  template <class... T>
  static std::vector<u8> encode(const T&... values) {
    XdrWriter out;
    out.write(values...);
    return out.take();
  }
  void emit(Family family, i32 event, const std::string& key, const std::vector<u8>& payload) EXCLUDES(mutex_);
  template <class Match>
  bool remove_if(Match match) EXCLUDES(mutex_);

  mutable Mutex mutex_;
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
};

}  // namespace atl::manage
