// Drivers "raw", "null-co" and "null-aio" as option trees and for creation.
#include <fmt/format.h>

#include "block/driver.h"

namespace atl::block {
namespace {

Task<Result<NodePtr>> open_raw(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "raw");
  RawOptions raw;
  raw.node_name = std::move(node_name);
  raw.offset = CO_TRY(reader.size("offset", 0));
  raw.size = CO_TRY(reader.size("size", 0));
  raw.probed = mode.probed;
  raw.readonly = mode.readonly;
  raw.discard = mode.discard;
  Json child = reader.child("file");
  CO_TRY(reader.finish());
  Result<NodePtr> opened = co_await graph.open(std::move(child), mode);
  NodePtr file = CO_TRY(std::move(opened));
  auto node = CO_TRY(open_raw_node(std::move(file), raw));
  co_return NodePtr(std::move(node));
}

constexpr u64 kFirstBlock = 4096;

/// Raw has no metadata: the file of the right size is the image.
Task<Status> create_raw(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "raw");
  u64 size = CO_TRY(reader.size("size", 0));
  std::string name = CO_TRY(reader.string("preallocation", "off"));
  CO_TRY(reader.finish());
  Preallocation how = CO_TRY(parse_preallocation(name));
  Status status = co_await file->resize(size, how);
  // As QEMU does it: a first block that is there lets programs find out what direct I/O needs.
  if (status && how == Preallocation::Off && file->info().driver == "file")
    status = co_await write_zeroes_as_data(*file, 0, std::min(size, kFirstBlock));
  co_return status;
}

/// Holes count: whatever takes the image need not know them.
Result<Measurement> measure_raw(u64 size_bytes, u64, const Json&) {
  Measurement measurement;
  measurement.required = measurement.fully_allocated = size_bytes;
  return measurement;
}

Result<NodePtr> open_null(Graph& graph, Json tree, const char* driver, std::string node_name) {
  OptionReader reader(std::move(tree), driver);
  NullOptions options;
  options.node_name = std::move(node_name);
  options.driver = driver;
  options.size = TRY(reader.size("size", options.size));
  options.latency_ns = TRY(reader.number("latency-ns", 0));
  options.read_zeroes = TRY(reader.boolean("read-zeroes", false));
  TRY(reader.string("filename", {}));
  TRY(reader.finish());
  return NodePtr(make_null_node(graph.loop(), options));
}

Task<Result<NodePtr>> open_null_co(Graph& graph, Json options, OpenMode, std::string node_name) {
  co_return open_null(graph, std::move(options), "null-co", std::move(node_name));
}
Task<Result<NodePtr>> open_null_aio(Graph& graph, Json options, OpenMode, std::string node_name) {
  co_return open_null(graph, std::move(options), "null-aio", std::move(node_name));
}

/// "null-co://": nothing follows.
Result<Json> parse_null_name(std::string_view name) {
  std::string driver(name.substr(0, name.find(':')));
  if (name != driver + "://") return Error(ErrorKind::Invalid, "The only allowed filename for this driver is '" + driver + "://'");
  return Json{{"driver", driver}};
}

}  // namespace

extern const Driver kRawDriver, kNullCoDriver, kNullAioDriver;
const Driver kRawDriver = {
    .name = "raw",
    .open = open_raw,
    .create = create_raw,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"preallocation", CreateOption::Text, "Preallocation mode (allowed values: off, falloc, full)"}},
    .measure = measure_raw,
};
const Driver kNullCoDriver = {
    .name = "null-co", .protocol = true, .parse_name = parse_null_name, .schemes = {"null-co"}, .open = open_null_co};
const Driver kNullAioDriver = {
    .name = "null-aio", .protocol = true, .parse_name = parse_null_name, .schemes = {"null-aio"}, .open = open_null_aio};

}  // namespace atl::block
