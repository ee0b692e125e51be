// Format "luks": a disk encrypted as LUKS1 has it (crypto/luks.h), header first, sectors behind it.
//
// Supported: reading, writing, resize, creation, changes of key slots (amend). Missing: detached headers, LUKS2.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/async_lock.h"
#include "block/crypto/luks.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/iovecs.h"

namespace atl::block {

using namespace crypto;

namespace {

constexpr u64 kPieceBytes = kMiB;  // en- or decrypted at a time

class LuksNode final : public Node, public Image {
 public:
  LuksNode(Graph& graph, NodePtr file, LuksHeader header, std::string password, MappedOptions options)
      : graph_(graph),
        file_(std::move(file)),
        header_(std::move(header)),
        password_(std::move(password)),
        options_(std::move(options)) {}
  ~LuksNode() override { ::explicit_bzero(password_.data(), password_.size()); }

  void set_cipher(SectorCipher cipher) { cipher_ = std::move(cipher); }

  NodeInfo info() const override;
  u64 size_bytes() const override {
    const u64 end = file_->size_bytes(), start = luks_header_bytes(header_);
    return end > start ? end - start : 0;
  }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override {
    co_return check_write(offset, size);  // what the file would read as afterwards is not ours to tell
  }
  Task<Status> flush() override { return file_->flush(); }
  Task<Status> resize(u64 size_bytes, Preallocation how) override;
  Task<Status> set_readonly(bool readonly) override {
    Status status = co_await file_->set_readonly(readonly);
    if (status) options_.readonly = readonly;
    co_return status;
  }
  std::vector<Child> children() const override { return {{"file", file_}}; }
  Image* image() override { return this; }

  Json specific_info() const override { return luks_info(header_); }
  bool encrypted() const override { return true; }
  Task<Status> amend(Json options, bool force, Progress) override {
    return amend_luks(graph_, *file_, 0, header_, password_, std::move(options), "", force);
  }

 private:
  u64 place(u64 offset) const { return luks_header_bytes(header_) + offset; }
  Status check_write(u64 offset, u64 size) const;
  Status check_unlocked() const;
  Task<Status> read_sectors(u64 offset, std::span<u8> out);
  Task<Status> write_piece(u64 offset, std::span<const iovec> data);

  Graph& graph_;
  NodePtr file_;
  LuksHeader header_;
  std::string password_;
  MappedOptions options_;
  std::optional<SectorCipher> cipher_;  // none if only the header was asked for
  AsyncLock sectors_;                   // exclusive: a sector is read, changed and written again
};

NodeInfo LuksNode::info() const {
  NodeInfo info = file_->info();
  info.node_name = options_.node_name;
  info.driver = "luks";
  info.size_bytes = size_bytes();
  info.readonly = options_.readonly;
  info.request_alignment = 1;
  info.can_discard = false;
  return info;
}

Status LuksNode::check_unlocked() const {
  if (cipher_) return {};
  return Error(ErrorKind::Permission, "the image was opened without its key", EPERM);
}

Status LuksNode::check_write(u64 offset, u64 size) const {
  if (options_.readonly) return Error(ErrorKind::Permission, "this node is read-only", EPERM);
  TRY(check_unlocked());
  return check_range(offset, size, size_bytes());
}

Task<Status> LuksNode::read_sectors(u64 offset, std::span<u8> out) {
  Status status = co_await read_padded(*file_, place(offset), out);
  if (status) cipher_->decrypt(offset / kSectorBytes, out, out.data());
  co_return status;
}

Task<Status> LuksNode::read(u64 offset, std::span<const iovec> out) {
  CO_TRY(check_unlocked());
  CO_TRY(check_range(offset, iovec_bytes(out), size_bytes()));
  const u64 size = iovec_bytes(out);
  if (out.size() == 1 && (offset | size) % kSectorBytes == 0) {
    std::span<u8> whole(static_cast<u8*>(out[0].iov_base), size);
    co_return co_await read_sectors(offset, whole);
  }
  std::vector<u8> buffer;
  for (u64 done = 0; done < size;) {
    const u64 head = (offset + done) % kSectorBytes;
    const u64 bytes = std::min(size - done, kPieceBytes - head);
    buffer.resize(align_up(head + bytes, kSectorBytes));
    Status status = co_await read_sectors(offset + done - head, buffer);
    CO_TRY(std::move(status));
    iovec_copy_to(iovec_slice(out, done, bytes), std::span(buffer).subspan(head, bytes));
    done += bytes;
  }
  co_return Status{};
}

/// At most kPieceBytes; the sectors at its ends are completed with what they hold.
Task<Status> LuksNode::write_piece(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data), head = offset % kSectorBytes;
  std::vector<u8> buffer(align_up(head + size, kSectorBytes));
  const std::span<u8> all(buffer);
  const u64 first = offset - head, last = first + buffer.size() - kSectorBytes;
  Status status;
  if (head) status = co_await read_sectors(first, all.first(kSectorBytes));
  CO_TRY(std::move(status));
  const bool whole_end = (head + size) % kSectorBytes == 0 || (head && last == first);
  if (!whole_end) status = co_await read_sectors(last, all.last(kSectorBytes));
  CO_TRY(std::move(status));
  iovec_copy_from(data, all.subspan(head, size));
  cipher_->encrypt(first / kSectorBytes, buffer, buffer.data());
  co_return co_await write_growing(*file_, place(first), std::span<const u8>(buffer));
}

Task<Status> LuksNode::write(u64 offset, std::span<const iovec> data, u32 flags) {
  const u64 size = iovec_bytes(data);
  CO_TRY(check_write(offset, size));
  const bool partial = (offset | size) % kSectorBytes != 0;
  co_await AsyncLock::Acquire(sectors_, partial);
  Status status;
  for (u64 done = 0; status && done < size;) {
    const u64 bytes = std::min(size - done, kPieceBytes - (offset + done) % kSectorBytes);
    auto piece = iovec_slice(data, done, bytes);
    status = co_await write_piece(offset + done, piece);
    done += bytes;
  }
  sectors_.release();
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

Task<Status> LuksNode::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  Status status = co_await write_zeroes_as_data(*this, offset, size);
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

Task<Status> LuksNode::resize(u64 size_bytes, Preallocation how) {
  if (options_.readonly) co_return Error(ErrorKind::Permission, "this node is read-only", EPERM);
  auto end = checked_add(luks_header_bytes(header_), size_bytes);
  if (!end || *end > u64{1} << 62) co_return Error(ErrorKind::Invalid, "The requested file size is too large", EFBIG);
  co_return co_await file_->resize(*end, how);
}

int probe_luks(std::span<const u8> head, std::string_view) {
  constexpr u8 kStart[] = {'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1};
  return head.size() >= sizeof kStart && std::equal(std::begin(kStart), std::end(kStart), head.begin()) ? 100 : 0;
}

Task<Result<NodePtr>> open_luks(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "luks");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  std::string secret = CO_TRY(reader.string("key-secret", ""));
  CO_TRY(reader.finish());
  Result<LuksHeader> read = co_await read_luks_header(*file, 0);
  LuksHeader header = CO_TRY(std::move(read));
  if (!mode.no_io && secret.empty())
    co_return Error(ErrorKind::Invalid, "Parameter 'key-secret' is required for cipher", EINVAL);
  std::string password;
  if (!secret.empty()) password = CO_TRY(graph.secret(secret));
  MappedOptions node_options = mapped_options(mode, *file, std::move(node_name));
  if (node_options.node_name.empty()) node_options.node_name = generate_node_name();
  auto node = std::make_shared<LuksNode>(graph, file, header, password, std::move(node_options));
  if (!mode.no_io) {
    Result<KeyBytes> key = co_await unlock_luks(*file, 0, header, password);
    KeyBytes bytes = CO_TRY(std::move(key));
    node->set_cipher(CO_TRY(SectorCipher::create(header.cipher, bytes)));
  }
  co_return NodePtr(std::move(node));
}

Task<Status> create_luks_image(Graph& graph, NodePtr file, std::string, Json options) {
  LuksCreateOptions luks = CO_TRY(luks_create_options(graph, options, ""));
  const u64 header_bytes = CO_TRY(luks_header_bytes(luks));
  OptionReader reader(std::move(options), "luks");
  const u64 size = CO_TRY(reader.size("size", 0));
  auto end = checked_add(header_bytes, align_up(std::min(size, ~u64{0} >> 1), kSectorBytes));
  if (size > u64{1} << 62 || !end) co_return Error(ErrorKind::Invalid, "The requested file size is too large", EFBIG);
  Result<LuksVolume> volume = co_await create_luks(*file, 0, std::move(luks));
  CO_TRY(std::move(volume));
  Status status = co_await file->resize(*end, Preallocation::Off);
  CO_TRY(std::move(status));
  co_return co_await file->flush();
}

Result<Measurement> measure_luks(u64 size_bytes, u64, const Json& options) {
  LuksCreateOptions luks = TRY(luks_cipher_options(options, ""));
  u64 all = size_bytes + TRY(luks_header_bytes(luks));
  Measurement measurement;
  measurement.required = measurement.fully_allocated = all;
  return measurement;
}

}  // namespace

extern const Driver kLuksDriver;
const Driver kLuksDriver = {
    .name = "luks",
    .probe = probe_luks,
    .open = open_luks,
    .create = create_luks_image,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"key-secret", CreateOption::Text, "ID of the secret that provides the keyslot passphrase"},
                       {"cipher-alg", CreateOption::Text, "Name of encryption cipher algorithm"},
                       {"cipher-mode", CreateOption::Text, "Name of encryption cipher mode"},
                       {"ivgen-alg", CreateOption::Text, "Name of IV generator algorithm"},
                       {"ivgen-hash-alg", CreateOption::Text, "Name of IV generator hash algorithm"},
                       {"hash-alg", CreateOption::Text, "Name of encryption hash algorithm"},
                       {"iter-time", CreateOption::Number, "Time to spend in PBKDF in milliseconds"}},
    .amend_options = {{"state", CreateOption::Text, "Select new state of affected keyslots (active/inactive)"},
                      {"keyslot", CreateOption::Number, "Select a single keyslot to modify explicitly"},
                      {"old-secret", CreateOption::Text, "Select all keyslots that match this password"},
                      {"new-secret", CreateOption::Text, "New secret to set in the matching keyslots"},
                      {"iter-time", CreateOption::Number, "Time to spend in PBKDF in milliseconds"}},
    .measure = measure_luks,
};

}  // namespace atl::block
