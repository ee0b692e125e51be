// Changes of an image's header: version, refcount width, names, features.
#pragma once

#include "block/driver.h"
#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

std::vector<CreateOption> amend_options();
/// `options` as text, by the names of amend_options(). `graph` is asked for secrets; may be nullptr.
Task<Status> amend_image(Core& core, Graph* graph, Json options, bool force, Progress progress);
Task<Status> change_backing(Core& core, std::string file, std::string format);

}  // namespace atl::block::qcow2
