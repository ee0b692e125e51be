#include "manage/domain/hooks.h"

#include <unistd.h>

#include <fmt/format.h>

#include "base/log.h"
#include "manage/tool/run_tool.h"
#include "manage/xml/write.h"

namespace atl::manage {

Status run_hook(const std::string& config, const Element& domain, const std::string& step, const std::string& phase) {
  const std::string script = config + "/hooks/qemu";
  if (::access(script.c_str(), X_OK) != 0) return {};
  ToolRequest request{.words = {script, text_at(domain, "name"), step, phase, "-"}, .input = xml::write(domain)};
  const ToolResult result = TRY(run_tool(request));
  if (result.exit_status == 0) return {};
  return Error(Code::HookScriptFailed,
               fmt::format("internal error: Child process ({} {} {} {} -) unexpected exit status {}: {}", script, text_at(domain, "name"), step, phase,
                           result.exit_status, result.errors));
}

void tell_hook(const std::string& config, const Element& domain, const std::string& step, const std::string& phase) {
  if (Status told = run_hook(config, domain, step, phase); !told) log_error("{}", told.error().message());
}

}  // namespace atl::manage
