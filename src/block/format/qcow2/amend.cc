#include "block/format/qcow2/amend.h"

#include <fmt/format.h>

#include <bit>

#include "block/format/qcow2/check.h"
#include "block/format/qcow2/create.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/resize.h"
#include "block/format/qcow2/write.h"

namespace atl::block::qcow2 {
namespace {

Error refuse(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Task<Status> put_header(Core& core, Header changed) {
  co_await core.tables.exclusive();
  Status status = co_await core.sync(true);
  if (status) status = co_await write_header(*core.file, changed);
  if (status) status = co_await core.file->flush();
  if (status) core.header = std::move(changed);
  core.tables.release();
  co_return status;
}

// --- version ---

/// Version 2 has no zero clusters: they become holes, or data where a backing file would show.
Task<Status> expand_zeroes(Core& core) {
  const u64 end = core.header.size_bytes;
  for (u64 at = 0; at < end;) {
    Result<Run> found = co_await core.lookup(at, end - at);
    const Run run = CO_TRY(std::move(found));
    if (run.kind == Extent::Zero) {
      Status status;
      if (core.has_backing()) status = co_await write_zeroes_as_data(*core.self, at, run.bytes);
      else status = co_await clear_disk(core, at, at + run.bytes, Clearing::Full);
      CO_TRY(std::move(status));
    }
    at += run.bytes;
  }
  co_return Status{};
}

Task<Status> downgrade(Core& core) {
  const Header& header = core.header;
  if (header.geometry.refcount_order != 4) co_return refuse("compat=0.10 requires refcount_bits=16");
  if (header.incompatible & ~(kDirty | kCorrupt)) co_return refuse("compat=0.10 does not have the features of this image: data file, compression type or extended L2");
  if (header.bitmaps) co_return refuse("compat=0.10 does not support bitmaps");
  if (header.snapshots) co_return Error(ErrorKind::Unsupported, "Internal snapshots prevent downgrade of image", ENOTSUP);
  Status status = co_await expand_zeroes(core);
  CO_TRY(std::move(status));
  co_await core.tables.exclusive();
  status = co_await core.mark_clean();
  core.tables.release();
  CO_TRY(std::move(status));
  Header changed = core.header;
  changed.version = 2;
  changed.compatible = changed.autoclear = changed.incompatible = 0;
  changed.unknown_fields.clear();
  co_return co_await put_header(core, std::move(changed));
}

Task<Status> change_version(Core& core, u32 version) {
  if (version == core.header.version) co_return Status{};
  if (version == 2) co_return co_await downgrade(core);
  Header changed = core.header;
  changed.version = 3;
  co_return co_await put_header(core, std::move(changed));
}

// --- features ---

Task<Status> change_lazy_refcounts(Core& core, bool lazy) {
  if (lazy && core.header.version < 3) co_return refuse("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)");
  Header changed = core.header;
  changed.compatible = lazy ? changed.compatible | kLazyRefcounts : changed.compatible & ~kLazyRefcounts;
  if (changed.compatible == core.header.compatible) co_return Status{};
  if (!lazy) {
    co_await core.tables.exclusive();
    Status status = co_await core.mark_clean();
    core.tables.release();
    CO_TRY(std::move(status));
    changed.incompatible = core.header.incompatible;
  }
  core.prepared = false;
  co_return co_await put_header(core, std::move(changed));
}

Task<Status> change_data_file(Core& core, OptionReader& reader) {
  const bool named = reader.has("data_file"), mentions_raw = reader.has("data_file_raw");
  std::string name = CO_TRY(reader.string("data_file", core.header.data_file));
  const bool raw = CO_TRY(reader.boolean("data_file_raw", core.header.has_raw_data_file()));
  if (!named && !mentions_raw) co_return Status{};
  if (!core.external() && !name.empty()) co_return refuse("data-file can only be set for images that use an external data file");
  if (raw && !core.header.has_raw_data_file()) co_return refuse("data-file-raw cannot be set on existing images");
  Header changed = core.header;
  changed.data_file = std::move(name);
  if (!raw) changed.autoclear &= ~kRawDataFile;
  co_return co_await put_header(core, std::move(changed));
}

Task<Status> change_refcount_bits(Core& core, u64 bits) {
  if (!is_power_of_two(bits) || bits > 64) co_return refuse("Refcount width must be a power of two and may not exceed 64 bits");
  const u32 order = static_cast<u32>(std::countr_zero(bits));
  if (order == core.header.geometry.refcount_order) co_return Status{};
  if (core.header.version < 3) co_return refuse("Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
  co_await core.tables.exclusive();
  Status status = co_await core.sync(true);
  if (status) status = co_await change_refcount_width(core, order);
  core.tables.release();
  co_return status;
}

Task<Status> change_keys(Core& core, Graph* graph, Json rest, bool force) {
  if (rest.empty()) co_return Status{};
  if (!core.cipher || !core.cipher->luks() || !graph) co_return refuse("Only LUKS encrypted images have keys that can be changed");
  Json named = Json::object();
  for (auto& [key, value] : rest.items()) named["encrypt." + key] = value;
  std::string password = core.cipher->password();
  co_return co_await crypto::amend_luks(*graph, *core.file, core.header.crypto->offset, *core.cipher->luks(), std::move(password),
                                        std::move(named), "encrypt.", force);
}

/// Those that have no amend: accepted if they say what is so anyway.
Status check_fixed(const Header& header, OptionReader& reader) {
  const u64 cluster = TRY(reader.size("cluster_size", header.geometry.cluster_bytes()));
  if (cluster != header.geometry.cluster_bytes()) return refuse("Changing the cluster size is not supported");
  const bool extended = TRY(reader.boolean("extended_l2", header.geometry.extended_l2));
  if (extended != header.geometry.extended_l2) return refuse("Toggling extended L2 entries is not supported");
  const char* now = header.compression == kZstd ? "zstd" : "zlib";
  const std::string file = TRY(reader.string("backing_file", header.backing_file));
  const std::string format = TRY(reader.string("backing_fmt", header.backing_format));
  if (file != header.backing_file || format != header.backing_format)
    return refuse("Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
  std::string compression = TRY(reader.string("compression_type", now));
  if (compression != now) return refuse("Changing the compression type is not supported");
  return {};
}

}  // namespace

std::vector<CreateOption> amend_options() {
  return {
      {"backing_file", CreateOption::Text, "File name of a base image"},
      {"backing_fmt", CreateOption::Text, "Image format of the base image"},
      {"compat", CreateOption::Text, "Compatibility level (v2 [0.10] or v3 [1.1])"},
      {"data_file", CreateOption::Text, "File name of an external data file"},
      {"data_file_raw", CreateOption::Flag, "The external data file must stay valid as a raw image"},
      {"encrypt.iter-time", CreateOption::Number, "Time to spend in PBKDF in milliseconds"},
      {"encrypt.keyslot", CreateOption::Number, "Select a single keyslot to modify explicitly"},
      {"encrypt.new-secret", CreateOption::Text, "New secret to set in the matching keyslots. Empty string to erase"},
      {"encrypt.old-secret", CreateOption::Text, "Select all keyslots that match this password"},
      {"encrypt.state", CreateOption::Text, "Select new state of affected keyslots (active/inactive)"},
      {"lazy_refcounts", CreateOption::Flag, "Postpone refcount updates"},
      {"refcount_bits", CreateOption::Number, "Width of a reference count entry in bits"},
      {"size", CreateOption::Size, "Virtual disk size"},
  };
}

Task<Status> change_backing(Core& core, std::string file, std::string format) {
  Header changed = core.header;
  changed.backing_file = std::move(file);
  changed.backing_format = std::move(format);
  if (changed.has_raw_data_file() && !changed.backing_file.empty())
    co_return refuse("An image with a raw data file can have no backing file");
  co_return co_await put_header(core, std::move(changed));
}

/// What cannot be is refused before anything has changed.
Status check_together(u32 version, bool lazy, u64 bits) {
  if (version >= 3) return {};
  if (lazy) return refuse("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)");
  if (bits != 16) return refuse("Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
  return {};
}

/// Upgrades come first, a downgrade last, so that each change finds the version that it needs.
Task<Status> amend_image(Core& core, Graph* graph, Json options, bool force, Progress progress) {
  OptionReader reader(std::move(options), "qcow2");
  CO_TRY(check_fixed(core.header, reader));
  const char* now = core.header.version == 2 ? "0.10" : "1.1";
  const std::string compat = CO_TRY(reader.string("compat", now));
  const auto known = parse_version(compat);
  if (!known) co_return refuse("Unknown compatibility level " + compat);
  const u32 version = *known;
  const bool lazy = CO_TRY(reader.boolean("lazy_refcounts", version >= 3 && (core.header.compatible & kLazyRefcounts)));
  const u64 bits = CO_TRY(reader.number("refcount_bits", u64{1} << core.header.geometry.refcount_order));
  const u64 size = CO_TRY(reader.size("size", core.header.size_bytes));
  CO_TRY(check_together(version, lazy, bits));
  Status status;
  if (version > core.header.version) status = co_await change_version(core, version);
  CO_TRY(std::move(status));
  status = co_await change_lazy_refcounts(core, lazy);
  CO_TRY(std::move(status));
  status = co_await change_refcount_bits(core, bits);
  CO_TRY(std::move(status));
  status = co_await change_data_file(core, reader);
  CO_TRY(std::move(status));
  Json keys = reader.rest("encrypt");
  status = co_await change_keys(core, graph, std::move(keys), force);
  CO_TRY(std::move(status));
  CO_TRY(reader.finish());
  status = co_await resize_disk(core, align_up(size, kSectorBytes), Preallocation::Off);
  CO_TRY(std::move(status));
  status = co_await change_version(core, version);
  if (status && progress) progress(1.0);
  co_return status;
}

}  // namespace atl::block::qcow2
