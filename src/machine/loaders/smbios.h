// SMBIOS tables (DMTF DSP0134 2.8): firmware, system with its UUID, board, chassis, processors, strings, memory, boot
// status, and the 32-bit entry point. Fields as -smbios gives them, and whole structures from files.
// The names are those of the board that we are compatible with, because guests decide on them.
// Missing: caches, slots, the 64-bit entry point.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/config.h"
#include "memory/guest_memory.h"

namespace atl::machine {

struct SmbiosSystem {
  std::string product;    // "Standard PC (i440FX + PIIX, 1996)"
  std::string version;    // the board as asked for: "pc-i440fx-7.2"
  std::string uuid;       // "" = all zero
  u32 sockets = 1, cores = 1, threads = 1;  // the last two a socket
  u64 ram_bytes = 0;
  std::vector<SmbiosConfig> entries;        // what the user gave
};

struct SmbiosBlob {
  std::vector<u8> anchor;  // 31 bytes, the tables' address still zero
  std::vector<u8> tables;
};

/// "aabbccdd-eeff-..." to bytes in the order they are written; nullopt if malformed.
std::optional<std::array<u8, 16>> parse_uuid(std::string_view text);
/// The error names the file that could not be read or holds no structures.
Result<SmbiosBlob> build_smbios(const SmbiosSystem& system);
/// Puts anchor and tables at `base`, a multiple of 16 in the segment that kernels search (0xf0000).
Status install_smbios(const SmbiosBlob& blob, const memory::GuestMemory& memory, GuestAddr base);

}  // namespace atl::machine
