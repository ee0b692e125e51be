// Driver "iscsi": a logical unit of an iSCSI target, through libiscsi.
//
// Supported: portal, target, lun, user, password-secret, initiator-name, header-digest, timeout; reads, writes,
// flush, unmap where the target has it. One session. Missing: persistent reservations, SCSI pass-through.
#include <fmt/format.h>

#include "base/strings.h"
#include "block/driver.h"
#include "block/protocol/late_library.h"
#include "block/protocol/missing.h"
#include "block/protocol/remote_node.h"

#ifdef ATOLL_HAVE_ISCSI
extern "C" {
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
}

#include <cstring>
#include <functional>
#include <utility>

namespace atl::block {
namespace {

constexpr u64 kMaxTransfer = 256 * kKiB;
constexpr int kMostAttentions = 8;
constexpr const char* kInitiator = "iqn.2008-11.org.linux-kvm";

struct IscsiOptions {
  std::string portal, target, user, password, initiator;
  int lun = 0, timeout = 0;
  iscsi_header_digest digest = ISCSI_HEADER_DIGEST_NONE_CRC32C;
  bool readonly = false;
};

struct IscsiDeleter {
  void operator()(iscsi_context* context) const {
    if (iscsi_is_logged_in(context)) iscsi_logout_sync(context);
    iscsi_destroy_context(context);
  }
  void operator()(scsi_task* task) const { scsi_free_scsi_task(task); }
};
using ScsiTask = std::unique_ptr<scsi_task, IscsiDeleter>;

class IscsiConnection final : public RemoteConnection {
 public:
  static Result<std::unique_ptr<RemoteConnection>> create(const IscsiOptions& options);
  Result<u64> size_bytes() override { return blocks_ * block_bytes_; }
  Status read(u64 offset, std::span<u8> out) override;
  Status write(u64 offset, std::span<const u8> data) override;
  Status flush() override;
  Status discard(u64 offset, u64 size) override;

 private:
  Status connect(const IscsiOptions& options);
  Status measure();
  Status check(const ScsiTask& task, std::string_view what) const;
  std::string said() const { return std::string(trim(iscsi_get_error(context_.get()))); }
  ScsiTask perform(const std::function<scsi_task*()>& command) const;
  Status read_blocks(u64 first, std::span<u8> out);
  Status write_blocks(u64 first, std::span<const u8> data);

  std::unique_ptr<iscsi_context, IscsiDeleter> context_;
  int lun_ = 0;
  u64 blocks_ = 0;
  u32 block_bytes_ = 512;
  bool can_unmap_ = false;
};

Status IscsiConnection::check(const ScsiTask& task, std::string_view what) const {
  if (task && task->status == SCSI_STATUS_GOOD) return {};
  return Error(ErrorKind::Io, fmt::format("iSCSI: {}: {}", what, said()), EIO);
}

/// Once more if the unit only tells that something about it has changed (SAM-5, 5.14: unit attention).
ScsiTask IscsiConnection::perform(const std::function<scsi_task*()>& command) const {
  ScsiTask task(command());
  for (int retries = 0; retries < kMostAttentions; ++retries) {
    if (!task || task->status != SCSI_STATUS_CHECK_CONDITION || task->sense.key != SCSI_SENSE_UNIT_ATTENTION) break;
    task.reset(command());
  }
  return task;
}

Status IscsiConnection::connect(const IscsiOptions& o) {
  context_.reset(iscsi_create_context(o.initiator.c_str()));
  if (!context_) return Error(ErrorKind::NoSpace, "iSCSI: Failed to create iSCSI context.", ENOMEM);
  iscsi_context* c = context_.get();
  lun_ = o.lun;
  iscsi_set_targetname(c, o.target.c_str());
  if (!o.user.empty()) iscsi_set_initiator_username_pwd(c, o.user.c_str(), o.password.c_str());
  iscsi_set_session_type(c, ISCSI_SESSION_NORMAL);
  iscsi_set_header_digest(c, o.digest);
  iscsi_set_timeout(c, o.timeout ? o.timeout : 30);
  iscsi_set_noautoreconnect(c, 1);
  if (iscsi_full_connect_sync(c, o.portal.c_str(), o.lun) != 0)
    return Error(ErrorKind::Io, fmt::format("iSCSI: Failed to connect to LUN : {}", said()), EINVAL);
  return measure();
}

Status IscsiConnection::measure() {
  ScsiTask task = perform([&] { return iscsi_readcapacity16_sync(context_.get(), lun_); });
  TRY(check(task, "READ CAPACITY"));
  auto* capacity = static_cast<scsi_readcapacity16*>(scsi_datain_unmarshall(task.get()));
  if (!capacity || capacity->block_length < 512 || capacity->block_length > 64 * kKiB || capacity->block_length % 512)
    return Error(ErrorKind::Invalid, "iSCSI: the target reports a bad block size", EINVAL);
  block_bytes_ = capacity->block_length;
  if (capacity->returned_lba >= (u64{1} << 54)) return Error(ErrorKind::Invalid, "iSCSI: the target reports a bad size", EINVAL);
  blocks_ = capacity->returned_lba + 1;
  can_unmap_ = capacity->lbpme;
  return {};
}

Result<std::unique_ptr<RemoteConnection>> IscsiConnection::create(const IscsiOptions& options) {
  auto connection = std::make_unique<IscsiConnection>();
  TRY(connection->connect(options));
  return std::unique_ptr<RemoteConnection>(std::move(connection));
}

Status IscsiConnection::read_blocks(u64 first, std::span<u8> out) {
  for (u64 done = 0; done < out.size();) {
    u32 n = static_cast<u32>(std::min<u64>(out.size() - done, kMaxTransfer));
    const u64 block = first + done / block_bytes_;
    ScsiTask task = perform([&] { return iscsi_read16_sync(context_.get(), lun_, block, n, static_cast<int>(block_bytes_), 0, 0, 0, 0, 0); });
    TRY(check(task, fmt::format("READ of {} bytes at block {}", n, block)));
    if (task->datain.size < 0 || static_cast<u32>(task->datain.size) < n) return Error(ErrorKind::Io, "iSCSI: short read", EIO);
    std::memcpy(out.data() + done, task->datain.data, n);
    done += n;
  }
  return {};
}

Status IscsiConnection::write_blocks(u64 first, std::span<const u8> data) {
  for (u64 done = 0; done < data.size();) {
    u32 n = static_cast<u32>(std::min<u64>(data.size() - done, kMaxTransfer));
    auto* bytes = const_cast<unsigned char*>(data.data() + done);  // only read
    const u64 block = first + done / block_bytes_;
    ScsiTask task =
        perform([&] { return iscsi_write16_sync(context_.get(), lun_, block, bytes, n, static_cast<int>(block_bytes_), 0, 0, 0, 0, 0); });
    TRY(check(task, fmt::format("WRITE of {} bytes at block {}", n, block)));
    done += n;
  }
  return {};
}

Status IscsiConnection::read(u64 offset, std::span<u8> out) {
  const u64 head = offset % block_bytes_, first = offset / block_bytes_;
  if (!head && out.size() % block_bytes_ == 0) return read_blocks(first, out);
  std::vector<u8> whole((head + out.size() + block_bytes_ - 1) / block_bytes_ * block_bytes_);
  TRY(read_blocks(first, whole));
  std::memcpy(out.data(), whole.data() + head, out.size());
  return {};
}

/// With one connection nobody else of ours writes between the read and the write.
Status IscsiConnection::write(u64 offset, std::span<const u8> data) {
  const u64 head = offset % block_bytes_, first = offset / block_bytes_;
  if (!head && data.size() % block_bytes_ == 0) return write_blocks(first, data);
  std::vector<u8> whole((head + data.size() + block_bytes_ - 1) / block_bytes_ * block_bytes_);
  TRY(read_blocks(first, whole));
  std::memcpy(whole.data() + head, data.data(), data.size());
  return write_blocks(first, whole);
}

Status IscsiConnection::flush() {
  ScsiTask task = perform([&] { return iscsi_synchronizecache10_sync(context_.get(), lun_, 0, 0, 0, 0); });
  // A target without a cache need not know the command.
  if (task && task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_ILLEGAL_REQUEST) return {};
  return check(task, "SYNCHRONIZE CACHE");
}

Status IscsiConnection::discard(u64 offset, u64 size) {
  u64 first = (offset + block_bytes_ - 1) / block_bytes_, end = (offset + size) / block_bytes_;
  while (can_unmap_ && first < end) {
    unmap_list list{};
    list.lba = first;
    list.num = static_cast<u32>(std::min<u64>(end - first, 1u << 20));
    ScsiTask task = perform([&] { return iscsi_unmap_sync(context_.get(), lun_, 0, 0, &list, 1); });
    if (task && task->status == SCSI_STATUS_CHECK_CONDITION) return {};  // a hint
    TRY(check(task, "UNMAP"));
    first += list.num;
  }
  return {};
}

// --- options ---

Result<iscsi_header_digest> read_digest(std::string_view name) {
  static constexpr std::pair<std::string_view, iscsi_header_digest> kDigests[] = {{"none", ISCSI_HEADER_DIGEST_NONE},
                                                                                  {"crc32c", ISCSI_HEADER_DIGEST_CRC32C},
                                                                                  {"none-crc32c", ISCSI_HEADER_DIGEST_NONE_CRC32C},
                                                                                  {"crc32c-none", ISCSI_HEADER_DIGEST_CRC32C_NONE}};
  for (const auto& [known, digest] : kDigests)
    if (name == known) return digest;
  return Error(ErrorKind::Invalid, fmt::format("Invalid header-digest setting : {}", name), EINVAL);
}

Result<IscsiOptions> read_iscsi_options(Graph& graph, OptionReader& reader) {
  IscsiOptions o;
  std::string transport = TRY(reader.string("transport", "tcp"));
  if (transport != "tcp") return Error(ErrorKind::Unsupported, fmt::format("iSCSI: transport '{}' is not supported", transport));
  o.portal = TRY(reader.required_string("portal"));
  o.target = TRY(reader.required_string("target"));
  u64 lun = TRY(reader.number("lun", 0));
  if (lun > 255) return Error(ErrorKind::Invalid, "iSCSI: lun must be at most 255", EINVAL);
  o.lun = static_cast<int>(lun);
  o.user = TRY(reader.string("user", {}));
  std::string secret = TRY(reader.string("password-secret", {}));
  o.password = TRY(reader.string("password", {}));
  if (!secret.empty()) o.password = TRY(graph.secret(secret));
  o.initiator = TRY(reader.string("initiator-name", kInitiator));
  std::string digest = TRY(reader.string("header-digest", "none-crc32c"));
  o.digest = TRY(read_digest(digest));
  o.timeout = static_cast<int>(std::min<u64>(TRY(reader.number("timeout", 0)), 86400));
  TRY(reader.finish());
  return o;
}

Task<Result<NodePtr>> open_iscsi(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  CO_TRY(load_library(LateLibrary::Iscsi));
  OptionReader reader(std::move(tree), "iscsi");
  IscsiOptions options = CO_TRY(read_iscsi_options(graph, reader));
  RemoteOptions remote;
  remote.node_name = std::move(node_name);
  remote.driver = "iscsi";
  remote.filename = fmt::format("iscsi://{}/{}/{}", options.portal, options.target, options.lun);
  remote.readonly = mode.readonly;
  remote.request_alignment = 512;
  Connect connect = [options] { return IscsiConnection::create(options); };
  co_return co_await open_remote_node(graph.loop(), std::move(remote), std::move(connect));
}

/// iscsi://[user[%password]@]host[:port]/target/lun
Result<Json> parse_iscsi_name(std::string_view name) {
  auto bad = [] { return Error(ErrorKind::Invalid, "Failed to parse URL : it must be iscsi://[<username>[%<password>]@]<host>[:<port>]/<target-iqn>/<lun>", EINVAL); };
  constexpr std::string_view kScheme = "iscsi://";
  if (!name.starts_with(kScheme)) return bad();
  std::string_view rest = name.substr(kScheme.size());
  size_t slash = rest.find('/'), last = rest.rfind('/');
  if (slash == rest.npos || slash == last || slash == 0 || last + 1 == rest.size()) return bad();
  std::string_view portal = rest.substr(0, slash);
  Json tree = {{"driver", "iscsi"}, {"target", std::string(rest.substr(slash + 1, last - slash - 1))}, {"lun", std::string(rest.substr(last + 1))}};
  if (size_t at = portal.rfind('@'); at != portal.npos) {
    std::string_view user = portal.substr(0, at);
    size_t percent = user.find('%');
    tree["user"] = std::string(user.substr(0, percent));
    if (percent != user.npos) tree["password"] = std::string(user.substr(percent + 1));
    portal.remove_prefix(at + 1);
  }
  tree["portal"] = std::string(portal);
  return tree;
}

Task<Status> create_on_unit(Graph& graph, NodePtr, std::string filename, Json options) {
  return create_on_disk(graph, std::move(filename), std::move(options), "iscsi");
}

}  // namespace

extern const Driver kIscsiDriver;
const Driver kIscsiDriver = {.name = "iscsi",
                             .protocol = true,
                             .parse_name = parse_iscsi_name,
                             .schemes = {"iscsi"},
                             .open = open_iscsi,
                             .create = create_on_unit,
                             .create_options = {{"size", CreateOption::Size, "Virtual disk size"}}};

}  // namespace atl::block

#else

namespace atl::block {
extern const Driver kIscsiDriver;
const Driver kIscsiDriver = missing_driver<"iscsi", "this build has no libiscsi">();
}  // namespace atl::block

#endif
