// Options of qcow2 images as text, and what makes an image of them.
#pragma once

#include "block/driver.h"
#include "block/format/qcow2/qcow2.h"

namespace atl::block::qcow2 {

std::vector<CreateOption> create_options();

/// "0.10", "v2", "1.1", "v3".
Result<u32> parse_version(const std::string& text);
/// Secrets are looked up in `graph`, and not at all without one.
Result<Qcow2CreateOptions> parse_create_options(const Graph* graph, OptionReader& reader);
/// A new, empty external data file; nullptr if `name` is empty.
Task<Result<NodePtr>> make_data_file(Graph& graph, std::string name, u64 size_bytes);

Task<Status> create_image(Graph& graph, NodePtr file, std::string filename, Json options);
Result<Measurement> measure_image(u64 size_bytes, u64 data_bytes, const Json& options);

}  // namespace atl::block::qcow2
