// Pieces of output that several sub-commands print.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "img/info_text.h"
#include "img/tool.h"

namespace atl::img {

enum class OutputForm : u8 { Human, JsonText };
/// --output; nothing (and a message) if it is neither "human" nor "json".
std::optional<OutputForm> output_form(Tool& tool, const Arguments& arguments);

/// The table of internal snapshots, a line each with its end.
std::string snapshot_table(const std::vector<block::SnapshotInfo>& snapshots);

}  // namespace atl::img
