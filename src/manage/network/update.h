// Changes of single entries of a network's definition: virNetworkUpdate (`virsh net-update`).
#pragma once

#include <string_view>

#include "manage/error.h"
#include "manage/xml/element.h"

namespace atl::manage {

/// Numbers of the wire.
enum class UpdateCommand : u32 { Modify = 1, Delete = 2, AddLast = 3, AddFirst = 4 };
enum class UpdateSection : u32 {
  Bridge = 1,
  Domain = 2,
  Ip = 3,
  DhcpHost = 4,
  DhcpRange = 5,
  Forward = 6,
  ForwardInterface = 7,
  ForwardPf = 8,
  PortGroup = 9,
  DnsHost = 10,
  DnsTxt = 11,
  DnsSrv = 12,
};

/// Changes the tree of a network as `change`, an element of the section, says. `parent_index` chooses among several
/// <ip>; -1 takes the first that fits. Sections that libvirt does not change either are refused. The caller checks the
/// result.
Status update_tree(xml::Element& network, u32 command, u32 section, i32 parent_index, std::string_view change);

}  // namespace atl::manage
