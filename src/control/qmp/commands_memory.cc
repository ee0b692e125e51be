// Guest memory: what there is of it, and copies of it in files.
#include <fcntl.h>

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/qmp/command.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

struct Dump {
  bool physical;
  u32 cpu;
  u64 address, size_bytes;
};

Status write_pieces(machine::Machine& machine, const Dump& dump, const Fd& file) {
  constexpr u64 kPiece = 1 * kMiB;
  for (u64 done = 0; done < dump.size_bytes; done += kPiece) {
    u64 part = std::min(kPiece, dump.size_bytes - done);
    auto bytes = TRY(machine.read_memory(dump.physical, dump.cpu, dump.address + done, part));
    TRY(write_all(file, bytes));
  }
  return {};
}

Result<Json> save(QmpContext& c, const Json& arguments, bool physical) {
  Dump dump{.physical = physical, .cpu = static_cast<u32>(number_argument(arguments, "cpu-index").value_or(0)),
            .address = arguments["val"].get<u64>(), .size_bytes = arguments["size"].get<u64>()};
  if (dump.cpu >= c.vm.config().topology.cpus) return Error(ErrorKind::Invalid, "Parameter 'cpu-index' expects a CPU number");
  if (dump.size_bytes > c.vm.config().ram_bytes)
    return Error(ErrorKind::Invalid, fmt::format("size {} is more than the guest's memory", dump.size_bytes));
  const auto& name = arguments["filename"].get_ref<const std::string&>();
  Fd file = TRY(open_file(name, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  TRY(write_pieces(c.vm.machine(), dump, file).context(name));
  return Json::object();
}

Result<Json> memsave(QmpContext& c, const Json& arguments) { return save(c, arguments, false); }
Result<Json> pmemsave(QmpContext& c, const Json& arguments) { return save(c, arguments, true); }

/// "file:NAME", or "fd:NAME" of a descriptor that getfd stored.
Result<Fd> open_dump(QmpContext& c, std::string_view protocol) {
  if (protocol.starts_with("file:")) return open_file(std::string(protocol.substr(5)), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (protocol.starts_with("fd:")) {
    if (auto fd = c.vm.take_fd(std::string(protocol.substr(3)))) return *std::move(fd);
    return Error(ErrorKind::Invalid, fmt::format("File descriptor named '{}' has not been found", protocol.substr(3)));
  }
  return Error(ErrorKind::Invalid, "Parameter 'protocol' expects file: or fd:");
}

Result<DumpRange> dump_range(const Json& arguments) {
  const auto begin = number_argument(arguments, "begin"), length = number_argument(arguments, "length");
  if (begin.has_value() != length.has_value())
    return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' is missing", begin ? "length" : "begin"));
  if (length && *length == 0) return Error(ErrorKind::Invalid, "Parameter 'length' expects a non-zero length");
  return DumpRange{.first = begin.value_or(0), .size_bytes = length.value_or(0)};
}

Status refuse_dump_options(const Json& arguments) {
  auto on = [&](const char* name) { return arguments.contains(name) && arguments[name] == true; };
  if (on("paging")) return Error(ErrorKind::Unsupported, "Parameter 'paging' is not supported: addresses are physical");
  if (text_argument(arguments, "format", "elf") != "elf") return Error(ErrorKind::Unsupported, "Parameter 'format' supports 'elf' only");
  return {};
}

Result<Json> dump_guest_memory(QmpContext& c, const Json& arguments) {
  TRY(refuse_dump_options(arguments));
  GuestDump::Request request{.file = {}, .range = TRY(dump_range(arguments)), .detach = arguments.value("detach", Json(false)) == true};
  if (c.vm.dump().state() == GuestDump::State::Active) return Error(ErrorKind::Busy, "There is a dump in process, please wait.");
  request.file = TRY(open_dump(c, arguments["protocol"].get_ref<const std::string&>()));
  TRY(c.vm.dump().start(c.vm.machine(), std::move(request)));
  return Json::object();
}

Result<Json> query_dump(QmpContext& c, const Json&) {
  static constexpr std::string_view kStates[] = {"none", "active", "completed", "failed"};
  const GuestDump& dump = c.vm.dump();
  return Json{{"status", kStates[static_cast<size_t>(dump.state())]}, {"completed", dump.completed()}, {"total", dump.total()}};
}

Result<Json> query_dump_capability(QmpContext&, const Json&) { return Json{{"formats", Json::array({"elf"})}}; }

Result<Json> query_memory_size(QmpContext& c, const Json&) {
  return Json{{"base-memory", c.vm.config().ram_bytes}, {"plugged-memory", 0}};
}

/// Memory in slots; boards here have none.
Result<Json> query_memory_devices(QmpContext&, const Json&) { return Json::array(); }

Json backend_json(const std::string& id, u64 size_bytes, const memory::RamOptions& ram) {
  return {{"id", id}, {"size", size_bytes}, {"merge", ram.merge}, {"dump", ram.dump}, {"prealloc", ram.prealloc}, {"share", ram.shared},
          {"reserve", true}, {"host-nodes", Json::array()}, {"policy", "default"}};
}

Result<Json> query_memdev(QmpContext& c, const Json&) {
  Json list = Json::array();
  const machine::Config& config = c.vm.config();
  for (const auto& node : config.numa)
    if (!node.memory.empty()) list.push_back(backend_json(node.memory, node.bytes, config.ram));
  if (config.numa.empty()) list.push_back(backend_json("pc.ram", config.ram_bytes, config.ram));
  for (const auto& spare : c.vm.spare_memory()) list.push_back(backend_json(spare.id, spare.block->size(), spare.options));
  return list;
}

constexpr QmpCommand kCommands[] = {
    {"memsave", "val:i size:i filename:s cpu-index?:i", memsave},
    {"pmemsave", "val:i size:i filename:s", pmemsave},
    {"dump-guest-memory", "paging:b protocol:s detach?:b begin?:i length?:i format?:s", dump_guest_memory},
    {"query-dump", "", query_dump},
    {"query-dump-guest-memory-capability", "", query_dump_capability},
    {"query-memory-size-summary", "", query_memory_size},
    {"query-memory-devices", "", query_memory_devices},
    {"query-memdev", "", query_memdev},
};

}  // namespace

std::span<const QmpCommand> memory_commands() { return kCommands; }

}  // namespace atl::control
