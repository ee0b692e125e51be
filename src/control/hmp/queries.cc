// Commands of the human monitor that print what a QMP command returns.
#include <algorithm>
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

/// dump-guest-memory [-p] [-d] [-z|-l|-s|-w] filename [begin length]
Status hmp_dump_guest_memory(HmpContext& c, Arguments arguments) {
  auto words = TRY(words_of(arguments.text, 1, 8));
  Json wanted = {{"paging", false}};
  for (; !words.empty() && words[0].starts_with('-'); words.erase(words.begin())) {
    if (words[0] == "-p") wanted["paging"] = true;
    else if (words[0] == "-d") wanted["detach"] = true;
    else return invalid(fmt::format("unsupported option '{}': dumps are ELF files", words[0]));
  }
  if (words.size() != 1 && words.size() != 3) return invalid("a file name, or that and an address and a length are expected");
  wanted["protocol"] = "file:" + words[0];
  for (size_t i = 1; i < words.size(); ++i) {
    const auto number = parse_u64(words[i]);
    if (!number) return invalid(fmt::format("invalid number '{}'", words[i]));
    wanted[i == 1 ? "begin" : "length"] = *number;
  }
  TRY(run_qmp(c, "dump-guest-memory", wanted));
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

Status hmp_info_hotpluggable_cpus(HmpContext& c, Arguments) {
  c.output += "Hotpluggable CPUs:\n";
  for (const Json& cpu : TRY(run_qmp(c, "query-hotpluggable-cpus", Json::object()))) {
    c.output += fmt::format("  type: \"{}\"\n  vcpus_count: \"{}\"\n  qom_path: \"{}\"\n  CPUInstance Properties:\n", cpu["type"].get<std::string>(),
                            cpu["vcpus-count"].get<u64>(), cpu["qom-path"].get<std::string>());
    for (const char* name : {"socket-id", "core-id", "thread-id"})
      c.output += fmt::format("    {}: \"{}\"\n", name, cpu["props"][name].get<u64>());
  }
  return {};
}

Status hmp_info_memory_backends(HmpContext& c, Arguments) {
  for (const Json& m : TRY(run_qmp(c, "query-memdev", Json::object()))) {
    c.output += fmt::format("memory backend: {}\n  size:  {}\n", m["id"].get<std::string>(), m["size"].get<u64>());
    for (const char* name : {"merge", "dump", "prealloc", "share", "reserve"}) c.output += fmt::format("  {}: {}\n", name, m[name].get<bool>());
    c.output += fmt::format("  policy: {}\n  host nodes: \n\n", m["policy"].get<std::string>());
  }
  return {};
}

Status hmp_info_dump(HmpContext& c, Arguments) {
  const Json dump = TRY(run_qmp(c, "query-dump", Json::object()));
  c.output += fmt::format("Status: {}\n", dump["status"].get<std::string>());
  if (dump["status"] == "active")
    c.output += fmt::format("Finished: {:.2f} %\n", 100.0 * dump["completed"].get<double>() / std::max(1.0, dump["total"].get<double>()));
  return {};
}

/// info stats target [names] [provider]
Status hmp_info_statistics(HmpContext& c, Arguments arguments) {
  const auto words = TRY(words_of(arguments.text, 1, 3));
  Json filter = {{"target", words[0]}};
  if (words[0] == "vcpu") filter["vcpus"] = Json::array({fmt::format("/machine/unattached/device[{}]", c.cpu)});
  if (words.size() > 1) {
    Json provider = {{"provider", words.size() > 2 ? words[2] : std::string(c.vm.machine().accelerator())}};
    if (words[1] != "*") provider["names"] = split(words[1], ',');
    filter["providers"] = Json::array({std::move(provider)});
  }
  for (const Json& entry : TRY(run_qmp(c, "query-stats", filter))) {
    c.output += fmt::format("provider: {}\n", entry["provider"].get<std::string>());
    for (const Json& value : entry["stats"]) c.output += fmt::format("    {}: {}\n", value["name"].get<std::string>(), value["value"].dump());
  }
  return {};
}

Status hmp_info_generation(HmpContext& c, Arguments) {
  c.output += TRY(run_qmp(c, "query-vm-generation-id", Json::object()))["guid"].get<std::string>() + "\n";
  return {};
}

Status hmp_info_iothreads(HmpContext& c, Arguments) {
  for (const Json& thread : TRY(run_qmp(c, "query-iothreads", Json::object()))) {
    c.output += fmt::format("{}:\n", thread["id"].get<std::string>());
    for (const char* name : {"thread-id", "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"})
      c.output += fmt::format("  {}={}\n", name == std::string_view("thread-id") ? "thread_id" : name, thread[name].get<u64>());
  }
  return {};
}

}  // namespace atl::control
