// A zlib stream that lives as long as its connection, made when it is first needed.
#pragma once

#include <zlib.h>

#include <span>
#include <vector>

#include "base/types.h"

namespace atl::display::vnc {

class Deflater {
 public:
  Deflater() = default;
  ~Deflater();
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  /// Appends the compressed bytes, complete up to here. `level`: zlib's, 1 to 9; may change between calls.
  void compress(std::span<const u8> plain, int level, std::vector<u8>& out);

 private:
  void deflate_all(int flush, std::vector<u8>& out);

  z_stream stream_{};
  int level_ = 0;   // 0: no stream yet
};

}  // namespace atl::display::vnc
