#include "cpu/soft/translate/signals.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>

#include "cpu/soft/translate/code_cache.h"

namespace atl::soft::translate {
namespace {

constexpr std::array<int, 3> kSignals = {SIGFPE, SIGSEGV, SIGBUS};

/// The caches of the process: one for each VM, and tests have several.
std::array<std::atomic<const CodeCache*>, 16>& caches() {
  static std::array<std::atomic<const CodeCache*>, 16> all;
  return all;
}

std::array<struct sigaction, kSignals.size()>& previous_handlers() {
  static std::array<struct sigaction, kSignals.size()> previous;
  return previous;
}

const struct sigaction& previous_of(int number) {
  size_t i = 0;
  while (i + 1 < kSignals.size() && kSignals[i] != number) ++i;
  return previous_handlers()[i];
}

/// Where to go on after a trap at `rip`, nullptr if none is expected there.
const u8* way_on(const u8* rip) {
  for (auto& slot : caches()) {
    const CodeCache* cache = slot.load(std::memory_order_acquire);
    if (!cache || !cache->holds(rip)) continue;
    const Region* region = cache->region_at(rip);
    const Site* site = region ? region->site_at(static_cast<HostOffset>(rip - region->code), true) : nullptr;
    return site ? region->code + site->retry : nullptr;
  }
  return nullptr;
}

void pass_on(int number, siginfo_t* info, void* context) {
  const struct sigaction& previous = previous_of(number);
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(number, info, context);
  ::sigaction(number, &previous, nullptr);
  // A fault comes again by itself, into the old disposition; what a process sent does not.
  if (info->si_code <= 0) ::raise(number);
}

void on_trap(int number, siginfo_t* info, void* context) {
  auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const u8* on = way_on(reinterpret_cast<const u8*>(regs[REG_RIP]));
  if (!on) return pass_on(number, info, context);
  regs[REG_RIP] = reinterpret_cast<greg_t>(on);
}

int install_handlers() {
  struct sigaction action {};
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i)
    if (::sigaction(kSignals[i], &action, &previous_handlers()[i]) != 0) return errno;
  return 0;
}

}  // namespace

Status watch_translated_code(const CodeCache& cache) {
  static const int error = install_handlers();
  if (error) return os_error("install handlers for traps of translated code", error);
  for (auto& slot : caches()) {
    const CodeCache* none = nullptr;
    if (slot.compare_exchange_strong(none, &cache)) return {};
  }
  return Error(ErrorKind::NoSpace, "too many virtual machines in one process");
}

void unwatch_translated_code(const CodeCache& cache) {
  for (auto& slot : caches()) {
    const CodeCache* mine = &cache;
    slot.compare_exchange_strong(mine, nullptr);
  }
}

void allow_traps() {
  thread_local const bool allowed = [] {
    sigset_t set;
    sigemptyset(&set);
    for (int number : kSignals) sigaddset(&set, number);
    return ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr) == 0;
  }();
  static_cast<void>(allowed);
}

}  // namespace atl::soft::translate
