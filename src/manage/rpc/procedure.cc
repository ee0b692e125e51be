#include "manage/rpc/procedure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace atl::manage {

namespace {

struct Name {
  u32 number;
  std::string_view name;
};

constexpr Name kNames[] = {
#define X(number, name) {number, #name},
#include "manage/rpc/procedure_list.inc"
#undef X
};
constexpr size_t kNumbers = std::size(kNames) + 1;  // they are dense, from 1

using Index = std::array<const Procedure*, kNumbers>;

Index make_index() {
  Index index{};
  for (std::span<const Procedure> family : procedure_families())
    for (const Procedure& row : family) {
      const Procedure*& slot = index[static_cast<u32>(row.number)];
      CHECK(slot == nullptr);  // two families claim one procedure
      slot = &row;
    }
  return index;
}

}  // namespace

std::span<const std::span<const Procedure>> procedure_families() {
  static const std::span<const Procedure> families[] = {
      auth_procedures(),   connect_procedures(),     host_procedures(),      event_procedures(),
      domain_procedures(), snapshot_procedures(),    network_procedures(),   storage_procedures(),
      secret_procedures(), node_device_procedures(), interface_procedures(), nwfilter_procedures(),
  };
  return families;
}

const Procedure* find_procedure(u32 number) {
  static const Index index = make_index();
  return number < kNumbers ? index[number] : nullptr;
}

const QemuProcedure* find_qemu_procedure(u32 number) {
  std::span<const QemuProcedure> rows = qemu_procedures();
  auto found = std::ranges::find(rows, static_cast<QemuProc>(number), &QemuProcedure::number);
  return found == rows.end() ? nullptr : &*found;
}

std::string_view procedure_name(u32 number) {
  return number > 0 && number < kNumbers ? kNames[number - 1].name : std::string_view();
}

std::string procedure_page() {
  std::string page =
      "# Procedures of libvirt's remote protocol\n\n"
      "Made by `atolld --list-procedures`; a test compares. `read` is open to read-only clients. What is not served is "
      "answered\n"
      "as libvirt answers what its driver lacks; numbers of events are messages of the server and not calls.\n\n"
      "| no. | procedure | served |\n| --- | --- | --- |\n";
  for (const Name& name : kNames) {
    const Procedure* row = find_procedure(name.number);
    const char* served = !row ? (name.name.contains("_EVENT_") && !name.name.contains("REGISTER") ? "event" : "")
                         : row->access == Access::Write ? "read-write"
                                                        : "read";
    page += fmt::format("| {} | {} | {} |\n", name.number, name.name, served);
  }
  return page;
}

}  // namespace atl::manage
