// What the agent inside a guest is asked: time, file systems, users, addresses, an orderly end.
#include <algorithm>
#include <ctime>
#include <initializer_list>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "manage/domain/addresses.h"
#include "manage/domain/agent.h"
#include "manage/domain/agent_disks.h"
#include "manage/domain/tuning.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

std::string text(const Json& object, const char* key) {
  auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// Out of line: GCC 12 takes a string that moves into a variant for an uninitialised one.
[[gnu::noinline]] void add(TypedParams& params, std::string name, TypedParam::Value value) { params.emplace_back(std::move(name), std::move(value)); }

// --- file systems

Status freeze(Call& call) {
  std::vector<std::string> mountpoints;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, mountpoints, flags));
  TRY(check_flags(flags, 0, "virDomainFSFreeze"));
  const Json count = mountpoints.empty() ? TRY(ask_agent(*domain, "guest-fsfreeze-freeze", Json::object()))
                                         : TRY(ask_agent(*domain, "guest-fsfreeze-freeze-list", {{"mountpoints", mountpoints}}));
  call.write(count.is_number_integer() ? count.get<i32>() : i32{0});
  return {};
}

Status thaw(Call& call) {
  std::vector<std::string> mountpoints;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, mountpoints, flags));
  TRY(check_flags(flags, 0, "virDomainFSThaw"));
  if (!mountpoints.empty()) return invalid_arg("specifying mountpoints is not supported");
  const Json count = TRY(ask_agent(*domain, "guest-fsfreeze-thaw", Json::object()));
  call.write(count.is_number_integer() ? count.get<i32>() : i32{0});
  return {};
}

Status trim_guest(Call& call) {
  std::optional<std::string> mountpoint;
  u64 minimum = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, mountpoint, minimum, flags));
  TRY(check_flags(flags, 0, "virDomainFSTrim"));
  if (mountpoint) return Error(Code::ArgumentUnsupported, "Specifying mount point is not supported for now");
  TRY(ask_agent(*domain, "guest-fstrim", {{"minimum", minimum}}));
  return {};
}

struct FileSystem {
  std::string mountpoint, name, type;
  std::vector<std::string> devices;
  static constexpr auto kFields = std::tuple{&FileSystem::mountpoint, &FileSystem::name, &FileSystem::type, &FileSystem::devices};
};

Status get_fsinfo(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainGetFSInfo"));
  const Json answer = TRY(ask_agent(*domain, "guest-get-fsinfo", Json::object()));
  auto tree = domain->live();
  std::vector<FileSystem> list;
  for (const Json& entry : answer) {
    FileSystem fs{text(entry, "mountpoint"), text(entry, "name"), text(entry, "type"), {}};
    for (const Json& disk : entry.value("disk", Json::array()))
      if (std::string target = tree ? disk_of_guest(*tree, disk) : ""; !target.empty()) fs.devices.push_back(std::move(target));
    list.push_back(std::move(fs));
  }
  const auto count = static_cast<u32>(list.size());
  call.write(list, count);
  return {};
}

// --- time

Status get_time(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainGetTime"));
  const Json time = TRY(ask_agent(*domain, "guest-get-time", Json::object()));
  if (!time.is_number_integer()) return internal_error("malformed return value");
  const i64 all = time.get<i64>();
  constexpr i64 kSecond = 1'000'000'000;
  call.write(i64{all / kSecond}, static_cast<u32>(all % kSecond));
  return {};
}

Status set_time(Call& call) {
  i64 seconds = 0;
  u32 nanoseconds = 0, flags = 0;
  auto domain = TRY(read_domain(call, seconds, nanoseconds, flags));
  constexpr u32 kSync = 1;
  TRY(check_flags(flags, kSync, "virDomainSetTime"));
  Json arguments = Json::object();
  if (!(flags & kSync)) arguments["time"] = seconds * 1'000'000'000 + nanoseconds;
  TRY(ask_agent(*domain, "guest-set-time", arguments));
  return {};
}

// --- users

Status set_password(Call& call) {
  std::optional<std::string> user, password;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, user, password, flags));
  constexpr u32 kEncrypted = 1;
  TRY(check_flags(flags, kEncrypted, "virDomainSetUserPassword"));
  TRY(ask_agent(*domain, "guest-set-user-password",
                {{"crypted", (flags & kEncrypted) != 0}, {"username", user.value_or("")}, {"password", encode_base64(password.value_or(""))}}));
  return {};
}

Status get_keys(Call& call) {
  std::string user;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, user, flags));
  TRY(check_flags(flags, 0, "virDomainAuthorizedSSHKeysGet"));
  const Json answer = TRY(ask_agent(*domain, "guest-ssh-get-authorized-keys", {{"username", user}}));
  std::vector<std::string> keys;
  for (const Json& key : answer.value("keys", Json::array()))
    if (key.is_string()) keys.push_back(key);
  call.write(keys);
  return {};
}

Status set_keys(Call& call) {
  std::string user;
  std::vector<std::string> keys;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, user, keys, flags));
  constexpr u32 kAppend = 1, kRemove = 2;
  TRY(check_flags(flags, kAppend | kRemove, "virDomainAuthorizedSSHKeysSet"));
  if (flags & kRemove) TRY(ask_agent(*domain, "guest-ssh-remove-authorized-keys", {{"username", user}, {"keys", keys}}));
  else TRY(ask_agent(*domain, "guest-ssh-add-authorized-keys", {{"username", user}, {"keys", keys}, {"reset", !(flags & kAppend)}}));
  return {};
}

// --- the guest itself

Status get_hostname(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  constexpr u32 kLease = 1, kAgent = 2;
  TRY(check_flags(flags, kLease | kAgent, "virDomainGetHostname"));
  if ((flags & kLease) && (flags & kAgent)) return invalid_arg("unsupported flags combination");
  if (!domain->active()) return operation_invalid("domain is not running");
  if (flags & kLease) return Error(Code::NoHostname, fmt::format("no hostname found for domain {}", domain->name()));
  const Json answer = TRY(ask_agent(*domain, "guest-get-host-name", Json::object()));
  call.write(text(answer, "host-name"));
  return {};
}

/// The state of a guest's vCPUs, as cpu lists.
Status get_guest_vcpus(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainGetGuestVcpus"));
  const Json answer = TRY(ask_agent(*domain, "guest-get-vcpus", Json::object()));
  std::vector<bool> all, online, offlinable;
  auto mark = [](std::vector<bool>& set, size_t number, bool on) {
    if (set.size() <= number) set.resize(number + 1);
    set[number] = on;
  };
  constexpr u64 kMost = 4096;
  for (const Json& vcpu : answer) {
    const u64 number = vcpu.value("logical-id", kMost);
    if (number >= kMost) return internal_error("malformed return value");
    mark(all, number, true);
    mark(online, number, vcpu.value("online", false));
    mark(offlinable, number, vcpu.value("can-offline", false));
  }
  TypedParams params;
  add(params, "vcpus", cpu_list(all));
  add(params, "online", cpu_list(online));
  add(params, "offlinable", cpu_list(offlinable));
  call.write(params);
  return {};
}

Status set_guest_vcpus(Call& call) {
  std::string map;
  i32 state = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, map, state, flags));
  TRY(check_flags(flags, 0, "virDomainSetGuestVcpus"));
  const std::vector<bool> wanted = TRY(parse_cpu_list(map));
  Json list = Json::array();
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i]) list.push_back({{"logical-id", i}, {"online", state != 0}});
  TRY(ask_agent(*domain, "guest-set-vcpus", {{"vcpus", list}}));
  return {};
}

Status set_timeout(Call& call) {
  i32 seconds = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, seconds, flags));
  TRY(check_flags(flags, 0, "virDomainAgentSetResponseTimeout"));
  if (seconds < kAgentBlock) return invalid_arg(fmt::format("guest agent timeout '{}' is less than the minimum '{}'", seconds, kAgentBlock));
  if (!domain->active()) return operation_invalid("domain is not running");
  domain->set_agent_timeout(seconds);
  call.write(i32{0});
  return {};
}

Status suspend_guest(Call& call) {
  u32 target = 0, flags = 0;
  u64 duration = 0;
  auto domain = TRY(read_domain(call, target, duration, flags));
  TRY(check_flags(flags, 0, "virDomainPMSuspendForDuration"));
  if (duration) return Error(Code::ArgumentUnsupported, "Duration not supported. Use 0 for now");
  constexpr std::string_view kCommands[] = {"guest-suspend-ram", "guest-suspend-disk", "guest-suspend-hybrid"};
  if (target >= std::size(kCommands)) return Error(Code::ArgumentUnsupported, fmt::format("Unknown suspend target: {}", target));
  return tell_agent(*domain, kCommands[target], Json::object());
}

// --- everything at once (guestinfo)

void put_users(Domain&, const Json& answer, TypedParams& params) {
  add(params, "user.count", static_cast<u32>(answer.size()));
  for (size_t i = 0; i < answer.size(); ++i) {
    add(params, fmt::format("user.{}.name", i), text(answer[i], "user"));
    if (const std::string domain = text(answer[i], "domain"); !domain.empty()) add(params, fmt::format("user.{}.domain", i), domain);
    add(params, fmt::format("user.{}.login-time", i), static_cast<u64>(answer[i].value("login-time", 0.0) * 1000));
  }
}

void put_os(Domain&, const Json& answer, TypedParams& params) {
  for (const char* key : {"id", "name", "pretty-name", "version", "version-id", "machine", "variant", "variant-id", "kernel-release", "kernel-version"})
    if (const std::string value = text(answer, key); !value.empty()) add(params, fmt::format("os.{}", key), value);
}

void put_timezone(Domain&, const Json& answer, TypedParams& params) {
  if (const std::string zone = text(answer, "zone"); !zone.empty()) add(params, "timezone.name", zone);
  add(params, "timezone.offset", answer.value("offset", i32{0}));
}

void put_hostname(Domain&, const Json& answer, TypedParams& params) { add(params, "hostname", text(answer, "host-name")); }

void put_file_systems(Domain& domain, const Json& answer, TypedParams& params) {
  auto tree = domain.live();
  add(params, "fs.count", static_cast<u32>(answer.size()));
  for (size_t i = 0; i < answer.size(); ++i) {
    const std::string prefix = fmt::format("fs.{}.", i);
    add(params, prefix + "mountpoint", text(answer[i], "mountpoint"));
    add(params, prefix + "name", text(answer[i], "name"));
    add(params, prefix + "fstype", text(answer[i], "type"));
    if (answer[i].contains("total-bytes")) add(params, prefix + "total-bytes", answer[i].value("total-bytes", u64{0}));
    if (answer[i].contains("used-bytes")) add(params, prefix + "used-bytes", answer[i].value("used-bytes", u64{0}));
    const Json disks = answer[i].value("disk", Json::array());
    add(params, prefix + "disk.count", static_cast<u32>(disks.size()));
    for (size_t j = 0; j < disks.size(); ++j) {
      const std::string one = fmt::format("{}disk.{}.", prefix, j);
      if (const std::string target = tree ? disk_of_guest(*tree, disks[j]) : ""; !target.empty()) add(params, one + "alias", target);
      if (const std::string serial = text(disks[j], "serial"); !serial.empty()) add(params, one + "serial", serial);
      if (const std::string device = text(disks[j], "dev"); !device.empty()) add(params, one + "device", device);
    }
  }
}

void put_disks(Domain& domain, const Json& answer, TypedParams& params) {
  auto tree = domain.live();
  add(params, "disk.count", static_cast<u32>(answer.size()));
  for (size_t i = 0; i < answer.size(); ++i) {
    const std::string prefix = fmt::format("disk.{}.", i);
    add(params, prefix + "name", text(answer[i], "name"));
    add(params, prefix + "partition", answer[i].value("partition", false));
    const Json below = answer[i].value("dependencies", Json::array());
    if (!below.empty()) add(params, prefix + "dependency.count", static_cast<u32>(below.size()));
    for (size_t j = 0; j < below.size(); ++j)
      if (below[j].is_string()) add(params, fmt::format("{}dependency.{}.name", prefix, j), below[j].get<std::string>());
    const Json address = answer[i].value("address", Json::object());
    if (const std::string serial = text(address, "serial"); !serial.empty()) add(params, prefix + "serial", serial);
    if (const std::string target = tree ? disk_of_guest(*tree, address) : ""; !target.empty()) add(params, prefix + "alias", target);
    if (const std::string alias = text(answer[i], "alias"); !alias.empty()) add(params, prefix + "guest_alias", alias);
    if (const std::string bus = text(address, "bus-type"); !bus.empty()) add(params, prefix + "guest_bus", bus);
  }
}

void put_interfaces(Domain&, const Json& answer, TypedParams& params) {
  add(params, "if.count", static_cast<u32>(answer.size()));
  for (size_t i = 0; i < answer.size(); ++i) {
    const std::string prefix = fmt::format("if.{}.", i);
    add(params, prefix + "name", text(answer[i], "name"));
    if (const std::string mac = text(answer[i], "hardware-address"); !mac.empty()) add(params, prefix + "hwaddr", mac);
    const Json addresses = answer[i].value("ip-addresses", Json::array());
    if (!addresses.empty()) add(params, prefix + "addr.count", static_cast<u32>(addresses.size()));
    for (size_t j = 0; j < addresses.size(); ++j) {
      const std::string one = fmt::format("{}addr.{}.", prefix, j);
      add(params, one + "type", text(addresses[j], "ip-address-type"));
      add(params, one + "addr", text(addresses[j], "ip-address"));
      add(params, one + "prefix", addresses[j].value("prefix", u32{0}));
    }
  }
}

/// virDomainGuestInfoTypes.
struct InfoType {
  u32 bit;
  std::string_view command;
  void (*put)(Domain& domain, const Json& answer, TypedParams& params);
  bool is_list;
};
constexpr InfoType kInfoTypes[] = {{1, "guest-get-users", put_users, true},       {2, "guest-get-osinfo", put_os, false},
                                   {4, "guest-get-timezone", put_timezone, false}, {8, "guest-get-host-name", put_hostname, false},
                                   {16, "guest-get-fsinfo", put_file_systems, true}, {32, "guest-get-disks", put_disks, true},
                                   {64, "guest-network-get-interfaces", put_interfaces, true}};

Status get_guest_info(Call& call) {
  u32 types = 0, flags = 0;
  auto domain = TRY(read_domain(call, types, flags));
  TRY(check_flags(flags, 0, "virDomainGetGuestInfo"));
  constexpr u32 kAll = 127;
  if (types & ~kAll) return invalid_arg(fmt::format("unsupported guest information types '0x{:x}'", types & ~kAll));
  TypedParams params;
  for (const auto& type : kInfoTypes) {
    if (types && !(types & type.bit)) continue;
    auto answer = ask_agent(*domain, type.command, Json::object());
    // Asked for all, an agent may lack some; asked for one, it must have it.
    const bool usable = answer && (type.is_list ? answer->is_array() : answer->is_object());
    if (usable) type.put(*domain, *answer, params);
    else if (!answer && (types || answer.error().code() != Code::InternalError)) return std::move(answer).error();
  }
  call.write(params);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_FSFREEZE, Access::Write, freeze},
    {Proc::DOMAIN_FSTHAW, Access::Write, thaw},
    {Proc::DOMAIN_FSTRIM, Access::Write, trim_guest},
    {Proc::DOMAIN_GET_FSINFO, Access::Write, get_fsinfo},
    {Proc::DOMAIN_GET_TIME, Access::Write, get_time},
    {Proc::DOMAIN_SET_TIME, Access::Write, set_time},
    {Proc::DOMAIN_SET_USER_PASSWORD, Access::Write, set_password},
    {Proc::DOMAIN_AUTHORIZED_SSH_KEYS_GET, Access::Write, get_keys},
    {Proc::DOMAIN_AUTHORIZED_SSH_KEYS_SET, Access::Write, set_keys},
    {Proc::DOMAIN_GET_HOSTNAME, Access::Write, get_hostname},
    {Proc::DOMAIN_GET_GUEST_VCPUS, Access::Write, get_guest_vcpus},
    {Proc::DOMAIN_SET_GUEST_VCPUS, Access::Write, set_guest_vcpus},
    {Proc::DOMAIN_AGENT_SET_RESPONSE_TIMEOUT, Access::Write, set_timeout},
    {Proc::DOMAIN_PM_SUSPEND_FOR_DURATION, Access::Write, suspend_guest},
    {Proc::DOMAIN_GET_GUEST_INFO, Access::Write, get_guest_info},
};

}  // namespace

std::span<const Procedure> domain_agent_rows() { return kRows; }

}  // namespace atl::manage
