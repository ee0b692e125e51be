// Devices and their back ends: queries, plugging and unplugging.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/cmdline/json_values.h"
#include "control/cmdline/translate.h"
#include "control/qmp/command.h"
#include "machine/device_table.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;

Reply done(Status status) {
  if (!status) return std::move(status).error();
  return Json::object();
}

Reply query_vm_generation_id(QmpContext& c, const Json&) {
  const auto id = c.vm.machine().generation_id();
  if (!id) return Error(ErrorKind::NotFound, "VM Generation ID device not found");
  return Json{{"guid", *id}};
}

Reply query_iothreads(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const auto& thread : c.vm.machine().iothreads())
    list.push_back({{"id", thread.id}, {"thread-id", thread.thread_id}, {"poll-max-ns", 0}, {"poll-grow", 0}, {"poll-shrink", 0}, {"aio-max-batch", 0}});
  return list;
}

Reply device_add(QmpContext& c, const Json& arguments) { return done(c.vm.add_device(key_values_from_json(arguments))); }

Reply device_del(QmpContext& c, const Json& arguments) {
  return done(c.vm.machine().remove_device(arguments["id"].get_ref<const std::string&>()));
}

Reply netdev_add(QmpContext& c, const Json& arguments) { return done(c.vm.add_network(key_values_from_json(arguments))); }

Reply netdev_del(QmpContext& c, const Json& arguments) {
  return done(c.vm.remove_network(arguments["id"].get_ref<const std::string&>()));
}

Reply set_link(QmpContext& c, const Json& arguments) {
  return done(c.vm.machine().set_link(arguments["name"].get_ref<const std::string&>(), arguments["up"].get<bool>()));
}

Reply object_add(QmpContext& c, const Json& arguments) { return done(c.vm.add_object(key_values_from_json(arguments))); }

Reply object_del(QmpContext& c, const Json& arguments) {
  return done(c.vm.remove_object(arguments["id"].get_ref<const std::string&>()));
}

Result<Fd> received_fd(QmpContext& c) {
  Fd fd = c.connection ? c.connection->take_received_fd() : Fd();
  if (!fd) return Error(ErrorKind::Invalid, "No file descriptor supplied via SCM_RIGHTS");
  return fd;
}

Reply getfd(QmpContext& c, const Json& arguments) {
  const auto& name = arguments["fdname"].get_ref<const std::string&>();
  Fd fd = TRY(received_fd(c));
  if (name.empty() || (name[0] >= '0' && name[0] <= '9'))
    return Error(ErrorKind::Invalid, "Parameter 'fdname' expects a name not starting with a digit");
  c.vm.keep_fd(name, std::move(fd));
  return Json::object();
}

Reply closefd(QmpContext& c, const Json& arguments) {
  return done(c.vm.close_fd(arguments["fdname"].get_ref<const std::string&>()));
}

Reply add_fd(QmpContext& c, const Json& arguments) {
  Fd fd = TRY(received_fd(c));
  auto [set, number] = c.vm.add_to_fd_set(number_argument(arguments, "fdset-id"), std::move(fd));
  return Json{{"fdset-id", set}, {"fd", number}};
}

Reply remove_fd(QmpContext& c, const Json& arguments) {
  auto fd = number_argument(arguments, "fd");
  return done(c.vm.remove_from_fd_set(arguments["fdset-id"].get<u64>(), fd ? std::optional<int>(static_cast<int>(*fd)) : std::nullopt));
}

Reply query_fdsets(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const auto& [set, fd] : c.vm.fd_sets())
    list.push_back({{"fdset-id", set}, {"fds", Json::array({{{"fd", fd}}})}});
  return list;
}

bool is_tpm(std::string_view type) { return type.starts_with("tpm-"); }

Reply query_tpm_models(QmpContext&, const Json&) {
  Json list = Json::array();
  for (const auto& spec : machine::device_specs())
    if (is_tpm(spec.type)) list.push_back(spec.type);
  return list;
}

Reply query_tpm_types(QmpContext&, const Json&) { return Json::array({"emulator"}); }

Reply query_tpm(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const auto& info : c.vm.machine().devices())
    if (is_tpm(info.config.type))
      list.push_back({{"model", info.config.type}, {"id", info.config.id}, {"options", {{"type", "emulator"}, {"data", Json::object()}}}});
  return list;
}

constexpr QmpCommand kCommands[] = {
    {"query-vm-generation-id", "", query_vm_generation_id},
    {"query-iothreads", "", query_iothreads},
    {"query-tpm", "", query_tpm},
    {"query-tpm-models", "", query_tpm_models},
    {"query-tpm-types", "", query_tpm_types},
    {"device_add", "*", device_add},
    {"device_del", "id:s", device_del, "DeviceNotFound"},
    {"netdev_add", "*", netdev_add},
    {"netdev_del", "id:s", netdev_del, "DeviceNotFound"},
    {"set_link", "name:s up:b", set_link, "DeviceNotFound"},
    {"object-add", "*", object_add},
    {"object-del", "id:s", object_del},
    {"getfd", "fdname:s", getfd},
    {"closefd", "fdname:s", closefd},
    {"add-fd", "fdset-id?:i opaque?:s", add_fd},
    {"remove-fd", "fdset-id:i fd?:i", remove_fd},
    {"query-fdsets", "", query_fdsets},
};

}  // namespace

std::span<const QmpCommand> device_commands() { return kCommands; }

}  // namespace atl::control
