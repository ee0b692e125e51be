// The host's devices as libvirt names and describes them (https://libvirt.org/formatnode.html), read from /sys at each
// call.
//
// Shown: the computer itself, PCI functions, USB devices and interfaces, network devices, disks. Any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manage/error.h"
#include "manage/xml/element.h"

namespace atl::manage {

/// Bits of virConnectListAllNodeDeviceFlags.
enum class DeviceKind : u32 {
  System = 1 << 0,
  Pci = 1 << 1,
  Usb = 1 << 2,
  UsbInterface = 1 << 3,
  Net = 1 << 4,
  Storage = 1 << 8
};

struct NodeDevice {
  std::string name;  // "pci_0000_00_1f_2"
  DeviceKind kind = DeviceKind::System;
  std::string path;    // below /sys, with links resolved; "" for the computer
  std::string parent;  // a name; "" for the computer
};

/// "pci"; as in <capability type=''>.
std::string_view device_capability(DeviceKind kind);

class NodeDevices {
 public:
  /// `sys`: the mounted sysfs, or a copy of one for tests.
  explicit NodeDevices(std::string sys = "/sys") : sys_(std::move(sys)) {}

  std::vector<NodeDevice> list() const;
  Result<NodeDevice> find(const std::string& name) const;
  std::string xml(const NodeDevice& device) const;

 private:
  std::vector<NodeDevice> scan() const;
  std::string read(const std::string& path) const;
  void add_system(xml::Element& capability) const;
  void add_pci(xml::Element& capability, const NodeDevice& device) const;
  void add_usb(xml::Element& capability, const NodeDevice& device) const;
  void add_usb_interface(xml::Element& capability, const NodeDevice& device) const;
  void add_net(xml::Element& capability, const NodeDevice& device) const;
  void add_storage(xml::Element& capability, const NodeDevice& device) const;

  std::string sys_;
};

}  // namespace atl::manage
