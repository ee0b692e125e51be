// Pieces of an image's file, for opening and creating it.
#pragma once

#include <string>
#include <vector>

#include "block/driver.h"
#include "block/format/qcow2/io.h"

namespace atl::block {

using qcow2::grow_to;
using qcow2::read_padded;
using qcow2::write_growing;

/// Bytes of a header or table; an error that names `what` if the file ends before.
Task<Result<std::vector<u8>>> read_bytes(Node& file, u64 offset, u64 size, std::string what);
/// At most `size` bytes from the start: as many as there are.
Task<Result<std::vector<u8>>> read_head(Node& file, u64 size);
/// Grows the file by a stretch that reads as zeroes; gives the stretch's start, a multiple of `alignment`.
Task<Result<u64>> append_zeroes(Node& file, u64 size, u64 alignment);

/// "NAME: what is wrong", for headers.
Error bad_image(const char* format, std::string text);

}  // namespace atl::block
