#include "cpu/kvm/wrappers.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include <fmt/core.h>

namespace atl::cpu::kvm {

namespace {

/// A structure that ends in a flexible array: header and entries in one buffer, aligned for both.
template <class Header, class Entry>
class Counted {
 public:
  explicit Counted(size_t entries) : words_((sizeof(Header) + entries * sizeof(Entry) + 7) / 8), count_(entries) {}
  Counted(Header header, std::span<const Entry> entries) : Counted(entries.size()) {
    std::memcpy(words_.data(), &header, sizeof header);
    if (!entries.empty()) std::memcpy(data(), entries.data(), entries.size_bytes());
  }

  Header& header() { return *reinterpret_cast<Header*>(words_.data()); }
  Entry* data() { return reinterpret_cast<Entry*>(reinterpret_cast<u8*>(words_.data()) + sizeof(Header)); }
  /// The first `count` entries, never more than there is room for.
  std::vector<Entry> entries(size_t count) { return {data(), data() + std::min(count, count_)}; }

 private:
  std::vector<u64> words_;
  size_t count_;
};

}  // namespace

Result<int> call(const Fd& fd, unsigned long request, const char* name, u64 argument) {
  int result = 0;
  do result = ::ioctl(fd.get(), request, argument);
  while (result < 0 && errno == EINTR);
  if (result < 0) return os_error(name);
  return result;
}

// -- vCPU ------------------------------------------------------------------------------------------------------------------

Fd open_statistics(const Fd& fd) { return Fd(::ioctl(fd.get(), KVM_GET_STATS_FD, nullptr)); }

int VcpuFd::run() { return ::ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0; }

void VcpuFd::set_immediate_exit(bool exit) {
  std::atomic_ref(run_page().immediate_exit).store(exit, std::memory_order_seq_cst);
}

Result<std::vector<u8>> VcpuFd::xsave(u64 size_bytes) const {
  std::vector<u8> area(std::max<u64>(size_bytes, sizeof(kvm_xsave)));
  bool large = area.size() > sizeof(kvm_xsave);
  TRY(call(fd_, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, "KVM_GET_XSAVE", area.data()));
  return area;
}

Status VcpuFd::set_xsave(std::span<const u8> area) {
  if (area.size() < sizeof(kvm_xsave)) return Error(ErrorKind::Invalid, "XSAVE area is too small");
  TRY(call(fd_, KVM_SET_XSAVE, "KVM_SET_XSAVE", area.data()));
  return {};
}

Result<MsrEntries> VcpuFd::msrs(std::span<const u32> indices) const {
  MsrEntries read;
  while (!indices.empty()) {
    MsrEntries wanted;
    for (u32 index : indices) wanted.push_back({.index = index});
    Counted<kvm_msrs, kvm_msr_entry> buffer({.nmsrs = static_cast<u32>(wanted.size())}, wanted);
    auto count = static_cast<size_t>(TRY(call(fd_, KVM_GET_MSRS, "KVM_GET_MSRS", &buffer.header())));
    MsrEntries part = buffer.entries(count);
    read.insert(read.end(), part.begin(), part.end());
    indices = indices.subspan(std::min(count + 1, indices.size()));  // the call stops at a register that is not there
  }
  return read;
}

Status VcpuFd::set_msrs(std::span<const kvm_msr_entry> entries) {
  if (entries.empty()) return {};
  Counted<kvm_msrs, kvm_msr_entry> buffer({.nmsrs = static_cast<u32>(entries.size())}, entries);
  auto count = static_cast<size_t>(TRY(call(fd_, KVM_SET_MSRS, "KVM_SET_MSRS", &buffer.header())));
  if (count == entries.size()) return {};
  return Error(ErrorKind::Invalid, fmt::format("KVM_SET_MSRS: register {:#x} refuses {:#x}", entries[count].index,
                                               static_cast<u64>(entries[count].data)));
}

Status VcpuFd::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  Counted<kvm_cpuid2, kvm_cpuid_entry2> buffer({.nent = static_cast<u32>(entries.size())}, entries);
  TRY(call(fd_, KVM_SET_CPUID2, "KVM_SET_CPUID2", &buffer.header()));
  return {};
}

Status VcpuFd::set_signal_mask(u64 blocked) {
  u8 mask[sizeof blocked];
  std::memcpy(mask, &blocked, sizeof blocked);
  Counted<kvm_signal_mask, u8> buffer({.len = sizeof blocked}, mask);
  TRY(call(fd_, KVM_SET_SIGNAL_MASK, "KVM_SET_SIGNAL_MASK", &buffer.header()));
  return {};
}

std::optional<u64> VcpuFd::translate(u64 linear) const {
  kvm_translation translation{.linear_address = linear};
  bool done = call(fd_, KVM_TRANSLATE, "KVM_TRANSLATE", &translation).has_value();
  if (!done || !translation.valid) return std::nullopt;
  return translation.physical_address;
}

// -- VM --------------------------------------------------------------------------------------------------------------------

int VmFd::extension(int capability) const {
  return call(fd_, KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION", static_cast<u64>(capability)).value_or(0);
}

Status VmFd::enable(u32 capability, u64 argument) {
  return set(fd_, KVM_ENABLE_CAP, "KVM_ENABLE_CAP", kvm_enable_cap{.cap = capability, .args = {argument}});
}

Result<VcpuFd> VmFd::create_vcpu(u32 id) {
  Fd fd(TRY(call(fd_, KVM_CREATE_VCPU, "KVM_CREATE_VCPU", u64{id})));
  Mapping run = TRY(Mapping::of_file(fd, 0, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED).context("kvm_run"));
  return VcpuFd(std::move(fd), std::move(run));
}

Status VmFd::set_tss_address(u64 gpa) {
  TRY(call(fd_, KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", gpa));
  return {};
}

Status VmFd::set_identity_map_address(u64 gpa) {
  return set(fd_, KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", gpa);
}

Status VmFd::dirty_log(u32 slot, std::span<u64> bitmap) const {
  kvm_dirty_log log{.slot = slot, .dirty_bitmap = bitmap.data()};
  TRY(call(fd_, KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", &log));
  return {};
}

Status VmFd::create_irqchip() {
  TRY(call(fd_, KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", u64{0}));
  return {};
}

Status VmFd::create_pit(u32 flags) {
  return set(fd_, KVM_CREATE_PIT2, "KVM_CREATE_PIT2", kvm_pit_config{.flags = flags});
}

Status VmFd::drop_late_pit_ticks() {
  return set(fd_, KVM_REINJECT_CONTROL, "KVM_REINJECT_CONTROL", kvm_reinject_control{.pit_reinject = 0, .reserved = {}});
}

Status VmFd::set_gsi_routing(std::span<const kvm_irq_routing_entry> entries) {
  Counted<kvm_irq_routing, kvm_irq_routing_entry> buffer({.nr = static_cast<u32>(entries.size())}, entries);
  TRY(call(fd_, KVM_SET_GSI_ROUTING, "KVM_SET_GSI_ROUTING", &buffer.header()));
  return {};
}

Status VmFd::set_irq_line(u32 gsi, bool level) {
  return set(fd_, KVM_IRQ_LINE, "KVM_IRQ_LINE", kvm_irq_level{.irq = gsi, .level = level});
}

Result<bool> VmFd::signal_msi(u64 address, u32 data) {
  kvm_msi msi{.address_lo = static_cast<u32>(address), .address_hi = static_cast<u32>(address >> 32), .data = data};
  return TRY(call(fd_, KVM_SIGNAL_MSI, "KVM_SIGNAL_MSI", &msi)) > 0;
}

Result<kvm_irqchip> VmFd::irqchip(u32 id) const {
  kvm_irqchip chip{.chip_id = id};
  TRY(call(fd_, KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", &chip));
  return chip;
}

// -- system ----------------------------------------------------------------------------------------------------------------

Result<System> System::open() { return adopt(TRY(open_file("/dev/kvm", O_RDWR))); }

Result<System> System::adopt(Fd fd) {
  int version = TRY(call(fd, KVM_GET_API_VERSION, "KVM_GET_API_VERSION", u64{0}));
  if (version != KVM_API_VERSION) {
    return Error(ErrorKind::Unsupported, fmt::format("KVM speaks API version {}, not {}", version, KVM_API_VERSION));
  }
  auto run_size = static_cast<u64>(TRY(call(fd, KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE", u64{0})));
  return System(std::move(fd), run_size);
}

int System::extension(int capability) const {
  return call(fd_, KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION", static_cast<u64>(capability)).value_or(0);
}

Result<VmFd> System::create_vm() const {
  return VmFd(Fd(TRY(call(fd_, KVM_CREATE_VM, "KVM_CREATE_VM", u64{0}))), run_size_);
}

Result<CpuidEntries> System::supported_cpuid() const {
  constexpr u32 kRoom = 256;  // the kernel's own limit, KVM_MAX_CPUID_ENTRIES
  Counted<kvm_cpuid2, kvm_cpuid_entry2> buffer(kRoom);
  buffer.header().nent = kRoom;
  TRY(call(fd_, KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID", &buffer.header()));
  return buffer.entries(buffer.header().nent);
}

Result<std::vector<u32>> System::msr_indices() const {
  constexpr u32 kRoom = 1024;
  Counted<kvm_msr_list, u32> buffer(kRoom);
  buffer.header().nmsrs = kRoom;
  TRY(call(fd_, KVM_GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST", &buffer.header()));
  return buffer.entries(buffer.header().nmsrs);
}

}  // namespace atl::cpu::kvm
