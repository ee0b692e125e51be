// The work of `nbd`: an image behind an NBD server until its clients have left or a signal comes, or a listing.
#pragma once

#include <memory>

#include "block/nbd/server.h"
#include "img/nodes.h"
#include "img/tool.h"

namespace atl::img {

struct NbdPlan {
  bool listing = false;
  block::nbd::Address address;
  OpenRequest image;
  std::string export_name, description, tls_id, tls_hostname, pid_file, detect_zeroes;
  std::vector<std::string> bitmaps;
  std::optional<std::string> load_snapshot;
  u64 offset = 0;
  u32 shared = 1;            // clients at once; 0: any number
  int ready_fd = -1;         // written to once clients may come
  bool allocation_depth = false, temporary = false, readonly = false, persistent = false, verbose = false, discard = false;
};

/// Whether a service manager has opened the socket for this process (sd_listen_fds(3)).
bool is_socket_handed_over();

class NbdServing {
 public:
  NbdServing(Tool& tool, NbdPlan plan) : tool_(tool), plan_(std::move(plan)) {}
  Task<Status> run();

 private:
  Status listen();
  Task<Status> open_image();
  Task<Result<NodePtr>> open_overlay(NodePtr below);
  Result<Json> image_tree() const;
  Task<Status> add_bitmaps(block::nbd::Export& exported);
  Task<Status> add_export();
  Status announce();
  Task<Status> wait_for_end();

  Tool& tool_;
  NbdPlan plan_;
  NodePtr node_;
  std::unique_ptr<block::nbd::Server> server_;
  bool had_clients_ = false;
};

/// Prints what the server at the plan's address offers.
Task<Status> list_nbd_exports(Tool& tool, NbdPlan plan);
/// Starts this program anew in the background and waits until it serves. The exit status.
int fork_server(Tool& tool);

}  // namespace atl::img
