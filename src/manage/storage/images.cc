#include "manage/storage/images.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/fd.h"
#include "block/driver.h"
#include "block/image.h"
#include "block/job/copy.h"
#include "img/create_options.h"
#include "img/target.h"
#include "img/tool.h"

namespace atl::manage {
namespace {

using block::Graph;
using block::NodePtr;
using block::OpenMode;

constexpr const char* kSecretId = "volume";
// ISO 9660 section 8.1: the first volume descriptor, at sector 16.
constexpr u64 kIsoDescriptor = 0x8001;

Error storage_error(atl::Error cause) {
  Error error(std::move(cause));
  return {error.code() == Code::Ok ? Code::InternalError : error.code(), error.detail(), Part::Storage};
}

/// A graph with a loop of its own, for one operation.
class Workshop {
 public:
  static Result<Workshop> open() {
    Workshop workshop;
    workshop.loop_ = TRY(Loop::create(64));
    workshop.graph_ = std::make_unique<Graph>(*workshop.loop_);
    return workshop;
  }
  Loop& loop() { return *loop_; }
  Graph& graph() { return *graph_; }
  template <class T>
  T wait(Task<T> task) {
    return img::wait_for(*loop_, std::move(task));
  }
  Result<NodePtr> open_image(const std::string& path, const std::string& format, OpenMode mode) {
    block::Json options = {{"driver", format}, {"file", {{"driver", "file"}, {"filename", path}}}};
    auto node = wait(graph_->open(std::move(options), mode));
    if (!node) return storage_error(std::move(node).error());
    return *std::move(node);
  }
  Status close(NodePtr node) {
    atl::Status closed = wait(node->close());
    node.reset();
    if (!closed) return storage_error(std::move(closed).error());
    return {};
  }

 private:
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Graph> graph_;
};

std::span<u8> bytes_of(auto& array) { return {array.data(), array.size()}; }

bool is_iso(const Fd& file) {
  std::array<u8, 5> magic{};
  return ::pread(file.get(), magic.data(), magic.size(), kIsoDescriptor) == static_cast<ssize_t>(magic.size()) &&
         std::equal(magic.begin(), magic.end(), "CD001");
}

atl::Result<img::CreateOptions> options_of(const ImageRequest& request, const block::Driver& driver) {
  auto made = img::CreateOptions::of(driver, request.path);
  if (!made) return made;
  img::CreateOptions options = *std::move(made);
  auto set = [&](bool wanted, const char* name, const std::string& value) -> atl::Status {
    if (!wanted) return {};
    if (!options.knows(name))
      return atl::Error(ErrorKind::Invalid, fmt::format("format '{}' has no option '{}'", request.format, name));
    return options.set(name, value);
  };
  const struct {
    bool wanted;
    const char* name;
    std::string value;
  } wishes[] = {
      {true, "size", std::to_string(request.capacity_bytes)},
      {request.preallocation != "off", "preallocation", request.preallocation},
      {!request.backing_path.empty(), "backing_file", request.backing_path},
      {!request.backing_path.empty(), "backing_fmt", request.backing_format},
      {!request.compat.empty(), "compat", request.compat},
      {request.cluster_bytes != 0, "cluster_size", std::to_string(request.cluster_bytes)},
      {request.lazy_refcounts, "lazy_refcounts", "on"},
      {request.nocow, "nocow", "on"},
      {request.passphrase && request.format == "luks", "key-secret", kSecretId},
      {request.passphrase && request.format != "luks", "encrypt.format", "luks"},
      {request.passphrase && request.format != "luks", "encrypt.key-secret", kSecretId},
  };
  for (const auto& wish : wishes)
    if (atl::Status done = set(wish.wanted, wish.name, wish.value); !done) return std::move(done).error();
  return options;
}

Task<atl::Status> copy_all(Loop& loop, block::Node& source, block::Node& target) {
  block::CopyOptions options;
  options.source = &source;
  options.target = &target;
  options.bytes = std::min(source.size_bytes(), target.size_bytes());
  options.target_is_zero = true;
  auto copied = co_await block::copy_range(loop, std::move(options));
  if (!copied) co_return std::move(copied).error();
  co_return co_await target.flush();
}

Task<atl::Status> do_snapshot(block::Image& image, SnapshotAction action, std::string name) {
  if (action == SnapshotAction::Apply) co_return co_await image.apply_snapshot(std::move(name));
  if (action == SnapshotAction::Delete) co_return co_await image.delete_snapshot(std::move(name));
  const u64 now = realtime_ns();
  block::SnapshotInfo info;
  info.name = std::move(name);
  info.date_seconds = now / 1'000'000'000;
  info.date_nanoseconds = static_cast<u32>(now % 1'000'000'000);
  info.icount = 0;
  co_return co_await image.create_snapshot(std::move(info));
}

Task<atl::Status> merge_down(Loop& loop, NodePtr top, NodePtr base) {
  atl::Status status = co_await base->set_readonly(false);
  if (!status) co_return status;
  if (base->size_bytes() < top->size_bytes()) status = co_await base->resize(top->size_bytes(), block::Preallocation::Off);
  if (!status) co_return status;
  block::CopyOptions options;
  options.source = top.get();
  options.target = base.get();
  options.base = base.get();
  options.bytes = top->size_bytes();
  options.detect_zero_bytes = 0;
  auto copied = co_await block::copy_range(loop, std::move(options));
  if (!copied) co_return std::move(copied).error();
  co_return co_await base->flush();
}

}  // namespace

Result<std::string> guess_format(const std::string& path) {
  Fd file = TRY(open_file(path, O_RDONLY | O_NONBLOCK));
  std::array<u8, block::kProbeBytes> head{};
  ssize_t count = ::pread(file.get(), head.data(), head.size(), 0);
  if (count < 0) return os_error("read " + path);
  const block::Driver* driver = block::probe_format(bytes_of(head).first(static_cast<size_t>(count)), path);
  std::string name = driver->name;
  if (name == "raw" && is_iso(file)) return std::string("iso");
  return name;
}

namespace {

/// What the block layer does not tell of a header; qcow2 specification, "Header": version, compatible features.
Status add_qcow2_facts(const std::string& path, ImageFacts& facts) {
  Fd file = TRY(open_file(path, O_RDONLY | O_NONBLOCK));
  std::array<u8, 88> header{};
  if (::pread(file.get(), header.data(), header.size(), 0) != static_cast<ssize_t>(header.size())) return {};
  facts.is_old_qcow2 = header[7] == 2;
  facts.lazy_refcounts = !facts.is_old_qcow2 && (header[87] & 1) != 0;
  return {};
}

}  // namespace

Result<ImageFacts> inspect_image(const std::string& path, const std::string& format) {
  Workshop workshop = TRY(Workshop::open());
  OpenMode mode;
  mode.readonly = mode.no_backing = mode.no_io = true;
  mode.locking = false;
  NodePtr node = TRY(workshop.open_image(path, format, mode));
  ImageFacts facts;
  facts.capacity_bytes = node->size_bytes();
  if (block::Image* image = node->image()) {
    facts.cluster_bytes = image->cluster_bytes();
    facts.encrypted = image->encrypted();
    facts.backing_file = image->backing_file();
    facts.backing_format = image->backing_format();
  }
  TRY(workshop.close(std::move(node)));
  if (format == "qcow2") TRY(add_qcow2_facts(path, facts));
  return facts;
}

Status create_image(const ImageRequest& request) {
  auto driver = img::creating_driver(request.format);
  if (!driver) return storage_error(std::move(driver).error());
  auto options = options_of(request, **driver);
  if (!options) return storage_error(std::move(options).error());
  Workshop workshop = TRY(Workshop::open());
  if (request.passphrase) workshop.graph().add_secret(kSecretId, *request.passphrase);
  atl::Status created = workshop.wait(workshop.graph().create(**driver, request.path, options->values()));
  if (!created) return storage_error(std::move(created).error());
  return {};
}

Status create_raw_file(const std::string& path, u64 capacity_bytes, u64 allocation_bytes) {
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return os_error("create " + path);
  if (::ftruncate(file.get(), static_cast<off_t>(capacity_bytes)) < 0) return os_error("cannot extend file " + path);
  const u64 allocated = std::min(capacity_bytes, allocation_bytes);
  if (allocated == 0) return {};
  if (int failed = ::posix_fallocate(file.get(), 0, static_cast<off_t>(allocated))) {
    errno = failed;
    return os_error(fmt::format("cannot allocate {} bytes in file {}", allocated, path));
  }
  return {};
}

Status share_blocks(const std::string& from, const std::string& to) {
  Fd source = TRY(open_file(from, O_RDONLY)), target = TRY(open_file(to, O_WRONLY));
  if (::ioctl(target.get(), FICLONE, source.get()) < 0) return os_error("failed to clone files from " + from);
  return {};
}

Status resize_image(const std::string& path, const std::string& format, u64 capacity_bytes, bool allocate) {
  Workshop workshop = TRY(Workshop::open());
  NodePtr node = TRY(workshop.open_image(path, format, {}));
  atl::Status resized =
      workshop.wait(node->resize(capacity_bytes, allocate ? block::Preallocation::Falloc : block::Preallocation::Off));
  Status closed = workshop.close(std::move(node));
  if (!resized) return storage_error(std::move(resized).error());
  return closed;
}

Status copy_image(const std::string& from, const std::string& from_format, const std::string& to,
                  const std::string& to_format) {
  Workshop workshop = TRY(Workshop::open());
  OpenMode reading;
  reading.readonly = true;
  NodePtr source = TRY(workshop.open_image(from, from_format, reading));
  NodePtr target = TRY(workshop.open_image(to, to_format, {}));
  atl::Status copied = workshop.wait(copy_all(workshop.loop(), *source, *target));
  Status closed = workshop.close(std::move(target));
  TRY(workshop.close(std::move(source)));
  if (!copied) return storage_error(std::move(copied).error());
  return closed;
}

Status snapshot_image(const std::string& path, const std::string& format, SnapshotAction action, const std::string& name) {
  Workshop workshop = TRY(Workshop::open());
  NodePtr node = TRY(workshop.open_image(path, format, {}));
  block::Image* image = node->image();
  atl::Status done = image ? workshop.wait(do_snapshot(*image, action, name)) : atl::Error(ErrorKind::Unsupported, "no snapshots in this format");
  Status closed = workshop.close(std::move(node));
  if (!done) return storage_error(std::move(done).error());
  return closed;
}

Status merge_into_backing(const std::string& path, const std::string& format) {
  Workshop workshop = TRY(Workshop::open());
  NodePtr top = TRY(workshop.open_image(path, format, {}));
  NodePtr base = block::backing_of(*top);
  atl::Status merged = base ? workshop.wait(merge_down(workshop.loop(), top, base)) : atl::Error(ErrorKind::Invalid, path + " has no backing file");
  base.reset();
  Status closed = workshop.close(std::move(top));
  if (!merged) return storage_error(std::move(merged).error());
  return closed;
}

Status record_backing(const std::string& path, const std::string& format, const std::string& backing, const std::string& backing_format) {
  Workshop workshop = TRY(Workshop::open());
  OpenMode mode;
  mode.no_backing = true;
  NodePtr node = TRY(workshop.open_image(path, format, mode));
  atl::Status changed = workshop.wait(node->image()->change_backing(backing, backing_format));
  Status closed = workshop.close(std::move(node));
  if (!changed) return storage_error(std::move(changed).error());
  return closed;
}

}  // namespace atl::manage
