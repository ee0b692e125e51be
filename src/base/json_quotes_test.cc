#include "base/json_quotes.h"

#include <gtest/gtest.h>

namespace atl {
namespace {

TEST(JsonQuotes, SingleQuotesBecomeDoubleOnes) {
  EXPECT_EQ(with_double_quotes("{'driver': 'raw', \"size\": 1}"), "{\"driver\": \"raw\", \"size\": 1}");
}

TEST(JsonQuotes, QuotesInsideTheOtherKindAreText) {
  EXPECT_EQ(with_double_quotes(R"(["it's", 'say "x"'])"), R"(["it's", "say \"x\""])");
}

TEST(JsonQuotes, EscapesStayInEffect) {
  EXPECT_EQ(with_double_quotes(R"(['a\'b', "c\"d", "e\'f", 'g\\'])"), R"(["a'b", "c\"d", "e'f", "g\\"])");
}

TEST(JsonQuotes, AnOpenStringStaysOpen) {
  EXPECT_EQ(with_double_quotes("'a"), "\"a");
  EXPECT_EQ(with_double_quotes("'a\\"), "\"a\\");
}

}  // namespace
}  // namespace atl
