#include "display/vnc/websocket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atl::display::vnc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
                                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                                      "Sec-WebSocket-Protocol: binary\r\n\r\n";

class WebSocketTest : public testing::Test {
 protected:
  bool send(std::string_view text) { return send(std::vector<u8>(text.begin(), text.end())); }
  bool send(const std::vector<u8>& bytes) { return socket_.receive(bytes, content_, answer_); }
  void open() {
    ASSERT_TRUE(send(kRequest));
    ASSERT_TRUE(socket_.is_open());
    answer_.clear();
  }
  std::string answer() const { return {answer_.begin(), answer_.end()}; }

  WebSocket socket_;
  std::vector<u8> content_, answer_;
};

TEST_F(WebSocketTest, AnswersTheKeyAsTheStandardsExampleSays) {
  ASSERT_TRUE(send(kRequest.substr(0, 50)));
  EXPECT_FALSE(socket_.is_open());
  ASSERT_TRUE(send(kRequest.substr(50)));
  EXPECT_THAT(answer(), HasSubstr("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
  EXPECT_THAT(answer(), HasSubstr("Sec-WebSocket-Protocol: binary\r\n"));
}

TEST_F(WebSocketTest, OtherRequestsAreBad) {
  EXPECT_FALSE(send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(answer(), StartsWith("HTTP/1.1 400"));
  WebSocket another;
  EXPECT_FALSE(another.receive(std::vector<u8>(9000, 'x'), content_, answer_));
}

TEST_F(WebSocketTest, FramesComeInPiecesAndUnmasked) {
  open();
  const std::vector<u8> frame{0x02, 0x83, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2, 'c' ^ 3, 0x80, 0x81, 0, 0, 0, 0, 'd'};
  for (u8 byte : frame) ASSERT_TRUE(send(std::vector<u8>{byte}));
  EXPECT_THAT(content_, ElementsAre('a', 'b', 'c', 'd'));
}

TEST_F(WebSocketTest, HugeFramesAreNotGathered) {
  open();
  ASSERT_TRUE(send(std::vector<u8>{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 'x'}));
  EXPECT_THAT(content_, ElementsAre('x'));
}

TEST_F(WebSocketTest, PingIsAnsweredAndCloseEnds) {
  open();
  ASSERT_TRUE(send(std::vector<u8>{0x89, 0x82, 0, 0, 0, 0, 'h', 'i'}));
  EXPECT_THAT(answer_, ElementsAre(0x8a, 2, 'h', 'i'));
  EXPECT_FALSE(send(std::vector<u8>{0x88, 0x80, 0, 0, 0, 0}));
}

TEST_F(WebSocketTest, TextUnmaskedAndReservedFramesBreakIt) {
  for (const std::vector<u8>& bad : {std::vector<u8>{0x81, 0x80, 0, 0, 0, 0}, {0x82, 0x01, 'x'}, {0xc2, 0x80, 0, 0, 0, 0}, {0x89, 0xfe, 0, 200}}) {
    socket_ = {};
    open();
    EXPECT_FALSE(send(bad));
  }
}

TEST_F(WebSocketTest, LengthsHaveThreeForms) {
  for (size_t size : {125u, 126u, 65535u, 65536u}) {
    std::vector<u8> out;
    WebSocket::frame(std::vector<u8>(size), out);
    EXPECT_EQ(out.size(), size + (size < 126 ? 2 : size < 65536 ? 4 : 10));
  }
}

}  // namespace
}  // namespace atl::display::vnc
