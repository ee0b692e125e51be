#include "cpu/soft/native/code_arena.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <atomic>

#include "base/endian.h"
#include "cpu/soft/native/image.h"

namespace atl::soft {
namespace {

constexpr u64 kConstants = 64;

/// The executable ranges, for the signal handler. Arenas live as long as the process, one shared and one for scratch code,
/// so entries are never removed and a handful is enough.
struct Range {
  std::atomic<u64> begin{0}, end{0};
};
std::array<Range, 8>& ranges() {
  static std::array<Range, 8> all;
  return all;
}
std::atomic<unsigned>& range_count() {
  static std::atomic<unsigned> count{0};
  return count;
}

struct sigaction& previous_handler() {
  static struct sigaction previous;
  return previous;
}

bool in_arena(u64 rip) {
  unsigned count = std::min<unsigned>(range_count().load(std::memory_order_acquire), ranges().size());
  for (unsigned i = 0; i < count; ++i)
    if (rip >= ranges()[i].begin.load(std::memory_order_relaxed) && rip < ranges()[i].end.load(std::memory_order_relaxed)) return true;
  return false;
}

void on_sigfpe(int number, siginfo_t* info, void* context) {
  auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (in_arena(static_cast<u64>(regs[REG_RIP]))) {
    regs[REG_RIP] = regs[REG_RDX];
    return;
  }
  struct sigaction& previous = previous_handler();
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(number, info, context);
  ::sigaction(SIGFPE, &previous, nullptr);  // the instruction faults again, into the old disposition
}

Status install_handler() {
  static const int error = [] {
    struct sigaction action {};
    action.sa_sigaction = on_sigfpe;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return ::sigaction(SIGFPE, &action, &previous_handler()) == 0 ? 0 : errno;
  }();
  if (error) return os_error("install the SIGFPE handler", error);
  return {};
}

Status enter_range(const Mapping& run) {
  unsigned slot = range_count().load();
  if (slot >= ranges().size()) return Error(ErrorKind::NoSpace, "too many code arenas");
  ranges()[slot].begin = reinterpret_cast<u64>(run.data());
  ranges()[slot].end = reinterpret_cast<u64>(run.data()) + run.size();
  range_count().store(slot + 1, std::memory_order_release);
  return {};
}

}  // namespace

Result<CodeArena> CodeArena::create(u64 size_bytes) {
  Fd fd(::memfd_create("atoll-stubs", MFD_CLOEXEC));
  if (!fd) return os_error("create memory for native code");
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) return os_error("size the memory for native code");
  CodeArena arena;
  arena.write_ = TRY(Mapping::of_file(fd, 0, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED));
  arena.run_ = TRY(Mapping::of_file(fd, 0, size_bytes, PROT_READ | PROT_EXEC, MAP_SHARED));
  store_le<u32>(arena.write_.data(), image::kMxcsrDefault);
  arena.used_ = kConstants;
  TRY(install_handler());
  TRY(enter_range(arena.run_));
  return arena;
}

const u8* CodeArena::append(std::span<const u8> code) {
  if (code.size() > write_.size() - used_) return nullptr;
  const u8* at = next();
  std::memcpy(write_.data() + used_, code.data(), code.size());
  used_ = std::min((used_ + code.size() + 31) & ~u64{31}, write_.size());
  return at;
}

void CodeArena::clear() { used_ = kConstants; }

void allow_fp_traps() {
  thread_local const bool allowed = [] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGFPE);
    return ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr) == 0;
  }();
  static_cast<void>(allowed);
}

}  // namespace atl::soft
