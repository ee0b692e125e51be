// Protocols without a library to speak them.
#include "block/protocol/missing.h"

namespace atl::block {

extern const Driver kSheepdogDriver, kTftpDriver, kRbdDriver, kGlusterDriver;
const Driver kSheepdogDriver = missing_driver<"sheepdog", "Sheepdog is no longer developed; copy the image out with its own tools">();
const Driver kTftpDriver = missing_driver<"tftp", "TFTP cannot read parts of a file; fetch the image first">();
const Driver kRbdDriver = missing_driver<"rbd", "map the image with 'rbd device map' and open the device">();
const Driver kGlusterDriver = missing_driver<"gluster", "mount the volume and open the file">();

}  // namespace atl::block
