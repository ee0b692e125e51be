#include "manage/domain/numa_cells.h"

#include <fmt/format.h>

#include "manage/domain/option_list.h"
#include "manage/domain/tuning.h"

namespace atl::manage {
namespace {

constexpr u64 kNear = 10, kFarthest = 254;  // of ACPI's table of distances: itself, and what can still be reached
constexpr size_t kMaxCells = 128;

Result<std::vector<bool>> cpus_of(const Element& cell) {
  if (!cell.has_attribute("cpus")) return std::vector<bool>();
  auto cpus = parse_cpu_list(cell.attribute("cpus"));
  if (!cpus) return invalid_arg(fmt::format("Failed to parse bitmap '{}'", cell.attribute("cpus")));
  return *cpus;
}

/// Cells by their numbers, which are all from 0 on.
Result<std::vector<Element*>> numbered_cells(Element& numa) {
  const auto cells = each(numa, "cell");
  if (cells.empty()) return xml_error("NUMA topology defined without NUMA cells");
  if (cells.size() > kMaxCells) return config_unsupported(fmt::format("a domain has at most {} NUMA cells", kMaxCells));
  std::vector<Element*> list(cells.size());
  for (size_t i = 0; i < cells.size(); ++i) {
    const auto id = cells[i]->has_attribute("id") ? parse_u64(cells[i]->attribute("id")) : std::optional<u64>(i);
    if (!id) return xml_error(fmt::format("Invalid value for attribute 'id' in element 'cell': '{}'.", cells[i]->attribute("id")));
    if (*id >= cells.size())
      return xml_error("Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from 0 are not allowed");
    if (list[*id]) return xml_error(fmt::format("Duplicate NUMA cell info for cell id '{}'", *id));
    list[*id] = cells[i];
  }
  return list;
}

Result<u64> memory_kib(const Element& cell) {
  if (!cell.has_attribute("memory")) return xml_error("missing element or attribute './@memory'");
  Element size("memory");
  size.set_text(cell.attribute("memory"));
  if (cell.has_attribute("unit")) size.set("unit", cell.attribute("unit"));
  const u64 bytes = TRY(xml::size_text(size, "KiB"));
  return bytes / kKiB + (bytes % kKiB != 0);
}

/// Attributes in libvirt's order, children kept.
Status complete_cell(Element& cell, size_t id, const std::vector<bool>& cpus) {
  const u64 kib = TRY(memory_kib(cell));
  const std::string access = cell.attribute("memAccess");
  if (!access.empty() && access != "shared" && access != "private")
    return xml_error(fmt::format("Invalid value for attribute 'memAccess' in element 'cell': '{}'.", access));
  if (cell.has_attribute("discard")) return config_unsupported("<cell discard=> is not supported by atoll-vmm");
  if (cell.child("cache")) return config_unsupported("<cell><cache> is not supported by atoll-vmm");
  cell.set_attributes({});
  cell.set("id", id);
  if (const std::string list = cpu_list(cpus); !list.empty()) cell.set("cpus", list);
  cell.set("memory", kib).set("unit", "KiB");
  if (!access.empty()) cell.set("memAccess", access);
  return {};
}

/// No vCPU is in two cells, and all of them are there; those that nobody names are in the first.
Status share_out_cpus(std::vector<std::vector<bool>>& cells, u64 vcpus) {
  std::vector<size_t> owner(vcpus, cells.size());
  size_t named = 0;
  bool beyond = false;
  for (size_t cell = 0; cell < cells.size(); ++cell)
    for (size_t cpu = 0; cpu < cells[cell].size(); ++cpu) {
      if (!cells[cell][cpu]) continue;
      ++named;
      if (cpu >= vcpus) beyond = true;
      else if (owner[cpu] != cells.size()) return config_unsupported(fmt::format("NUMA cells {} and {} have overlapping vCPU ids", cell, owner[cpu]));
      else owner[cpu] = cell;
    }
  if (named > vcpus) return internal_error("Number of CPUs in <numa> exceeds the <vcpu> count");
  if (beyond) return internal_error("CPU IDs in <numa> exceed the <vcpu> count");
  cells[0].resize(std::max<size_t>(cells[0].size(), vcpus));
  for (size_t cpu = 0; cpu < vcpus; ++cpu)
    if (owner[cpu] == cells.size()) cells[0][cpu] = true;
  return {};
}

using Distances = std::vector<std::vector<u64>>;  // 0: not said

Result<Distances> read_distances(const std::vector<Element*>& cells) {
  Distances all(cells.size(), std::vector<u64>(cells.size()));
  for (size_t cell = 0; cell < cells.size(); ++cell) {
    const Element* distances = cells[cell]->child("distances");
    for (const Element* sibling : distances ? distances->children("sibling") : std::vector<const Element*>()) {
      const auto id = parse_u64(sibling->attribute("id")), value = parse_u64(sibling->attribute("value"));
      if (!id || *id >= cells.size()) return xml_error(fmt::format("'sibling_id {}' does not refer to a valid cell within NUMA 'cell id {}'", sibling->attribute("id"), cell));
      if (!value || *value < kNear || *value > kFarthest || (*id == cell && *value != kNear))
        return xml_error(fmt::format("'value {}' is invalid for 'sibling id {}' under NUMA 'cell id {}'", sibling->attribute("value"), *id, cell));
      all[cell][*id] = *value;
      if (!all[*id][cell]) all[*id][cell] = *value;
      all[cell][cell] = all[*id][*id] = kNear;
    }
  }
  return all;
}

void write_distances(Element& cell, const std::vector<u64>& values) {
  cell.remove("distances");
  Element distances("distances");
  for (size_t id = 0; id < values.size(); ++id)
    if (values[id]) distances.add("sibling").set("id", id).set("value", values[id]);
  if (!distances.children().empty()) cell.add(std::move(distances));
}

/// Whether <hugepages> is about a cell: it names its cells, or means all.
Result<bool> on_huge_pages(const Element& domain, u64 cell) {
  const Element* pages = domain.find("memoryBacking/hugepages");
  if (!pages) return false;
  if (pages->children("page").empty()) return true;
  for (const Element* page : pages->children("page")) {
    if (!page->has_attribute("nodeset")) return true;
    const auto nodes = TRY(parse_cpu_list(page->attribute("nodeset")));
    if (cell < nodes.size() && nodes[cell]) return true;
  }
  return false;
}

/// What a cell's memory is: an object of the VM.
Result<OptionList> backend_of(const Element& domain, const Element& cell) {
  const std::string id = cell.attribute("id"), access = cell.attribute("memAccess");
  const bool pages = TRY(on_huge_pages(domain, parse_u64(id).value_or(0)));
  const bool shared = access.empty() ? at(domain, "memoryBacking/access", "mode") == "shared" : access == "shared";
  const bool memfd = pages || shared || at(domain, "memoryBacking/source", "type") == "memfd";
  OptionList backend("qom-type", memfd ? "memory-backend-memfd" : "memory-backend-ram");
  backend.set("id", "ram-node" + id).set("size", parse_u64(cell.attribute("memory")).value_or(0) * kKiB);
  if (shared) backend.set("share", "on");
  if (pages) backend.set("hugetlb", "on");
  return backend;
}

/// "0-1,4" as options: "cpus=0-1", "cpus=4"; of the vCPUs that there are.
Result<std::string> node_option(const Element& cell, u64 vcpus) {
  std::string text = "node,nodeid=" + cell.attribute("id");
  auto cpus = TRY(cpus_of(cell));
  cpus.resize(std::min<size_t>(cpus.size(), vcpus));
  if (const std::string list = cpu_list(cpus); !list.empty())
    for (std::string_view range : split(list, ',')) text += fmt::format(",cpus={}", range);
  return text + ",memdev=ram-node" + cell.attribute("id");
}

}  // namespace

Status fill_numa(Element& domain) {
  Element* cpu = domain.child("cpu");
  Element* numa = cpu ? cpu->child("numa") : nullptr;
  if (!numa) return {};
  if (numa->child("interconnects")) return config_unsupported("<numa><interconnects> is not supported by atoll-vmm");
  const auto cells = TRY(numbered_cells(*numa));
  std::vector<std::vector<bool>> cpus;
  for (const Element* cell : cells) cpus.push_back(TRY(cpus_of(*cell)));
  TRY(share_out_cpus(cpus, parse_u64(text_at(domain, "vcpu")).value_or(1)));
  const Distances distances = TRY(read_distances(cells));
  u64 total = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    TRY(complete_cell(*cells[i], i, cpus[i]));
    write_distances(*cells[i], distances[i]);
    if (__builtin_add_overflow(total, parse_u64(cells[i]->attribute("memory")).value_or(0), &total)) return xml_error("memory of the NUMA cells is too large");
  }
  ensure(domain, "memory").set("unit", "KiB").set_text(std::to_string(total));
  return {};
}

Status check_huge_pages(const Element& domain) {
  constexpr u64 kUsual_kib = 2048;
  const Element* pages = domain.find("memoryBacking/hugepages");
  for (const Element* page : pages ? pages->children("page") : std::vector<const Element*>()) {
    Element size("page");
    size.set_text(page->attribute("size"));
    if (page->has_attribute("unit")) size.set("unit", page->attribute("unit"));
    const u64 kib = TRY(xml::size_text(size, "KiB")) / kKiB;
    if (kib != kUsual_kib) return config_unsupported(fmt::format("huge pages of {} KiB are not supported by atoll-vmm", kib));
    if (page->has_attribute("nodeset")) TRY(parse_cpu_list(page->attribute("nodeset")));
  }
  return {};
}

Result<std::vector<NumaOption>> numa_options(const Element& domain) {
  std::vector<NumaOption> options;
  const Element* numa = domain.find("cpu/numa");
  const auto cells = numa ? numa->children("cell") : std::vector<const Element*>();
  const u64 most = parse_u64(text_at(domain, "vcpu")).value_or(1), vcpus = number_at(domain, "vcpu", "current").value_or(most);
  for (const Element* cell : cells) {
    options.push_back({"-object", TRY(backend_of(domain, *cell)).text()});
    options.push_back({"-numa", TRY(node_option(*cell, vcpus))});
  }
  for (const Element* cell : cells) {
    const Element* distances = cell->child("distances");
    for (const Element* sibling : distances ? distances->children("sibling") : std::vector<const Element*>())
      options.push_back({"-numa", fmt::format("dist,src={},dst={},val={}", cell->attribute("id"), sibling->attribute("id"), sibling->attribute("value"))});
  }
  return options;
}

}  // namespace atl::manage
