// Procedures on the host's devices. Nothing is taken from the host: guests get no devices of it, and mediated devices
// are not made.
#include <fmt/format.h>
#include <unistd.h>

#include "manage/nodedev/node_devices.h"
#include "manage/rpc/call.h"
#include "manage/rpc/name_list.h"
#include "manage/rpc/procedure.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

constexpr u32 kAllKinds = 0x3fffff;
constexpr u32 kInactive = 1u << 30, kActive = 1u << 31;
constexpr i32 kMostDevices = 65536;

bool passes(const NodeDevice& device, u32 flags) {
  if ((flags & (kInactive | kActive)) == kInactive) return false;  // what is in /sys is there
  return !(flags & kAllKinds) || (flags & static_cast<u32>(device.kind));
}

Status list_all(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, kAllKinds | kInactive | kActive, "virConnectListAllNodeDevices"));
  std::vector<NodeDeviceRef> list;
  for (const NodeDevice& device : NodeDevices().list())
    if (passes(device, flags)) list.push_back({device.name});
  call.write_list(list, wanted);
  return {};
}

std::vector<std::string> names(const std::optional<std::string>& capability) {
  std::vector<std::string> found;
  for (const NodeDevice& device : NodeDevices().list())
    if (!capability || *capability == device_capability(device.kind)) found.push_back(device.name);
  return found;
}

Status number_of(Call& call) {
  std::optional<std::string> capability;
  u32 flags = 0;
  TRY(call.read(capability, flags));
  TRY(check_flags(flags, 0, "virNodeNumOfDevices"));
  call.write(static_cast<i32>(names(capability).size()));
  return {};
}

Status list_names(Call& call) {
  std::optional<std::string> capability;
  i32 most = 0;
  u32 flags = 0;
  TRY(call.read(capability, most, flags));
  TRY(check_flags(flags, 0, "virNodeListDevices"));
  return write_names(call, names(capability), most, kMostDevices, "NODE_DEVICE_NAME");
}

Result<NodeDevice> read_device(Call& call) {
  std::string name;
  TRY(call.read(name));
  return NodeDevices().find(name);
}

Status lookup_by_name(Call& call) {
  NodeDevice device = TRY(read_device(call));
  call.write(NodeDeviceRef{device.name});
  return {};
}

Status get_xml(Call& call) {
  NodeDevice device = TRY(read_device(call));
  u32 flags = 0;
  TRY(call.read(flags));
  TRY(check_flags(flags, 1, "virNodeDeviceGetXMLDesc"));
  call.write(NodeDevices().xml(device));
  return {};
}

Status get_parent(Call& call) {
  NodeDevice device = TRY(read_device(call));
  std::optional<std::string> parent;
  if (!device.parent.empty()) parent = device.parent;
  call.write(parent);
  return {};
}

Status number_of_capabilities(Call& call) {
  TRY(read_device(call));
  call.write(i32{1});
  return {};
}

Status list_capabilities(Call& call) {
  NodeDevice device = TRY(read_device(call));
  i32 most = 0;
  TRY(call.read(most));
  std::vector<std::string> list;
  if (most > 0) list.emplace_back(device_capability(device.kind));
  call.write(list);
  return {};
}

/// Devices of /sys are there whenever the host is: active, persistent, and started with it.
template <i32 kAnswer>
Status get_state(Call& call) {
  TRY(read_device(call));
  call.write(kAnswer);
  return {};
}

Error refusal(Code code, std::string text) { return {code, std::move(text), Part::NodeDevice}; }

/// A guest would need VFIO, and a VM that takes the device.
Status detach(Call& call) {
  TRY(read_device(call));
  if (::access("/sys/module/vfio_pci", F_OK) != 0)
    return refusal(Code::ArgumentUnsupported, "VFIO device assignment is currently not supported on this system");
  return refusal(Code::OperationUnsupported, "devices of the host are not given to guests");
}

/// Reattach and reset.
Status refuse_for_pci(Call& call) {
  NodeDevice device = TRY(read_device(call));
  if (device.kind != DeviceKind::Pci)
    return refusal(Code::InvalidArg, fmt::format("device {} is not a PCI device", device.name));
  return refusal(Code::OperationUnsupported, "devices of the host are not given to guests");
}

/// Destroy, undefine and start: of devices that somebody made.
Status refuse_change(Call& call) {
  TRY(read_device(call));
  return refusal(Code::ConfigUnsupported, "Unsupported device type");
}

Status refuse_autostart(Call& call) {
  TRY(read_device(call));
  return refusal(Code::OperationUnsupported, "Unsupported device type");
}

Status refuse_new(Call& call) {
  std::string text;
  TRY(call.read(text));
  TRY(xml::parse(text, "(node_device_definition)", "device"));
  return refusal(Code::ConfigUnsupported, "Unsupported device type");
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_NODE_DEVICES, Access::Read, list_all},
    {Proc::NODE_NUM_OF_DEVICES, Access::Read, number_of},
    {Proc::NODE_LIST_DEVICES, Access::Read, list_names},
    {Proc::NODE_DEVICE_LOOKUP_BY_NAME, Access::Read, lookup_by_name},
    {Proc::NODE_DEVICE_GET_XML_DESC, Access::Read, get_xml},
    {Proc::NODE_DEVICE_GET_PARENT, Access::Read, get_parent},
    {Proc::NODE_DEVICE_NUM_OF_CAPS, Access::Read, number_of_capabilities},
    {Proc::NODE_DEVICE_LIST_CAPS, Access::Read, list_capabilities},
    {Proc::NODE_DEVICE_IS_ACTIVE, Access::Read, get_state<1>},
    {Proc::NODE_DEVICE_IS_PERSISTENT, Access::Read, get_state<1>},
    {Proc::NODE_DEVICE_GET_AUTOSTART, Access::Read, get_state<1>},
    {Proc::NODE_DEVICE_DETTACH, Access::Write, detach},
    {Proc::NODE_DEVICE_DETACH_FLAGS, Access::Write, detach},
    {Proc::NODE_DEVICE_RE_ATTACH, Access::Write, refuse_for_pci},
    {Proc::NODE_DEVICE_RESET, Access::Write, refuse_for_pci},
    {Proc::NODE_DEVICE_CREATE_XML, Access::Write, refuse_new},
    {Proc::NODE_DEVICE_DEFINE_XML, Access::Write, refuse_new},
    {Proc::NODE_DEVICE_DESTROY, Access::Write, refuse_change},
    {Proc::NODE_DEVICE_UNDEFINE, Access::Write, refuse_change},
    {Proc::NODE_DEVICE_CREATE, Access::Write, refuse_change},
    {Proc::NODE_DEVICE_SET_AUTOSTART, Access::Write, refuse_autostart},
};

}  // namespace

std::span<const Procedure> node_device_procedures() { return kProcedures; }

}  // namespace atl::manage
