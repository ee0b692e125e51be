// For tests of qcow2: images in memory, opened and asked without ceremony, and a check of refcounts that trusts nobody.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "block/format/qcow2/qcow2.h"
#include "block/format/qcow2/refcounts.h"
#include "block/test_support.h"

namespace atl::block {

/// Owned by somebody else, who outlives it.
inline NodePtr borrowed(Node& node) {
  return NodePtr(&node, [](Node*) {});
}

struct Qcow2Test : testing::Test {
  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }
  std::unique_ptr<Loop> loop = make_loop();
  MemoryNode file, data;
  ErrorInjector injector{file};
  std::string password;

  void create(Qcow2CreateOptions options) {
    NodePtr data_file = options.data_file.empty() ? nullptr : borrowed(data);
    Status status = finish(*loop, create_qcow2(*loop, borrowed(file), data_file, options));
    ASSERT_TRUE(status) << status.error().text();
  }
  Result<NodePtr> open(qcow2::Options options = {}, Node* backing = nullptr) {
    return finish(*loop, open_qcow2(*loop, borrowed(injector), header().has_data_file() ? borrowed(data) : nullptr,
                                    backing ? borrowed(*backing) : nullptr, options, password));
  }
  static qcow2::Options readonly() {
    qcow2::Options options;
    options.readonly = true;
    return options;
  }
  Status write(Node& node, u64 offset, std::string bytes) {
    iovec v{bytes.data(), bytes.size()};
    return finish(*loop, node.write(offset, {&v, 1}, 0));
  }
  Status write_compressed(Node& node, u64 offset, std::string bytes) {
    iovec v{bytes.data(), bytes.size()};
    return finish(*loop, node.write_compressed(offset, {&v, 1}));
  }
  std::string read(Node& node, u64 offset, size_t size) {
    std::string bytes(size, '?');
    iovec v{bytes.data(), size};
    Status status = finish(*loop, node.read(offset, {&v, 1}));
    return status ? bytes : "error: " + status.error().text();
  }
  qcow2::Header header() {
    auto found = finish(*loop, read_qcow2_header(file));
    return found ? *found : qcow2::Header{};
  }
  u64 word(u64 at) const { return at + 8 <= file.bytes.size() ? load_be<u64>(&file.bytes[at]) : 0; }
  void put_word(u64 at, u64 value) { store_be<u64>(&file.bytes[at], value); }

  /// Compares every refcount with the references that are really there. "" if they agree.
  std::string check_refcounts();
};

inline std::string Qcow2Test::check_refcounts() {
  using namespace qcow2;
  Header h = header();
  const Geometry g = h.geometry;
  std::map<u64, u64> references;
  auto count = [&](u64 offset, u64 bytes) {
    for (u64 at = g.cluster_start(offset); at < offset + bytes; at += g.cluster_bytes()) ++references[at >> g.cluster_bits];
  };
  auto count_tables = [&](u64 l1_offset, u64 l1_entries) {
    count(l1_offset, 8 * l1_entries);
    for (u64 i = 0; i < l1_entries; ++i) {
      u64 l2 = word(l1_offset + 8 * i) & kOffsetMask;
      if (!l2) continue;
      count(l2, 1);
      for (u64 j = 0; j < g.l2_entries(); ++j) {
        u64 entry = word(l2 + g.l2_entry_bytes() * j);
        if (entry & kCompressed) {
          CompressedPlace place = decode_compressed(entry, g.cluster_bits);
          count(place.host, place.bytes);
        } else if ((entry & kOffsetMask) && !h.has_data_file()) {
          count(entry & kOffsetMask, 1);
        }
      }
    }
  };
  count(0, 1);
  count(h.refcount_table_offset, u64{h.refcount_table_clusters} << g.cluster_bits);
  for (u64 i = 0; i < u64{h.refcount_table_clusters} * g.cluster_bytes() / 8; ++i)
    if (u64 block = word(h.refcount_table_offset + 8 * i)) count(block, 1);
  count_tables(h.l1_offset, h.l1_entries);
  if (h.crypto) count(h.crypto->offset, h.crypto->bytes);
  std::string wrong;
  for (u64 cluster = 0; cluster < g.clusters(file.bytes.size()); ++cluster) {
    u64 block = word(h.refcount_table_offset + 8 * (cluster / g.refcounts_per_block()));
    u64 stored = block ? load_refcount(reinterpret_cast<u8*>(&file.bytes[block]), cluster % g.refcounts_per_block(), g.refcount_order) : 0;
    if (stored != references[cluster] && wrong.size() < 1000)
      wrong += fmt::format("{}: {} not {}; ", cluster, stored, references[cluster]);
  }
  return wrong;
}

}  // namespace atl::block
