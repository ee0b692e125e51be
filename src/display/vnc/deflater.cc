#include "display/vnc/deflater.h"

#include "base/check.h"

namespace atl::display::vnc {
namespace {

constexpr size_t kPiece = 16384;

}  // namespace

Deflater::~Deflater() {
  if (level_) ::deflateEnd(&stream_);
}

void Deflater::compress(std::span<const u8> plain, int level, std::vector<u8>& out) {
  if (!level_) CHECK(::deflateInit(&stream_, level) == Z_OK);  // fails only without memory
  if (level_ && level_ != level) {
    // Nothing is pending after a sync flush: the change costs a few bytes.
    out.resize(out.size() + kPiece);
    stream_.next_out = &out[out.size() - kPiece];
    stream_.avail_out = kPiece;
    stream_.avail_in = 0;
    ::deflateParams(&stream_, level, Z_DEFAULT_STRATEGY);
    out.resize(out.size() - stream_.avail_out);
  }
  level_ = level;
  stream_.next_in = const_cast<u8*>(plain.data());  // zlib only reads it
  stream_.avail_in = static_cast<uInt>(plain.size());
  deflate_all(Z_SYNC_FLUSH, out);
}

void Deflater::deflate_all(int flush, std::vector<u8>& out) {
  do {
    const size_t at = out.size();
    out.resize(at + kPiece);
    stream_.next_out = &out[at];
    stream_.avail_out = kPiece;
    ::deflate(&stream_, flush);
    out.resize(out.size() - stream_.avail_out);
  } while (stream_.avail_out == 0);
}

}  // namespace atl::display::vnc
