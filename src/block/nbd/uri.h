// Names of NBD exports: "nbd:host:port:exportname=x", "nbd:unix:/path", "nbd://host/x", "nbd+unix:///x?socket=/path",
// "nbds://..." (the URI specification of the NBD project).
#pragma once

#include <string>
#include <string_view>

#include "block/driver.h"
#include "block/nbd/address.h"

namespace atl::block::nbd {

/// As the options of the "nbd" driver.
Result<Json> parse_nbd_name(std::string_view name);
/// The URI that means this server and export.
std::string nbd_uri(const Address& address, const std::string& export_name, bool tls);

}  // namespace atl::block::nbd
