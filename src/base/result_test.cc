#include "base/result.h"

#include <gtest/gtest.h>

namespace atl {
namespace {

Result<int> half(int n) {
  if (n % 2) return Error(ErrorKind::Invalid, "odd number");
  return n / 2;
}

Result<int> quarter(int n) {
  int h = TRY(half(n).context("first half"));
  return TRY(half(h).context("second half"));
}

TEST(Result, TryPassesTheValueOn) { EXPECT_EQ(quarter(8).value(), 2); }

TEST(Result, ErrorTextIsTheChainOfContexts) {
  auto r = quarter(6);
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().text(), "second half: odd number");
  EXPECT_EQ(r.error().kind(), ErrorKind::Invalid);
}

TEST(Result, OsErrorKeepsErrnoAndItsName) {
  Error e = os_error("open x", ENOENT);
  EXPECT_EQ(e.kind(), ErrorKind::NotFound);
  EXPECT_EQ(e.os_errno(), ENOENT);
  EXPECT_EQ(e.text(), "open x: No such file or directory");
}

}  // namespace
}  // namespace atl
