// rebase: makes an image stand on another backing file. It reads as before, unless -u only changes the name.
#include <cstring>

#include "base/mapping.h"
#include "block/job/copy.h"
#include "img/command.h"
#include "img/nodes.h"

namespace atl::img {
namespace {

constexpr u64 kPieceBytes = kMiB;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

/// Copies into an image what would read differently on the new backing file.
class Rebase {
 public:
  /// `new_backing` may be nullptr: none.
  Rebase(Tool& tool, Node& top, NodePtr new_backing)
      : tool_(tool), top_(top), old_(block::backing_of(top)), new_(std::move(new_backing)) {}

  Task<Status> run();

 private:
  Task<Result<u64>> skippable(u64 offset, u64 bytes);
  Task<Status> merge(u64 offset, u64 bytes);
  Task<Status> read_backing(const NodePtr& node, u64 offset, std::span<u8> out);
  Task<Status> write_differences(u64 offset, u64 bytes);

  Tool& tool_;
  Node& top_;
  NodePtr old_, new_;
  const Node* shared_ = nullptr;  // the new backing file as a member of the old chain
  Mapping old_bytes_, new_bytes_;
};

/// Bytes from `offset` on that need no copy (0: this one does, or may).
Task<Result<u64>> Rebase::skippable(u64 offset, u64 bytes) {
  auto own = co_await top_.block_status(offset, bytes);
  block::BlockStatus status = CO_TRY(std::move(own));
  if (status.allocated) co_return status.bytes;
  if (!shared_ || !old_) co_return 0;
  if (shared_ == old_.get()) co_return status.bytes;
  if (offset >= old_->size_bytes()) co_return 0;
  u64 look = std::min(status.bytes, old_->size_bytes() - offset);
  auto between = co_await block::status_above(*old_, shared_, offset, look);
  block::BlockStatus above = CO_TRY(std::move(between));
  co_return above.allocated ? 0 : above.bytes;
}

Task<Status> Rebase::read_backing(const NodePtr& node, u64 offset, std::span<u8> out) {
  u64 size = node ? node->size_bytes() : 0;
  u64 inside = offset < size ? std::min<u64>(out.size(), size - offset) : 0;
  std::memset(out.data() + inside, 0, out.size() - inside);
  if (!inside) co_return Status{};
  iovec piece{out.data(), inside};
  co_return co_await node->read(offset, {&piece, 1});
}

Task<Status> Rebase::write_differences(u64 offset, u64 bytes) {
  u64 unit = block::kSectorBytes;
  auto differs = [&](u64 at) {
    return std::memcmp(old_bytes_.data() + at, new_bytes_.data() + at, std::min(unit, bytes - at)) != 0;
  };
  for (u64 at = 0; at < bytes;) {
    u64 start = at;
    bool different = differs(at);
    while (at < bytes && differs(at) == different) at += unit;
    if (!different) continue;
    iovec piece{old_bytes_.data() + start, std::min(at, bytes) - start};
    Status written = co_await top_.write(offset + start, {&piece, 1}, block::kNoFlags);
    if (!written) co_return invalid("Error while writing to COW image: " + written.error().text());
  }
  co_return Status{};
}

Task<Status> Rebase::merge(u64 offset, u64 bytes) {
  Status read = co_await read_backing(old_, offset, old_bytes_.span().first(bytes));
  if (!read) co_return invalid("error while reading from old backing file: " + read.error().text());
  read = co_await read_backing(new_, offset, new_bytes_.span().first(bytes));
  if (!read) co_return invalid("error while reading from new backing file: " + read.error().text());
  co_return co_await write_differences(offset, bytes);
}

Task<Status> Rebase::run() {
  old_bytes_ = CO_TRY(Mapping::anonymous(kPieceBytes));
  new_bytes_ = CO_TRY(Mapping::anonymous(kPieceBytes));
  for (NodePtr node = old_; node && new_; node = block::backing_of(*node))
    if (node->info().filename == new_->info().filename) shared_ = node.get();
  const u64 size = top_.size_bytes();
  for (u64 at = 0; at < size;) {
    if (tool_.interrupted()) co_return Error(ErrorKind::Cancelled, "interrupted: the image stands on its old backing file");
    auto skip = co_await skippable(at, size - at);
    u64 bytes = CO_TRY(std::move(skip));
    if (bytes == 0) {
      auto own = co_await top_.block_status(at, std::min(kPieceBytes, size - at));
      block::BlockStatus status = CO_TRY(std::move(own));
      bytes = std::min(status.bytes, kPieceBytes);
      Status merged = co_await merge(at, bytes);
      CO_TRY(std::move(merged));
    }
    at += bytes;
    tool_.progress().set(static_cast<double>(at) / static_cast<double>(size));
  }
  co_return Status{};
}

Task<Result<NodePtr>> open_new_backing(Tool& tool, const Arguments& arguments, CacheMode cache) {
  std::string name = arguments.value("b");
  if (name.empty()) co_return NodePtr();
  std::string full = block::full_backing_name(arguments.words()[0], name).value_or(name);
  OpenRequest request;
  request.name = full;
  request.format = arguments.value("F");
  request.force_share = arguments.has("force-share");
  request.cache = cache;
  auto node = co_await tool.open(request);
  if (node) co_return node;
  // Its own context would name the file twice.
  std::string reason = node.error().text(), context = fmt::format("Could not open '{}': ", full);
  if (reason.starts_with(context)) reason.erase(0, context.size());
  co_return invalid(fmt::format("Could not open new backing file '{}': {}", full, reason));
}

Task<Status> change_name(Node& top, std::string name, std::string format) {
  auto failed = [&](std::string_view reason) {
    return invalid(fmt::format("Could not change the backing file to '{}': {}", name, reason));
  };
  block::Image* image = top.image();
  if (!image) co_return failed("Operation not supported");
  if (!name.empty() && format.empty()) co_return failed("backing format must be specified");
  Status changed = co_await image->change_backing(name, format);
  if (!changed && changed.error().kind() == ErrorKind::Unsupported) co_return failed("Operation not supported");
  if (!changed) co_return failed(changed.error().text());
  co_return Status{};
}

Task<Status> rebase(Tool& tool, const Arguments& arguments, CacheMode cache, CacheMode source_cache) {
  bool unsafe = arguments.has("u");
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.force_share = arguments.has("force-share");
  request.writable = true;
  request.no_backing = unsafe;
  request.cache = cache;
  auto opened = co_await tool.open(request);
  NodePtr top = CO_TRY(std::move(opened));
  std::string format = arguments.value("F"), name = arguments.value("b");
  if (!format.empty() && !block::find_driver(format)) co_return invalid(fmt::format("Invalid format name: '{}'", format));
  bool can_change = top->image() && (name.empty() || !format.empty());
  if (!unsafe && can_change) {
    auto backing = co_await open_new_backing(tool, arguments, source_cache);
    NodePtr new_backing = CO_TRY(std::move(backing));
    tool.progress().set(0);
    Rebase work(tool, *top, std::move(new_backing));
    Status copied = co_await work.run();
    CO_TRY(std::move(copied));
    // The data must be there before the name says where to look for the rest.
    Status flushed = co_await top->flush();
    CO_TRY(std::move(flushed));
  }
  Status changed = co_await change_name(*top, name, format);
  CO_TRY(std::move(changed));
  tool.progress().set(1);
  tool.progress().end();
  co_return co_await top->close();
}

Task<int> run_rebase(Tool& tool, Arguments arguments) {
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  if (!arguments.has("u") && !arguments.has("b"))
    co_return tool.usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  auto cache = parse_cache_mode(arguments.value("t", "writeback"));
  if (!cache) co_return tool.fail("Invalid cache option: {}", arguments.value("t"));
  auto source_cache = parse_cache_mode(arguments.value("T", "writeback"));
  if (!source_cache) co_return tool.fail("Invalid source cache option: {}", arguments.value("T"));
  Status status = co_await rebase(tool, arguments, *cache, *source_cache);
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kRebase{
    "rebase",
    "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T cache] [-p] [-u] -b backing_file [-F backing_fmt] "
    "filename",
    {kObject, kImageOpts, kForceShare, kQuiet, kFormat, kCache, kSourceCache, kProgress, {'u', ""}, {'b', "", true},
     {'F', "", true}},
    run_rebase};

}  // namespace atl::img
