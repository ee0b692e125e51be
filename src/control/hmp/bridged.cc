// Commands of the human monitor that are QMP's in other words: a table of how words become arguments.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/hmp/command.h"
#include "control/qmp/command.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

constexpr HmpCommand kBridged[] = {
    {"block_job_cancel", "[-f] device", "end a block job; -f: even one that would be complete", nullptr,
     "block-job-cancel", "-f=force device:s"},
    {"block_job_complete", "device", "finish a block job that is ready", nullptr,
     "block-job-complete", "device:s"},
    {"block_job_pause", "device", "let a block job rest", nullptr,
     "block-job-pause", "device:s"},
    {"block_job_resume", "device", "let a block job go on", nullptr,
     "block-job-resume", "device:s"},
    {"block_job_set_speed", "device speed", "limit a block job's speed", nullptr,
     "block-job-set-speed", "device:s speed:o"},
    {"block_resize", "device size", "change a disk's size", nullptr,
     "block_resize", "device:s size:o"},
    {"block_set_io_throttle", "device bps bps_rd bps_wr iops iops_rd iops_wr", "limit a disk's throughput; 0: no limit", nullptr,
     "block_set_io_throttle", "device:s bps:i bps_rd:i bps_wr:i iops:i iops_rd:i iops_wr:i"},
    {"block_stream", "device [speed [base]]", "copy what lies in backing files into a disk's own image", nullptr,
     "block-stream", "device:s speed?:o base?:s"},
    {"chardev-send-break", "id", "tell the user of a character device of a break", nullptr,
     "chardev-send-break", "id:s"},
    {"chardev-remove", "id", "close a character device", nullptr,
     "chardev-remove", "id:s"},
    {"closefd", "name", "close a descriptor that getfd stored", nullptr,
     "closefd", "fdname:s"},
    {"drive_backup", "[-n] [-f] [-c] device target [format]", "copy a disk as it is now; -n: to a file that exists, -f: its backing files too, -c: compressed", nullptr,
     "drive-backup", "-n=mode:existing -f=sync:full|top -c=compress device:s target:s format?:s"},
    {"drive_mirror", "[-n] [-f] device target [format]", "copy a disk and keep the copy alike; -n: to a file that exists, -f: its backing files too", nullptr,
     "drive-mirror", "-n=mode:existing -f=sync:full|top device:s target:s format?:s"},
    {"getfd", "name", "store a descriptor that came with the line", nullptr,
     "getfd", "fdname:s"},
    {"memsave", "addr size file", "save memory from a virtual address on in a file", nullptr,
     "memsave", "val:i size:i filename:s"},
    {"nbd_server_add", "[-w] device [name]", "export a disk by the NBD server; -w: for writing too", nullptr,
     "nbd-server-add", "-w=writable device:s name?:s"},
    {"nbd_server_remove", "[-f] name", "end an export; -f: even with clients", nullptr,
     "nbd-server-remove", "-f=mode:hard|safe name:s"},
    {"nbd_server_stop", "", "end the NBD server", nullptr,
     "nbd-server-stop", ""},
    {"pmemsave", "addr size file", "save memory from a physical address on in a file", nullptr,
     "pmemsave", "val:i size:i filename:s"},
    {"ringbuf_write", "device data", "write into a ring buffer", nullptr,
     "ringbuf-write", "device:s data:s"},
    {"snapshot_blkdev", "[-n] device [new-image-file] [format]", "let a disk go on in a new overlay; -n: in a file that exists", nullptr,
     "blockdev-snapshot-sync", "-n=mode:existing device:s snapshot-file:s format?:s"},
    {"snapshot_blkdev_internal", "device name", "take a snapshot inside the image", nullptr,
     "blockdev-snapshot-internal-sync", "device:s name:s"},
    {"snapshot_delete_blkdev_internal", "device name [id]", "delete a snapshot inside the image", nullptr,
     "blockdev-snapshot-delete-internal-sync", "device:s name:s id?:s"},
    {"watchdog_action", "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]", "choose what a watchdog leads to", nullptr,
     "watchdog-set-action", "action:s"},
};

/// The next word of the line; one in quotes may contain blanks.
std::string_view take_word(std::string_view& line) {
  line = trim(line);
  if (line.starts_with('"')) {
    const size_t end = std::min(line.find('"', 1), line.size());
    std::string_view word = line.substr(1, end - 1);
    line = line.substr(std::min(end + 1, line.size()));
    return word;
  }
  const size_t end = std::min(line.find(' '), line.size());
  std::string_view word = line.substr(0, end);
  line = line.substr(end);
  return word;
}

/// Takes "-f" and "-nf" off the line's front; true for each letter that `known` has.
Result<std::string> take_flags(std::string_view& line, const std::string& known) {
  std::string flags;
  for (line = trim(line); line.size() > 1 && line.front() == '-' && known.contains(line[1]); line = trim(line)) {
    for (char letter : take_word(line).substr(1)) {
      if (!known.contains(letter)) return invalid(fmt::format("unsupported option -{}", letter));
      flags += letter;
    }
  }
  return flags;
}

/// `spec` is "key", "key:a" or "key:a|b".
void put_flag(std::string_view spec, bool given, Json& arguments) {
  const size_t colon = spec.find(':'), bar = spec.find('|');
  const std::string key(spec.substr(0, colon));
  if (colon == std::string_view::npos) {
    if (given) arguments[key] = true;
  } else if (given) {
    arguments[key] = spec.substr(colon + 1, bar == std::string_view::npos ? bar : bar - colon - 1);
  } else if (bar != std::string_view::npos) {
    arguments[key] = spec.substr(bar + 1);
  }
}

Result<Json> value_of(char type, std::string_view word, std::string_view key) {
  std::optional<u64> number;
  if (type == 'i') number = parse_u64(word);
  else if (type == 'o') number = parse_size(word, 'M');
  else return Json(word);
  if (!number) return invalid(fmt::format("invalid number '{}' for {}", word, key));
  return Json(*number);
}

Status put_word(const QmpParameter& p, std::string_view& line, Json& arguments) {
  std::string_view word = p.type == 'S' ? trim(std::exchange(line, {})) : take_word(line);
  if (word.empty() && p.optional) return {};
  if (word.empty()) return invalid(fmt::format("{} is missing", p.name));
  arguments[p.name] = TRY(value_of(p.type, word, p.name));
  return {};
}

Result<Json> read_words(std::string_view words, std::string_view line) {
  Json arguments = Json::object();
  std::string letters;
  for (auto word : split(words, ' '))
    if (word.starts_with('-')) letters += word[1];
  const std::string flags = TRY(take_flags(line, letters));
  for (auto word : split(words, ' ')) {
    if (word.starts_with('-')) put_flag(word.substr(3), flags.contains(word[1]), arguments);
    else if (!word.empty()) TRY(put_word(parse_qmp_parameter(word), line, arguments));
  }
  if (!trim(line).empty()) return invalid("extraneous characters at the end of line");
  return arguments;
}

}  // namespace

Result<Json> run_qmp(HmpContext& c, std::string_view name, const Json& arguments) {
  const QmpCommand* command = find_qmp_command(name);
  if (!command) return invalid(fmt::format("The command {} has not been found", name));
  TRY(check_arguments(*command, arguments));
  QmpContext context{c.vm};
  return command->handler(context, arguments);
}

Status run_bridged(HmpContext& c, const HmpCommand& command, const HmpArguments& arguments) {
  const Json values = TRY(read_words(command.words, arguments.text));
  TRY(run_qmp(c, command.qmp, values));
  return {};
}

std::span<const HmpCommand> hmp_bridged_commands() { return kBridged; }

}  // namespace atl::control
