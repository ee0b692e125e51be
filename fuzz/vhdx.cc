// A VHDX image with hostile pieces: metadata, block table and log entries are overwritten, and the sums that guard the
// headers are put right; see block_image.h. Half of the inputs are parsed as header, region table and metadata on their
// own.
#include "base/endian.h"
#include "block/format/vhdx_spec.h"
#include "block_image.h"

namespace {

using namespace atl;
using namespace atl::block;

const std::string& good_image() {
  static const auto* image = new std::string(fuzz::make_image("vhdx", {{"size", "8M"}, {"block_size", "1M"}}));
  return *image;
}

void guard(std::string& image, u64 at, u64 bytes) {
  std::span<const u8> all(reinterpret_cast<const u8*>(&image[at]), bytes);
  store_le(&image[at + 4], vhdx::checksum(all, 4));
}

/// Pieces: place (in steps of 8 bytes within the first 5 MiB), length, bytes.
std::string patched(fuzz::Input& input) {
  std::string image = good_image();
  while (!input.empty()) {
    const u64 at = (input.dword() * u64{8}) % (image.size() - 64);
    auto piece = input.bytes(input.byte() % 64);
    std::ranges::copy(piece, image.begin() + static_cast<long>(at));
  }
  guard(image, vhdx::kHeader1At, vhdx::kHeaderBytes);
  guard(image, vhdx::kHeader2At, vhdx::kHeaderBytes);
  guard(image, vhdx::kRegion1At, vhdx::kRegionBytes);
  guard(image, 1 * kMiB, 8 * kKiB);  // a log entry of two sectors, if one is there
  return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  fuzz::Input input(data + 1, size - 1);
  if (data[0] & 1) {
    std::vector<u8> region(vhdx::kMetadataTableBytes);
    auto bytes = input.bytes(region.size());
    std::ranges::copy(bytes, region.begin());
    (void)vhdx::parse_metadata(region);
    (void)vhdx::choose_header(region, bytes);
    (void)vhdx::parse_regions(region);
    return 0;
  }
  fuzz::try_image(patched(input), data[0] * u64{65537}, open_vhdx_node);
  return 0;
}
