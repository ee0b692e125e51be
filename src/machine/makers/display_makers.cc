#include "machine/makers/display_makers.h"

#include <array>
#include <bit>

#include "devices/display/virtio_gpu.h"
#include "devices/display/virtio_vga.h"
#include "devices/input/virtio_input.h"
#include "machine/boards/chipset.h"

namespace atl::machine {

using namespace devices;

namespace {

constexpr u32 kVgaClass = 0x030000;
constexpr u64 kMaxVgaBytes = 256 * kMiB;

Result<VgaOptions> vga_options(const PropertyReader& p, devices::VgaKind kind) {
  VgaOptions o{.kind = kind};
  const bool in_bytes = kind == devices::VgaKind::Bochs;
  const char* name = in_bytes ? "vgamem" : "vgamem_mb";
  o.memory_bytes = in_bytes ? p.size(name) : std::bit_ceil(std::min<u64>(p.number(name), 1024)) * kMiB;
  if (o.memory_bytes < kMiB || o.memory_bytes > kMaxVgaBytes || !std::has_single_bit(o.memory_bytes))
    return p.refuse(name, "must be 1 to 256 MiB, a power of two");
  o.width = static_cast<u32>(p.number("xres"));
  o.height = static_cast<u32>(p.number("yres"));
  o.edid = p.flag("edid");
  return o;
}

/// The places that a PC's display adapter has had from the beginning.
Status map_legacy(Vga& vga, const MakerContext& context) {
  const std::array<PortBlock, 2> blocks = {{{"vga", Vga::kFirstPort, Vga::kPorts, &vga.ports()},
                                            {"vbe", Vga::kFirstVbePort, Vga::kVbePorts, &vga.vbe_ports()}}};
  TRY(map_ports(context.ports, blocks));
  memory::Region window;
  window.name = "vga-lowmem";
  window.base = Vga::kWindowBase;
  window.size = Vga::kWindowBytes;
  window.priority = 1;
  window.device = &vga.window();
  TRY(context.memory.add(std::move(window)));
  return {};
}

Result<VirtioGpuOptions> gpu_options(const PropertyReader& p) {
  VirtioGpuOptions o;
  o.width = static_cast<u32>(p.number("xres"));
  o.height = static_cast<u32>(p.number("yres"));
  o.max_bytes = p.size("max_hostmem");
  o.id = p.device().id;
  if (p.number("max_outputs") != 1) return p.refuse("max_outputs", "there is one screen an adapter");
  if (!p.flag("edid")) return p.refuse("edid", "is always on");
  return o;
}

}  // namespace

Result<MadeDevice> make_vga(const PropertyReader& p, const MakerContext& context) {
  using Kind = devices::VgaKind;
  const std::string& type = p.device().type;
  const Kind kind = type == "VGA" ? Kind::Primary : type == "bochs-display" ? Kind::Bochs : Kind::Secondary;
  const VgaOptions options = TRY(vga_options(p, kind));
  auto vga = TRY(Vga::create(options).context(type));
  if (kind == Kind::Primary) TRY(map_legacy(*vga, context).context("there is a primary display adapter already"));
  context.screens.add(*vga, p.device().id);
  MadeDevice made;
  made.thread = &context.back_ends.default_thread();
  made.pci = std::move(vga);
  return made;
}

Result<MadeDevice> make_virtio_gpu(const PropertyReader& p, const MakerContext& context) {
  VirtioGpuOptions options = TRY(gpu_options(p));
  MadeDevice made;
  made.thread = &context.back_ends.default_thread();
  made.device = std::make_unique<VirtioGpu>(std::move(options), made.thread->loop(), context.memory, context.screens);
  return made;
}

Result<MadeDevice> make_virtio_vga(const PropertyReader& p, const MakerContext& context) {
  VirtioGpuOptions options = TRY(gpu_options(p));
  const VgaOptions vga_part = TRY(vga_options(p, devices::VgaKind::Primary));
  auto vga = TRY(Vga::create(vga_part).context("virtio-vga"));
  TRY(map_legacy(*vga, context).context("there is a primary display adapter already"));
  MadeDevice made;
  made.thread = &context.back_ends.default_thread();
  auto gpu = std::make_unique<VirtioGpu>(std::move(options), made.thread->loop(), context.memory, context.screens, vga.get());
  hide_ring_features(p, *gpu);
  auto transport = TRY(VirtioPci::create(context.vm, std::move(gpu), {.type = p.device().type, .class_code = kVgaClass}));
  made.pci = std::make_unique<VirtioVga>(std::move(vga), std::move(transport));
  return made;
}

Result<MadeDevice> make_virtio_input(const PropertyReader& p, const MakerContext& context) {
  const std::string& type = p.device().type;
  const VirtioInputKind kind = type.starts_with("virtio-keyboard") ? VirtioInputKind::Keyboard
                               : type.starts_with("virtio-mouse")  ? VirtioInputKind::Mouse
                                                                   : VirtioInputKind::Tablet;
  MadeDevice made;
  made.thread = &context.back_ends.default_thread();
  made.device = std::make_unique<VirtioInput>(kind, std::string(p.text("serial")), made.thread->loop(), context.memory, context.input);
  return made;
}

}  // namespace atl::machine
