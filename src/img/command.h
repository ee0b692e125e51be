// The sub-commands: a table row each, a file each in commands/.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/task.h"
#include "img/arguments.h"
#include "img/tool.h"

namespace atl::img {

struct Command {
  const char* name;
  const char* usage;  // for --help, without the name
  std::vector<OptionSpec> options;
  /// Gives the program's exit status.
  Task<int> (*run)(Tool& tool, Arguments arguments);
  /// Cuts out words before options are looked for (resize's "-5M"); nullptr: nothing to do.
  Result<std::vector<std::string>> (*prepare)(std::vector<std::string> words) = nullptr;
};

// Rows that several tables share.
inline constexpr OptionSpec kObject{0, "object", true}, kImageOpts{0, "image-opts"}, kForceShare{'U', "force-share"},
    kFormat{'f', "", true}, kQuiet{'q', ""}, kCache{'t', "", true}, kSourceCache{'T', "", true}, kProgress{'p', ""},
    kOutput{0, "output", true}, kCreateOptions{'o', "", true}, kOutputFormat{'O', "", true};

/// In the order of --help.
std::span<const Command* const> commands();

/// Runs a whole command line. Called by the name qemu-nbd, the program is its `nbd` command; messages begin with the name.
int run_img(std::string program, std::vector<std::string> words);

extern const Command kAmend, kBench, kBitmap, kCheck, kCommit, kCompare, kConvert, kCreate, kDd, kInfo, kMap, kMeasure, kNbd,
    kRebase, kResize, kSnapshot;

}  // namespace atl::img
