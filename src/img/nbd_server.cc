#include "img/nbd_server.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/key_values.h"
#include "base/strings.h"
#include "block/nbd/client_handshake.h"
#include "img/snapshot_param.h"

extern char** environ;

namespace atl::img {
namespace {

using namespace block::nbd;

constexpr u64 kPollNs = 200'000'000;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Result<std::shared_ptr<const TlsCredentials>> find_tls(Tool& tool, const std::string& id, bool server) {
  if (id.empty()) return std::shared_ptr<const TlsCredentials>();
  auto credentials = tool.graph().tls_credentials(id);
  if (!credentials) return invalid(fmt::format("Failed to get TLS creds: No TLS credentials with id '{}'", id));
  if (credentials->options().server != server)
    return invalid(fmt::format("Failed to get TLS creds: Expecting TLS credentials with a {} endpoint", server ? "server" : "client"));
  return credentials;
}

/// qemu:dirty-bitmap:NAME of the image (or of one below it) that has it.
Task<Result<block::Image*>> find_bitmap(Node& top, std::string name) {
  for (Node* node = &top; node;) {
    if (block::Image* image = node->image()) {
      auto listed = co_await image->bitmaps();
      if (listed)
        for (const auto& bitmap : *listed) {
          if (bitmap.name != name) continue;
          if (bitmap.in_use) co_return invalid(fmt::format("Bitmap '{}' is inconsistent and cannot be used", name));
          co_return image;
        }
    }
    NodePtr below = child_of(*node, "backing");
    node = below.get();  // its parent keeps it
  }
  co_return Error(ErrorKind::NotFound, fmt::format("Bitmap '{}' is not found", name));
}

Task<Result<ContextRun>> bitmap_run(block::Image* image, std::string name, u64 offset, u64 bytes) {
  auto found = co_await image->bitmap_run(name, offset, bytes);
  auto run = CO_TRY(std::move(found));
  co_return ContextRun{run.bytes, run.dirty ? kStateDirty : 0};
}

/// 0: no image of the chain has the bytes; n: the n-th does.
Task<Result<ContextRun>> depth_run(Node* node, u64 offset, u64 bytes) {
  auto found = co_await chain_status(*node, offset, bytes);
  ChainStatus status = CO_TRY(std::move(found));
  co_return ContextRun{status.bytes, status.present ? static_cast<u32>(status.depth + 1) : 0};
}

Status write_pid_file(const std::string& path) {
  if (path.empty()) return {};
  Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC).context("Failed to create pid file"));
  std::string text = std::to_string(::getpid()) + "\n";
  return write_all(file, {reinterpret_cast<const u8*>(text.data()), text.size()});
}

constexpr int kFirstHandedFd = 3;

using FileIdentity = std::pair<dev_t, ino_t>;

std::optional<FileIdentity> identity_of(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) < 0) return std::nullopt;
  return FileIdentity{info.st_dev, info.st_ino};
}

}  // namespace

bool is_socket_handed_over() {
  const char* pid = ::getenv("LISTEN_PID");
  const char* count = ::getenv("LISTEN_FDS");
  return pid && count && parse_u64(pid) == static_cast<u64>(::getpid()) && std::string_view(count) != "0";
}

// --- serving ---

Task<Status> NbdServing::run() {
  Server::Options options{.max_clients = plan_.shared};
  options.tls = CO_TRY(find_tls(tool_, plan_.tls_id, true));
  Status status = co_await open_image();
  CO_TRY(std::move(status));
  server_ = std::make_unique<Server>(tool_.loop(), std::move(options));
  server_->on_client_left = [this] { had_clients_ = true; };
  status = co_await add_export();
  if (status) status = listen();
  std::optional<FileIdentity> socket;
  if (status && !is_socket_handed_over() && plan_.address.is_unix()) socket = identity_of(plan_.address.path);
  if (status) status = announce();
  if (status) status = co_await wait_for_end();
  server_.reset();
  // A server that has been started since at the same place has a socket of its own there.
  if (socket && identity_of(plan_.address.path) == socket) ::unlink(plan_.address.path.c_str());
  if (!plan_.pid_file.empty()) ::unlink(plan_.pid_file.c_str());
  Status closed;
  if (!plan_.readonly && node_) closed = co_await node_->close();
  CO_TRY(std::move(status));
  co_return closed;
}

Status NbdServing::listen() {
  if (!is_socket_handed_over()) return server_->listen(plan_.address);
  if (std::string_view(::getenv("LISTEN_FDS")) != "1") return Error(ErrorKind::Unsupported, "LISTEN_FDS: one socket can be served");
  Fd socket(kFirstHandedFd);
  int listens = 0;
  socklen_t size = sizeof listens;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens)
    return Error(ErrorKind::Invalid, "LISTEN_FDS: file descriptor 3 is no listening socket");
  if (::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) < 0 || ::fcntl(socket.get(), F_SETFL, O_NONBLOCK) < 0) return os_error("LISTEN_FDS");
  server_->listen_on(std::move(socket));
  return {};
}

/// The options that mean the image, with what has no place in a name.
Result<Json> NbdServing::image_tree() const {
  Json tree = Json::object();
  if (plan_.image.image_opts) {
    KeyValues list = TRY(KeyValues::parse(plan_.image.name));
    for (const auto& entry : list.entries()) tree[entry.key] = entry.value;
  } else {
    tree["file"] = TRY(block::parse_image_name(plan_.image.name));
    if (!plan_.image.format.empty()) tree["driver"] = plan_.image.format;
  }
  tree["detect-zeroes"] = plan_.detect_zeroes;
  return tree;
}

Task<Status> NbdServing::open_image() {
  std::string context = fmt::format("Failed to blk_new_open '{}'", plan_.image.name);
  Result<NodePtr> opened = NodePtr();
  OpenRequest request = plan_.image;
  if (plan_.temporary) request.writable = false;
  if (plan_.detect_zeroes == "off" && plan_.discard) {
    opened = co_await tool_.open(request);
  } else {
    block::OpenMode mode = mode_of(request);
    mode.discard = plan_.discard;
    Json tree = CO_TRY(image_tree());
    opened = co_await tool_.graph().open(std::move(tree), mode);
  }
  node_ = CO_TRY(std::move(opened).context(context));
  if (plan_.load_snapshot) {
    auto view = co_await open_snapshot(node_, *plan_.load_snapshot);
    node_ = CO_TRY(std::move(view).context("Failed to load snapshot"));
  }
  if (!plan_.temporary) co_return Status{};
  auto overlay = co_await open_overlay(node_);
  node_ = CO_TRY(std::move(overlay));
  plan_.readonly = false;
  co_return Status{};
}

/// -s: writes go to a file that nobody sees again.
Task<Result<NodePtr>> NbdServing::open_overlay(NodePtr below) {
  const block::Driver* qcow2 = block::find_driver("qcow2");
  if (!qcow2) co_return Error(ErrorKind::Unsupported, "-s needs the qcow2 format");
  const char* folder = ::getenv("TMPDIR");
  std::string path = std::string(folder ? folder : "/var/tmp") + "/atoll-nbd-XXXXXX";
  Fd file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file.valid()) co_return os_error("Could not create a temporary file");
  Json options{{"size", std::to_string(below->size_bytes())}};
  Status created = co_await tool_.graph().create(*qcow2, path, options);
  block::OpenMode mode;
  mode.cache_no_flush = true;
  mode.discard = true;
  Result<NodePtr> overlay = NodePtr();
  if (created) overlay = co_await tool_.graph().open_name(path, "qcow2", mode);
  ::unlink(path.c_str());
  CO_TRY(std::move(created));
  NodePtr node = CO_TRY(std::move(overlay));
  CO_TRY(node->replace_child("backing", std::move(below)));
  co_return node;
}

Task<Status> NbdServing::add_bitmaps(Export& exported) {
  for (const std::string& name : plan_.bitmaps) {
    auto found = co_await find_bitmap(*node_, name);
    block::Image* image = CO_TRY(std::move(found));
    exported.contexts.push_back({kDirtyBitmapPrefix + name, [image, name](u64 offset, u64 bytes) {
                                   return bitmap_run(image, name, offset, bytes);
                                 }});
  }
  co_return Status{};
}

Task<Status> NbdServing::add_export() {
  Export exported;
  exported.name = plan_.export_name;
  exported.description = plan_.description;
  exported.node = node_;
  exported.readonly = plan_.readonly;
  exported.multi_conn = plan_.shared != 1;
  u64 size = disk_bytes(*node_);
  if (plan_.offset >= size && plan_.offset)
    co_return invalid(fmt::format("Offset ({}) has to be smaller than the image size ({})", plan_.offset, size));
  exported.offset = plan_.offset;
  exported.bytes = size - plan_.offset;
  if (plan_.allocation_depth)
    exported.contexts.push_back(
        {kAllocationDepth, [node = node_.get()](u64 offset, u64 bytes) { return depth_run(node, offset, bytes); }});
  Status status = co_await add_bitmaps(exported);
  CO_TRY(std::move(status));
  co_return server_->add_export(std::move(exported));
}

Status NbdServing::announce() {
  TRY(write_pid_file(plan_.pid_file));
  if (plan_.ready_fd < 0) return {};
  Fd ready(plan_.ready_fd);
  const u8 byte = 0;
  TRY(write_all(ready, {&byte, 1}));
  // Whoever started us need not wait for our output to end.
  Fd null = TRY(open_file("/dev/null", O_RDWR));
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fd != STDERR_FILENO || !plan_.verbose) ::dup2(null.get(), fd);
  return {};
}

Task<Status> NbdServing::wait_for_end() {
  auto finished = [&] { return tool_.interrupted() || (!plan_.persistent && had_clients_ && server_->clients() == 0); };
  while (!finished()) co_await tool_.loop().sleep(kPollNs);
  server_->stop();
  while (server_->clients() > 0) co_await tool_.loop().sleep(kPollNs / 100);
  co_return Status{};
}

// --- listing ---

namespace {

std::string flag_names(u16 flags) {
  static constexpr struct {
    u16 flag;
    const char* name;
  } kNames[] = {
      {kReadOnly, "readonly"}, {kSendFlush, "flush"},   {kSendFua, "fua"},         {kRotational, "rotational"},
      {kSendTrim, "trim"},     {kSendWriteZeroes, "zeroes"}, {kSendDf, "df"},      {kCanMultiConn, "multi"},
      {kSendResize, "resize"}, {kSendCache, "cache"},   {kSendFastZero, "fast-zero"},
  };
  std::string text;
  for (const auto& row : kNames)
    if (flags & row.flag) text += std::string(" ") + row.name;
  return text;
}

std::string describe(const ExportInfo& info) {
  std::string text = fmt::format(" export: '{}'\n", info.name);
  if (!info.description.empty()) text += fmt::format("  description: {}\n", info.description);
  if (info.flags & kHasFlags) {
    text += fmt::format("  size:  {}\n", info.size_bytes);
    text += fmt::format("  flags: {:#x} ({} )\n", info.flags, flag_names(info.flags));
  }
  if (info.min_block)
    text += fmt::format("  min block: {}\n  opt block: {}\n  max block: {}\n", *info.min_block, *info.preferred_block, *info.max_block);
  if (!info.contexts.empty()) text += fmt::format("  available meta contexts: {}\n", info.contexts.size());
  for (const std::string& context : info.contexts) text += fmt::format("   {}\n", context);
  return text;
}

}  // namespace

Task<Status> list_nbd_exports(Tool& tool, NbdPlan plan) {
  ClientHello hello;
  hello.tls = CO_TRY(find_tls(tool, plan.tls_id, false));
  hello.tls_hostname = plan.tls_hostname.empty() && !plan.address.is_unix() ? plan.address.host : plan.tls_hostname;
  auto socket = co_await connect_to(tool.loop(), plan.address);
  Channel channel(tool.loop(), CO_TRY(std::move(socket)));
  auto listed = co_await list_exports(channel, hello);
  channel.shutdown();
  auto exports = CO_TRY(std::move(listed));
  fmt::print("exports available: {}\n", exports.size());
  for (const ExportInfo& info : exports) fmt::print("{}", describe(info));
  co_return Status{};
}

// --- in the background ---

namespace {

Result<std::vector<std::string>> own_words() {
  std::string text = TRY(read_file("/proc/self/cmdline", kMiB));
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    words.emplace_back(text.c_str() + at);
    at += words.back().size() + 1;
  }
  std::erase(words, "--fork");
  return words;
}

/// An io_uring cannot be taken through fork(2), so the program is started anew, with one end of a pipe.
Status spawn_server(int ready_fd) {
  std::vector<std::string> words = TRY(own_words());
  words.push_back(fmt::format("--ready-fd={}", ready_fd));
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = 0;
  int err = ::posix_spawn(&pid, "/proc/self/exe", nullptr, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  if (err) return os_error("Failed to fork", err);
  return {};
}

}  // namespace

int fork_server(Tool& tool) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return tool.fail("{}", os_error("pipe").text());
  Fd ours(ends[0]), theirs(ends[1]);
  ::fcntl(theirs.get(), F_SETFD, 0);
  if (Status started = spawn_server(theirs.get()); !started) return tool.fail("{}", started.error().text());
  theirs.reset();
  u8 byte = 0;
  // Its end without a byte is a failure, which it has told about.
  return ::read(ours.get(), &byte, 1) == 1 ? 0 : 1;
}

}  // namespace atl::img
