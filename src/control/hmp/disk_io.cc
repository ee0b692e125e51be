// The monitor's `qemu-io`: reads, writes and breakpoints on a block node while the machine runs, for tests. As in QEMU the
// results go to the program's standard output, not to the monitor.
//
// Supported: read, write, aio_read, aio_write (-P pattern, -z, -u, -f, -q), flush, aio_flush, discard, length; break,
// remove_break, resume, wait_break (blkdebug). Missing: vectored and compressed requests, map, reopen.
#include <cstdio>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/strings.h"
#include "block/debug_points.h"
#include "control/hmp/command.h"
#include "control/qmp/block_support.h"

namespace atl::control {
namespace {

constexpr u64 kMaxBytes = 512 * kMiB;
constexpr u64 kBreakDeadline_ns = 10'000'000'000;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

struct Request {
  std::string_view name;      // "read", "write" ...
  bool async = false;         // aio_*: the monitor goes on
  bool quiet = false, zeroes = false;
  u32 flags = block::kNoFlags;
  std::optional<u8> pattern;
  std::vector<std::string> words;   // after the options
  u64 offset = 0;
  std::vector<u8> data;
};

std::string size_words(double bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  std::string number = fmt::format("{:.3f}", bytes);
  number.erase(number.find_last_not_of('0') + 1);
  if (number.ends_with('.')) number.pop_back();
  return fmt::format("{} {}", number, kUnits[unit]);
}

void print_line(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void report(const Request& r, const Status& status, u64 took_ns) {
  const std::string name = std::string(r.async ? "aio_" : "") + std::string(r.name);
  if (!status) {
    const int number = status.error().os_errno();
    return print_line(fmt::format("{} failed: {}", name, number ? std::strerror(number) : status.error().text()));
  }
  if (r.name == "read" && r.pattern && std::ranges::any_of(r.data, [&](u8 byte) { return byte != *r.pattern; }))
    print_line(fmt::format("Pattern verification failed at offset {}, {} bytes", r.offset, r.data.size()));
  if (r.quiet || r.data.empty()) return;
  const double seconds = static_cast<double>(std::max<u64>(took_ns, 1)) / 1e9, bytes = static_cast<double>(r.data.size());
  const char* verb = r.name == "read" ? "read" : r.name == "write" ? "wrote" : "discard";
  print_line(fmt::format("{} {}/{} bytes at offset {}", verb, r.data.size(), r.data.size(), r.offset));
  print_line(fmt::format("{}, 1 ops; {:02}.{:02} sec ({}/sec and {:.4f} ops/sec)", size_words(bytes), static_cast<u64>(seconds),
                         static_cast<u64>(seconds * 100) % 100, size_words(bytes / seconds), 1 / seconds));
}

Task<Status> carry_out(std::shared_ptr<block::Node> node, Request& r) {
  iovec whole{r.data.data(), r.data.size()};
  if (r.name == "read") co_return co_await node->read(r.offset, {&whole, 1});
  if (r.name == "flush") co_return co_await node->flush();
  if (r.name == "discard") co_return co_await node->discard(r.offset, r.data.size());
  if (r.zeroes) co_return co_await node->write_zeroes(r.offset, r.data.size(), r.flags);
  co_return co_await node->write(r.offset, {&whole, 1}, r.flags);
}

/// Errors have been told: what the monitor hears is that the command was carried out.
Task<Status> run_request(std::shared_ptr<block::Node> node, std::shared_ptr<Request> r) {
  const u64 start = monotonic_ns();
  Status status = co_await carry_out(std::move(node), *r);
  report(*r, status, monotonic_ns() - start);
  co_return Status{};
}

/// Takes "-P 0x22 -q" and the like off the words.
Status take_options(Request& r) {
  while (!r.words.empty() && r.words[0].size() > 1 && r.words[0][0] == '-') {
    const std::string option = r.words[0].substr(1);
    r.words.erase(r.words.begin());
    if (option.starts_with('P')) {
      if (option.size() > 1) r.words.insert(r.words.begin(), option.substr(1));   // as in -P0x22
      const auto number = r.words.empty() ? std::nullopt : parse_size(r.words[0]);
      if (!number || *number > 255) return invalid("-P: a pattern between 0 and 255 is expected");
      r.pattern = static_cast<u8>(*number);
      r.words.erase(r.words.begin());
      continue;
    }
    for (char letter : option) {
      if (letter == 'q') r.quiet = true;
      else if (letter == 'z' && r.name == "write") r.zeroes = true;
      else if (letter == 'u' && r.name == "write") r.flags |= block::kMayUnmap;
      else if (letter == 'f' && r.name == "write") r.flags |= block::kFua;
      else return invalid(fmt::format("{}: option -{} is not supported", r.name, letter));
    }
  }
  return {};
}

Status read_request(Request& r) {
  TRY(take_options(r));
  if (r.name == "flush") return {};
  if (r.words.size() != 2) return invalid(fmt::format("{} [options] offset length", r.name));
  const auto offset = parse_size(r.words[0]), bytes = parse_size(r.words[1]);
  if (!offset || !bytes || *bytes > kMaxBytes) return invalid("invalid offset or length");
  r.offset = *offset;
  r.data.assign(*bytes, r.name == "write" ? r.pattern.value_or(0xcd) : 0);
  return {};
}

block::DebugPoints* debug_points_below(const block::NodePtr& top) {
  for (block::NodePtr node = top; node;) {
    if (auto* points = node->debug_points()) return points;
    const auto children = node->children();
    const auto file = std::ranges::find(children, "file", &block::Child::role);
    node = file == children.end() ? nullptr : file->node;
  }
  return nullptr;
}

Task<Status> wait_for_break(Loop& loop, block::DebugPoints& points, std::string tag) {
  const u64 deadline = monotonic_ns() + kBreakDeadline_ns;
  while (!points.is_held(tag)) {
    if (monotonic_ns() > deadline) co_return Error(ErrorKind::Busy, fmt::format("nothing has reached breakpoint {}", tag));
    co_await loop.sleep(1'000'000);
  }
  co_return Status{};
}

/// break, remove_break, resume, wait_break.
Result<bool> breakpoint(const BlockStore::Located& at, const std::vector<std::string>& words) {
  const std::string& verb = words[0];
  const bool sets = verb == "break";
  if (!sets && verb != "remove_break" && verb != "resume" && verb != "wait_break") return false;
  if (words.size() != (sets ? 3u : 2u)) return invalid(fmt::format("{}: wrong number of arguments", verb));
  auto* points = at.place->thread.run_on([&] { return debug_points_below(at.node); });
  if (!points) return Error(ErrorKind::Unsupported, "no blkdebug node stands below");
  if (verb == "wait_break") {
    TRY(finish_on(at.place->thread, [&] { return wait_for_break(at.place->thread.loop(), *points, words[1]); }));
    return true;
  }
  TRY(at.place->thread.run_on([&]() -> Status {
    if (sets) return points->set_break(words[1], words[2]);
    return verb == "resume" ? points->release(words[1]) : points->remove_break(words[1]);
  }));
  return true;
}

Status request(const BlockStore::Located& at, std::vector<std::string> words) {
  auto r = std::make_shared<Request>();
  std::string name = words[0];
  r->async = name.starts_with("aio_");
  if (r->async) name.erase(0, 4);
  for (std::string_view known : {"read", "write", "flush", "discard"})
    if (known == name) r->name = known;
  if (r->name.empty()) return invalid(fmt::format("command \"{}\" not found", words[0]));
  r->words.assign(words.begin() + 1, words.end());
  TRY(read_request(*r));
  LoopThread& thread = at.place->thread;
  // A root of its own: bitmaps and jobs see what it writes.
  std::shared_ptr<block::Node> root = thread.run_on([&] { return std::make_shared<block::Root>(at.place->graph, at.node); });
  if (!r->async) return finish_on(thread, [&, root = std::move(root)]() mutable { return run_request(std::move(root), r); });
  thread.run_on([&, root = std::move(root)]() mutable {
    auto task = run_request(std::move(root), r);
    ::atl::start(std::move(task), [](Status) {});
  });
  return {};
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (auto word : split(text, ' '))
    if (!word.empty()) words.emplace_back(word);
  return words;
}

}  // namespace

Status hmp_qemu_io(HmpContext& c, const HmpArguments& arguments) {
  std::string_view text = arguments.text;
  const bool by_device = text.starts_with("-d ");
  if (by_device) text = trim(text.substr(3));
  const size_t end = std::min(text.find(' '), text.size());
  std::string name(text.substr(0, end));
  std::string_view command = trim(text.substr(end));
  if (command.size() > 1 && command.front() == '"' && command.back() == '"') command = command.substr(1, command.size() - 2);
  const std::vector<std::string> words = words_of(command);
  if (words.empty()) return invalid("qemu-io [-d] device command");
  BlockStore& blocks = c.vm.machine().blocks();
  if (by_device)
    for (auto& drive : blocks.drives())
      if (drive.user == name.substr(0, name.find('/'))) name = drive.config.id;
  const auto located = TRY(blocks.locate(name));
  if (words[0] == "length") {
    print_line(size_words(static_cast<double>(located.place->thread.run_on([&] { return located.node->size_bytes(); }))));
    return {};
  }
  if (TRY(breakpoint(located, words))) return {};
  return request(located, words);
}

}  // namespace atl::control
