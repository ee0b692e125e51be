// All that refers to clusters of an image's file.
#include <fmt/format.h>

#include <algorithm>

#include "base/task_group.h"
#include "block/format/qcow2/bitmap_table.h"
#include "block/format/qcow2/check.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/snapshot_table.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kPieceBytes = 64 * kKiB, kPiecesAtOnce = 16;
constexpr size_t kMaxMessages = 1000;

}  // namespace

void Findings::note(std::string text) {
  if (report.messages.size() < kMaxMessages) report.messages.push_back(std::move(text));
}

void Findings::corruption(std::string text, bool mended) {
  note((mended ? "Repairing " : "ERROR ") + text);
  ++(mended ? report.corruptions_fixed : report.corruptions);
}

void Findings::refcount(std::string text, bool leaked, bool mended) {
  note((leaked ? "Leaked " : "ERROR ") + text);
  if (mended && repairs.size() < kMaxMessages) repairs.push_back("Repairing " + std::move(text));
  if (leaked) ++(mended ? report.leaks_fixed : report.leaks);
  else ++(mended ? report.corruptions_fixed : report.corruptions);
}

void Findings::note_repairs() {
  for (std::string& text : std::exchange(repairs, {})) note(std::move(text));
}

/// Counts a reference. What lies far behind the file's end is damage, and not counted.
bool Walk::refer(u64 offset, u64 bytes, const char* what) {
  const Geometry& g = core_.geometry();
  if (bytes == 0) return true;
  if (offset + bytes > file_end_ || offset + bytes < offset) {
    if (first_) findings_.corruption(fmt::format("{} at offset {:#x} lies past the end of the file", what, offset), false);
    return false;
  }
  for (u64 cluster = offset >> g.cluster_bits; cluster <= (offset + bytes - 1) >> g.cluster_bits; ++cluster) {
    counts_.add(cluster);
    if (first_) note_use(cluster);
  }
  return true;
}

void Walk::note_use(u64 cluster) {
  findings_.highest = std::max(findings_.highest, cluster);
  if (cluster >= window_first_ && cluster < window_end_) return;
  const u64 window = cluster / window_clusters_;
  findings_.windows.insert(window);
  window_first_ = window * window_clusters_;
  window_end_ = window_first_ + window_clusters_;
}

Task<Status> Walk::all(bool with_refcounts) {
  const Header& header = core_.header;
  refer(0, core_.geometry().cluster_bytes(), "header");
  Status status = co_await l1_table(header.l1_offset, header.l1_entries, true);
  CO_TRY(std::move(status));
  status = co_await snapshots();
  CO_TRY(std::move(status));
  if (header.crypto) refer(header.crypto->offset, header.crypto->bytes, "encryption header");
  status = co_await bitmaps();
  CO_TRY(std::move(status));
  if (with_refcounts) co_return co_await refcount_structures();
  co_return Status{};
}

Task<Status> Walk::refcount_structures() {
  const Geometry& g = core_.geometry();
  const Header& header = core_.header;
  const u64 table_bytes = u64{header.refcount_table_clusters} << g.cluster_bits;
  if (!refer(header.refcount_table_offset, table_bytes, "refcount table")) findings_.rebuild = true;
  for (u64 at = 0; at < table_bytes; at += kPieceBytes) {
    std::vector<u8> piece(std::min(kPieceBytes, table_bytes - at));
    Status status = co_await read_padded(*core_.file, header.refcount_table_offset + at, std::span<u8>(piece));
    CO_TRY(std::move(status));
    for (u64 i = 0; i < piece.size(); i += 8) {
      const u64 entry = load_be<u64>(&piece[i]), block = entry & ~kReservedRefcountBits;
      if (entry == 0) continue;
      bool good = (entry & kReservedRefcountBits) == 0 && !g.in_cluster(block);
      if (!good && first_)
        findings_.corruption(fmt::format("refcount block {} is not cluster aligned; refcount table entry corrupted", (at + i) / 8), false);
      if (good) good = refer(block, g.cluster_bytes(), "refcount block");
      if (!good) findings_.rebuild = true;
    }
  }
  co_return Status{};
}

Task<Status> Walk::snapshots() {
  if (core_.header.snapshots == 0) co_return Status{};
  Result<SnapshotTable> read = co_await read_snapshot_table(core_);
  if (!read) {
    if (first_) {
      findings_.corruption("snapshot table: " + read.error().text(), false);
      ++findings_.report.check_errors;
    }
    co_return Status{};
  }
  const SnapshotTable table = std::move(*read);
  refer(core_.header.snapshots_offset, table.bytes, "snapshot table");
  for (const Snapshot& snapshot : table.list) {
    Status status = co_await l1_table(snapshot.l1_offset, snapshot.l1_entries, false);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> Walk::bitmaps() {
  if (!core_.header.bitmaps) co_return Status{};
  const BitmapsExtension& place = *core_.header.bitmaps;
  refer(place.directory_offset, place.directory_bytes, "bitmap directory");
  Result<std::vector<BitmapEntry>> read = co_await read_bitmap_directory(core_);
  if (!read) {
    if (first_) findings_.corruption("bitmap directory: " + read.error().text(), false);
    co_return Status{};
  }
  for (const BitmapEntry& entry : *read) {
    refer(entry.table_offset, 8 * u64{entry.table_entries}, "bitmap table");
    Result<std::vector<u64>> table = co_await read_bitmap_table(core_, entry);
    if (!table) co_return Error(table.error());
    for (u64 cluster : *table)
      if (cluster & kOffsetMask) refer(cluster & kOffsetMask, core_.geometry().cluster_bytes(), "bitmap cluster");
  }
  co_return Status{};
}

Task<Status> Walk::l1_table(u64 offset, u64 entries, bool active) {
  const Geometry& g = core_.geometry();
  next_host_ = 0;
  refer(offset, 8 * entries, "L1 table");
  for (u64 at = 0; at < 8 * entries; at += kPieceBytes) {
    std::vector<u8> piece(std::min(kPieceBytes, 8 * entries - at));
    Status status = co_await read_padded(*core_.file, offset + at, std::span<u8>(piece));
    CO_TRY(std::move(status));
    std::vector<u64> tables;
    for (u64 i = 0; i < piece.size(); i += 8) {
      const u64 entry = load_be<u64>(&piece[i]), table = entry & kOffsetMask;
      if (entry & kReservedL1Bits && first_)
        findings_.corruption(fmt::format("L1 entry {} has reserved bits set: {:#x}", (at + i) / 8, entry), false);
      if (table == 0) continue;
      if (g.in_cluster(table)) {
        if (first_)
          findings_.corruption(fmt::format("l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted", table), false);
        continue;
      }
      if (refer(table, g.cluster_bytes(), "L2 table")) tables.push_back(table);
    }
    status = co_await l2_tables(std::move(tables), active);
    CO_TRY(std::move(status));
    const double share = static_cast<double>(at) / static_cast<double>(8 * entries);
    if (active && findings_.progress && !findings_.progress(share))
      co_return Error(ErrorKind::Cancelled, "the check was cancelled", ECANCELED);
  }
  co_return Status{};
}

/// Some tables are read at a time, in pieces of bounded size, and then looked at in order.
Task<Status> Walk::l2_tables(std::vector<u64> offsets, bool active) {
  const u64 piece_bytes = std::min(kPieceBytes, core_.geometry().cluster_bytes());
  const u64 per_table = core_.geometry().cluster_bytes() / piece_bytes;
  const u64 pieces = offsets.size() * per_table;
  Bytes buffer(std::min(pieces, kPiecesAtOnce) * piece_bytes);
  for (u64 done = 0; done < pieces; done += kPiecesAtOnce) {
    const u64 n = std::min(kPiecesAtOnce, pieces - done);
    auto place = [&](u64 i) { return offsets[(done + i) / per_table] + (done + i) % per_table * piece_bytes; };
    auto part = [&](u64 i) { return buffer.span().subspan(i * piece_bytes, piece_bytes); };
    TaskGroup group(static_cast<unsigned>(n));
    for (u64 i = 0; i < n; ++i) group.add(read_padded(*core_.file, place(i), part(i)));
    Status status = co_await group.all();
    CO_TRY(std::move(status));
    for (u64 i = 0; i < n; ++i) {
      if ((done + i) % per_table == 0) next_host_ = 0;  // fragments are counted inside each table
      status = co_await l2_piece(place(i), part(i), active);
      CO_TRY(std::move(status));
    }
  }
  co_return Status{};
}

Task<Status> Walk::l2_piece(u64 offset, std::span<u8> piece, bool active) {
  const Geometry& g = core_.geometry();
  bool changed = false;
  for (u64 i = 0; i < piece.size(); i += g.l2_entry_bytes()) {
    L2Entry entry{load_be<u64>(&piece[i]), g.extended_l2 ? load_be<u64>(&piece[i + 8]) : 0};
    if ((entry.word | entry.bitmap) == 0) continue;
    if (!l2_entry(entry, active)) continue;
    store_be(&piece[i], entry.word);
    if (g.extended_l2) store_be(&piece[i + 8], entry.bitmap);
    changed = true;
  }
  if (changed) co_return co_await write_growing(*core_.file, offset, std::span<const u8>(piece));
  co_return Status{};
}

void Walk::count_fragments(u64 host) {
  ++findings_.report.allocated_clusters;
  if (next_host_ && host != next_host_) ++findings_.report.fragmented_clusters;
  next_host_ = host + core_.geometry().cluster_bytes();
}

bool Walk::mend_compressed(L2Entry& entry) {
  if (entry.word & kCopied) {
    findings_.corruption(fmt::format("coffset={:#x}: copied flag must never be set for compressed clusters", entry.word), findings_.fixes());
    entry.word &= ~kCopied;
    return findings_.fixes();
  }
  if (!core_.external()) return false;
  findings_.corruption("compressed cluster in an image with an external data file", findings_.fixes());
  if (findings_.fixes()) entry = core_.geometry().extended_l2 ? L2Entry{0, u64{0xffff'ffff} << kSubclusters} : L2Entry{kZero, 0};
  return findings_.fixes();
}

/// A place that is not one: it matters only if data were there.
bool Walk::mend_unaligned(L2Entry& entry) {
  const bool extended = core_.geometry().extended_l2;
  const bool has_data = extended ? entry.bitmap & 0xffff'ffff : !(entry.word & kZero);
  const u64 host = entry.word & kOffsetMask;
  if (has_data) {
    findings_.corruption(fmt::format("offset={:x}: Data cluster is not properly aligned; L2 entry corrupted.", host), false);
    return false;
  }
  findings_.corruption(fmt::format("offset={:x}: Preallocated cluster is not properly aligned; L2 entry corrupted.", host), findings_.fixes());
  if (findings_.fixes()) entry.word = extended ? 0 : kZero;
  return findings_.fixes();
}

bool Walk::l2_entry(L2Entry& entry, bool active) {
  const Geometry& g = core_.geometry();
  bool changed = false;
  if (entry.word & kCompressed) {
    if (first_) changed = mend_compressed(entry);
    if (!(entry.word & kCompressed)) return changed;
    const CompressedPlace place = decode_compressed(entry.word, g.cluster_bits);
    // The last sector may be cut off by the file's end.
    const u64 bytes = std::min(place.bytes, std::max(file_end_, place.host + 1) - place.host);
    refer(place.host, bytes, "compressed cluster");
    if (active && first_) {
      ++findings_.report.allocated_clusters;
      ++findings_.report.compressed_clusters;
      ++findings_.report.fragmented_clusters;
    }
    return changed;
  }
  const u64 host = entry.word & kOffsetMask;
  if (first_ && g.extended_l2 && (entry.bitmap & entry.bitmap >> kSubclusters & 0xffff'ffff))
    findings_.corruption(fmt::format("offset={:x}: subclusters are both allocated and zero; L2 entry corrupted.", host), false);
  if (host == 0 && !(core_.external() && (entry.word & kCopied))) return false;
  // What a damaged entry leads to counts as used, too: it may be all that is left of the data.
  if (g.in_cluster(host) && first_ && mend_unaligned(entry)) return true;
  if (active && first_ && !g.in_cluster(host)) count_fragments(host);
  if (!core_.external()) refer(g.cluster_start(host), g.cluster_bytes(), "data cluster");
  return false;
}

}  // namespace atl::block::qcow2
