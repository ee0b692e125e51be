#include "machine/boards/firmware.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"
#include "machine/acpi/spec.h"
#include "machine/boards/chipset.h"
#include "machine/loaders/linux_image.h"

namespace atl::machine {
namespace {

using devices::FwCfg;

constexpr u64 kMaxImage = 16 * kMiB;
constexpr u64 kMaxOptionRom = 128 * kKiB, kMaxFile = 256 * kMiB;
constexpr u64 kImageUnit = 64 * kKiB;
constexpr u64 kLowCopy = 128 * kKiB;         // the end of the image is also at 0xe0000
constexpr std::array<const char*, 4> kFolders = {"/usr/share/seabios/", "/usr/share/qemu/", "/usr/share/ovmf/",
                                                 "/usr/share/OVMF/"};
constexpr const char* kKernelRom = "linuxboot_dma.bin";  // Debian's package qemu-system-data has it
// Where the Linux loader of the firmware puts the parts of a kernel (the same places as QEMU names).
constexpr u32 kSetupAddress = 0x10000, kCommandLineAddress = 0x20000, kKernelAddress = 0x100000;

Result<BootFile> find_image(const std::string& name) {
  if (name.find('/') == std::string::npos && ::access(name.c_str(), R_OK) != 0) {
    for (const char* folder : kFolders) {
      if (::access((folder + name).c_str(), R_OK) == 0) return BootFile::open("firmware", folder + name);
    }
  }
  return BootFile::open("firmware", name);
}

template <class T>
std::vector<u8> bytes_of(u64 value) {
  std::vector<u8> out(sizeof(T));
  store_le(out.data(), static_cast<T>(value));
  return out;
}

/// One byte a sleeping state, SLP_TYP with bit 7 if it is there; firmware that may have to resume looks for S3.
std::vector<u8> system_states(const Config& config) {
  constexpr u8 kThere = 0x80;
  using Pm = devices::AcpiPm;
  return {kThere, 0, 0, static_cast<u8>(Pm::kSuspend | (config.suspend_to_ram ? kThere : 0)),
          static_cast<u8>(Pm::kHibernate | (config.suspend_to_disk ? kThere : 0)), kThere};
}

std::vector<u8> e820_file(const RamLayout& ram) {
  std::vector<u8> out;
  auto add = [&out](u64 base, u64 size, E820Type type) {
    const size_t at = out.size();
    out.resize(at + 20);
    store_le(&out[at], base);
    store_le(&out[at + 8], size);
    store_le(&out[at + 16], static_cast<u32>(type));
  };
  add(0, ram.low_bytes, E820Type::Usable);
  if (ram.high_bytes) add(kHighRamBase, ram.high_bytes, E820Type::Usable);
  return out;
}

}  // namespace

Result<std::unique_ptr<Firmware>> Firmware::create(const BoardContext& context, const RamLayout& ram,
                                                   const std::string& name, const std::optional<DirectBoot>& kernel) {
  std::unique_ptr<Firmware> firmware(new Firmware(context));
  TRY(context.flash.empty() ? firmware->map_image(name) : firmware->map_flash());
  TRY(firmware->offer_configuration(ram));
  if (kernel) TRY(firmware->offer_kernel(*kernel, ram));
  memory::Region ports;
  ports.name = "fw_cfg";
  ports.base = 0x510;
  ports.size = FwCfg::kPorts;
  ports.device = &firmware->config_;
  TRY(context.ports.add(std::move(ports)));
  return firmware;
}

bool Firmware::can_start(const std::string& name, const DirectBoot& kernel) {
  const auto head = kernel.kernel().head(8192);
  return head && LinuxHeader::matches(*head) && find_image(name) && find_image(kKernelRom);
}

Status Firmware::map_image(const std::string& name) {
  const BootFile file = TRY(find_image(name));
  if (file.size() > kMaxImage || file.size() % kImageUnit != 0) {
    return file.error(fmt::format("a firmware image has a multiple of 64 KiB up to 16 MiB, not {} bytes", file.size()));
  }
  const std::vector<u8> data = TRY(file.bytes(0, file.size()));
  rom_ = TRY(memory::RamBlock::create("pc.bios", file.size(), {}));
  std::ranges::copy(data, rom_->data());
  memory::Region region;
  region.name = "pc.bios";
  region.base = kHighRamBase - rom_->size();
  region.size = rom_->size();
  region.ram = rom_;
  region.readonly = true;
  TRY(context_.memory.add(std::move(region)));
  return {};
}

namespace {

/// SeaBIOS's driver for the screen; nullptr if there is no screen that it could use.
const char* vga_rom(VgaKind kind) {
  switch (kind) {
    case VgaKind::Std: return "vgabios-stdvga.bin";
    case VgaKind::Virtio: return "vgabios-virtio.bin";
    case VgaKind::Bochs: return "vgabios-bochs-display.bin";
    default: return nullptr;
  }
}

bool has_ramfb(const Config& config) { return std::ranges::find(config.devices, "ramfb", &DeviceConfig::type) != config.devices.end(); }

}  // namespace

Status Firmware::map_flash() {
  flash_ = TRY(SystemFlash::create(context_));
  rom_ = flash_->code();
  return {};
}

std::vector<devices::Device*> Firmware::devices() {
  std::vector<devices::Device*> all = {&config_};
  if (!flash_) return all;
  for (devices::Device* chip : flash_->devices()) all.push_back(chip);
  return all;
}

Status Firmware::offer_configuration(const RamLayout& ram) {
  const Config& config = context_.config;
  config_.add(FwCfg::kRamSize, bytes_of<u64>(config.ram_bytes));
  config_.add_u16(FwCfg::kCpuCount, static_cast<u16>(config.topology.cpus));
  config_.add_u16(FwCfg::kMaxCpus, static_cast<u16>(config.topology.max_cpus));
  config_.add_u16(FwCfg::kNoGraphic, config.vga == VgaKind::None);
  if (has_ramfb(config)) TRY(offer_option_rom("vgaroms/", "vgabios-ramfb.bin"));
  if (const char* rom = vga_rom(config.vga)) TRY(offer_option_rom("vgaroms/", rom));
  config_.add_u16(FwCfg::kBootMenu, config.boot.menu);
  if (const auto wait = config.boot.menu_wait_ms) config_.add_file("etc/boot-menu-wait", bytes_of<u16>(*wait));
  if (const auto wait = config.boot.fail_wait_ms) config_.add_file("etc/boot-fail-wait", bytes_of<u32>(*wait));
  config_.add_file("etc/e820", e820_file(ram));
  if (is_pc(config.board)) config_.add_file("etc/system-states", system_states(config));
  const auto uuid = parse_uuid(config.uuid).value_or(std::array<u8, 16>{});
  config_.add(FwCfg::kUuid, {uuid.begin(), uuid.end()});
  SmbiosBlob smbios = TRY(build_smbios(smbios_system(config)));
  config_.add_file("etc/smbios/smbios-anchor", std::move(smbios.anchor));
  config_.add_file("etc/smbios/smbios-tables", std::move(smbios.tables));
  for (const std::string& rom : config.boot.option_roms) TRY(offer_option_rom("genroms/", rom));
  return offer_files();
}

Status Firmware::offer_files() {
  for (const FirmwareFile& file : context_.config.boot.files) {
    const std::string content = file.path.empty() ? file.text : TRY(read_file(file.path, kMaxFile));
    config_.add_file(file.name, {content.begin(), content.end()});
  }
  return {};
}

/// SeaBIOS runs what it finds under vgaroms/ for the display adapter, and under genroms/.
Status Firmware::offer_option_rom(const std::string& folder, const std::string& name) {
  const BootFile file = TRY(find_image(name));
  if (file.size() > kMaxOptionRom) return file.error("is too large for an option ROM");
  config_.add_file(folder + name.substr(name.rfind('/') + 1), TRY(file.bytes(0, file.size())));
  return {};
}

/// Kernel items as OVMF's own Linux loader and SeaBIOS's reads them; the latter is an option ROM that may not be installed.
Status Firmware::offer_kernel(const DirectBoot& boot, const RamLayout& ram) {
  const BootFile& kernel = boot.kernel();
  const std::vector<u8> head = TRY(kernel.head(8192));
  if (!LinuxHeader::matches(head)) return kernel.error("with firmware, only a Linux bzImage can be booted");
  const LinuxHeader header = TRY(LinuxHeader::parse(kernel, head));
  std::vector<u8> setup = TRY(kernel.bytes(0, header.setup_bytes));
  std::vector<u8> line(boot.command_line().begin(), boot.command_line().end());
  line.push_back(0);
  setup[0x210] = 0xff;  // type of loader: unknown
  setup[0x211] |= 0x80;  // heap_end_ptr is valid
  store_le<u16>(&setup[0x224], 0xfe00);
  store_le(&setup[0x228], kCommandLineAddress);
  if (boot.initrd()) {
    const u64 size = boot.initrd()->size(), limit = std::min(header.initrd_limit, ram.low_bytes - 2 * kMiB);
    if (size > limit) return boot.initrd()->error("does not fit into guest memory");
    const u32 address = static_cast<u32>(align_down(limit - size, kPageSize));
    store_le(&setup[0x218], address);
    store_le(&setup[0x21c], static_cast<u32>(size));
    config_.add_u32(FwCfg::kInitrdAddr, address);
    config_.add_u32(FwCfg::kInitrdSize, static_cast<u32>(size));
    config_.add(FwCfg::kInitrdData, TRY(boot.initrd()->bytes(0, size)));
  }
  kernel_rom_ = offer_option_rom("genroms/", kKernelRom).has_value();
  config_.add_u32(FwCfg::kSetupAddr, kSetupAddress);
  config_.add_u32(FwCfg::kSetupSize, static_cast<u32>(setup.size()));
  config_.add_u32(FwCfg::kCmdlineAddr, kCommandLineAddress);
  config_.add_u32(FwCfg::kCmdlineSize, static_cast<u32>(line.size()));
  config_.add_u32(FwCfg::kKernelAddr, kKernelAddress);
  config_.add_u32(FwCfg::kKernelSize, static_cast<u32>(kernel.size() - header.setup_bytes));
  config_.add(FwCfg::kKernelData, TRY(kernel.bytes(header.setup_bytes, kernel.size() - header.setup_bytes)));
  config_.add(FwCfg::kSetupData, std::move(setup));
  config_.add(FwCfg::kCmdlineData, std::move(line));
  return {};
}

Result<BootEntry> Firmware::load(const std::optional<AcpiBlob>& acpi) {
  if (acpi) offer_acpi(*acpi);
  const u64 copied = std::min(kLowCopy, rom_->size());
  TRY(context_.memory.guest_memory()->load(kMiB - copied, {rom_->data() + rom_->size() - copied, copied}));
  return BootEntry{};
}

namespace {

constexpr u64 kTablesUnit = 64 * kKiB, kScriptUnit = 4 * kKiB, kLaterTables = 2 * kKiB;

/// With zeroes behind it, which name no table and no step of the script.
std::vector<u8> padded(std::vector<u8> file, u64 size) {
  file.resize(std::max<u64>(file.size(), size));
  return file;
}

}  // namespace

/// Firmware remembers how large a file is before it sets up what some tables tell of: later ones have the first ones' size.
void Firmware::offer_acpi(const AcpiBlob& blob) {
  std::vector<u8> script = table_loader_script(blob);
  if (tables_bytes_ == 0) {
    tables_bytes_ = align_up(blob.tables.size() + kLaterTables, kTablesUnit);
    script_bytes_ = align_up(script.size() + kLaterTables, kScriptUnit);
  }
  config_.add_file("etc/acpi/tables", padded(blob.tables, tables_bytes_));
  config_.add_file("etc/acpi/rsdp", blob.rsdp);
  config_.add_file("etc/table-loader", padded(std::move(script), script_bytes_));
}

Status add_to_boot_order(BootOrder& order, std::optional<u32> index, std::string path) {
  if (!index) return {};
  if (order.try_emplace(*index, std::move(path)).second) return {};
  return Error(ErrorKind::Exists, fmt::format("The bootindex {} has already been used", *index));
}

void Firmware::offer_boot_order(const BootOrder& devices) {
  std::string text;
  if (kernel_rom_) text += std::string("/rom@genroms/") + kKernelRom + "\n";
  for (const auto& [index, path] : devices) text += path + "\n";
  if (context_.config.boot.strict) text += "HALT\n";
  if (text.empty()) return;
  text.back() = '\0';
  config_.add_file("bootorder", {text.begin(), text.end()});
}

/// Boot devices in the CMOS: one nibble each (Bochs BIOS): 1 floppy, 2 hard disk, 3 CD-ROM, 4 network.
std::vector<std::pair<u8, u8>> cmos_values(const CmosSettings& settings) {
  static constexpr std::string_view kLetters = "?acdn";
  u32 order = 0;
  const std::string& letters = settings.boot_order;
  for (size_t i = 0; i < std::min<size_t>(letters.size(), 3); ++i) {
    const size_t code = kLetters.find(letters[i]);
    if (code != std::string_view::npos) order |= static_cast<u32>(code) << (4 * i);
  }
  const u64 low = settings.ram.low_bytes;
  const u64 above_1m = std::min<u64>((low - kMiB) / kKiB, 0xffff);
  const u64 above_16m = low > 16 * kMiB ? std::min<u64>((low - 16 * kMiB) / (64 * kKiB), 0xffff) : 0;
  const u64 above_4g = settings.ram.high_bytes / (64 * kKiB);
  auto byte = [](u64 value, unsigned index) { return static_cast<u8>(value >> (8 * index)); };
  return {{0x15, byte(640, 0)}, {0x16, byte(640, 1)}, {0x17, byte(above_1m, 0)}, {0x18, byte(above_1m, 1)},
          {0x30, byte(above_1m, 0)}, {0x31, byte(above_1m, 1)}, {0x34, byte(above_16m, 0)}, {0x35, byte(above_16m, 1)},
          {0x5b, byte(above_4g, 0)}, {0x5c, byte(above_4g, 1)}, {0x5d, byte(above_4g, 2)},
          {0x5f, static_cast<u8>(settings.cpus - 1)}, {0x14, 0x02},
          {0x38, static_cast<u8>((order >> 4 & 0xf0) | (settings.floppy_check ? 0 : 1))}, {0x3d, static_cast<u8>(order)}};
}

std::vector<std::pair<u8, u8>> disk_cmos_values(std::span<const u64> sectors) {
  constexpr u8 kTypes = 0x12, kExtendedTypes = 0x19, kGeometries = 0x1b, kTranslations = 0x39;
  constexpr u8 kTypeIsExtended = 0xf, kUserType = 47, kManyHeads = 0xc8, kByLba = 1;
  constexpr u64 kHeads = 16, kTrack = 63, kFewest = 2, kMost = 16383, kMostOfBios = 1024;
  std::vector<std::pair<u8, u8>> values;
  u8 types = 0, translations = 0;
  for (unsigned i = 0; i < sectors.size(); ++i) {
    if (sectors[i] == 0) continue;
    const u64 cylinders = std::clamp(sectors[i] / (kHeads * kTrack), kFewest, kMost);
    if (cylinders > kMostOfBios) translations |= static_cast<u8>(kByLba << (2 * i));
    if (i >= 2) continue;  // the CMOS has room for two
    types |= static_cast<u8>(i == 0 ? kTypeIsExtended << 4 : kTypeIsExtended);
    values.emplace_back(static_cast<u8>(kExtendedTypes + i), kUserType);
    const u8 low = static_cast<u8>(cylinders), high = static_cast<u8>(cylinders >> 8);
    const u8 bytes[] = {low, high, kHeads, 0xff, 0xff, kManyHeads, low, high, kTrack};  // no write precompensation
    for (unsigned at = 0; at < std::size(bytes); ++at) values.emplace_back(static_cast<u8>(kGeometries + 9 * i + at), bytes[at]);
  }
  values.insert(values.end(), {{kTypes, types}, {kTranslations, translations}});
  return values;
}

}  // namespace atl::machine
