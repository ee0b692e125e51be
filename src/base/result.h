// Errors as values: Result<T> carries a value or an Error whose text is a chain "context: context: cause".
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace atl {

/// What went wrong, coarsely; stable, for callers that decide on it. People read the text.
enum class ErrorKind : unsigned char {
  Invalid,      // the caller's, file's or peer's input is wrong
  NotFound,     // the named thing does not exist
  Exists,       // the named thing exists already
  Unsupported,  // understood, but not available here
  Busy,         // in use or locked by another
  NoSpace,      // a disk, memory or table is full
  Io,           // the host failed an I/O operation
  Permission,   // the host denied access
  Cancelled,    // given up on request
};

class Error {
 public:
  Error(ErrorKind kind, std::string text) : kind_(kind), text_(std::move(text)) {}
  /// `os_errno` is kept so that block requests can report it to the guest or the monitor; 0 if none.
  Error(ErrorKind kind, std::string text, int os_errno) : kind_(kind), os_errno_(os_errno), text_(std::move(text)) {}

  ErrorKind kind() const { return kind_; }
  int os_errno() const { return os_errno_; }
  const std::string& text() const { return text_; }
  Error with_context(std::string_view context) && {
    text_.insert(0, ": ").insert(0, context);
    return std::move(*this);
  }

 private:
  ErrorKind kind_;
  int os_errno_ = 0;
  std::string text_;
};

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
  Result(Error error) : std::expected<T, Error>(std::unexpect, std::move(error)) {}

  /// Puts `what` ("open disk.raw") before the error's text, if there is one.
  Result context(std::string_view what) && {
    if (!this->has_value()) this->error() = std::move(this->error()).with_context(what);
    return std::move(*this);
  }
};

using Status = Result<void>;

/// The current errno as an Error "what: No such file or directory".
Error os_error(std::string_view what);
Error os_error(std::string_view what, int err);

}  // namespace atl

/// The value of a Result, or return its error from the enclosing function.
#define TRY(...)                                                                          \
  ({                                                                                      \
    auto try_result_ = (__VA_ARGS__);                                                     \
    if (!try_result_) [[unlikely]] return ::atl::Error(std::move(try_result_).error());   \
    *std::move(try_result_);                                                              \
  })

/// TRY for coroutines. Await into a variable first: GCC 12 crashes on a co_await inside the argument.
#define CO_TRY(...)                                                                          \
  ({                                                                                         \
    auto try_result_ = (__VA_ARGS__);                                                        \
    if (!try_result_) [[unlikely]] co_return ::atl::Error(std::move(try_result_).error());   \
    *std::move(try_result_);                                                                 \
  })

/// The value of a Result that cannot be an error; a comment at the use says why.
#define MUST(...)                         \
  ({                                      \
    auto must_result_ = (__VA_ARGS__);    \
    CHECK(must_result_.has_value());      \
    *std::move(must_result_);             \
  })
