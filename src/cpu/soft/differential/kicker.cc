#include "cpu/soft/differential/kicker.h"

#include <unistd.h>

namespace atl::soft::differential {
namespace {

void on_timer(int, siginfo_t* info, void*) { static_cast<SoftRunner*>(info->si_value.sival_ptr)->interrupt(); }

}  // namespace

Kicker::Kicker(SoftRunner& runner) {
  struct sigaction action {};
  action.sa_sigaction = on_timer;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  CHECK(::sigaction(SIGRTMIN, &action, nullptr) == 0);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN;
  event.sigev_value.sival_ptr = &runner;
  event._sigev_un._tid = ::gettid();
  CHECK(::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
}

}  // namespace atl::soft::differential
