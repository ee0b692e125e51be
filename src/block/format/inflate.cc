#include "block/format/inflate.h"

#include <bzlib.h>
#include <libdeflate.h>
#include <zlib.h>

#include <memory>

namespace atl::block {
namespace {

Error broken(const char* what) { return Error(ErrorKind::Io, std::string("broken compressed data: ") + what, EIO); }

struct FreeDecompressor {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};
/// One a thread: it is stateless between calls, but costs 10 KiB to make.
libdeflate_decompressor* decompressor() {
  thread_local const std::unique_ptr<libdeflate_decompressor, FreeDecompressor> kept(libdeflate_alloc_decompressor());
  return kept.get();
}

}  // namespace

Result<u64> inflate(Stream form, std::span<const u8> from, std::span<u8> to) {
  libdeflate_decompressor* d = decompressor();
  if (!d) return os_error("decompress", ENOMEM);
  auto work = form == Stream::Zlib ? libdeflate_zlib_decompress_ex : libdeflate_deflate_decompress_ex;
  size_t in = 0, out = 0;
  libdeflate_result result = work(d, from.data(), from.size(), to.data(), to.size(), &in, &out);
  if (result == LIBDEFLATE_INSUFFICIENT_SPACE) return broken("more comes out than a cluster holds");
  if (result != LIBDEFLATE_SUCCESS) return broken("no deflate stream");
  return out;
}

Result<u64> bunzip2(std::span<const u8> from, std::span<u8> to) {
  unsigned size = static_cast<unsigned>(std::min<size_t>(to.size(), ~0u));
  int result = BZ2_bzBuffToBuffDecompress(reinterpret_cast<char*>(to.data()), &size,
                                          const_cast<char*>(reinterpret_cast<const char*>(from.data())),
                                          static_cast<unsigned>(std::min<size_t>(from.size(), ~0u)), 0, 0);
  if (result == BZ_OUTBUFF_FULL) return broken("more comes out than a chunk holds");
  if (result != BZ_OK) return broken("no bzip2 stream");
  return u64{size};
}

Result<std::vector<u8>> deflate(Stream form, std::span<const u8> from, u64 limit, int window_bits) {
  z_stream stream{};
  const int bits = form == Stream::Zlib ? window_bits : -window_bits;
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, bits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    return os_error("compress", ENOMEM);
  std::vector<u8> out(limit);
  stream.next_in = const_cast<u8*>(from.data());
  stream.avail_in = static_cast<unsigned>(from.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<unsigned>(out.size());
  int result = ::deflate(&stream, Z_FINISH);
  out.resize(result == Z_STREAM_END && stream.total_out < limit ? stream.total_out : 0);
  deflateEnd(&stream);
  return out;
}

}  // namespace atl::block
