// Secrets: passphrases that volumes and disks are opened with (https://libvirt.org/formatsecret.html).
//
// Definitions lie in the config folder, values beside them, readable by the daemon alone. An ephemeral secret is only
// in memory. The value of a private one is given to nobody but the daemon itself.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/config.h"
#include "manage/events.h"
#include "manage/rpc/objects.h"
#include "manage/store/state_folder.h"
#include "manage/xml/element.h"

namespace atl::manage {

/// virSecretUsageType.
enum class SecretUsage : i32 { None = 0, Volume = 1, Ceph = 2, Iscsi = 3, Tls = 4, Vtpm = 5 };

/// Any thread.
class Secrets {
 public:
  static Result<std::unique_ptr<Secrets>> create(const Config& config, Events& events);

  struct State {
    SecretRef ref;
    bool is_ephemeral = false, is_private = false;
  };
  std::vector<State> list() const;
  Result<SecretRef> find(const Uuid& uuid) const;
  Result<SecretRef> find_usage(i32 type, const std::string& id) const;
  Result<SecretRef> define(std::string_view xml);
  Status undefine(const Uuid& uuid);
  Result<std::string> xml(const Uuid& uuid) const;
  Status set_value(const Uuid& uuid, std::string value);
  /// For clients: refused if the secret is private.
  Result<std::string> value(const Uuid& uuid) const;
  /// For our own parts.
  Result<std::string> value_for_use(const Uuid& uuid) const;

 private:
  struct Secret {
    SecretRef ref;
    bool is_ephemeral = false, is_private = false;
    xml::Element tree;
    std::optional<std::string> value;
  };
  Secrets(Events& events, StateFolder definitions, StateFolder values)
      : events_(events), definitions_(std::move(definitions)), values_(std::move(values)) {}
  static Result<Secret> parse(std::string_view text);
  Result<const Secret*> require(const Uuid& uuid) const REQUIRES(mutex_);
  Result<std::string> value_of(const Uuid& uuid, bool for_use) const EXCLUDES(mutex_);

  Events& events_;
  const StateFolder definitions_, values_;
  mutable Mutex mutex_;
  std::map<Uuid, Secret> secrets_ GUARDED_BY(mutex_);
};

}  // namespace atl::manage
