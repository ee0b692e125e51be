// blockdev-create: makes an image as a job.
#pragma once

#include "block/job/job.h"

namespace atl::block {

struct CreateOptions {
  const Driver* driver = nullptr;
  NodePtr file;           // formats: the open node that the image is made on
  NodePtr data;           // and the one that is to hold its data, if not that one: `options` have its name
  std::string filename;   // protocols
  Json options;           // by the names of driver->create_options
};
/// Its type is "create". It moves nothing that a limit of speed could slow down, and cannot be paused.
Result<std::shared_ptr<Job>> make_create_job(Graph& graph, JobOptions job, CreateOptions options);

}  // namespace atl::block
