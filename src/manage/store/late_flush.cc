#include "manage/store/late_flush.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/fd.h"
#include "base/log.h"
#include "manage/store/state_folder.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

constexpr size_t kMarkLength = 1 + 8 + 1 + 16;  // ".ORDER-SUM", hexadecimal

/// FNV-1a: against accidents, not against people.
u64 sum_of(std::string_view content) {
  u64 sum = 0xcbf29ce484222325;
  for (char c : content) sum = (sum ^ static_cast<u8>(c)) * 0x100000001b3;
  return sum;
}

}  // namespace

Result<std::unique_ptr<LateFlush>> LateFlush::start(std::string folder) {
  std::unique_ptr<LateFlush> flush(new LateFlush(std::move(folder)));
  flush->thread_ = TRY(Thread::start("state-flush", [self = flush.get()] { self->serve(); }));
  return flush;
}

LateFlush::~LateFlush() {
  {
    Lock lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Status LateFlush::write(const std::string& name, std::string_view content, unsigned mode) {
  Write write{name, {}};
  {
    Lock lock(mutex_);
    write.temporary = fmt::format("{}/.{}.{:08x}-{:016x}{}", folder_, name, order_++, sum_of(content), kTemporary);
  }
  if (Status written = write_whole(write.temporary, content, mode, false); !written) {
    ::unlink(write.temporary.c_str());
    return written;
  }
  Lock lock(mutex_);
  writes_.push_back(std::move(write));
  changed_.notify_all();
  return {};
}

void LateFlush::cancel(const std::string& name) {
  Lock lock(mutex_);
  for (const Write& write : writes_)
    if (write.name == name) ::unlink(write.temporary.c_str());
  std::erase_if(writes_, [&](const Write& write) { return write.name == name; });
}

void LateFlush::flush_folder(const std::string& path) {
  Lock lock(mutex_);
  folders_.insert(path);
  changed_.notify_all();
}

void LateFlush::settle() {
  Lock lock(mutex_);
  while (busy_ || !writes_.empty() || !folders_.empty()) changed_.wait(lock);
}

void LateFlush::serve() {
  Lock lock(mutex_);
  for (;;) {
    if (!writes_.empty()) {
      const std::vector<Write> batch(writes_.begin(), writes_.end());
      busy_ = true;
      lock.unlock();
      flush(batch);
      lock.lock();
      for (const Write& write : batch) put_in_place(write);
      busy_ = false;
    } else if (!folders_.empty()) {
      std::string folder = std::move(folders_.extract(folders_.begin()).value());
      busy_ = true;
      lock.unlock();
      report(sync_folder(folder));
      lock.lock();
      busy_ = false;
    } else if (ending_) {
      return;
    } else {
      changed_.notify_all();
      changed_.wait(lock);
    }
  }
}

/// A flush for each file costs a commit of the file system's journal for each.
void LateFlush::flush(const std::vector<Write>& batch) const {
  constexpr size_t kFew = 4;
  Fd folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (batch.size() > kFew && folder && ::syncfs(folder.get()) == 0) return;
  for (const Write& write : batch)
    if (::access(write.temporary.c_str(), F_OK) == 0) report(flush_file(write.temporary));
}

/// Unless it was cancelled meanwhile.
void LateFlush::put_in_place(const Write& write) {
  auto same = [&](const Write& other) { return other.temporary == write.temporary; };
  if (std::erase_if(writes_, same) == 0) return;
  if (::rename(write.temporary.c_str(), (folder_ + "/" + write.name).c_str()) < 0)
    report(os_error("rename " + write.temporary));
  folders_.insert(folder_);
}

void LateFlush::report(const Status& status) const {
  if (!status) log_error("{}", status.error().message());
}

std::optional<std::string> LateFlush::complete_name(const std::string& folder, const std::string& entry) {
  std::string_view rest(entry);
  if (rest.size() <= 1 + kMarkLength + kTemporary.size()) return {};
  rest.remove_suffix(kTemporary.size());
  std::string_view mark = rest.substr(rest.size() - kMarkLength);
  if (mark[0] != '.' || mark[9] != '-') return {};
  auto content = read_file(folder + "/" + entry, xml::Limits{}.bytes);
  if (!content || mark.substr(10) != fmt::format("{:016x}", sum_of(*content))) return {};
  return std::string(rest.substr(1, rest.size() - kMarkLength - 1));
}

}  // namespace atl::manage
