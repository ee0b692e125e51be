#include "block/format/qcow2/codec.h"

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include <memory>

#include "block/format/qcow2/spec.h"

namespace atl::block::qcow2 {
namespace {

constexpr int kDeflateLevel = 1, kZstdLevel = 2;

struct Free {
  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
  void operator()(ZSTD_CCtx* c) const { ZSTD_freeCCtx(c); }
  void operator()(ZSTD_DCtx* d) const { ZSTD_freeDCtx(d); }
};

/// A state for each thread, made at first use: making one costs as much as compressing a small cluster.
template <class T, T* (*Make)()>
T* thread_state() {
  thread_local std::unique_ptr<T, Free> state(Make());
  return state.get();
}

libdeflate_compressor* make_compressor() { return libdeflate_alloc_compressor(kDeflateLevel); }

/// Streams that go on past the cluster's end, or whose end mark is missing: zlib gives what there is.
bool inflate_leniently(std::span<const u8> from, std::span<u8> to) {
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
  stream.next_in = const_cast<u8*>(from.data());
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = to.data();
  stream.avail_out = static_cast<uInt>(to.size());
  int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return (result == Z_STREAM_END || result == Z_BUF_ERROR) && stream.avail_out == 0;
}

bool inflate_cluster(std::span<const u8> from, std::span<u8> to) {
  size_t n = 0;
  auto* state = thread_state<libdeflate_decompressor, libdeflate_alloc_decompressor>();
  if (state && libdeflate_deflate_decompress(state, from.data(), from.size(), to.data(), to.size(), &n) == LIBDEFLATE_SUCCESS)
    return n == to.size();
  return inflate_leniently(from, to);
}

bool unzstd_cluster(std::span<const u8> from, std::span<u8> to) {
  auto* state = thread_state<ZSTD_DCtx, ZSTD_createDCtx>();
  if (!state) return false;
  ZSTD_DCtx_reset(state, ZSTD_reset_session_only);
  ZSTD_outBuffer out{to.data(), to.size(), 0};
  ZSTD_inBuffer in{from.data(), from.size(), 0};
  while (out.pos < out.size) {
    const size_t before_in = in.pos, before_out = out.pos;
    const size_t result = ZSTD_decompressStream(state, &out, &in);
    if (ZSTD_isError(result) || (in.pos == before_in && out.pos == before_out)) return false;
  }
  return true;
}

}  // namespace

u64 compress_cluster(u8 type, std::span<const u8> from, std::span<u8> to) {
  if (type == kZstd) {
    auto* state = thread_state<ZSTD_CCtx, ZSTD_createCCtx>();
    if (!state) return 0;
    const size_t n = ZSTD_compressCCtx(state, to.data(), to.size(), from.data(), from.size(), kZstdLevel);
    return ZSTD_isError(n) ? 0 : n;
  }
  auto* state = thread_state<libdeflate_compressor, make_compressor>();
  return state ? libdeflate_deflate_compress(state, from.data(), from.size(), to.data(), to.size()) : 0;
}

bool decompress_cluster(u8 type, std::span<const u8> from, std::span<u8> to) {
  return type == kZstd ? unzstd_cluster(from, to) : inflate_cluster(from, to);
}

}  // namespace atl::block::qcow2
