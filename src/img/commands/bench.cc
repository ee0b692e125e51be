// bench: requests of one kind at one depth, timed.
#include <algorithm>

#include "base/clock.h"
#include "base/mapping.h"
#include "base/task_group.h"
#include "base/strings.h"
#include "img/command.h"
#include "img/nodes.h"
#include "img/numbers.h"

namespace atl::img {
namespace {

constexpr u64 kMaxInt = 0x7fffffff;

struct Plan {
  u64 count = 75000, depth = 64, buffer_bytes = 4096, step_bytes = 0, offset = 0, flush_interval = 0;
  u8 pattern = 0;
  bool write = false, drain = true;
};

Result<u64> plain(const Arguments& arguments, const char* name, u64 fallback, u64 low, const char* message) {
  auto text = arguments.find(name);
  return text ? parse_count(*text, low, kMaxInt, message) : Result<u64>(fallback);
}

Result<Plan> parse_plan(const Arguments& arguments) {
  Plan p;
  p.count = TRY(plain(arguments, "c", p.count, 0, "Invalid request count specified"));
  p.depth = TRY(plain(arguments, "d", p.depth, 1, "Invalid queue depth specified"));
  p.offset = TRY(parse_amount("offset", arguments.value("o", "0")));
  p.buffer_bytes = TRY(parse_amount("buffer size", arguments.value("s", "4096"), 1, kMaxInt));
  p.step_bytes = TRY(parse_amount("step_size", arguments.value("S", "0"), 0, kMaxInt));
  if (p.step_bytes == 0) p.step_bytes = p.buffer_bytes;
  auto pattern = parse_u64(arguments.value("pattern", "0"));
  if (!pattern || *pattern > 0xff) return Error(ErrorKind::Invalid, "Invalid pattern byte specified");
  p.pattern = static_cast<u8>(*pattern);
  p.flush_interval = TRY(plain(arguments, "flush-interval", 0, 0, "Invalid flush interval specified"));
  p.write = arguments.has("w");
  p.drain = !arguments.has("no-drain");
  if (!p.write && p.flush_interval) return Error(ErrorKind::Invalid, "--flush-interval is only available in write tests");
  if (p.flush_interval && p.flush_interval < p.depth)
    return Error(ErrorKind::Invalid, "Flush interval can't be smaller than depth");
  return p;
}

class Run {
 public:
  Run(Tool& tool, Node& node, Plan plan, Mapping buffers)
      : tool_(tool), node_(node), plan_(plan), buffers_(std::move(buffers)), group_(static_cast<unsigned>(plan.depth)) {
    for (u64 i = 0; i < plan.depth; ++i) free_.push_back(buffers_.data() + i * plan.buffer_bytes);
  }

  Task<Status> run() {
    u64 offset = plan_.offset, size = disk_bytes(node_);
    for (u64 i = 0; i < plan_.count && !group_.failed() && !tool_.interrupted(); ++i) {
      Status ready;
      if (plan_.flush_interval && i && i % plan_.flush_interval == 0) ready = co_await flush_between();
      if (ready) ready = co_await group_.room();
      if (!ready) break;
      group_.add(request(offset));
      offset += plan_.step_bytes;
      if (size <= plan_.buffer_bytes)
        offset = 0;
      else
        offset %= size;
    }
    co_return co_await group_.all();
  }

 private:
  Task<Status> flush_between() {
    if (plan_.drain) {
      Status done = co_await group_.all();
      CO_TRY(std::move(done));
      co_return co_await node_.flush();
    }
    Status room = co_await group_.room();
    CO_TRY(std::move(room));
    group_.add(node_.flush());
    co_return Status{};
  }
  Task<Status> request(u64 offset) {
    u8* buffer = free_.back();
    free_.pop_back();
    iovec piece{buffer, plan_.buffer_bytes};
    Status status;
    if (plan_.write)
      status = co_await node_.write(offset, {&piece, 1}, block::kNoFlags);
    else
      status = co_await node_.read(offset, {&piece, 1});
    free_.push_back(buffer);
    co_return status;
  }

  Tool& tool_;
  Node& node_;
  const Plan plan_;
  Mapping buffers_;
  std::vector<u8*> free_;
  TaskGroup group_;
};

void announce(const Plan& p) {
  fmt::print("Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size {})\n", p.count,
             p.write ? "write" : "read", p.buffer_bytes, p.depth, p.offset, p.step_bytes);
  if (p.flush_interval) fmt::print("Sending flush every {} requests\n", p.flush_interval);
  std::fflush(stdout);
}

Task<int> measure(Tool& tool, NodePtr node, Plan plan) {
  auto buffers = Mapping::anonymous(std::max<u64>(plan.depth * plan.buffer_bytes, kPageSize));
  if (!buffers) co_return tool.fail("{}", buffers.error().text());
  std::ranges::fill(buffers->span(), plan.pattern);
  announce(plan);
  Run run(tool, *node, plan, *std::move(buffers));
  u64 start = monotonic_ns();
  Status status = co_await run.run();
  u64 elapsed = monotonic_ns() - start;
  if (!status) co_return tool.fail("Failed request: {}", short_reason(status.error()));
  if (tool.interrupted()) co_return tool.fail("interrupted");
  fmt::print("Run completed in {:.3f} seconds.\n", static_cast<double>(elapsed) / 1e9);
  if (plan.write) status = co_await node->close();
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

Task<int> run_bench(Tool& tool, Arguments arguments) {
  auto cache = parse_cache_mode(arguments.value("t", "writeback"));
  if (!cache) co_return tool.fail("Invalid cache mode");
  std::string aio = arguments.value("i", "threads");
  if (aio != "native" && aio != "threads" && aio != "io_uring") co_return tool.fail("Invalid aio option: {}", aio);
  auto plan = parse_plan(arguments);
  if (!plan) co_return tool.fail("{}", plan.error().text());
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.force_share = arguments.has("force-share");
  request.writable = plan->write;
  request.cache = *cache;
  if (arguments.has("n")) request.cache.direct = true;
  auto node = co_await tool.open(request);
  if (!node) co_return tool.fail("{}", node.error().text());
  co_return co_await measure(tool, *node, *plan);
}

}  // namespace

const Command kBench{
    "bench",
    "[-c count] [-d depth] [-f fmt] [--flush-interval=n] [-i aio] [-n] [--no-drain] [-o offset] [--pattern=n] [-q] [-s buffer_size] "
    "[-S step_size] [-t cache] [-w] [-U] filename",
    {kObject, kImageOpts, kForceShare, kFormat, kQuiet, kCache, {'c', "", true}, {'d', "", true}, {'i', "", true}, {'n', ""},
     {'o', "", true}, {'s', "", true}, {'S', "", true}, {'w', ""}, {0, "flush-interval", true}, {0, "no-drain"},
     {0, "pattern", true}},
    run_bench};

}  // namespace atl::img
