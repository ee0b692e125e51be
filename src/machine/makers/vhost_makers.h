// Devices that other processes serve or connect to, from their properties.
#pragma once

#include "machine/makers/device_makers.h"

namespace atl::machine {

Result<MadeDevice> make_vhost_user_fs(const Order& order);
/// A virtio-net whose netdev is of type vhost-user.
Result<MadeDevice> make_vhost_user_net(const Order& order, const CharId& chardev);

Result<MadeDevice> make_vsock(const Order& order);
/// vhost-vsock-pci, which the error tells the replacement of.
Result<MadeDevice> refuse_kernel_vsock(const Order& order);

}  // namespace atl::machine
