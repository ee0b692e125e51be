#include "cpu/soft/native/block_access.h"

#include <algorithm>

#include "cpu/soft/mmu/access.h"

namespace atl::soft {
namespace {

constexpr unsigned kPiece = 64;  // what read_slow and write_slow take

unsigned piece_at(u64 linear, unsigned left) {
  return std::min({left, kPiece, static_cast<unsigned>(kPageSize - (linear & (kPageSize - 1)))});
}

}  // namespace

bool read_block(Core& core, u64 linear, u8* out, unsigned size) {
  while (size) {
    unsigned piece = piece_at(linear, size);
    if (const u8* host = fast_host(core, linear, piece, Access::Read)) std::copy_n(host, piece, out);
    else if (!read_slow(core, linear, out, piece)) return false;
    linear += piece, out += piece, size -= piece;
  }
  return true;
}

bool probe_write_block(Core& core, u64 linear, unsigned size) {
  while (size) {
    unsigned piece = piece_at(linear, size);
    if (!fast_host(core, linear, piece, Access::Write) && !probe_write(core, linear, piece)) return false;
    linear += piece, size -= piece;
  }
  return true;
}

bool write_block(Core& core, u64 linear, const u8* data, unsigned size) {
  if (!probe_write_block(core, linear, size)) return false;
  while (size) {
    unsigned piece = piece_at(linear, size);
    if (u8* host = fast_host(core, linear, piece, Access::Write)) std::copy_n(data, piece, host);
    else if (!write_slow(core, linear, data, piece)) return false;
    linear += piece, data += piece, size -= piece;
  }
  return true;
}

}  // namespace atl::soft
