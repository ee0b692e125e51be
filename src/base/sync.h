// Mutex with Clang's thread-safety annotations.
#pragma once

#include <mutex>

#if defined(__clang__)
#define ATL_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define ATL_THREAD_ANNOTATION(x)
#endif
#define CAPABILITY(x) ATL_THREAD_ANNOTATION(capability(x))
#define SCOPED_CAPABILITY ATL_THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(x) ATL_THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...) ATL_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) ATL_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) ATL_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) ATL_THREAD_ANNOTATION(release_capability(__VA_ARGS__))

namespace atl {

class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

/// Holds a Mutex for a scope. Works with std::condition_variable_any, which needs lock() and unlock().
class SCOPED_CAPABILITY Lock {
 public:
  explicit Lock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() RELEASE() { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  Mutex& mutex_;
};

}  // namespace atl
