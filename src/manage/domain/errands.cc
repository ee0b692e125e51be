#include "manage/domain/errands.h"

#include <utility>

#include "base/log.h"

namespace atl::manage {

void Errands::run(std::string name, std::function<void()> work) {
  Lock lock(mutex_);
  if (ending_) return;
  errands_.remove_if([](const auto& errand) { return errand->done.load(); });
  auto errand = std::make_unique<Errand>();
  Errand* raw = errand.get();
  auto thread = Thread::start(std::move(name), [raw, work = std::move(work)] {
    work();
    raw->done = true;
  });
  if (!thread) return log_error("{}", thread.error().text());
  errand->thread = std::move(*thread);
  errands_.push_back(std::move(errand));
}

void Errands::finish() {
  std::list<std::unique_ptr<Errand>> rest;
  {
    Lock lock(mutex_);
    ending_ = true;
    rest.swap(errands_);
  }
  rest.clear();  // joins
}

}  // namespace atl::manage
