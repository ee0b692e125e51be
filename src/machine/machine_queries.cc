// What monitors ask of a machine.
#include <algorithm>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"
#include "cpu/spec.h"
#include "machine/machine_impl.h"
#include "machine/monitor_text.h"

namespace atl::machine {
namespace {

constexpr u64 kMaxRead = 64 * kMiB;

}  // namespace

std::vector<CpuInfo> MachineImpl::cpus() const {
  const cpu::Topology& t = config_.topology;
  std::vector<CpuInfo> list;
  for (u32 i = 0; i < threads_->count(); ++i) {
    const u32 threads = std::max(t.threads, 1u), cores = std::max(t.cores, 1u);
    list.push_back({.index = i,
                    .thread_id = threads_->thread_id(i),
                    .socket = i / (threads * cores),
                    .core = i / threads % cores,
                    .thread = i % threads});
  }
  return list;
}

std::vector<BlockInfo> MachineImpl::block_devices() const {
  std::vector<BlockInfo> list;
  for (BlockStore::Drive& d : back_ends_->blocks().drives()) {
    if (!d.place || d.node_name.empty()) continue;
    list.push_back({.drive = d.config.from_drive_option ? d.config.id : "",
                    .qdev = d.user,
                    .io_error = d.io_error,
                    .node = d.place->thread.run_on([&] {
                      return d.root ? d.root->info() : d.place->graph.find(d.node_name)->info();
                    })});
  }
  return list;
}

std::vector<NetworkInfo> MachineImpl::networks() const {
  std::vector<NetworkInfo> list;
  for (const BackEnds::Network& n : back_ends_->networks()) {
    const std::string text = back_ends_->default_thread().run_on([&] { return n.describe(); });
    list.push_back({.nic = n.user, .backend = fmt::format("{}: {}", n.config.id, text)});
  }
  return list;
}

std::vector<std::string> MachineImpl::board_parts() const {
  std::vector<std::string> types;
  for (const devices::Device* device : board_->devices())
    if (std::ranges::find(plugged_, device, &Plugged::device) == plugged_.end()) types.emplace_back(device->type());
  return types;
}

std::vector<CardInfo> MachineImpl::receive_filters() const {
  std::vector<CardInfo> list;
  for (const Plugged& p : plugged_)
    if (p.receive_filter) list.push_back({p.config.id, p.thread->run_on(p.receive_filter)});
  return list;
}

void MachineImpl::announce_cards(const std::vector<std::string>& ids) {
  for (const Plugged& p : plugged_)
    if (p.announce && (ids.empty() || std::ranges::find(ids, p.config.id) != ids.end())) p.announce();
}

std::vector<Statistic> MachineImpl::statistics(std::optional<u32> cpu) const {
  return cpu ? threads_->vcpu(*cpu).statistics() : vm_->statistics();
}

Result<std::optional<GuestAddr>> MachineImpl::translate(u32 cpu, u64 linear) {
  TRY(check_cpu(cpu));
  return while_paused([&] { return threads_->vcpu(cpu).translate(linear); });
}

cpu::Counters MachineImpl::counters() const {
  cpu::Counters total = vm_->counters();
  for (u32 i = 0; i < threads_->count(); ++i) {
    for (const auto& [name, value] : threads_->vcpu(i).counters()) {
      auto found = std::ranges::find(total, name, &std::pair<std::string, u64>::first);
      if (found == total.end()) total.emplace_back(name, value);
      else found->second += value;
    }
  }
  return total;
}

Result<std::string> MachineImpl::describe(const std::string& what, u32 arg) {
  TRY(check_cpu(arg));
  if (what == "registers") return registers_text(arg, TRY(cpu_state(arg)));
  if (what == "mem" || what == "tlb") return describe_page_tables(arg, what == "tlb");
  if (what == "mtree") return memory_map_text(*memory_.map(), "memory") + memory_map_text(*ports_.map(), "I/O");
  if (what == "ramblock") return ram_blocks_text(*memory_.map());
  if (what == "roms") return roms_text(*memory_.map());
  if (what == "usb") return usb_.describe();
  if (what == "qtree") return board_->describe();
  if (what == "pic" || what == "irq") return vm_->describe_irqchip("pic") + vm_->describe_irqchip("ioapic");
  if (what == "lapic") return vm_->describe_irqchip(fmt::format("lapic {}", arg));
  return Error(ErrorKind::NotFound, fmt::format("nothing known of '{}'", what));
}

Result<std::string> MachineImpl::describe_page_tables(u32 index, bool each) {
  const cpu::VcpuState state = TRY(cpu_state(index));
  return each ? translations_text(state, *memory_.guest_memory()) : page_tables_text(state, *memory_.guest_memory());
}

Result<cpu::VcpuState> MachineImpl::cpu_state(u32 index) {
  TRY(check_cpu(index));
  return while_paused([&] { return threads_->vcpu(index).get_state(); });
}

Result<std::vector<u8>> MachineImpl::read_memory(bool physical, u32 cpu_index, u64 address, u64 size_bytes) {
  if (size_bytes > kMaxRead) return Error(ErrorKind::Invalid, "more than 64 MiB asked for at once");
  TRY(check_cpu(cpu_index));
  return while_paused([&]() -> Result<std::vector<u8>> {
    const auto memory = memory_.guest_memory();
    std::vector<u8> data(size_bytes);
    for (u64 done = 0; done < size_bytes;) {
      const u64 linear = address + done;
      const u64 step = std::min(size_bytes - done, kPageSize - linear % kPageSize);
      const auto at = physical ? std::optional<GuestAddr>(linear) : threads_->vcpu(cpu_index).translate(linear);
      if (!at || !memory->read(*at, {data.data() + done, step})) {
        return Error(ErrorKind::Invalid, fmt::format("Cannot access memory at address {:#x}", linear));
      }
      done += step;
    }
    return data;
  });
}

}  // namespace atl::machine
