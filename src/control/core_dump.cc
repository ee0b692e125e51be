#include "control/core_dump.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "base/math.h"
#include "cpu/spec.h"

namespace atl::control {
namespace {

using cpu::VcpuState;

struct Piece {
  GuestAddr first;
  u64 size_bytes;
};

std::vector<Piece> pieces_of(const memory::GuestMemory& memory, DumpRange wanted) {
  const u64 end = wanted.size_bytes ? checked_add(wanted.first, wanted.size_bytes).value_or(~u64{0}) : ~u64{0};
  std::vector<Piece> pieces;
  for (const memory::RamRange& range : memory.ranges()) {
    if (range.readonly) continue;
    const u64 from = std::max(range.base, wanted.first), to = std::min(range.end(), end);
    if (from < to) pieces.push_back({from, to - from});
  }
  return pieces;
}

/// Appends the bytes of `value`.
template <class T>
void put(std::vector<u8>& out, const T& value) {
  const size_t at = out.size();
  out.resize(at + sizeof value);
  std::memcpy(&out[at], &value, sizeof value);
}

/// The registers in the order of Linux's user_regs_struct.
std::array<u64, 27> user_registers(const VcpuState& s) {
  using namespace cpu;
  const auto& g = s.gpr;
  auto selector = [&](SegReg r) -> u64 { return s.seg[r].selector; };
  return {g[kR15], g[kR14], g[kR13], g[kR12], g[kRbp], g[kRbx], g[kR11], g[kR10], g[kR9], g[kR8], g[kRax], g[kRcx], g[kRdx],
          g[kRsi], g[kRdi], ~u64{0}, s.rip, selector(kCs), s.rflags, g[kRsp], selector(kSs), s.seg[kFs].base, s.seg[kGs].base,
          selector(kDs), selector(kEs), selector(kFs), selector(kGs)};
}

/// elf_prstatus: what a debugger reads the registers from. Only the process number and the registers mean something here.
std::vector<u8> prstatus(const VcpuState& state, u32 number) {
  constexpr size_t kProcess = 32, kRegisters = 112, kBytes = 336;
  std::vector<u8> note(kBytes);
  const auto registers = user_registers(state);
  std::memcpy(&note[kProcess], &number, sizeof number);
  std::memcpy(&note[kRegisters], registers.data(), sizeof registers);
  return note;
}

void put_segment(std::vector<u8>& out, u32 selector, u32 limit, u32 flags, u64 base) {
  for (u32 word : {selector, limit, flags, 0u}) put(out, word);
  put(out, base);
}

void put_segment(std::vector<u8>& out, const cpu::Segment& s) { put_segment(out, s.selector, s.limit, u32{s.attributes} << 8, s.base); }

u64 kernel_gs_base(const VcpuState& state) {
  for (const auto& [index, value] : state.msrs)
    if (index == cpu::kMsrKernelGsBase) return value;
  return 0;
}

/// The note "QEMU", version 1: what elf_prstatus has no room for.
std::vector<u8> control_state(const VcpuState& s) {
  using namespace cpu;
  constexpr u32 kVersion = 1, kBytes = 440;
  std::vector<u8> note;
  put(note, kVersion);
  put(note, kBytes);
  for (Gpr r : {kRax, kRbx, kRcx, kRdx, kRsi, kRdi, kRsp, kRbp, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15}) put(note, s.gpr[r]);
  put(note, s.rip);
  put(note, s.rflags);
  for (SegReg r : {kCs, kDs, kEs, kFs, kGs, kSs}) put_segment(note, s.seg[r]);
  put_segment(note, s.ldtr);
  put_segment(note, s.tr);
  put_segment(note, 0, s.gdtr.limit, 0, s.gdtr.base);
  put_segment(note, 0, s.idtr.limit, 0, s.idtr.base);
  for (u64 cr : {s.cr0, u64{0}, s.cr2, s.cr3, s.cr4}) put(note, cr);
  put(note, kernel_gs_base(s));
  note.resize(kBytes);
  return note;
}

void put_note(std::vector<u8>& out, std::string_view name, u32 type, std::span<const u8> body) {
  put(out, Elf64_Nhdr{.n_namesz = static_cast<u32>(name.size() + 1), .n_descsz = static_cast<u32>(body.size()), .n_type = type});
  out.insert(out.end(), name.begin(), name.end());
  out.resize(align_up(out.size() + 1, 4));
  out.insert(out.end(), body.begin(), body.end());
  out.resize(align_up(out.size(), 4));
}

std::vector<u8> notes_of(std::span<const VcpuState> vcpus) {
  std::vector<u8> notes;
  for (u32 i = 0; i < vcpus.size(); ++i) put_note(notes, "CORE", NT_PRSTATUS, prstatus(vcpus[i], i + 1));
  for (const VcpuState& state : vcpus) put_note(notes, "QEMU", 0, control_state(state));
  return notes;
}

Elf64_Ehdr file_header(size_t segments) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_CORE;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_phoff = header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<u16>(segments);
  return header;
}

/// Everything before the memory itself, which follows page-aligned.
std::vector<u8> head_of(std::span<const VcpuState> vcpus, std::span<const Piece> pieces) {
  const std::vector<u8> notes = notes_of(vcpus);
  const u64 notes_at = sizeof(Elf64_Ehdr) + (1 + pieces.size()) * sizeof(Elf64_Phdr);
  u64 data_at = align_up(notes_at + notes.size(), kPageSize);
  std::vector<u8> head;
  put(head, file_header(1 + pieces.size()));
  put(head, Elf64_Phdr{.p_type = PT_NOTE, .p_offset = notes_at, .p_filesz = notes.size(), .p_memsz = notes.size()});
  const u64 memory_at = data_at;
  for (const Piece& piece : pieces) {
    put(head, Elf64_Phdr{.p_type = PT_LOAD, .p_offset = data_at, .p_paddr = piece.first, .p_filesz = piece.size_bytes,
                         .p_memsz = piece.size_bytes});
    data_at += piece.size_bytes;
  }
  head.insert(head.end(), notes.begin(), notes.end());
  head.resize(memory_at);
  return head;
}

}  // namespace

Status write_core_dump(const Fd& file, const memory::GuestMemory& memory, std::span<const VcpuState> vcpus, DumpRange range,
                       DumpProgress& progress) {
  constexpr u64 kStep = 16 * kMiB;
  const std::vector<Piece> pieces = pieces_of(memory, range);
  if (pieces.empty()) return Error(ErrorKind::Invalid, "no guest memory in the range to be dumped");
  for (const Piece& piece : pieces) progress.total += piece.size_bytes;
  TRY(write_all(file, head_of(vcpus, pieces)));
  for (const Piece& piece : pieces) {
    for (u64 done = 0; done < piece.size_bytes; done += kStep) {
      const u64 step = std::min(kStep, piece.size_bytes - done);
      const u8* bytes = memory.host(piece.first + done, step, false);
      if (!bytes) return Error(ErrorKind::Invalid, "guest memory went away while it was dumped");
      TRY(write_all(file, {bytes, step}));
      progress.completed += step;
    }
  }
  return {};
}

}  // namespace atl::control
