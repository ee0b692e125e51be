// Commands of the human monitor that print what a QMP command returns.
#include <bit>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/hmp/command.h"
#include "control/qmp/json_text.h"
#include "control/qmp/object_tree.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Arguments = const HmpArguments&;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

/// The words of a line that must have at least `least` of them.
Result<std::vector<std::string>> words_of(std::string_view line, size_t least, size_t most) {
  std::vector<std::string> words;
  for (auto word : split(line, ' '))
    if (!word.empty()) words.emplace_back(word);
  if (words.size() < least) return invalid("an argument is missing");
  if (words.size() > most) return invalid("extraneous characters at the end of line");
  return words;
}

Result<Json> with_key(HmpContext& c, std::string_view command, const char* key, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 1, 1));
  return run_qmp(c, command, {{key, words[0]}});
}

void print_tree(std::string& out, const ObjectNode& node, unsigned depth) {
  out += fmt::format("{:{}}/{} ({})\n", "", depth * 2, node.name, node.type);
  for (const auto& child : node.children) print_tree(out, child, depth + 1);
}

}  // namespace

Status hmp_qom_list(HmpContext& c, Arguments arguments) {
  const Json list = TRY(with_key(c, "qom-list", "path", {.format = "", .text = arguments.text.empty() ? "/" : arguments.text}));
  for (const Json& entry : list)
    c.output += fmt::format("{} ({})\n", entry["name"].get<std::string>(), entry["type"].get<std::string>());
  return {};
}

Status hmp_qom_get(HmpContext& c, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 2, 2));
  const Json value = TRY(run_qmp(c, "qom-get", {{"path", words[0]}, {"property", words[1]}}));
  c.output += json_text(value, true) + "\n";
  return {};
}

/// The value is JSON; anything else is a string.
Status hmp_qom_set(HmpContext& c, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 3, 3));
  auto parsed = parse_json(words[2]);
  TRY(run_qmp(c, "qom-set", {{"path", words[0]}, {"property", words[1]}, {"value", parsed ? *parsed : Json(words[2])}}));
  return {};
}

Status hmp_qom_tree(HmpContext& c, Arguments arguments) {
  const ObjectNode root = object_tree(c.vm);
  const ObjectNode* node = find_object(root, arguments.text.empty() ? "/" : arguments.text);
  if (!node) return invalid(fmt::format("Path '{}' could not be resolved.", arguments.text));
  print_tree(c.output, *node, 0);
  return {};
}

Status hmp_ringbuf_read(HmpContext& c, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 2, 2));
  const auto size = parse_u64(words[1]);
  if (!size) return invalid(fmt::format("invalid number '{}'", words[1]));
  const Json text = TRY(run_qmp(c, "ringbuf-read", {{"device", words[0]}, {"size", *size}}));
  c.output += text.get<std::string>() + "\n";
  return {};
}

Status hmp_dump_guest_memory(HmpContext& c, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 1, 1));
  TRY(run_qmp(c, "dump-guest-memory", {{"paging", false}, {"protocol", "file:" + words[0]}}));
  return {};
}

/// The 16-bit checksum of BSD's sum(1), over physical memory.
Status hmp_sum(HmpContext& c, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 2, 2));
  const auto address = parse_u64(words[0]), size = parse_u64(words[1]);
  if (!address || !size) return invalid("an address and a size are expected");
  u16 sum = 0;
  for (u8 byte : TRY(c.vm.machine().read_memory(true, c.cpu, *address, *size))) sum = static_cast<u16>(std::rotr(sum, 1) + byte);
  c.output += fmt::format("{:05}\n", sum);
  return {};
}

Status hmp_info_block_jobs(HmpContext& c, Arguments) {
  const Json jobs = TRY(run_qmp(c, "query-block-jobs", Json::object()));
  if (jobs.empty()) c.output += "No active jobs\n";
  for (const Json& job : jobs)
    c.output += fmt::format("Type {}, device {}: Completed {} of {} bytes, speed limit {} bytes/s\n", job["type"].get<std::string>(),
                            job["device"].get<std::string>(), job["offset"].get<u64>(), job["len"].get<u64>(), job["speed"].get<u64>());
  return {};
}

Status hmp_info_blockstats(HmpContext& c, Arguments) {
  const Json list = TRY(run_qmp(c, "query-blockstats", Json::object()));
  for (const Json& entry : list) {
    const Json& stats = entry["stats"];
    c.output += entry.value("device", "") + ":";
    for (const char* name : {"rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns",
                             "rd_total_time_ns", "flush_total_time_ns", "rd_merged", "wr_merged"})
      if (stats.contains(name)) c.output += fmt::format(" {}={}", name, stats[name].get<u64>());
    c.output += "\n";
  }
  return {};
}

Status hmp_info_memory_size(HmpContext& c, Arguments) {
  const Json sizes = TRY(run_qmp(c, "query-memory-size-summary", Json::object()));
  c.output += fmt::format("base memory: {}\nplugged memory: {}\n", sizes["base-memory"].get<u64>(), sizes["plugged-memory"].get<u64>());
  return {};
}

Status hmp_info_tpm(HmpContext& c, Arguments) {
  const Json list = TRY(run_qmp(c, "query-tpm", Json::object()));
  if (list.empty()) c.output += "No TPM device\n";
  for (const Json& tpm : list)
    c.output += fmt::format("{}: model={}: type={}\n", tpm["id"].get<std::string>(), tpm["model"].get<std::string>(),
                            tpm["options"]["type"].get<std::string>());
  return {};
}

}  // namespace atl::control
