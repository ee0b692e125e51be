// The sockets that the daemon listens on: those that systemd hands over, or else those of the configuration.
#pragma once

#include "manage/config.h"
#include "manage/rpc/server.h"

namespace atl::manage {

/// Socket activation (sd_listen_fds(3)): how many descriptors there are from 3 on. Clears the environment's variables.
unsigned take_activation_fds();

/// Opens what the configuration asks for and gives it to the server. `activated`: descriptors 3 and up instead.
Status open_sockets(rpc::Server& server, const Config& config, unsigned activated);

}  // namespace atl::manage
