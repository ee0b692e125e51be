#include "machine/loaders/elf_image.h"

#include <elf.h>
#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"
#include "machine/loaders/linux_image.h"
#include "machine/loaders/pvh.h"

namespace atl::machine {
namespace {

constexpr u64 kMaxProgramHeaders = 256;
constexpr u64 kMaxNoteBytes = 64 * kKiB;
constexpr u32 kXenPhys32Entry = 18;

/// The fields of both classes' program headers that matter here.
struct ProgramHeader {
  u32 type = 0;
  ElfSegment segment;
};

template <class Phdr>
ProgramHeader decode(const u8* raw) {
  Phdr p;
  std::memcpy(&p, raw, sizeof p);
  return {p.p_type, {p.p_offset, p.p_filesz, p.p_memsz, p.p_vaddr, p.p_paddr}};
}

template <class Ehdr, class Phdr>
Result<std::vector<ProgramHeader>> program_headers(const BootFile& file, std::span<const u8> head) {
  Ehdr e;
  if (head.size() < sizeof e) return file.error("truncated ELF header");
  std::memcpy(&e, head.data(), sizeof e);
  if (e.e_phentsize != sizeof(Phdr) || e.e_phnum == 0 || e.e_phnum > kMaxProgramHeaders) {
    return file.error(fmt::format("{} program headers of {} bytes are not a bootable ELF file", u32{e.e_phnum},
                                  u32{e.e_phentsize}));
  }
  std::vector<u8> raw = TRY(file.bytes(e.e_phoff, u64{e.e_phnum} * sizeof(Phdr)));
  std::vector<ProgramHeader> headers;
  for (u64 i = 0; i < e.e_phnum; ++i) headers.push_back(decode<Phdr>(raw.data() + i * sizeof(Phdr)));
  return headers;
}

/// Looks for the Xen note with the PVH entry point in one PT_NOTE segment.
Result<std::optional<u64>> find_pvh_note(const BootFile& file, const ElfSegment& segment) {
  if (segment.file_bytes > kMaxNoteBytes) return std::optional<u64>{};
  const std::vector<u8> notes = TRY(file.bytes(segment.offset, segment.file_bytes));
  u64 at = 0;
  while (range_fits(at, 12, notes.size())) {
    const u64 name_bytes = load_le<u32>(&notes[at]), value_bytes = load_le<u32>(&notes[at + 4]);
    const u32 type = load_le<u32>(&notes[at + 8]);
    const u64 name = at + 12, value = name + align_up(name_bytes, 4);
    if (!range_fits(value, value_bytes, notes.size())) break;
    const bool xen = name_bytes == 4 && std::memcmp(&notes[name], "Xen", 4) == 0;
    if (xen && type == kXenPhys32Entry && (value_bytes == 4 || value_bytes == 8)) {
      return std::optional<u64>{load_le_n(&notes[value], static_cast<unsigned>(value_bytes))};
    }
    at = value + align_up(value_bytes, 4);
  }
  return std::optional<u64>{};
}

Status check_segment(const BootFile& file, const ElfSegment& s) {
  const bool in_file = range_fits(s.offset, s.file_bytes, file.size());
  const bool sane = s.file_bytes <= s.memory_bytes && checked_add(s.physical_address, s.memory_bytes);
  if (in_file && sane) return {};
  return file.error(fmt::format("truncated or damaged: segment of {} bytes at file offset {:#x}, physical address {:#x}",
                                s.memory_bytes, s.offset, s.physical_address));
}

/// Kernels give the entry as a physical address, but one linked high may give a virtual one.
u64 physical_entry(const ElfImage& image, u64 entry) {
  for (const ElfSegment& s : image.segments) {
    if (entry >= s.physical_address && entry - s.physical_address < s.memory_bytes) return entry;
  }
  for (const ElfSegment& s : image.segments) {
    if (entry >= s.virtual_address && entry - s.virtual_address < s.memory_bytes) {
      return entry - s.virtual_address + s.physical_address;
    }
  }
  return entry;
}

}  // namespace

bool ElfImage::matches(std::span<const u8> head) {
  return head.size() >= EI_NIDENT && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> ElfImage::parse(const BootFile& file) {
  const std::vector<u8> head = TRY(file.head(sizeof(Elf64_Ehdr)));
  if (head.size() < sizeof(Elf32_Ehdr)) return file.error("truncated ELF header");
  const u16 machine = load_le<u16>(&head[18]);
  ElfImage image;
  image.is64 = head[EI_CLASS] == ELFCLASS64;
  if (head[EI_DATA] != ELFDATA2LSB || machine != (image.is64 ? EM_X86_64 : EM_386)) {
    return file.error(fmt::format("ELF file for machine {}, not x86", machine));
  }
  const auto headers = TRY(image.is64 ? program_headers<Elf64_Ehdr, Elf64_Phdr>(file, head)
                                      : program_headers<Elf32_Ehdr, Elf32_Phdr>(file, head));
  for (const ProgramHeader& h : headers) {
    if (h.type == PT_NOTE && !image.pvh_entry) image.pvh_entry = TRY(find_pvh_note(file, h.segment));
    if (h.type != PT_LOAD || h.segment.memory_bytes == 0) continue;
    TRY(check_segment(file, h.segment));
    image.segments.push_back(h.segment);
  }
  if (image.segments.empty()) return file.error("ELF file without anything to load");
  image.entry = physical_entry(image, image.is64 ? load_le<u64>(&head[24]) : load_le<u32>(&head[24]));
  return image;
}

Status ElfImage::load(const BootFile& file, const memory::GuestMemory& memory) const {
  for (const ElfSegment& s : segments) {
    TRY(file.load(memory, s.offset, s.file_bytes, s.physical_address));
    if (!memory.fill(s.physical_address + s.file_bytes, 0, s.memory_bytes - s.file_bytes)) {
      return file.error(fmt::format("segment of {} bytes does not fit into guest memory at {:#x}", s.memory_bytes,
                                    s.physical_address));
    }
  }
  return {};
}

u64 ElfImage::end() const {
  u64 last = 0;
  for (const ElfSegment& s : segments) last = std::max(last, s.physical_address + s.memory_bytes);
  return last;
}

Result<BootEntry> load_elf_image(const DirectBoot& boot, const BootTarget& target) {
  const ElfImage image = TRY(ElfImage::parse(boot.kernel()));
  TRY(image.load(boot.kernel(), target.memory));
  TRY(write_command_line(boot, target, kMaxCommandLineBytes));
  ZeroPage page;
  if (boot.initrd()) {
    page.initrd = TRY(place_initrd(*boot.initrd(), target, kHighRamBase, image.end()));
    page.initrd_bytes = boot.initrd()->size();
  }
  if (image.pvh_entry) {
    TRY(write_pvh_info(boot, target, {page.initrd, page.initrd_bytes}));
    return BootEntry{.mode = BootEntry::Mode::Protected32, .ip = *image.pvh_entry, .ebx = kBootInfo};
  }
  TRY(write_zero_page(target, page));
  const auto mode = image.is64 ? BootEntry::Mode::Long64 : BootEntry::Mode::Protected32;
  return BootEntry{.mode = mode, .ip = image.entry, .rsi = kBootInfo};
}

}  // namespace atl::machine
