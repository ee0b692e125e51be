// compare: whether two images read alike; with -s, whether they also store alike. Exit status 0: yes, 1: no, more: trouble.
#include <algorithm>
#include <cstring>

#include "base/mapping.h"
#include "base/task_group.h"
#include "img/command.h"
#include "img/nodes.h"

namespace atl::img {
namespace {

constexpr unsigned kWidth = 4;
constexpr u64 kPieceBytes = 512 * kKiB, kMostPieceBytes = 2 * kMiB;
constexpr u64 kNowhere = ~u64{0};

enum Outcome { kSame = 0, kDifferent = 1, kCannotOpen = 2, kCannotMap = 3, kCannotRead = 4 };

/// A run in which each image stores alike. Where one image has ended, it is absent.
struct Run {
  u64 start = 0, bytes = 0;
  ChainStatus a, b;
  bool a_ended = false, b_ended = false;
};

/// A compressed cluster is unpacked as a whole for every request that touches it.
u64 piece_of(Node& node) {
  const u64 cluster = node.image() ? node.image()->cluster_bytes() : 0;
  return std::clamp(cluster, kPieceBytes, kMostPieceBytes);
}

bool reads_zero(const ChainStatus& s) { return s.zero || !s.present; }

class Comparison {
 public:
  Comparison(Tool& tool, Node& a, Node& b, bool strict)
      : tool_(tool), a_(a), b_(b), strict_(strict), piece_bytes_(std::max(piece_of(a), piece_of(b))), group_(kWidth) {}

  Task<int> run();

 private:
  struct Buffers {
    Mapping a, b;
  };

  Task<Result<Run>> next_run(u64 at);
  Task<Status> compare_run(Run run);
  Task<Status> fill(Node& node, u64 offset, std::span<u8> out, bool wanted);
  Task<Status> compare_piece(u64 offset, u64 bytes, bool read_a, bool read_b);
  Result<Buffers> take_buffers();
  int finish(Outcome outcome);
  int interrupted();
  void found_at(u64 offset) { mismatch_ = std::min(mismatch_, offset); }

  Tool& tool_;
  Node &a_, &b_;
  const bool strict_;
  const u64 piece_bytes_;
  TaskGroup group_;
  std::vector<Buffers> free_;
  u64 total_ = 0;
  u64 mismatch_ = kNowhere;          // of content
  u64 status_mismatch_ = kNowhere;   // of allocation, strict mode only
};

Task<Result<Run>> Comparison::next_run(u64 at) {
  Run run{.start = at, .bytes = total_ - at};
  run.a_ended = at >= disk_bytes(a_);
  run.b_ended = at >= disk_bytes(b_);
  if (!run.a_ended) {
    auto status = co_await chain_status(a_, at, std::min(run.bytes, disk_bytes(a_) - at));
    if (!status) co_return Error(ErrorKind::Io, fmt::format("Sector allocation test failed for {}", a_.info().filename));
    run.a = *status;
    run.bytes = std::min(run.bytes, run.a.bytes);
  }
  if (!run.b_ended) {
    auto status = co_await chain_status(b_, at, std::min(run.bytes, disk_bytes(b_) - at));
    if (!status) co_return Error(ErrorKind::Io, fmt::format("Sector allocation test failed for {}", b_.info().filename));
    run.b = *status;
    run.bytes = std::min(run.bytes, run.b.bytes);
  }
  co_return run;
}

Result<Comparison::Buffers> Comparison::take_buffers() {
  if (free_.empty()) return Buffers{TRY(Mapping::anonymous(piece_bytes_)), TRY(Mapping::anonymous(piece_bytes_))};
  Buffers buffers = std::move(free_.back());
  free_.pop_back();
  return buffers;
}

/// The first 512 bytes in which two buffers differ, as QEMU counts; `bytes` if none.
u64 first_difference(const u8* a, const u8* b, u64 bytes) {
  if (std::memcmp(a, b, bytes) == 0) return bytes;
  for (u64 at = 0; at < bytes; at += block::kSectorBytes)
    if (std::memcmp(a + at, b + at, std::min(block::kSectorBytes, bytes - at)) != 0) return at;
  return bytes;
}

/// Reads, or zeroes without reading.
Task<Status> Comparison::fill(Node& node, u64 offset, std::span<u8> out, bool wanted) {
  if (!wanted) {
    std::memset(out.data(), 0, out.size());
    co_return Status{};
  }
  iovec piece{out.data(), out.size()};
  Status read = co_await node.read(offset, {&piece, 1});
  if (read) co_return Status{};
  co_return Error(ErrorKind::Io, fmt::format("Error while reading offset {} of {}: {}", offset, tool_.graph().name_of(node), short_reason(read.error())));
}

Task<Status> Comparison::compare_piece(u64 offset, u64 bytes, bool read_a, bool read_b) {
  Buffers buffers = CO_TRY(take_buffers());
  TaskGroup pair(2);
  pair.add(fill(a_, offset, buffers.a.span().first(bytes), read_a));
  pair.add(fill(b_, offset, buffers.b.span().first(bytes), read_b));
  Status filled = co_await pair.all();
  CO_TRY(std::move(filled));
  u64 at = first_difference(buffers.a.data(), buffers.b.data(), bytes);
  if (at < bytes) found_at(offset + at);
  free_.push_back(std::move(buffers));
  co_return Status{};
}

/// Starts the reads that a run needs: none if both are known to be zero there.
Task<Status> Comparison::compare_run(Run run) {
  bool read_a = !run.a_ended && !reads_zero(run.a), read_b = !run.b_ended && !reads_zero(run.b);
  if (!read_a && !read_b) co_return Status{};
  for (u64 done = 0; done < run.bytes && mismatch_ == kNowhere; done += piece_bytes_) {
    Status room = co_await group_.room();
    if (!room || tool_.interrupted()) break;
    group_.add(compare_piece(run.start + done, std::min(piece_bytes_, run.bytes - done), read_a, read_b));
  }
  co_return Status{};
}

int Comparison::finish(Outcome outcome) {
  if (outcome == kSame) tool_.print("Images are identical.\n");
  tool_.progress().end();
  return outcome;
}

Task<int> Comparison::run() {
  u64 a_bytes = disk_bytes(a_), b_bytes = disk_bytes(b_);
  total_ = std::max(a_bytes, b_bytes);
  tool_.progress().set(0);
  if (strict_ && a_bytes != b_bytes) {
    tool_.print("Strict mode: Image size mismatch!\n");
    co_return finish(kDifferent);
  }
  u64 common = std::min(a_bytes, b_bytes);
  bool warned = false;
  for (u64 at = 0; at < total_ && !group_.failed() && mismatch_ == kNowhere && !tool_.interrupted();) {
    if (at >= common && !warned) {
      // Only after all of the common part is known to be the same.
      Status done = co_await group_.all();
      if (!done || mismatch_ != kNowhere) break;
      tool_.print("Warning: Image size mismatch!\n");
      warned = true;
    }
    auto answer = co_await next_run(at);
    if (!answer) {
      Status pending = co_await group_.all();
      tool_.error("{}", answer.error().text());
      co_return kCannotMap;
    }
    Run run = *answer;
    if (strict_ && run.a.present != run.b.present) {
      status_mismatch_ = at;
      break;
    }
    Status started = co_await compare_run(run);
    if (!started) break;
    at += run.bytes;
    tool_.progress().set(static_cast<double>(at) / static_cast<double>(total_));
  }
  Status compared = co_await group_.all();
  if (tool_.interrupted()) co_return interrupted();
  if (!compared) {
    tool_.error("{}", compared.error().text());
    co_return kCannotRead;
  }
  if (mismatch_ != kNowhere) {
    tool_.print("Content mismatch at offset {}!\n", mismatch_);
    co_return finish(kDifferent);
  }
  if (status_mismatch_ != kNowhere) {
    tool_.print("Strict mode: Offset {} block status mismatch!\n", status_mismatch_);
    co_return finish(kDifferent);
  }
  if (a_bytes != b_bytes && !warned) tool_.print("Warning: Image size mismatch!\n");
  co_return finish(kSame);
}

int Comparison::interrupted() {
  tool_.error("interrupted");
  return kCannotRead;
}

Task<int> run_compare(Tool& tool, Arguments arguments) {
  if (arguments.words().size() != 2) co_return tool.usage_error("Expecting two image file names");
  if (Status added = tool.add_objects(arguments); !added) {
    tool.error("{}", added.error().text());
    co_return kCannotOpen;
  }
  auto cache = parse_cache_mode(arguments.value("T", "writeback"));
  if (!cache) {
    tool.error("Invalid source cache option: {}", arguments.value("T"));
    co_return kCannotOpen;
  }
  NodePtr nodes[2];
  for (size_t i = 0; i < 2; ++i) {
    OpenRequest request;
    request.name = arguments.words()[i];
    request.format = arguments.value(i == 0 ? "f" : "F");
    request.image_opts = arguments.has("image-opts");
    request.force_share = arguments.has("force-share");
    request.cache = *cache;
    auto node = co_await tool.open(request);
    if (!node) {
      tool.error("{}", node.error().text());
      co_return kCannotOpen;
    }
    nodes[i] = *node;
  }
  Comparison comparison(tool, *nodes[0], *nodes[1], arguments.has("s"));
  co_return co_await comparison.run();
}

}  // namespace

const Command kCompare{
    "compare",
    "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T cache] [-p] [-q] [-s] [-U] filename1 filename2",
    {kObject, kImageOpts, kFormat, {'F', "", true}, kSourceCache, kProgress, kQuiet, {'s', ""}, kForceShare},
    run_compare};

}  // namespace atl::img
