// Procedures on the host's network interfaces: looking only. The host's own tools configure them, and calls that would
// are not served, as with libvirt where netcf is not built in.
#include <fmt/format.h>

#include "base/strings.h"
#include "manage/interface/interfaces.h"
#include "manage/rpc/call.h"
#include "manage/rpc/list_filter.h"
#include "manage/rpc/name_list.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {
namespace {

enum ListFlags : u32 { kInactive = 1, kActive = 2 };
constexpr i32 kMostInterfaces = 16384;

bool passes(const HostInterface& interface, u32 flags) {
  return passes_filter(flags, {{kInactive | kActive, interface.active ? kActive : kInactive}});
}

Status list_all(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, kInactive | kActive, "virConnectListAllInterfaces"));
  std::vector<InterfaceRef> list;
  for (const HostInterface& interface : host_interfaces())
    if (passes(interface, flags)) list.push_back(interface.ref);
  call.write_list(list, wanted);
  return {};
}

std::vector<std::string> names(u32 flags) {
  std::vector<std::string> found;
  for (const HostInterface& interface : host_interfaces())
    if (passes(interface, flags)) found.push_back(interface.ref.name);
  return found;
}

template <u32 kFlags>
Status number_of(Call& call) {
  call.write(static_cast<i32>(names(kFlags).size()));
  return {};
}

template <u32 kFlags>
Status list_names(Call& call) {
  i32 most = 0;
  TRY(call.read(most));
  return write_names(call, names(kFlags), most, kMostInterfaces, "INTERFACE");
}

Status lookup_by_name(Call& call) {
  std::string name;
  TRY(call.read(name));
  call.write(TRY(find_interface(name)).ref);
  return {};
}

Status lookup_by_mac(Call& call) {
  std::string mac;
  TRY(call.read(mac));
  for (const HostInterface& interface : host_interfaces()) {
    if (!iequals(interface.ref.mac, mac)) continue;
    call.write(interface.ref);
    return {};
  }
  return Error(Code::NoInterface, fmt::format("couldn't find interface with MAC address '{}'", mac), Part::Interface);
}

Status get_xml(Call& call) {
  InterfaceRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 1, "virInterfaceGetXMLDesc"));
  HostInterface interface = TRY(find_interface(ref.name));
  call.write(interface_xml(interface));
  return {};
}

Status is_active(Call& call) {
  InterfaceRef ref;
  TRY(call.read(ref));
  HostInterface interface = TRY(find_interface(ref.name));
  call.write(i32{interface.active});
  return {};
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_INTERFACES, Access::Read, list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_INTERFACES, Access::Read, number_of<kActive>, Where::Quick},
    {Proc::CONNECT_LIST_INTERFACES, Access::Read, list_names<kActive>, Where::Quick},
    {Proc::CONNECT_NUM_OF_DEFINED_INTERFACES, Access::Read, number_of<kInactive>, Where::Quick},
    {Proc::CONNECT_LIST_DEFINED_INTERFACES, Access::Read, list_names<kInactive>, Where::Quick},
    {Proc::INTERFACE_LOOKUP_BY_NAME, Access::Read, lookup_by_name, Where::Quick},
    {Proc::INTERFACE_LOOKUP_BY_MAC_STRING, Access::Read, lookup_by_mac, Where::Quick},
    {Proc::INTERFACE_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::INTERFACE_IS_ACTIVE, Access::Read, is_active, Where::Quick},
};

}  // namespace

std::span<const Procedure> interface_procedures() { return kProcedures; }

}  // namespace atl::manage
