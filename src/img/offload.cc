#include "img/offload.h"

#include <fcntl.h>

#include "img/nodes.h"

namespace atl::img {
namespace {

constexpr u64 kStepBytes = 64 * kMiB;  // so that progress is seen and signals are heard

/// The host file behind a raw image without a window; "" if there is none.
std::string host_file_of(const Node& node) {
  NodePtr file = child_of(node, "file");
  if (format_of(node) != "raw" || !file || format_of(*file) != "file") return {};
  return file->size_bytes() == node.size_bytes() ? file->info().filename : "";
}

}  // namespace

Task<Result<bool>> offload_copy(Tool& tool, Node& source, Node& target, u64 target_offset) {
  std::string from = host_file_of(source), to = host_file_of(target);
  if (from.empty() || to.empty()) co_return false;
  Fd in = CO_TRY(open_file(from, O_RDONLY));
  Fd out = CO_TRY(open_file(to, O_WRONLY));
  const u64 size = source.size_bytes();
  for (u64 done = 0; done < size;) {
    auto in_offset = static_cast<loff_t>(done), out_offset = static_cast<loff_t>(target_offset + done);
    ssize_t n = ::copy_file_range(in.get(), &in_offset, out.get(), &out_offset, std::min(kStepBytes, size - done), 0);
    if (n < 0 && errno == EINTR) continue;
    bool cannot = n == 0 || (n < 0 && (errno == EOPNOTSUPP || errno == EXDEV || errno == EINVAL || errno == ENOSYS));
    if (cannot) co_return false;
    if (n < 0) co_return os_error(fmt::format("error while writing at byte {}", target_offset + done));
    done += static_cast<u64>(n);
    tool.progress().set(static_cast<double>(done) / static_cast<double>(size));
    // A turn of the loop lets signals in.
    co_await tool.loop().sleep(0);
    if (tool.interrupted()) co_return Error(ErrorKind::Cancelled, "interrupted: the target is incomplete");
  }
  co_return true;
}

}  // namespace atl::img
