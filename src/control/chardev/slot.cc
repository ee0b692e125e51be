#include "control/chardev/slot.h"

#include <utility>

namespace atl::control {

void ChardevSlot::attach(Frontend frontend) {
  frontend_ = std::move(frontend);
  attached_ = true;
  inner_->attach(frontend_);
}

void ChardevSlot::detach() {
  attached_ = false;
  frontend_ = {};
  inner_->detach();
}

void ChardevSlot::exchange(std::shared_ptr<Chardev> inner) {
  inner_->detach();
  if (attached_ && frontend_.event) frontend_.event(CharEvent::Closed);
  {
    Lock lock(mutex_);
    std::swap(inner_, inner);
  }
  if (attached_) inner_->attach(frontend_);
}

void ChardevSlot::send_break() {
  if (frontend_.event) frontend_.event(CharEvent::Break);
}

}  // namespace atl::control
