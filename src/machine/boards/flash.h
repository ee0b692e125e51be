// The flash chips that hold firmware and its variables (-drive if=pflash): the first one ends at 4 GiB, the second lies below
// it. Together they have at most 8 MiB, each a multiple of 4 KiB.
#pragma once

#include <memory>
#include <vector>

#include "devices/legacy/pflash.h"
#include "machine/boards/board.h"

namespace atl::machine {

class SystemFlash {
 public:
  /// From context.flash, which has at least one chip.
  static Result<std::unique_ptr<SystemFlash>> create(const BoardContext& context);

  /// Contents of the first chip.
  const std::shared_ptr<memory::RamBlock>& code() const { return code_; }
  std::vector<devices::Device*> devices();

 private:
  Result<GuestAddr> add(const BoardContext& context, const FlashDrive& drive, GuestAddr end);

  std::shared_ptr<memory::RamBlock> code_;
  std::vector<std::unique_ptr<devices::Pflash>> chips_;
};

}  // namespace atl::machine
