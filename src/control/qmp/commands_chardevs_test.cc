#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "control/fake_vm.h"
#include "control/qmp/command.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

class ChardevCommands : public testing::Test {
 protected:
  Json run(std::string_view name, const Json& arguments) {
    const QmpCommand& command = *find_qmp_command(name);
    QmpContext context{fake.control};
    Status checked = check_arguments(command, arguments);
    if (!checked) return checked.error().text();
    auto reply = command.handler(context, arguments);
    return reply ? *reply : Json(reply.error().text());
  }
  Json add(const char* id, const Json& backend) { return run("chardev-add", {{"id", id}, {"backend", backend}}); }
  Status plug(const char* chardev) {
    KeyValues device;
    for (auto [key, value] : {std::pair("driver", "virtserialport"), {"id", "port"}, {"chardev", chardev}}) device.set(key, value);
    return fake.control.add_device(std::move(device));
  }
  void unplugged() { fake.machine.handler({.kind = machine::Event::Kind::DeviceDeleted, .device = "port", .path = "/machine/peripheral/port"}); }

  FakeVm fake;
  const Json empty_ = Json::object();
};

TEST_F(ChardevCommands, RingBufferGivesBackWhatWasWritten) {
  EXPECT_EQ(add("ring", {{"type", "ringbuf"}, {"data", {{"size", 16}}}}), empty_);
  EXPECT_EQ(run("ringbuf-write", {{"device", "ring"}, {"data", "aGVsbG8="}, {"format", "base64"}}), empty_);
  EXPECT_EQ(run("ringbuf-read", {{"device", "ring"}, {"size", 4}}), "hell");
  EXPECT_EQ(run("ringbuf-read", {{"device", "ring"}, {"size", 4}, {"format", "base64"}}), "bw==");
}

TEST_F(ChardevCommands, SocketListensWhereItIsTold) {
  const std::string path = testing::TempDir() + "/chardev-add.sock";
  const Json address = {{"type", "unix"}, {"data", {{"path", path}}}};
  EXPECT_EQ(add("s", {{"type", "socket"}, {"data", {{"addr", address}, {"wait", false}}}}), empty_);
  struct stat info{};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(run("chardev-remove", {{"id", "s"}}), empty_);
  EXPECT_NE(::stat(path.c_str(), &info), 0);
}

TEST_F(ChardevCommands, TerminalTellsItsName) {
  EXPECT_TRUE(add("p", {{"type", "pty"}})["pty"].get<std::string>().starts_with("/dev/pts/"));
}

TEST_F(ChardevCommands, NamesAreUnique) {
  add("n", {{"type", "null"}});
  EXPECT_EQ(add("n", {{"type", "null"}}), "Chardev with id 'n' already exists");
  EXPECT_EQ(run("chardev-remove", {{"id", "m"}}), "Chardev 'm' not found");
}

TEST_F(ChardevCommands, WhatADeviceUsesStaysUntilTheDeviceIsGone) {
  add("n", {{"type", "null"}});
  EXPECT_TRUE(plug("n"));
  EXPECT_EQ(run("chardev-remove", {{"id", "n"}}), "Chardev 'n' is busy");
  EXPECT_EQ(plug("n").error().text(), "Property 'virtserialport.chardev' can't take value 'n', it's in use");
  unplugged();
  EXPECT_TRUE(plug("n"));
  unplugged();
  EXPECT_EQ(run("chardev-remove", {{"id", "n"}}), empty_);
  EXPECT_EQ(plug("n").error().text(), "Property 'virtserialport.chardev' can't find value 'n'");
}

TEST_F(ChardevCommands, UnknownAddressIsNamed) {
  const Json backend = {{"type", "socket"}, {"data", {{"addr", {{"type", "vsock"}, {"data", {{"cid", "1"}}}}}}}};
  EXPECT_EQ(add("s", backend), "Parameter 'addr.type' does not accept value 'vsock'");
}

TEST_F(ChardevCommands, AnotherBackEndTakesItsPlaceUnderItsUser) {
  add("c", {{"type", "null"}});
  CharBackend* user = fake.chars->find_user(*fake.chars->claim("c"));
  std::vector<CharEvent> events;
  user->attach({.can_receive = {}, .receive = {}, .event = [&](CharEvent e) { events.push_back(e); }, .writable = {}});
  EXPECT_EQ(run("chardev-change", {{"id", "c"}, {"backend", {{"type", "ringbuf"}, {"data", empty_}}}}), empty_);
  user->write({reinterpret_cast<const u8*>("xy"), 2});
  EXPECT_EQ(run("ringbuf-read", {{"device", "c"}, {"size", 9}}), "xy");
  EXPECT_EQ(run("chardev-send-break", {{"id", "c"}}), empty_);
  EXPECT_EQ(events, (std::vector<CharEvent>{CharEvent::Opened, CharEvent::Closed, CharEvent::Opened, CharEvent::Break}));
  EXPECT_EQ(run("chardev-change", {{"id", "d"}, {"backend", {{"type", "null"}}}}), "Chardev 'd' does not exist");
  EXPECT_EQ(run("chardev-send-break", {{"id", "d"}}), "Chardev 'd' not found");
}

TEST_F(ChardevCommands, YankTakesAllOrNothing) {
  const std::string path = testing::TempDir() + "/yank.sock";
  add("s", {{"type", "socket"}, {"data", {{"addr", {{"type", "unix"}, {"data", {{"path", path}}}}}}}});
  add("n", {{"type", "null"}});
  EXPECT_EQ(run("query-yank", empty_), Json::parse(R"([{"type": "chardev", "id": "s"}])"));
  EXPECT_EQ(run("yank", {{"instances", Json::parse(R"([{"type": "chardev", "id": "s"}])")}}), empty_);
  EXPECT_EQ(run("yank", {{"instances", Json::parse(R"([{"type": "chardev", "id": "n"}])")}}), "Instance not found");
  EXPECT_EQ(run("yank", {{"instances", Json::parse("[3]")}}), "Invalid parameter type for 'instances[0]', expected: object");
}

TEST_F(ChardevCommands, ClientsNeedADescriptorAndAServer) {
  EXPECT_EQ(run("add_client", {{"protocol", "vnc"}, {"fdname", "f"}}), "File descriptor named 'f' has not been found");
  fake.control.keep_fd("f", MUST(make_eventfd()));  // there are descriptors
  EXPECT_EQ(run("add_client", {{"protocol", "spice"}, {"fdname", "f"}}), "protocol 'spice' is invalid");
}

}  // namespace
}  // namespace atl::control
