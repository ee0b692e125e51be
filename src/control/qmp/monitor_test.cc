#include "control/qmp/monitor.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "control/fake_chars.h"
#include "control/fake_vm.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class QmpTest : public testing::Test {
 protected:
  Json greet() {
    monitor = std::make_unique<QmpMonitor>(vm, chars, nullptr, false);
    return Json::parse(chars.take_output());
  }
  void connect() {
    greet();
    ask(R"({"execute": "qmp_capabilities"})");
  }
  Json ask(std::string_view text) {
    chars.type(text);
    Json reply = Json::parse(chars.take_output(), nullptr, false);
    EXPECT_FALSE(reply.is_discarded()) << text;
    return reply;
  }
  std::string error_of(std::string_view text) {
    Json reply = ask(text);
    if (!reply.contains("error")) return "no error";
    return reply["error"]["class"].get<std::string>() + ": " + reply["error"]["desc"].get<std::string>();
  }

  FakeVm fake;
  VmControl& vm = fake.control;
  FakeMachine& machine = fake.machine;
  FakeChars chars;
  std::unique_ptr<QmpMonitor> monitor;
};

TEST_F(QmpTest, GreetsWithQemusVersion) {
  Json hello = greet();
  EXPECT_EQ(hello["QMP"]["version"]["qemu"]["major"], 7);
  EXPECT_TRUE(hello["QMP"]["capabilities"].is_array());
}

TEST_F(QmpTest, CommandsWaitForNegotiation) {
  greet();
  EXPECT_EQ(error_of(R"({"execute": "query-status"})"),
            "CommandNotFound: Expecting capabilities negotiation with 'qmp_capabilities'");
  EXPECT_EQ(ask(R"({"execute": "qmp_capabilities", "id": 1})"), Json::parse(R"({"return": {}, "id": 1})"));
  EXPECT_EQ(error_of(R"({"execute": "qmp_capabilities"})"),
            "CommandNotFound: Capabilities negotiation is already complete, command ignored");
}

TEST_F(QmpTest, EchoesAnyId) {
  connect();
  EXPECT_EQ(ask(R"({"execute": "query-status", "id": {"a": [1]}})")["id"], Json::parse(R"({"a": [1]})"));
  EXPECT_EQ(ask(R"({"execute": "nope", "id": "x"})")["id"], "x");
}

TEST_F(QmpTest, ErrorsAreQemus) {
  connect();
  EXPECT_EQ(error_of(R"({"execute": "nope"})"), "CommandNotFound: The command nope has not been found");
  EXPECT_EQ(error_of(R"({"execute": "query-status", "arguments": {"x": 1}})"), "GenericError: Parameter 'x' is unexpected");
  EXPECT_EQ(error_of(R"({"execute": "device_del"})"), "GenericError: Parameter 'id' is missing");
  EXPECT_EQ(error_of(R"({"execute": "device_del", "arguments": {"id": 1}})"),
            "GenericError: Invalid parameter type for 'id', expected: string");
  EXPECT_EQ(error_of(R"({"execute": "device_del", "arguments": {"id": "x"}})"), "DeviceNotFound: Device 'x' not found");
  EXPECT_EQ(error_of(R"({"execute": "query-balloon"})"), "DeviceNotActive: No balloon device has been activated");
  EXPECT_EQ(error_of(R"({"execute": "device_add", "arguments": {}})"), "GenericError: Parameter 'driver' is missing");
  EXPECT_EQ(error_of(R"({"execute": "device_add", "arguments": {"driver": "foo"}})"),
            "GenericError: 'foo' is not a valid device model name");
  EXPECT_EQ(error_of(R"({"execute": 3})"), "GenericError: QMP input member 'execute' must be a string");
  EXPECT_EQ(error_of(R"({"foo": 3})"), "GenericError: QMP input member 'foo' is unexpected");
  EXPECT_EQ(error_of(R"({"execute": "stop", "arguments": 3})"), "GenericError: QMP input member 'arguments' must be an object");
  EXPECT_EQ(error_of("[]"), "GenericError: QMP input must be a JSON object");
  EXPECT_THAT(error_of("{]"), HasSubstr("JSON parse error"));
  EXPECT_TRUE(ask(R"({"execute": "query-status"})").contains("return")) << "the connection survives";
}

TEST_F(QmpTest, LifeCycleReachesTheMachine) {
  connect();
  for (const char* name : {"system_reset", "system_powerdown", "inject-nmi", "cont"}) ask(std::string(R"({"execute": ")") + name + "\"}");
  EXPECT_THAT(machine.log, ElementsAre("reset", "powerdown", "nmi", "resume"));
  EXPECT_EQ(ask(R"({"execute": "query-status"})")["return"]["status"], "running");
}

TEST_F(QmpTest, EventsComeBetweenReplies) {
  connect();
  chars.type(R"({"execute": "stop"})");
  std::string text = chars.take_output();
  EXPECT_THAT(text, HasSubstr(R"("event": "STOP")"));
  EXPECT_LT(text.find("STOP"), text.find("return"));
}

TEST_F(QmpTest, NoEventsBeforeNegotiation) {
  greet();
  machine.handler({.kind = machine::Event::Kind::Resume});
  EXPECT_EQ(chars.take_output(), "");
}

TEST_F(QmpTest, QuitTellsWhyTheVmEnds) {
  connect();
  chars.type(R"({"execute": "quit"})");
  EXPECT_THAT(chars.take_output(), HasSubstr("host-qmp-quit"));
  EXPECT_TRUE(vm.is_quitting());
}

TEST_F(QmpTest, DevicesAndNodesComeFromJson) {
  connect();
  ask(R"({"execute": "object-add", "arguments": {"qom-type": "rng-random", "id": "r", "filename": "/dev/urandom"}})");
  ask(R"({"execute": "device_add", "arguments": {"driver": "virtio-rng-pci", "id": "d", "rng": "r"}})");
  ask(R"({"execute": "netdev_add", "arguments": {"type": "user", "id": "u"}})");
  EXPECT_THAT(machine.log, ElementsAre("add_rng r", "add_device virtio-rng-pci d", "add_network u"));
}

TEST_F(QmpTest, BlockNodesStandOnEachOther) {
  connect();
  ask(R"({"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "f", "size": 1048576}})");
  ask(R"({"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": "n", "file": "f"}})");
  EXPECT_EQ(ask(R"({"execute": "query-named-block-nodes"})")["return"].size(), 2u);
  EXPECT_EQ(error_of(R"({"execute": "blockdev-del", "arguments": {"node-name": "f"}})"), "GenericError: Node f is in use");
  EXPECT_EQ(error_of(R"({"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n"}})"),
            "GenericError: Duplicate nodes with node-name='n'");
  ask(R"({"execute": "blockdev-del", "arguments": {"node-name": "n"}})");
  ask(R"({"execute": "blockdev-del", "arguments": {"node-name": "f"}})");
  EXPECT_EQ(ask(R"({"execute": "query-named-block-nodes"})")["return"].size(), 0u);
}

TEST_F(QmpTest, TransactionsAreAllOrNothing) {
  connect();
  ask(R"({"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n", "size": 1048576}})");
  EXPECT_EQ(error_of(R"({"execute": "transaction", "arguments": {"actions": [
      {"type": "block-dirty-bitmap-add", "data": {"node": "n", "name": "b"}}, {"type": "abort", "data": {}}]}})"),
            "GenericError: Transaction aborted using Abort action");
  EXPECT_EQ(error_of(R"({"execute": "block-dirty-bitmap-clear", "arguments": {"node": "n", "name": "b"}})"),
            "GenericError: Dirty bitmap 'b' not found");
  ask(R"({"execute": "block-dirty-bitmap-add", "arguments": {"node": "n", "name": "b"}})");
  ask(R"({"execute": "block-dirty-bitmap-clear", "arguments": {"node": "n", "name": "b"}})");
}

TEST_F(QmpTest, MirrorBecomesReadyAndCompletes) {
  connect();
  ask(R"({"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "a", "size": 1048576, "read-zeroes": true}})");
  ask(R"({"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "b", "size": 1048576}})");
  ask(R"({"execute": "blockdev-mirror", "arguments": {"job-id": "j", "device": "a", "target": "b", "sync": "full",
      "auto-dismiss": false}})");
  EXPECT_EQ(error_of(R"({"execute": "blockdev-del", "arguments": {"node-name": "a"}})"), "GenericError: Node 'a' is busy: block device is in use by block job: mirror");
  auto status = [&] { return ask(R"({"execute": "query-jobs"})")["return"][0]["status"].get<std::string>(); };
  for (int i = 0; i < 1000 && status() != "ready"; ++i) machine.settle();
  ask(R"({"execute": "job-complete", "arguments": {"id": "j"}})");
  for (int i = 0; i < 1000 && status() != "concluded"; ++i) machine.settle();
  ask(R"({"execute": "job-dismiss", "arguments": {"id": "j"}})");
  EXPECT_EQ(ask(R"({"execute": "query-jobs"})")["return"].size(), 0u);
}

TEST_F(QmpTest, HumanMonitorAnswersAsText) {
  connect();
  Json reply = ask(R"({"execute": "human-monitor-command", "arguments": {"command-line": "info status"}})");
  EXPECT_EQ(reply["return"], "VM status: running\r\n");
}

TEST_F(QmpTest, ASlowReaderGetsEverythingInOrder) {
  connect();
  chars.room = 5;
  chars.type(R"({"execute": "query-name", "id": 1})");
  EXPECT_EQ(chars.can_receive(), 0u) << "no further command while a reply waits";
  chars.room = 1000;
  chars.writable();
  EXPECT_EQ(Json::parse(chars.take_output())["id"], 1);
  EXPECT_GT(chars.can_receive(), 0u);
}

TEST_F(QmpTest, AnotherClientStartsAnew) {
  connect();
  chars.event(CharEvent::Closed);
  chars.event(CharEvent::Opened);
  EXPECT_THAT(chars.take_output(), HasSubstr("\"QMP\""));
  EXPECT_THAT(error_of(R"({"execute": "query-status"})"), HasSubstr("Expecting capabilities"));
}

TEST_F(QmpTest, EveryListedCommandExists) {
  connect();
  for (const auto& command : ask(R"({"execute": "query-commands"})")["return"]) {
    std::string name = command["name"];
    EXPECT_THAT(error_of(R"({"execute": ")" + name + R"(", "arguments": {"zz": 1}})"), testing::Not(HasSubstr("has not been found")));
  }
}

TEST_F(QmpTest, ObjectsAreListedReadAndWrittenByPath) {
  machine.balloon = kMiB;
  machine.present = {{{.type = "virtio-balloon-pci", .id = "bal"}, "/machine/peripheral/bal"}};
  connect();
  EXPECT_EQ(ask(R"({"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}})")["return"],
            Json::parse(R"([{"name": "type", "type": "string"}, {"name": "bal", "type": "child<virtio-balloon-pci>"}])"));
  EXPECT_EQ(ask(R"({"execute": "qom-get", "arguments": {"path": "bal", "property": "type"}})")["return"], "virtio-balloon-pci");
  EXPECT_EQ(error_of(R"({"execute": "qom-get", "arguments": {"path": "bal", "property": "x"}})"),
            "GenericError: Property 'virtio-balloon-pci.x' not found");
  EXPECT_EQ(error_of(R"({"execute": "qom-get", "arguments": {"path": "/nope", "property": "x"}})"),
            "DeviceNotFound: Device '/nope' not found");
  ask(R"({"execute": "qom-set", "arguments": {"path": "bal", "property": "guest-stats-polling-interval", "value": 5}})");
  EXPECT_THAT(machine.log, testing::Contains("statistics 5"));
  EXPECT_EQ(error_of(R"({"execute": "qom-set", "arguments": {"path": "bal", "property": "realized", "value": false}})"),
            "GenericError: Property 'virtio-balloon-pci.realized' is not writable");
}

TEST_F(QmpTest, TypesAreFoundByWhatTheyImplement) {
  connect();
  auto names = [&](std::string_view type) {
    std::vector<std::string> list;
    const Json reply = ask(fmt::format(R"({{"execute": "qom-list-types", "arguments": {{"implements": "{}"}}}})", type));
    for (const Json& entry : reply["return"]) list.push_back(entry["name"]);
    return list;
  };
  EXPECT_THAT(names("machine"), testing::Contains("pc-i440fx-7.2-machine"));
  EXPECT_THAT(names("device"), testing::AllOf(testing::Contains("virtio-blk-pci"), testing::Contains("max-x86_64-cpu")));
  EXPECT_THAT(names("iothread"), ElementsAre("iothread"));
  EXPECT_THAT(names("nothing"), testing::IsEmpty());
}

TEST_F(QmpTest, SchemaTellsEachCommandsArguments) {
  connect();
  const Json schema = ask(R"({"execute": "query-qmp-schema"})")["return"];
  auto named = [&](std::string_view name) {
    for (const Json& entry : schema)
      if (entry["name"] == name) return entry;
    return Json();
  };
  const Json command = named("device_del");
  EXPECT_EQ(command["meta-type"], "command");
  EXPECT_EQ(named(command["arg-type"].get<std::string>())["members"], Json::parse(R"([{"name": "id", "type": "str"}])"));
  EXPECT_EQ(named("DEVICE_DELETED")["meta-type"], "event");
  for (const Json& entry : schema) {
    const std::string type = entry.value("arg-type", "any");
    EXPECT_FALSE(named(type).is_null()) << entry;
  }
}

TEST_F(QmpTest, TypesInsideArgumentsAreChecked) {
  connect();
  EXPECT_EQ(error_of(R"({"execute": "object-add", "arguments": {"qom-type": "memory-backend-ram", "id": "m", "size": "1048576"}})"),
            "GenericError: Invalid parameter type for 'size', expected: integer");
  EXPECT_EQ(error_of(R"({"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": 3}})"),
            "GenericError: Invalid parameter type for 'node-name', expected: string");
  EXPECT_EQ(error_of(R"({"execute": "chardev-add", "arguments": {"id": "c", "backend": {"type": "socket", "data": {"addr": 1}}}})"),
            "GenericError: Invalid parameter type for 'backend.data.addr', expected: object");
  EXPECT_EQ(error_of(R"({"execute": "yank", "arguments": {"instances": [3]}})"),
            "GenericError: Invalid parameter type for 'instances[0]', expected: object");
}

TEST_F(QmpTest, MemoryObjectsComeAndGo) {
  connect();
  const std::string add = R"({"execute": "object-add", "arguments": {"qom-type": "memory-backend-ram", "id": "m", "size": 1048576}})";
  EXPECT_TRUE(ask(add).contains("return"));
  EXPECT_EQ(error_of(add), "GenericError: attempt to add duplicate property 'm' to object (type 'container')");
  const Json list = ask(R"({"execute": "query-memdev"})")["return"];
  EXPECT_EQ(list.back()["id"], "m");
  EXPECT_TRUE(ask(R"({"execute": "object-del", "arguments": {"id": "m"}})").contains("return"));
  EXPECT_EQ(error_of(R"({"execute": "object-del", "arguments": {"id": "m"}})"), "GenericError: object 'm' not found");
  EXPECT_EQ(error_of(R"({"execute": "object-add", "arguments": {"qom-type": "memory-backend-ram", "id": "m"}})"),
            "GenericError: can't create backend with size 0");
}

TEST_F(QmpTest, AbstractTypesHaveTheirParents) {
  connect();
  const Json list = ask(R"({"execute": "qom-list-types", "arguments": {"implements": "device", "abstract": true}})")["return"];
  std::map<std::string, std::string> parents;
  for (const Json& entry : list) parents[entry["name"]] = entry.value("parent", "");
  for (const auto& [name, parent] : parents) {
    std::string type = name;
    while (type != "device" && !type.empty()) type = parents.contains(type) ? parents[type] : "";
    EXPECT_EQ(type, "device");
  }
  EXPECT_EQ(error_of(R"({"execute": "device-list-properties", "arguments": {"typename": "device"}})"),
            "GenericError: Parameter 'typename' expects a non-abstract device type");
  EXPECT_TRUE(ask(R"({"execute": "device-list-properties", "arguments": {"typename": "max-x86_64-cpu"}})").contains("return"));
}

TEST_F(QmpTest, DeepAndBrokenTextIsAnError) {
  connect();
  chars.type("{\"execute\": \"query-status\", \"id\": " + std::string(100'000, '['));
  EXPECT_THAT(chars.take_output(), HasSubstr("JSON parse error"));
  chars.event(CharEvent::Closed);
  chars.event(CharEvent::Opened);
  chars.take_output();
  ask(R"({"execute": "qmp_capabilities"})");
  chars.type("{\"execute\": \"\xff\xfe\"}");
  EXPECT_THAT(chars.take_output(), HasSubstr("JSON parse error"));
  EXPECT_TRUE(ask(R"({"execute": "query-status"})").contains("return"));
}

}  // namespace
}  // namespace atl::control
