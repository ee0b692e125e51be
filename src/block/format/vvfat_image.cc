#include "block/format/vvfat_image.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/vvfat_names.h"

namespace atl::block::vvfat {
namespace {

constexpr u64 kSector = 512, kPartitionStart = 63;
constexpr u32 kMaxDepth = 32, kMaxItems = 200'000;
constexpr u64 kMaxFile = 0xffff'ffff;

struct Item {
  std::string path, name;
  bool folder = false;
  u64 bytes = 0;
  i64 modified = 0;
  std::vector<Item> inside;
  u32 cluster = 0;      // the first; 0: none
  u64 entry_bytes = 0;  // folders: of their entries
};

Error failed(std::string text) { return Error(ErrorKind::Invalid, "vvfat: " + std::move(text), EINVAL); }

struct CloseFolder {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

Status scan(Item& folder, u32 depth, u32& items) {
  if (depth > kMaxDepth) return failed(fmt::format("{} is nested too deeply", folder.path));
  std::unique_ptr<DIR, CloseFolder> dir(::opendir(folder.path.c_str()));
  if (!dir) return os_error("open folder " + folder.path);
  while (const dirent* found = ::readdir(dir.get())) {
    std::string name = found->d_name;
    if (name == "." || name == "..") continue;
    struct stat info{};
    Item item{.path = folder.path + "/" + name, .name = name};
    if (::lstat(item.path.c_str(), &info) < 0) continue;  // gone meanwhile
    item.folder = S_ISDIR(info.st_mode);
    if (!item.folder && !S_ISREG(info.st_mode)) continue;
    if (++items > kMaxItems) return failed(fmt::format("{} holds too many files", folder.path));
    item.bytes = item.folder ? 0 : static_cast<u64>(info.st_size);
    item.modified = info.st_mtime;
    if (item.bytes > kMaxFile) return failed(fmt::format("File {} is larger than 2GB", item.path));
    if (item.folder) TRY(scan(item, depth + 1, items));
    folder.inside.push_back(std::move(item));
  }
  std::ranges::sort(folder.inside, {}, &Item::name);
  return {};
}

/// Sizes of the file system; all in sectors unless said.
struct Layout {
  u32 bits = 16;
  u64 start = 0, total = 0;  // of the partition
  u64 per_cluster = 16, reserved = 1, root_entries = 512, table = 0, clusters = 0;

  u64 root_sectors() const { return root_entries * kEntryBytes / kSector; }
  u64 root_start() const { return start + reserved + 2 * table; }
  u64 data_start() const { return root_start() + root_sectors(); }
  u64 cluster_bytes() const { return per_cluster * kSector; }
  u64 at_cluster(u64 cluster) const { return (data_start() + (cluster - 2) * per_cluster) * kSector; }
};

/// The table that is large enough for the clusters that it leaves room for.
void fit_table(Layout& l) {
  for (l.table = 1;; ++l.table) {
    l.clusters = (l.total - l.reserved - l.root_sectors() - 2 * l.table) / l.per_cluster;
    if ((l.clusters + 2) * l.bits <= l.table * kSector * 8) return;
  }
}

Result<Layout> choose_layout(const Choice& choice, u64 content_bytes) {
  Layout l;
  l.bits = choice.fat_bits ? choice.fat_bits : choice.floppy ? 12 : 16;
  if (l.bits != 12 && l.bits != 16 && l.bits != 32)
    return failed(fmt::format("Valid FAT types are only 12, 16 and 32, not {}", l.bits));
  if (choice.floppy && l.bits != 12) return failed("a floppy has FAT12");
  l.start = choice.floppy ? 0 : kPartitionStart;
  l.total = choice.floppy ? 5760 : (l.bits == 12 ? 64 : 1024) * u64{16} * 63 - l.start;
  if (choice.floppy) {
    l.per_cluster = 2;
    l.root_entries = 240;
  }
  if (l.bits == 32) {
    l.per_cluster = 8;
    l.reserved = 32;
    l.root_entries = 0;
    l.total = std::max(l.total, align_up(content_bytes + content_bytes / 64 + 64 * kMiB, kMiB) / kSector);
    if (l.total > 0xffff'ffff) return failed("the folder does not fit in FAT32");
  }
  fit_table(l);
  return l;
}

/// Gives every file and folder its clusters and every folder its entries.
class Builder {
 public:
  Builder(const Choice& choice, Layout layout) : choice_(choice), l_(layout), table_(layout.table * kSector, '\0') {}

  Result<FatImage> build(Item& root) {
    TRY(place_root(root));
    set(0, (end_mark() & ~u32{0xff}) | media());  // the media byte stands here too
    set(1, end_mark());
    write_folder(root, nullptr);
    for (u64 copy = 0; copy < 2; ++copy) add_memory((l_.start + l_.reserved + copy * l_.table) * kSector, table_);
    add_boot_sectors();
    std::ranges::sort(image_.regions, {}, &Region::start);
    image_.size_bytes = (l_.start + l_.total) * kSector;
    return std::move(image_);
  }

 private:
  u32 media() const { return choice_.floppy ? 0xf0 : 0xf8; }
  u32 end_mark() const { return l_.bits == 32 ? 0x0fff'ffff : l_.bits == 16 ? 0xffff : 0xfff; }
  void set(u64 cluster, u32 value) {
    if (l_.bits == 32) return store_le(&table_[4 * cluster], value);
    if (l_.bits == 16) return store_le(&table_[2 * cluster], static_cast<u16>(value));
    char* at = &table_[cluster + cluster / 2];
    const u16 old = load_le<u16>(at);
    store_le(at, static_cast<u16>(cluster & 1 ? (old & 0x000f) | value << 4 : (old & 0xf000) | value));
  }
  /// Clusters in a row, chained; 0 for no bytes.
  Result<u32> take(u64 bytes, const std::string& path) {
    const u64 count = (bytes + l_.cluster_bytes() - 1) / l_.cluster_bytes();
    if (count == 0) return u32{0};
    if (next_ + count > l_.clusters + 2)
      return failed(fmt::format("Directory does not fit in FAT{} (capacity {} MB): {}", l_.bits,
                                l_.clusters * l_.cluster_bytes() / kMiB, path));
    const u64 first = next_;
    for (; next_ < first + count; ++next_)
      set(next_, next_ + 1 == first + count ? end_mark() : static_cast<u32>(next_ + 1));
    return static_cast<u32>(first);
  }
  void add_memory(u64 start, std::string bytes) {
    image_.regions.push_back({start, bytes.size(), true, image_.memory.size()});
    image_.memory.push_back(std::move(bytes));
  }

  static u64 entries_of(const Item& folder, bool root) {
    u64 count = root ? 1 : 2;
    for (const Item& item : folder.inside) count += 1 + (std::min<u64>(item.name.size(), 255) + 12) / 13;
    return count * kEntryBytes;
  }
  Status place_root(Item& root) {
    root.entry_bytes = entries_of(root, true);
    if (l_.bits == 32) root.cluster = TRY(take(root.entry_bytes, root.path));
    if (l_.bits != 32 && root.entry_bytes > l_.root_entries * kEntryBytes)
      return failed("Too many entries in root directory");
    return place_inside(root);
  }
  Status place_inside(Item& folder) {
    for (Item& item : folder.inside) {
      if (item.folder) item.entry_bytes = entries_of(item, false);
      item.cluster = TRY(take(item.folder ? item.entry_bytes : item.bytes, item.path));
      if (item.folder) TRY(place_inside(item));
      if (item.folder || item.bytes == 0) continue;
      image_.regions.push_back({l_.at_cluster(item.cluster), item.bytes, false, image_.files.size()});
      image_.files.push_back(item.path);
    }
    return {};
  }
  void write_folder(const Item& folder, const Item* parent) {
    std::set<std::string> taken;
    std::string entries;
    auto link = [&](const char* name, u32 cluster) {
      entries += directory_entry(
          name, {.attributes = kDirectory, .modified = folder.modified, .cluster = cluster, .bytes = 0});
    };
    if (parent) {
      link(".          ", folder.cluster);
      link("..         ", parent->path == choice_.folder ? 0 : parent->cluster);  // the root counts as 0
    } else {
      std::string label = choice_.label;
      label.resize(11, ' ');
      entries +=
          directory_entry(label, {.attributes = kVolumeLabel, .modified = folder.modified, .cluster = 0, .bytes = 0});
    }
    for (const Item& item : folder.inside) {
      std::string form = short_name(item.name, taken);
      entries += long_name_entries(item.name, form);
      const u8 attributes = item.folder ? kDirectory : kArchive;
      entries += directory_entry(form, {attributes, item.modified, item.cluster, static_cast<u32>(item.bytes)});
    }
    add_memory(parent || l_.bits == 32 ? l_.at_cluster(folder.cluster) : l_.root_start() * kSector, std::move(entries));
    for (const Item& item : folder.inside)
      if (item.folder) write_folder(item, &folder);
  }

  std::string boot_sector() const;
  std::string partition_table() const;
  void add_boot_sectors();

  const Choice& choice_;
  const Layout l_;
  std::string table_;
  u64 next_ = 2;
  FatImage image_;
};

std::string Builder::boot_sector() const {
  std::string b(kSector, '\0');
  const bool wide = l_.bits == 32;
  b.replace(0, 11,
            wide ? std::string("\xeb\x58\x90"
                               "ATOLL   ")
                 : std::string("\xeb\x3c\x90"
                               "ATOLL   "));
  store_le(&b[11], static_cast<u16>(kSector));
  b[13] = static_cast<char>(l_.per_cluster);
  store_le(&b[14], static_cast<u16>(l_.reserved));
  b[16] = 2;
  store_le(&b[17], static_cast<u16>(l_.root_entries));
  if (l_.total < 65536 && !wide) store_le(&b[19], static_cast<u16>(l_.total));
  if (l_.total >= 65536 || wide) store_le(&b[32], static_cast<u32>(l_.total));
  b[21] = static_cast<char>(media());
  if (!wide) store_le(&b[22], static_cast<u16>(l_.table));
  store_le(&b[24], static_cast<u16>(choice_.floppy ? 36 : 63));
  store_le(&b[26], static_cast<u16>(choice_.floppy ? 2 : 16));
  store_le(&b[28], static_cast<u32>(l_.start));
  if (wide) {
    store_le(&b[36], static_cast<u32>(l_.table));
    store_le(&b[44], u32{2});
    store_le(&b[48], u16{1});
    store_le(&b[50], u16{6});
  }
  const u64 tail = wide ? 64 : 36;  // the same fields, further back
  b[tail] = static_cast<char>(choice_.floppy ? 0 : 0x80);
  b[tail + 2] = 0x29;
  store_le(&b[tail + 3], u32{0xfabe1afd});
  std::string label = choice_.label;
  label.resize(11, ' ');
  b.replace(tail + 7, 11, label);
  b.replace(tail + 18, 8, fmt::format("FAT{}   ", l_.bits));
  store_le(&b[510], u16{0xaa55});
  return b;
}

std::string Builder::partition_table() const {
  std::string b(kSector, '\0');
  char* entry = &b[446];
  entry[0] = static_cast<char>(0x80);
  entry[1] = 1;  // head 1, sector 1: behind the first track
  entry[2] = 1;
  entry[4] = static_cast<char>(l_.bits == 12 ? 0x01 : l_.bits == 16 ? 0x06 : 0x0c);
  const u64 last = l_.start + l_.total - 1, cylinder = std::min<u64>(last / (16 * 63), 1023);
  entry[5] = static_cast<char>(last / 63 % 16);
  entry[6] = static_cast<char>((last % 63 + 1) | (cylinder >> 8 & 3) << 6);
  entry[7] = static_cast<char>(cylinder);
  store_le(entry + 8, static_cast<u32>(l_.start));
  store_le(entry + 12, static_cast<u32>(l_.total));
  store_le(&b[440], u32{0xbe1afdfa});
  store_le(&b[510], u16{0xaa55});
  return b;
}

void Builder::add_boot_sectors() {
  if (!choice_.floppy) add_memory(0, partition_table());
  const std::string boot = boot_sector();
  add_memory(l_.start * kSector, boot);
  if (l_.bits != 32) return;
  std::string info(kSector, '\0');
  store_le(&info[0], u32{0x41615252});
  store_le(&info[484], u32{0x61417272});
  store_le(&info[488], static_cast<u32>(l_.clusters + 2 - next_));
  store_le(&info[492], static_cast<u32>(next_));
  store_le(&info[508], u32{0xaa550000});
  add_memory((l_.start + 1) * kSector, info);
  add_memory((l_.start + 6) * kSector, boot);
  add_memory((l_.start + 7) * kSector, info);
}

u64 content_bytes(const Item& folder) {
  u64 bytes = 64 * kKiB + folder.inside.size() * 700;
  for (const Item& item : folder.inside) bytes += item.folder ? content_bytes(item) : align_up(item.bytes, 4096);
  return bytes;
}

}  // namespace

Result<FatImage> lay_out_folder(const Choice& choice) {
  Item root{.path = choice.folder, .folder = true};
  u32 items = 0;
  TRY(scan(root, 0, items));
  Layout layout = TRY(choose_layout(choice, content_bytes(root)));
  return Builder(choice, layout).build(root);
}

}  // namespace atl::block::vvfat
