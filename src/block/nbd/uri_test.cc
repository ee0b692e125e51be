#include "block/nbd/uri.h"

#include <gmock/gmock.h>

namespace atl::block::nbd {
namespace {

Json parsed(std::string_view name) {
  auto result = parse_nbd_name(name);
  return result ? *result : Json(result.error().text());
}

TEST(NbdUri, OldNamesGiveAddressAndExport) {
  EXPECT_EQ(parsed("nbd:localhost:10809"),
            (Json{{"driver", "nbd"}, {"server.type", "inet"}, {"server.host", "localhost"}, {"server.port", "10809"}}));
  EXPECT_EQ(parsed("nbd:[::1]:9:exportname=a:b")["export"], "a:b");
  EXPECT_EQ(parsed("nbd:[::1]:9")["server.host"], "::1");
  EXPECT_EQ(parsed("nbd:unix:/tmp/s:exportname=x"),
            (Json{{"driver", "nbd"}, {"server.type", "unix"}, {"server.path", "/tmp/s"}, {"export", "x"}}));
}

TEST(NbdUri, UrisGiveAddressExportAndTls) {
  EXPECT_EQ(parsed("nbd://host/a%20b")["export"], "a b");
  EXPECT_EQ(parsed("nbd://host")["server.port"], "10809");
  EXPECT_EQ(parsed("nbd+unix:///x?socket=/tmp/s")["server.path"], "/tmp/s");
  Json tls = parsed("nbds://alice@host:99/x?tls-psk-file=/k");
  EXPECT_EQ(tls["tls"], "on");
  EXPECT_EQ(tls["tls-username"], "alice");
  EXPECT_EQ(tls["server.port"], "99");
}

TEST(NbdUri, NonsenseIsRefused) {
  for (const char* name : {"nbd:", "nbd:host", "nbd:[::1", "nbd+unix:///x", "nbd://host/%zz", "nbd://host/x?foo=1", "nbd://h/%0"})
    EXPECT_FALSE(parse_nbd_name(name)) << name;
}

TEST(NbdUri, AnAddressBecomesAUri) {
  EXPECT_EQ(nbd_uri({.path = "/tmp/s"}, "a b", false), "nbd+unix:///a%20b?socket=/tmp/s");
  EXPECT_EQ(nbd_uri({.host = "::1", .port = "9"}, "", true), "nbds://[::1]:9");
}

}  // namespace
}  // namespace atl::block::nbd
