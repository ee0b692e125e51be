// The list of block drivers. Each is a row in its own file.
#include <algorithm>

#include "block/driver.h"

namespace atl::block {

extern const Driver kFileDriver, kHostDeviceDriver, kHostCdromDriver, kNbdDriver;
extern const Driver kNullCoDriver, kNullAioDriver;
extern const Driver kCopyOnReadDriver, kThrottleDriver, kQuorumDriver;
extern const Driver kBlkdebugDriver, kBlkverifyDriver;
extern const Driver kHttpDriver, kHttpsDriver, kFtpDriver, kFtpsDriver, kSshDriver, kIscsiDriver, kNfsDriver;
extern const Driver kSheepdogDriver, kTftpDriver, kRbdDriver, kGlusterDriver;
extern const Driver kRawDriver, kQcow2Driver;
extern const Driver kVdiDriver, kVpcDriver, kVmdkDriver, kLuksDriver, kQedDriver, kQcowDriver, kParallelsDriver;
extern const Driver kVhdxDriver, kBochsDriver, kCloopDriver, kDmgDriver, kVvfatDriver;

const std::vector<const Driver*>& drivers() {
  static const std::vector<const Driver*> list = {
      &kFileDriver, &kHostDeviceDriver, &kHostCdromDriver, &kNbdDriver, &kNullCoDriver, &kNullAioDriver, &kRawDriver,
      &kQcow2Driver, &kCopyOnReadDriver, &kThrottleDriver, &kQuorumDriver, &kBlkdebugDriver, &kBlkverifyDriver,
      &kHttpDriver, &kHttpsDriver, &kFtpDriver, &kFtpsDriver, &kSshDriver, &kIscsiDriver, &kNfsDriver,
      &kSheepdogDriver, &kTftpDriver, &kRbdDriver, &kGlusterDriver,
      &kVdiDriver, &kVpcDriver, &kVmdkDriver, &kLuksDriver, &kQedDriver, &kQcowDriver, &kParallelsDriver,
      &kVhdxDriver, &kBochsDriver, &kCloopDriver, &kDmgDriver, &kVvfatDriver,
  };
  return list;
}

const Driver* find_driver(std::string_view name) {
  auto found = std::ranges::find_if(drivers(), [&](const Driver* driver) { return name == driver->name; });
  return found == drivers().end() ? nullptr : *found;
}

}  // namespace atl::block
