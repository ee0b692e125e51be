// Runs a tool of the host (dnsmasq, nft, mount, lvs ...) to its end. Never a part of our own.
#pragma once

#include <string>
#include <vector>

#include "manage/error.h"

namespace atl::manage {

struct ToolRequest {
  std::vector<std::string> words;  // program (looked up in the usual folders) and arguments; no shell is involved
  std::string input;               // on its standard input
  unsigned timeout_s = 60;         // then it is killed
  size_t output_limit = 4 << 20;   // bytes kept of its standard output
};

struct ToolResult {
  int exit_status = 0;
  std::string output, errors;
};

/// OperationUnsupported if the program is not installed; an internal error if it was killed.
Result<ToolResult> run_tool(const ToolRequest& request);
/// The same, and an exit status other than 0 is an error with the tool's own words.
Result<std::string> run_tool_checked(const ToolRequest& request);
/// The full path, "" if it is not installed.
std::string find_tool(const std::string& name);

}  // namespace atl::manage
