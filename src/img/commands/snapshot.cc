// snapshot: lists, creates, applies and deletes internal snapshots.
#include "base/clock.h"
#include "img/command.h"
#include "img/nodes.h"
#include "img/print.h"
#include "img/report.h"

namespace atl::img {
namespace {

constexpr u64 kSecond = 1'000'000'000;

Error without_snapshots() { return Error(ErrorKind::Unsupported, "-95 (Operation not supported)", EOPNOTSUPP); }

Task<Status> list_snapshots(block::Image* image) {
  if (!image) co_return Status{};
  auto listed = co_await image->snapshots();
  if (listed && !listed->empty()) print_out("Snapshot list:\n{}", snapshot_table(*listed));
  co_return Status{};
}

Task<Status> create_snapshot(block::Image* image, std::string name) {
  if (!image) co_return without_snapshots();
  u64 now = realtime_ns();
  block::SnapshotInfo info;
  info.name = std::move(name);
  info.date_seconds = now / kSecond;
  info.date_nanoseconds = static_cast<u32>(now % kSecond / 1000 * 1000);
  info.icount = 0;
  auto created = co_await image->create_snapshot(std::move(info));
  if (!created && created.error().kind() == ErrorKind::Unsupported) co_return without_snapshots();
  if (!created && created.error().os_errno())
    co_return Error(created.error().kind(), fmt::format("-{} ({})", created.error().os_errno(), short_reason(created.error())));
  co_return created;
}

Task<Status> apply_snapshot(block::Image* image, std::string name) {
  auto none = [] { return Error(ErrorKind::Unsupported, "Block driver does not support snapshots"); };
  if (!image) co_return none();
  auto applied = co_await image->apply_snapshot(std::move(name));
  if (!applied && applied.error().kind() == ErrorKind::Unsupported) co_return none();
  if (!applied && applied.error().kind() == ErrorKind::NotFound)
    co_return Error(ErrorKind::NotFound, "Failed to load snapshot: No such file or directory");
  co_return applied;
}

Task<Status> delete_snapshot(block::Image* image, std::string name) {
  Error missing(ErrorKind::NotFound, "snapshot not found");
  if (!image) co_return missing;
  auto deleted = co_await image->delete_snapshot(std::move(name));
  bool absent = !deleted && (deleted.error().kind() == ErrorKind::NotFound || deleted.error().kind() == ErrorKind::Unsupported);
  if (absent) co_return missing;
  co_return deleted;
}

struct Action {
  char letter = 'l';
  std::string name;

  const char* verb() const { return letter == 'c' ? "create" : letter == 'a' ? "apply" : "delete"; }
};

Task<Status> perform(block::Image* image, Action action) {
  Status status;
  switch (action.letter) {
    case 'c': status = co_await create_snapshot(image, action.name); break;
    case 'a': status = co_await apply_snapshot(image, action.name); break;
    case 'd': status = co_await delete_snapshot(image, action.name); break;
    default: status = co_await list_snapshots(image); break;
  }
  co_return status;
}

/// The one action asked for; nothing if there are several.
std::optional<Action> action_of(const Arguments& arguments) {
  std::optional<Action> found;
  for (const auto& option : arguments.options()) {
    if (option.name.size() != 1 || std::string_view("lacd").find(option.name[0]) == std::string_view::npos) continue;
    if (found) return std::nullopt;
    found = Action{option.name[0], option.value};
  }
  return found.value_or(Action{});
}

Task<int> run_snapshot(Tool& tool, Arguments arguments) {
  auto action = action_of(arguments);
  if (!action) co_return tool.usage_error("Cannot mix '-l', '-a', '-c', '-d'");
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.force_share = arguments.has("force-share");
  request.writable = action->letter != 'l';
  auto node = co_await tool.open(request);
  if (!node) co_return tool.fail("{}", node.error().text());
  Status status = co_await perform((*node)->image(), *action);
  if (!status) co_return tool.fail("Could not {} snapshot '{}': {}", action->verb(), action->name, status.error().text());
  if (request.writable) status = co_await (*node)->close();
  if (!status) co_return tool.fail("Could not {} snapshot '{}': {}", action->verb(), action->name, status.error().text());
  co_return 0;
}

}  // namespace

const Command kSnapshot{
    "snapshot",
    "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-l | -a snapshot | -c snapshot | -d snapshot] filename",
    {kObject, kImageOpts, kForceShare, kQuiet, kFormat, {'l', ""}, {'a', "", true}, {'c', "", true}, {'d', "", true}},
    run_snapshot};

}  // namespace atl::img
