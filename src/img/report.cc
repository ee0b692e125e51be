#include "img/report.h"

#include <fmt/format.h>
#include <fmt/printf.h>

#include <ctime>

namespace atl::img {
namespace {

constexpr u64 kSecond = 1'000'000'000;

std::string local_time(u64 seconds) {
  std::time_t time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::localtime_r(&time, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts)};
}

std::string clock_text(u64 ns) {
  u64 seconds = ns / kSecond;
  return fmt::format("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, ns / 1'000'000 % 1000);
}

}  // namespace

std::optional<OutputForm> output_form(Tool& tool, const Arguments& arguments) {
  std::string form = arguments.value("output", "human");
  if (form == "human") return OutputForm::Human;
  if (form == "json") return OutputForm::JsonText;
  tool.error("--output must be used with human or json as argument.");
  return std::nullopt;
}

std::string snapshot_table(const std::vector<block::SnapshotInfo>& snapshots) {
  std::string text = fmt::sprintf("%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
  for (const auto& s : snapshots) {
    std::string icount = s.icount ? std::to_string(*s.icount) : "";
    text += fmt::sprintf("%-9s %-16s %8s%20s%13s%11s\n", s.id, s.name, size_text(s.vm_state_bytes), local_time(s.date_seconds),
                         clock_text(s.vm_clock_ns), icount);
  }
  return text;
}

}  // namespace atl::img
