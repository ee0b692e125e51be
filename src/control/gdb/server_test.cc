#include "control/gdb/server.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "control/gdb/registers.h"

namespace atl::control {
namespace {

using Point = cpu::DebugRequest::Point;

struct FakeBackend final : CharBackend {
  void attach(Frontend new_frontend) override { frontend = std::move(new_frontend); }
  void detach() override { frontend = {}; }
  size_t write(std::span<const u8> data) override {
    output.append(data.begin(), data.end());
    return data.size();
  }
  void accept_input() override {}
  const std::string& id() const override { return name; }
  std::string describe() const override { return "null"; }

  Frontend frontend;
  std::string name = "gdb", output;
};

struct FakeTarget final : GdbTarget {
  u32 cpu_count() const override { return 2; }
  Result<cpu::VcpuState> state(u32 cpu) override { return states[cpu]; }
  Status set_state(u32 cpu, const cpu::VcpuState& state) override {
    states[cpu] = state;
    return {};
  }
  Result<std::vector<u8>> read(u32, u64 address, u64 size) override {
    if (address + size > memory.size()) return Error(ErrorKind::Invalid, "not mapped");
    return std::vector<u8>(memory.begin() + static_cast<long>(address), memory.begin() + static_cast<long>(address + size));
  }
  Status write(u32, u64 address, std::span<const u8> data) override {
    if (address + data.size() > memory.size()) return Error(ErrorKind::Invalid, "not mapped");
    std::copy(data.begin(), data.end(), memory.begin() + static_cast<long>(address));
    return {};
  }
  Status set_points(const std::vector<Point>& new_points) override {
    points = new_points;
    return {};
  }
  Status resume(std::optional<u32> step) override {
    running = true;
    stepped = step;
    return {};
  }
  Status interrupt() override {
    running = false;
    return {};
  }
  void quit() override { ended = true; }

  std::map<u32, cpu::VcpuState> states;
  std::vector<u8> memory = std::vector<u8>(64);
  std::vector<Point> points;
  std::optional<u32> stepped;
  bool running = true, ended = false;
};

class GdbServerTest : public testing::Test {
 protected:
  /// Sends one packet without acknowledgements; the payload of the answer.
  std::string ask(std::string_view payload) {
    backend_.output.clear();
    type(gdb_frame(payload));
    return answer();
  }
  std::string answer() {
    size_t from = backend_.output.find('$');
    if (from == std::string::npos) return "(nothing)";
    return backend_.output.substr(from + 1, backend_.output.rfind('#') - from - 1);
  }
  void type(std::string_view bytes) { backend_.frontend.receive({reinterpret_cast<const u8*>(bytes.data()), bytes.size()}); }

  FakeBackend backend_;
  FakeTarget target_;
  GdbServer server_{backend_, target_};
};

TEST_F(GdbServerTest, FirstPacketStopsTheMachine) {
  ask("?");
  EXPECT_FALSE(target_.running);
  EXPECT_TRUE(server_.attached());
}

TEST_F(GdbServerTest, PacketsAreAcknowledgedUntilToldOtherwise) {
  type(gdb_frame("QStartNoAckMode"));
  EXPECT_EQ(backend_.output, "+$OK#9a");
  EXPECT_EQ(ask("T1"), "OK");
  EXPECT_EQ(backend_.output, "$OK#9a");
}

TEST_F(GdbServerTest, DamagedPacketIsAskedForAgain) {
  type("$?#00");
  EXPECT_EQ(backend_.output, "-");
}

TEST_F(GdbServerTest, RegistersGoOutAndComeBack) {
  target_.states[0].gpr[cpu::kRbx] = 0x1122334455667788;
  EXPECT_EQ(ask("p1"), "8877665544332211");
  EXPECT_EQ(ask("P0=0100000000000000"), "OK");
  EXPECT_EQ(target_.states[0].gpr[cpu::kRax], 1u);
  std::string all = ask("g");
  target_.states[0] = {};
  EXPECT_EQ(ask("G" + all), "OK");
  EXPECT_EQ(target_.states[0].gpr[cpu::kRbx], 0x1122334455667788u);
  EXPECT_EQ(ask("pffff"), "E16");
}

TEST_F(GdbServerTest, MemoryIsReadAndWritten) {
  EXPECT_EQ(ask("M4,3:aabbcc"), "OK");
  EXPECT_EQ(ask("m3,5"), "00aabbcc00");
  EXPECT_EQ(ask("m1000,4"), "E0e");
  EXPECT_EQ(ask("mzz,4"), "E16");
}

TEST_F(GdbServerTest, PointsReachTheTarget) {
  EXPECT_EQ(ask("Z0,401000,1"), "OK");
  EXPECT_EQ(ask("Z2,8000,4"), "OK");
  ASSERT_EQ(target_.points.size(), 2u);
  EXPECT_EQ(target_.points[1].kind, Point::Kind::Write);
  EXPECT_EQ(ask("z0,401000,1"), "OK");
  EXPECT_EQ(target_.points.size(), 1u);
}

TEST_F(GdbServerTest, ContinueAnswersWhenTheMachineStops) {
  EXPECT_EQ(ask("vCont;c"), "(nothing)");
  EXPECT_TRUE(target_.running);
  server_.stopped(1, Point{0x8000, 4, Point::Kind::Write});
  EXPECT_EQ(answer(), "T05thread:2;watch:8000;");
}

TEST_F(GdbServerTest, StepNamesItsProcessor) {
  ask("vCont;s:2;c");
  EXPECT_EQ(target_.stepped, 1u);
}

TEST_F(GdbServerTest, InterruptByteStopsWithSigint) {
  ask("c");
  type("\x03");
  EXPECT_FALSE(target_.running);
  server_.stopped(0, std::nullopt);
  EXPECT_EQ(answer(), "T02thread:1;");
}

TEST_F(GdbServerTest, DescriptionComesInPieces) {
  std::string whole = gdb_target_description(), got;
  for (size_t at = 0;; at += 1000) {
    std::string part = ask(fmt::format("qXfer:features:read:target.xml:{:x},3e8", at));
    got += part.substr(1);
    if (part[0] == 'l') break;
  }
  EXPECT_EQ(got, whole);
}

TEST_F(GdbServerTest, ClosedConnectionLetsTheMachineRun) {
  ask("Z0,1000,1");
  backend_.frontend.event(CharEvent::Closed);
  EXPECT_TRUE(target_.running);
  EXPECT_TRUE(target_.points.empty());
}

TEST_F(GdbServerTest, UnknownPacketsGetTheEmptyReply) { EXPECT_EQ(ask("vFrobnicate"), ""); }

}  // namespace
}  // namespace atl::control
