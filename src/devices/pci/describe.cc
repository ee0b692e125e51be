// What monitors show of the functions of a bus.
#include "devices/pci/bus.h"
#include "devices/pci/info.h"

namespace atl::devices {

using namespace pci;

namespace {

constexpr struct {
  u16 code;
  std::string_view name;
} kClasses[] = {
    {0x0001, "VGA controller"},      {0x0100, "SCSI controller"},    {0x0101, "IDE controller"},   {0x0102, "Floppy controller"},
    {0x0103, "IPI controller"},      {0x0104, "RAID controller"},    {0x0106, "SATA controller"},  {0x0107, "SAS controller"},
    {0x0180, "Storage controller"},  {0x0200, "Ethernet controller"}, {0x0201, "Token Ring controller"}, {0x0280, "Network controller"},
    {0x0300, "VGA controller"},      {0x0301, "XGA controller"},     {0x0302, "3D controller"},    {0x0380, "Display controller"},
    {0x0400, "Video controller"},    {0x0401, "Audio controller"},   {0x0403, "Audio controller"}, {0x0480, "Multimedia controller"},
    {0x0500, "RAM controller"},      {0x0501, "Flash controller"},   {0x0580, "Memory controller"}, {0x0600, "Host bridge"},
    {0x0601, "ISA bridge"},          {0x0604, "PCI bridge"},         {0x0605, "PCMCIA bridge"},    {0x0607, "CardBus bridge"},
    {0x0680, "Bridge"},              {0x0700, "Serial port"},        {0x0701, "Parallel port"},    {0x0800, "Interrupt controller"},
    {0x0801, "DMA controller"},      {0x0802, "Timer"},              {0x0803, "RTC"},              {0x0900, "Keyboard"},
    {0x0901, "Pen"},                 {0x0902, "Mouse"},              {0x0c03, "USB controller"},   {0x0c04, "Fibre channel controller"},
    {0x0c05, "SMBus"},
};

std::optional<PciFunctionInfo::Region> region_of(const PciFunction& function, unsigned index) {
  const PciBar& bar = function.bar(index);
  if (bar.kind == PciBar::Kind::None) return std::nullopt;
  return PciFunctionInfo::Region{.bar = index,
                                 .io = bar.kind == PciBar::Kind::Io,
                                 .prefetchable = bar.prefetchable,
                                 .wide = bar.kind == PciBar::Kind::Memory64,
                                 .size = bar.size,
                                 .address = function.bar_mapped(index)};
}

PciFunctionInfo::Bridge windows_of(const PciFunction& f) {
  return {.primary = f.byte(kPrimaryBus),
          .secondary = f.byte(kSecondaryBus),
          .subordinate = f.byte(kSubordinateBus),
          .io = {(f.byte(kIoBase) & 0xf0u) << 8, (f.byte(kIoLimit) & 0xf0u) << 8 | 0xfff},
          .memory = {(f.word(kMemoryBase) & 0xfff0u) << 16, (f.word(kMemoryLimit) & 0xfff0u) << 16 | 0xfffff},
          .prefetchable = {u64{f.dword(kPrefetchBaseUpper)} << 32 | (f.word(kPrefetchBase) & 0xfff0u) << 16,
                           u64{f.dword(kPrefetchLimitUpper)} << 32 | (f.word(kPrefetchLimit) & 0xfff0u) << 16 | 0xfffff},
          .behind = {}};
}

PciFunctionInfo info_of(const PciFunction& f, u8 bus, u8 slot, u8 number) {
  PciFunctionInfo info{.function = &f, .id = {}, .bus = bus, .slot = slot, .number = number, .regions = {}, .bridge = {}};
  info.vendor = f.word(kVendorId);
  info.device = f.word(kDeviceId);
  info.class_code = f.word(kClassCode + 1);
  info.interrupt_line = f.byte(kInterruptLine);
  info.interrupt_pin = f.byte(kInterruptPin);
  const bool is_bridge = (f.byte(kHeaderType) & ~kMultiFunction) == kHeaderBridge;
  if (!is_bridge) {
    info.subsystem_vendor = f.word(kSubsystemVendorId);
    info.subsystem = f.word(kSubsystemId);
  }
  for (unsigned index = 0; index <= kBars; ++index)
    if (auto region = region_of(f, index)) info.regions.push_back(*region);
  if (is_bridge) info.bridge = windows_of(f);
  return info;
}

}  // namespace

std::string_view pci_class_name(u16 class_code) {
  for (const auto& known : kClasses)
    if (known.code == class_code) return known.name;
  return {};
}

std::vector<PciFunctionInfo> PciBus::functions() const {
  Lock lock(mutex_);
  return functions_locked();
}

ATL_THREAD_ANNOTATION(no_thread_safety_analysis)  // the buses share one lock
std::vector<PciFunctionInfo> PciBus::functions_locked() const {
  const u8 own = bridge_ ? bridge_->byte(kSecondaryBus) : u8{0};
  std::vector<PciFunctionInfo> list;
  for (u8 slot = 0; slot < kSlots; ++slot) {
    for (u8 number = 0; number < kFunctions; ++number) {
      const PciFunction* function = functions_[slot][number];
      if (!function) continue;
      list.push_back(info_of(*function, own, slot, number));
      if (list.back().bridge && function->secondary()) list.back().bridge->behind = function->secondary()->functions_locked();
    }
  }
  return list;
}

}  // namespace atl::devices
