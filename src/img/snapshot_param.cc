#include "img/snapshot_param.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/key_values.h"

namespace atl::img {
namespace {

struct Wanted {
  std::string id, name;

  bool is(const block::SnapshotInfo& s) const { return (id.empty() || id == s.id) && (name.empty() || name == s.name); }
};

Result<Wanted> parse_param(const std::string& param) {
  KeyValues list = TRY(KeyValues::parse(param));
  Wanted wanted{list.take("snapshot.id").value_or(""), list.take("snapshot.name").value_or("")};
  TRY(list.expect_empty());
  return wanted;
}

/// The ID of the snapshot that both parts of "snapshot.id=...,snapshot.name=..." fit.
Task<Result<std::string>> find_id(block::Image& image, std::string param) {
  Wanted wanted = CO_TRY(parse_param(param));
  auto listed = co_await image.snapshots();
  auto snapshots = CO_TRY(std::move(listed));
  auto at = std::ranges::find_if(snapshots, [&](const auto& s) { return wanted.is(s); });
  if (at == snapshots.end())
    co_return Error(ErrorKind::NotFound, "Can't find snapshot");
  co_return at->id;
}

}  // namespace

Task<Result<NodePtr>> open_snapshot(NodePtr node, std::string param) {
  block::Image* image = node->image();
  if (!image)
    co_return Error(ErrorKind::Unsupported,
                    fmt::format("Block format '{}' used by device '' does not support temporarily loading internal snapshots",
                                format_of(*node)));
  if (param.starts_with("snapshot.")) {
    auto id = co_await find_id(*image, param);
    param = CO_TRY(std::move(id));
  }
  auto view = co_await image->open_snapshot(param);
  if (!view && view.error().kind() == ErrorKind::NotFound) co_return Error(ErrorKind::NotFound, "Can't find snapshot");
  co_return view;
}

}  // namespace atl::img
