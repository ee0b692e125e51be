// The buses that disks are plugged into, by the names that -device bus= has for them: "ide.0", "ahci0.3". Control thread.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "devices/device.h"
#include "devices/storage/ata.h"
#include "base/thread.h"
#include "devices/storage/virtio_scsi.h"

namespace atl::machine {

class DiskBuses {
 public:
  struct Bus {
    std::string name;
    const devices::Device* controller = nullptr;
    devices::AtaHost* ata = nullptr;    // one of the two
    devices::ScsiHost* scsi = nullptr;
    unsigned port = 0;
    LoopThread* thread = nullptr;       // where its disks live
  };

  /// A controller with the id that its buses are named after; without one, they continue "ide.0", "ide.1" ..., "scsi.0" ...
  void add(const std::string& id, const devices::Device& controller, devices::AtaHost* ata, devices::ScsiHost* scsi,
           LoopThread& thread) {
    for (unsigned port = 0; ata && port < ata->ata_ports(); ++port) {
      const std::string name = id.empty() ? fmt::format("ide.{}", unnamed_ide_++) : fmt::format("{}.{}", id, port);
      buses_.push_back({.name = name, .controller = &controller, .ata = ata, .port = port, .thread = &thread});
    }
    if (!scsi) return;
    const std::string name = id.empty() ? fmt::format("scsi.{}", unnamed_scsi_++) : id + ".0";
    buses_.push_back({.name = name, .controller = &controller, .scsi = scsi, .thread = &thread});
  }
  void remove_all_of(const devices::Device& controller) {
    std::erase_if(buses_, [&](const Bus& bus) { return bus.controller == &controller; });
  }
  const std::vector<Bus>& all() const { return buses_; }

 private:
  std::vector<Bus> buses_;
  unsigned unnamed_ide_ = 0, unnamed_scsi_ = 0;
};

}  // namespace atl::machine
