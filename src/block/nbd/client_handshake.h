// The client's side of an NBD negotiation (doc/proto.md, "Newstyle negotiation"; oldstyle servers are understood).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/nbd/channel.h"
#include "block/nbd/protocol.h"

namespace atl::block::nbd {

/// What a server says about an export.
struct ExportInfo {
  std::string name, description;
  u64 size_bytes = 0;
  u16 flags = 0;
  std::optional<u32> min_block, preferred_block, max_block;
  bool structured = false;                     // replies come in chunks
  std::optional<u32> allocation_context;       // id of base:allocation, or of the bitmap asked for instead
  std::vector<std::string> contexts;           // all that the server has (listing only)
};

struct ClientHello {
  std::string export_name;
  std::shared_ptr<const TlsCredentials> tls;   // nullptr: plain
  std::string tls_hostname;
  std::string dirty_bitmap;                    // a context to ask for instead of base:allocation
};

/// Goes all the way to transmission.
Task<Result<ExportInfo>> negotiate(Channel& channel, ClientHello hello);
/// Asks for everything that the server offers, and leaves.
Task<Result<std::vector<ExportInfo>>> list_exports(Channel& channel, ClientHello hello);

}  // namespace atl::block::nbd
