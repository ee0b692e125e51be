#include "block/image_info.h"

#include <sys/stat.h>

#include "base/math.h"

namespace atl::block {
namespace {

constexpr u64 kSecond = 1'000'000'000;

Json bitmaps_json(const std::vector<BitmapInfo>& bitmaps) {
  Json list = Json::array();
  for (const BitmapInfo& bitmap : bitmaps) {
    Json flags = Json::array();
    if (bitmap.in_use) flags.push_back("in-use");
    if (bitmap.enabled) flags.push_back("auto");
    list.push_back({{"name", bitmap.name}, {"granularity", bitmap.granularity}, {"flags", std::move(flags)}});
  }
  return list;
}

/// What only formats know.
Task<Status> add_format_facts(ImageFacts& facts, Image& image) {
  facts.cluster_bytes = image.cluster_bytes();
  facts.encrypted = image.encrypted();
  facts.dirty = image.dirty();
  facts.backing = image.backing_file();
  facts.backing_format = image.backing_format();
  auto bitmaps = co_await image.bitmaps();
  facts.specific = image.specific_info();
  if (bitmaps && !bitmaps->empty()) facts.specific["bitmaps"] = bitmaps_json(*bitmaps);
  if (!facts.backing.empty()) facts.full_backing = full_backing_name(facts.filename, facts.backing);
  auto snapshots = co_await image.snapshots();
  if (!snapshots && snapshots.error().kind() == ErrorKind::Unsupported) co_return Status{};
  facts.snapshots = CO_TRY(std::move(snapshots));
  co_return Status{};
}

}  // namespace

std::optional<std::string> full_backing_name(const std::string& image, const std::string& backing) {
  const bool absolute = backing.starts_with('/') || has_protocol(backing);
  if (!absolute && (image.starts_with("json:") || image.empty())) return std::nullopt;
  return resolve_backing_name(backing, image);
}

std::optional<u64> allocated_file_bytes(const Node& node) {
  const std::string driver = node.info().driver;
  if (driver == "null-co" || driver == "null-aio") return 0;
  if (driver == "blkdebug" || driver == "blkverify") return std::nullopt;   // protocols that do not say
  u64 sum = 0;
  bool leaf = true, known = true;
  for (const Child& child : node.children()) {
    if (child.role == "backing") continue;
    leaf = false;
    auto bytes = allocated_file_bytes(*child.node);
    known &= bytes.has_value();
    sum += bytes.value_or(0);
  }
  if (!leaf) return known ? std::optional(sum) : std::nullopt;
  NodeInfo info = node.info();
  struct stat status;
  bool local = info.driver == "file" || info.driver == "host_device" || info.driver == "host_cdrom";
  if (!local || ::stat(info.filename.c_str(), &status) < 0) return std::nullopt;
  return static_cast<u64>(status.st_blocks) * 512;
}

Json snapshot_json(const SnapshotInfo& s) {
  Json json{{"id", s.id},
            {"name", s.name},
            {"vm-state-size", s.vm_state_bytes},
            {"date-sec", s.date_seconds},
            {"date-nsec", s.date_nanoseconds},
            {"vm-clock-sec", s.vm_clock_ns / kSecond},
            {"vm-clock-nsec", s.vm_clock_ns % kSecond}};
  if (s.icount) json["icount"] = *s.icount;
  return json;
}

Task<Result<ImageFacts>> collect_facts(const Graph& graph, Node& node) {
  const NodeInfo info = node.info();
  ImageFacts facts;
  facts.filename = graph.name_of(node);
  facts.format = info.driver;
  facts.virtual_bytes = align_up(info.size_bytes, kSectorBytes);
  facts.actual_bytes = allocated_file_bytes(node);
  if (Image* image = node.image()) {
    Status status = co_await add_format_facts(facts, *image);
    CO_TRY(std::move(status));
  }
  co_return facts;
}

Json image_json(const ImageFacts& f) {
  Json json{{"filename", f.filename}, {"format", f.format}, {"virtual-size", f.virtual_bytes}, {"dirty-flag", f.dirty}};
  if (f.actual_bytes) json["actual-size"] = *f.actual_bytes;
  if (f.cluster_bytes) json["cluster-size"] = f.cluster_bytes;
  if (f.encrypted) json["encrypted"] = true;
  if (!f.backing.empty()) json["backing-filename"] = f.backing;
  if (f.full_backing) json["full-backing-filename"] = *f.full_backing;
  if (!f.backing_format.empty()) json["backing-filename-format"] = f.backing_format;
  for (const auto& snapshot : f.snapshots) json["snapshots"].push_back(snapshot_json(snapshot));
  if (!f.specific.is_null()) json["format-specific"] = {{"type", f.format}, {"data", f.specific}};
  return json;
}

}  // namespace atl::block
