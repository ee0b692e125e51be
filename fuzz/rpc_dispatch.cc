// Calls of a client with any arguments, given to the handlers of the daemon's procedure table, on a daemon with empty temporary
// folders and no atoll-vmm to start. What would start, change or run something of the host is left out (kLeftOut); definitions
// and all that is asked about them stay.
//
// Input: records of a procedure's number (two bytes), a payload's length (two bytes) and the payload.
#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "fuzz_input.h"
#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::manage;

constexpr size_t kMostCalls = 24;

constexpr std::string_view kLeftOut[] = {
    "AUTH_",           // other state than this
    "_CREATE", "_RESTORE", "_MIGRATE", "_SNAPSHOT_CREATE", "_CORE_DUMP", "_SAVE", "_SCREENSHOT", "_OPEN_GRAPHICS",  // start, or write files
    "_UNDEFINE_FLAGS",  // removes files that the definition names
    "POOL_BUILD", "POOL_DELETE", "POOL_REFRESH", "POOL_DESTROY", "VOL_DELETE", "VOL_WIPE", "VOL_RESIZE", "VOL_UPLOAD", "VOL_DOWNLOAD",
    "_BLOCK_", "GET_STORAGE_POOL_CAPABILITIES", "FIND_STORAGE_POOL_SOURCES",  // open disks, run tools
    "INTERFACE_DEFINE", "INTERFACE_UNDEFINE", "INTERFACE_DESTROY", "INTERFACE_CHANGE", "NODE_SET", "NODE_DEVICE", "NODE_LIST", "NODE_NUM"};

bool is_harmless(const Procedure& row) {
  const std::string_view name = procedure_name(static_cast<u32>(row.number));
  return std::ranges::none_of(kLeftOut, [&](std::string_view part) { return name.find(part) != name.npos; });
}

/// Folders below /dev/shm or /tmp, gone with it.
struct Folder {
  Folder() {
    std::string pattern = std::filesystem::exists("/dev/shm") ? "/dev/shm/atoll-fuzz-XXXXXX" : "/tmp/atoll-fuzz-XXXXXX";
    CHECK(::mkdtemp(pattern.data()));
    path = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

std::shared_ptr<Session> make_session() {
  auto session = std::make_shared<Session>(1, Peer{.local = true, .uid = 0, .gid = 0, .pid = 1}, false, Auth::None);
  session->set_send([](std::vector<u8>) {});
  session->set_open(true);
  return session;
}

void perform(Daemon& daemon, const std::shared_ptr<Session>& session, u32 number, std::span<const u8> payload) {
  const Procedure* row = find_procedure(number);
  if (!row || !is_harmless(*row)) return;
  rpc::Frame frame{.header = {.procedure = number}, .payload = {payload.begin(), payload.end()}};
  Call call(daemon, session, std::move(frame), {});
  manage::Status status = row->handler(call);
  if (!status) (void)rpc::encode_error(status.error());
  if (auto after = call.take_after_reply()) after();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  (void)::unshare(CLONE_NEWNET);  // if a call should reach the network after all, it is not the host's
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  Folder folder;
  Config config;
  config.paths = Paths::below(folder.path);
  config.paths.programs = "/nonexistent";
  auto daemon = MUST(Daemon::create(fuzz::loop(), config));  // of empty folders
  auto session = make_session();
  for (size_t calls = 0; calls < kMostCalls && !in.empty(); ++calls) {
    const u32 number = in.word();
    const u16 length = in.word();
    perform(*daemon, session, number, in.bytes(length));
    fuzz::settle();
  }
  daemon->events().drop(*session);
  return 0;
}
