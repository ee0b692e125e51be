#include "manage/events.h"

#include <algorithm>
#include <iterator>

#include "manage/monitor_filter.h"
#include "manage/rpc/frame.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {

namespace {

struct Numbers {
  Proc modern;
  u32 legacy = 0;  // 0: newer than callback ids
};

// By DomainEvent.
constexpr Numbers kDomainMessages[] = {
    {Proc::DOMAIN_EVENT_CALLBACK_LIFECYCLE, 107},
    {Proc::DOMAIN_EVENT_CALLBACK_REBOOT, 169},
    {Proc::DOMAIN_EVENT_CALLBACK_RTC_CHANGE, 170},
    {Proc::DOMAIN_EVENT_CALLBACK_WATCHDOG, 171},
    {Proc::DOMAIN_EVENT_CALLBACK_IO_ERROR, 172},
    {Proc::DOMAIN_EVENT_CALLBACK_GRAPHICS, 173},
    {Proc::DOMAIN_EVENT_CALLBACK_IO_ERROR_REASON, 195},
    {Proc::DOMAIN_EVENT_CALLBACK_CONTROL_ERROR, 224},
    {Proc::DOMAIN_EVENT_CALLBACK_BLOCK_JOB, 241},
    {Proc::DOMAIN_EVENT_CALLBACK_DISK_CHANGE, 248},
    {Proc::DOMAIN_EVENT_CALLBACK_TRAY_CHANGE, 268},
    {Proc::DOMAIN_EVENT_CALLBACK_PMWAKEUP, 269},
    {Proc::DOMAIN_EVENT_CALLBACK_PMSUSPEND, 270},
    {Proc::DOMAIN_EVENT_CALLBACK_BALLOON_CHANGE, 276},
    {Proc::DOMAIN_EVENT_CALLBACK_PMSUSPEND_DISK, 292},
    {Proc::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED, 311},
    {Proc::DOMAIN_EVENT_BLOCK_JOB_2},
    {Proc::DOMAIN_EVENT_CALLBACK_TUNABLE},
    {Proc::DOMAIN_EVENT_CALLBACK_AGENT_LIFECYCLE},
    {Proc::DOMAIN_EVENT_CALLBACK_DEVICE_ADDED},
    {Proc::DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION},
    {Proc::DOMAIN_EVENT_CALLBACK_JOB_COMPLETED},
    {Proc::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED},
    {Proc::DOMAIN_EVENT_CALLBACK_METADATA_CHANGE},
    {Proc::DOMAIN_EVENT_BLOCK_THRESHOLD},
    {Proc::DOMAIN_EVENT_MEMORY_FAILURE},
    {Proc::DOMAIN_EVENT_MEMORY_DEVICE_SIZE_CHANGE},
};

u32 domain_message(i32 event, bool legacy) {
  if (event < 0 || static_cast<size_t>(event) >= std::size(kDomainMessages)) return 0;
  const Numbers& numbers = kDomainMessages[event];
  return legacy ? numbers.legacy : static_cast<u32>(numbers.modern);
}

u32 one_of(i32 event, Proc first, Proc second) {
  return event == 0 ? static_cast<u32>(first) : event == 1 ? static_cast<u32>(second) : 0;
}

/// `key`: of the object; of a monitor's event the domain's, and the event's name behind it.
bool is_wanted(const Events::Registration& registration, const std::string& key) {
  if (registration.filter.empty()) return true;
  if (registration.family != Events::Family::QemuMonitor) return registration.filter == key;
  constexpr size_t kKey = 16;
  return MonitorEventFilter::from(registration.filter).matches(std::string_view(key).substr(0, kKey), key.substr(kKey));
}

}  // namespace

u32 Events::message_number(Family family, i32 event, bool legacy) {
  switch (family) {
    case Family::Domain: return domain_message(event, legacy);
    case Family::Network: return event == 0 ? static_cast<u32>(Proc::NETWORK_EVENT_LIFECYCLE) : 0;
    case Family::StoragePool:
      return one_of(event, Proc::STORAGE_POOL_EVENT_LIFECYCLE, Proc::STORAGE_POOL_EVENT_REFRESH);
    case Family::NodeDevice: return one_of(event, Proc::NODE_DEVICE_EVENT_LIFECYCLE, Proc::NODE_DEVICE_EVENT_UPDATE);
    case Family::Secret: return one_of(event, Proc::SECRET_EVENT_LIFECYCLE, Proc::SECRET_EVENT_VALUE_CHANGED);
    case Family::QemuMonitor: return static_cast<u32>(QemuProc::DOMAIN_MONITOR_EVENT);
  }
  return 0;
}

void Events::add(std::shared_ptr<Session> session, Registration registration) {
  Lock lock(mutex_);
  entries_.push_back({std::move(session), std::move(registration)});
}

template <class Match>
bool Events::remove_if(Match match) {
  Lock lock(mutex_);
  return std::erase_if(entries_, match) > 0;
}

bool Events::remove(const Session& session, Family family, i32 callback_id) {
  return remove_if([&](const Entry& e) {
    const Registration& r = e.registration;
    return e.session.get() == &session && !r.legacy && r.family == family && r.callback_id == callback_id;
  });
}

bool Events::remove_legacy(const Session& session, i32 event) {
  return remove_if([&](const Entry& e) {
    return e.session.get() == &session && e.registration.legacy && e.registration.event == event;
  });
}

bool Events::has_legacy(const Session& session, i32 event) const {
  Lock lock(mutex_);
  return std::ranges::any_of(entries_, [&](const Entry& e) {
    return e.session.get() == &session && e.registration.legacy && e.registration.event == event;
  });
}

void Events::drop(const Session& session) {
  remove_if([&](const Entry& e) { return e.session.get() == &session; });
}

void Events::emit(Family family, i32 event, const std::string& key, const std::vector<u8>& payload) {
  Lock lock(mutex_);
  for (const Entry& entry : entries_) {
    const Registration& r = entry.registration;
    if (r.family != family || r.event != event || !is_wanted(r, key)) continue;
    rpc::Header header;
    header.program = family == Family::QemuMonitor ? rpc::kQemuProgram : rpc::kRemoteProgram;
    header.procedure = message_number(family, event, r.legacy);
    header.type = rpc::FrameType::Message;
    XdrWriter body;
    if (!r.legacy) body.write(r.callback_id);
    body.append(payload);
    entry.session->send_frame(rpc::encode_frame(header, body.data()));
  }
}

void Events::qemu_monitor(const DomainRef& domain, const std::string& name, i64 seconds, u32 micros,
                          const std::optional<std::string>& data) {
  emit(Family::QemuMonitor, 0, key_of(domain.uuid) + name, encode(domain, name, seconds, micros, data));
}

}  // namespace atl::manage
