#include "manage/config.h"

#include <gmock/gmock.h>

namespace atl::manage {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Config, KeysOfAllKindsAreRead) {
  Config config;
  ASSERT_TRUE(
      parse_config("# comment\n\nlisten_tls = 1\n tls_port=\"17\"  # why\nmax_clients = 3\n"
                   "sasl_allowed_username_list = [\"joe\", \"ann\"]\n",
                   "f", config));
  EXPECT_TRUE(config.listen_tls);
  EXPECT_EQ(config.tls_port, "17");
  EXPECT_EQ(config.limits.max_clients, 3u);
  EXPECT_THAT(config.sasl_users, ElementsAre("joe", "ann"));
}

TEST(Config, MistakesNameTheirLine) {
  struct Case {
    const char *text, *says;
  };
  for (Case c : {Case{"a = 1", "f:1: unknown key 'a'"}, Case{"\nlisten_tcp = \"x\"", "f:2: 'listen_tcp'"},
                 Case{"listen_tcp = 2", "another kind"}, Case{"tcp_port = \"1", "malformed"},
                 Case{"tcp_port = \"1\" 2", "malformed"}, Case{"listen_tcp", "key = value"},
                 Case{"sasl_allowed_username_list = [\"a\" \"b\"]", "malformed"},
                 Case{"auth_unix_rw = \"polkit\"", "polkit"}, Case{"max_workers = 0", "must not be 0"}}) {
    Config config;
    Status status = parse_config(c.text, "f", config);
    ASSERT_FALSE(status) << c.text;
    EXPECT_THAT(status.error().message(), HasSubstr(c.says)) << c.text;
  }
}

}  // namespace
}  // namespace atl::manage
