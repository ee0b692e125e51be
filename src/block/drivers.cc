// The list of block drivers. Each is a row in its own file.
#include <algorithm>

#include "block/driver.h"

namespace atl::block {

extern const Driver kFileDriver, kHostDeviceDriver, kHostCdromDriver;
extern const Driver kNullCoDriver, kNullAioDriver;
extern const Driver kRawDriver;
extern const Driver kVdiDriver, kVpcDriver;

const std::vector<const Driver*>& drivers() {
  static const std::vector<const Driver*> list = {
      &kFileDriver, &kHostDeviceDriver, &kHostCdromDriver, &kNullCoDriver, &kNullAioDriver, &kRawDriver,
      &kVdiDriver, &kVpcDriver,
  };
  return list;
}

const Driver* find_driver(std::string_view name) {
  auto found = std::ranges::find_if(drivers(), [&](const Driver* driver) { return name == driver->name; });
  return found == drivers().end() ? nullptr : *found;
}

}  // namespace atl::block
