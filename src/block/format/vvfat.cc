// A folder of the host as a disk with a FAT file system ("vvfat"): fat:[floppy:][12:|16:|32:]DIR.
//
// Supported: FAT12, FAT16 and FAT32, long names, hard disks of 504 MiB (FAT32: as large as the folder asks for) and
// floppies of 2.88 MB; read only. The folder is looked at once, when it is opened; files are read as the guest reads,
// and what they lost meanwhile reads as zeroes. Links are not followed. Refused by name: rw (writing back into the
// folder).
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "block/driver.h"
#include "block/format/vvfat_image.h"
#include "block/iovecs.h"

namespace atl::block {

using namespace vvfat;

namespace {

class VvfatNode final : public Node {
 public:
  VvfatNode(Loop& loop, FatImage image, std::string node_name, std::string folder)
      : loop_(loop), image_(std::move(image)), node_name_(std::move(node_name)), folder_(std::move(folder)) {}

  NodeInfo info() const override {
    NodeInfo info;
    info.node_name = node_name_;
    info.driver = "vvfat";
    info.filename = "fat:" + folder_;
    info.size_bytes = image_.size_bytes;
    info.readonly = true;
    return info;
  }
  u64 size_bytes() const override { return image_.size_bytes; }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64, std::span<const iovec>, u32) override { co_return refuse(); }
  Task<Status> write_zeroes(u64, u64, u32) override { co_return refuse(); }
  Task<Status> discard(u64, u64) override { co_return refuse(); }
  Task<Status> flush() override { co_return Status{}; }

 private:
  static Error refuse() { return Error(ErrorKind::Permission, "this node is read-only", EPERM); }
  Task<Status> read_region(const Region& region, u64 within, std::span<const iovec> out);
  Task<Status> read_file(u64 index, u64 offset, std::span<const iovec> out);

  Loop& loop_;
  const FatImage image_;
  const std::string node_name_, folder_;
  u64 open_index_ = ~u64{0};  // the file that was read last
  std::shared_ptr<Fd> open_file_;
};

Task<Status> VvfatNode::read(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  CO_TRY(check_range(offset, size, image_.size_bytes));
  iovec_clear(out);
  auto region = std::ranges::upper_bound(image_.regions, offset, {}, &Region::start);
  if (region != image_.regions.begin()) --region;
  for (; region != image_.regions.end() && region->start < offset + size; ++region) {
    const u64 from = std::max(offset, region->start), to = std::min(offset + size, region->start + region->bytes);
    if (from >= to) continue;
    auto part = iovec_slice(out, from - offset, to - from);
    Status status = co_await read_region(*region, from - region->start, part);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> VvfatNode::read_region(const Region& region, u64 within, std::span<const iovec> out) {
  if (!region.in_memory) co_return co_await read_file(region.index, within, out);
  const std::string& bytes = image_.memory[region.index];
  iovec_copy_to(out, {reinterpret_cast<const u8*>(bytes.data()) + within, iovec_bytes(out)});
  co_return Status{};
}

Task<Status> VvfatNode::read_file(u64 index, u64 offset, std::span<const iovec> out) {
  const std::string& path = image_.files[index];
  if (open_index_ != index) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd.valid()) co_return os_error("open " + path);
    open_file_ = std::make_shared<Fd>(std::move(fd));
    open_index_ = index;
  }
  std::shared_ptr<Fd> file = open_file_;
  const u64 size = iovec_bytes(out);
  for (u64 done = 0; done < size;) {
    auto rest = iovec_slice(out, done);
    i32 n = co_await loop_.readv(file->get(), rest, offset + done);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return os_error(fmt::format("read {} bytes at {} of {}", size, offset, path), -n);
    if (n == 0) break;
    done += static_cast<u64>(n);
  }
  co_return Status{};
}

/// "fat:floppy:12:/folder": marks in any order, then the folder.
Result<Json> parse_fat_name(std::string_view name) {
  Json tree = {{"driver", "vvfat"}};
  if (!name.starts_with("fat:"))
    return Error(ErrorKind::Invalid, "vvfat: the name must be fat:[floppy:][12:|16:|32:]DIR", EINVAL);
  name.remove_prefix(std::string_view("fat:").size());
  for (bool again = true; again;) {
    again = false;
    for (std::string_view mark : {"floppy:", "rw:", "12:", "16:", "32:"}) {
      if (!name.starts_with(mark)) continue;
      name.remove_prefix(mark.size());
      again = true;
      mark.remove_suffix(1);
      if (mark == "floppy" || mark == "rw")
        tree[std::string(mark)] = true;
      else
        tree["fat-type"] = std::stoul(std::string(mark));
    }
  }
  tree["dir"] = std::string(name);
  return tree;
}

Task<Result<NodePtr>> open_vvfat(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  if (auto name = options.find("filename");
      name != options.end() && name->is_string()) {  // the driver named beside the name
    Json parsed = CO_TRY(parse_fat_name(name->get_ref<const std::string&>()));
    options.erase("filename");
    parsed.erase("driver");
    options.update(parsed);
  }
  OptionReader reader(std::move(options), "vvfat");
  Choice choice;
  choice.folder = CO_TRY(reader.required_string("dir"));
  choice.fat_bits = static_cast<u32>(CO_TRY(reader.number("fat-type", 0)));
  choice.floppy = CO_TRY(reader.boolean("floppy", false));
  choice.label = CO_TRY(reader.string("label", choice.label));
  const bool writable = CO_TRY(reader.boolean("rw", false));
  CO_TRY(reader.finish());
  if (writable)
    co_return Error(ErrorKind::Unsupported, "vvfat: rw=on (writing back into the folder) is not supported", ENOTSUP);
  if (!mode.readonly && !mode.auto_readonly)
    co_return Error(ErrorKind::Permission, "vvfat: the folder can only be opened read-only", EACCES);
  if (choice.label.size() > 11)
    co_return Error(ErrorKind::Invalid, "vvfat label cannot be longer than 11 bytes", EINVAL);
  while (choice.folder.size() > 1 && choice.folder.ends_with('/')) choice.folder.pop_back();
  FatImage image = CO_TRY(lay_out_folder(choice));
  if (node_name.empty()) node_name = generate_node_name();
  co_return NodePtr(std::make_shared<VvfatNode>(graph.loop(), std::move(image), std::move(node_name), choice.folder));
}

}  // namespace

extern const Driver kVvfatDriver;
const Driver kVvfatDriver = {
    .name = "vvfat", .protocol = true, .parse_name = parse_fat_name, .schemes = {"fat"}, .open = open_vvfat};

}  // namespace atl::block
