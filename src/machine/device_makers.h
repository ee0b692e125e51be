// From a -device to a virtio device: reads the properties, claims the back ends, builds the model.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>

#include "devices/virtio/balloon.h"
#include "devices/storage/virtio_blk.h"
#include "devices/virtio/device.h"
#include "machine/back_ends.h"
#include "machine/boards/board.h"
#include "machine/config.h"

namespace atl::machine {

/// What makers need of the machine.
struct MakerContext {
  const Config& config;
  BackEnds& back_ends;
  memory::AddressSpace& memory;
  const std::map<CharId, CharBackend*>& chars;
  std::function<void(const std::string& drive, const std::string& device, const devices::BlockError&)> on_block_error;  // any thread
  std::function<void(u64 guest_bytes)> on_balloon_change;                            // any thread
};

/// A device that is built and not yet plugged in.
struct MadeDevice {
  std::unique_ptr<devices::VirtioDevice> device;
  LoopThread* thread = nullptr;                   // of its loop
  PlugRequest plug;
  devices::VirtioBalloon* balloon = nullptr;      // if it is one
};

/// `user` names the device in back ends' error texts; `ports` are the virtconsole and virtserialport devices of a
/// virtio-serial controller. On an error nothing stays claimed.
Result<MadeDevice> make_virtio_device(const DeviceConfig& device, const std::string& user, std::span<const DeviceConfig> ports,
                                      const MakerContext& context);

/// Devices on the bus of another one, which is built with them.
bool is_console_port(std::string_view type);
/// Whether `port` belongs to the controller `controller_id`, the `first` one there is if the port names no bus.
bool belongs_to(const DeviceConfig& port, const std::string& controller_id, bool first);

}  // namespace atl::machine
