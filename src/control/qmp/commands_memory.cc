// Guest memory to files.
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

constexpr QmpCommand kCommands[] = {
    {"memsave", "val:i size:i filename:s cpu-index?:i", memsave},
    {"pmemsave", "val:i size:i filename:s", pmemsave},
};

}  // namespace

std::span<const QmpCommand> memory_commands() { return kCommands; }

}  // namespace atl::control
