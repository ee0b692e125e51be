#include "display/vnc/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nettle/des.h>

#include "base/endian.h"

namespace atl::display::vnc {
namespace {

using ::testing::ElementsAre;

class VncClientTest : public testing::Test {
 protected:
  VncClientTest() : picture_(130, 70) {
    picture_.row(0)[0] = 0xff8040;
    picture_.row(69)[129] = 0x123456;
  }
  bool send(std::vector<u8> bytes) { return client().receive(bytes); }
  Client& client() {
    if (!client_) client_.emplace(settings_, input_, picture_, cursor_);
    return *client_;
  }
  /// What came out since the last call.
  std::vector<u8> output() { return std::exchange(client().output(), {}); }
  void hello() {
    ASSERT_TRUE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 1, 1}));
    ASSERT_TRUE(client().ready());
    output();
  }
  void ask(bool incremental) {
    ASSERT_TRUE(send({kUpdateRequest, incremental, 0, 0, 0, 0, 0, 130, 0, 70}));
    client().update();
  }

  /// The pseudo encodings that the viewer knows, behind Raw.
  void understand(std::vector<i32> encodings) {
    std::vector<u8> message{kSetEncodings, 0, 0, static_cast<u8>(encodings.size())};
    for (i32 e : encodings) put32(message, static_cast<u32>(e));
    ASSERT_TRUE(send(message));
  }

  Surface picture_;
  CursorShape cursor_;
  Settings settings_;
  std::vector<std::string> events_;
  Input input_{.key = [this](u8 number, bool down) { events_.push_back(std::to_string(number) + (down ? "+" : "-")); },
               .pointer = [this](u32 x, u32 y, u8 b) {
                 events_.push_back(std::to_string(x) + "," + std::to_string(y) + ":" + std::to_string(b));
               }};
  std::optional<Client> client_;
};

TEST_F(VncClientTest, HandshakeTellsSizeAndName) {
  ASSERT_TRUE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n'}));
  EXPECT_THAT(output(), ElementsAre('R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 1, 1));
  ASSERT_TRUE(send({1, 1}));
  const std::vector<u8> out = output();
  ASSERT_EQ(out.size(), 4u + 24 + 5);
  EXPECT_EQ(load_be<u16>(&out[4]), 130);
  EXPECT_EQ(load_be<u16>(&out[6]), 70);
  EXPECT_EQ(std::string(out.end() - 5, out.end()), "Atoll");
}

TEST_F(VncClientTest, OldViewersAreServedInTheirWay) {
  ASSERT_TRUE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '3', '\n', 1}));
  const std::vector<u8> out = output();
  ASSERT_EQ(out.size(), 12u + 4 + 24 + 5);
  EXPECT_EQ(load_be<u32>(&out[12]), 1u);
  EXPECT_EQ(load_be<u16>(&out[16]), 130);
}

TEST_F(VncClientTest, RightPasswordOpensAndAWrongOneDoesNot) {
  settings_.password = "secret";
  for (bool right : {true, false}) {
    client_.reset();
    ASSERT_TRUE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 2}));
    const std::vector<u8> out = output();
    ASSERT_EQ(out.size(), 12u + 2 + 16);
    EXPECT_EQ(out[13], 2);
    const u8 mirrored[8] = {0xce, 0xa6, 0xc6, 0x4e, 0xa6, 0x2e, 0, 0};  // "secret"
    des_ctx context;
    nettle_des_set_key(&context, mirrored);
    std::vector<u8> answer(16);
    nettle_des_encrypt(&context, 16, answer.data(), &out[14]);
    if (!right) answer[3] ^= 1;
    EXPECT_EQ(send(answer), right);
    EXPECT_EQ(load_be<u32>(output().data()), right ? 0u : 1u);
  }
}

TEST_F(VncClientTest, EmptyPasswordLetsNobodyIn) {
  settings_.password = "";
  ASSERT_TRUE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 2}));
  const std::vector<u8> out = output();
  const u8 zero[8] = {};
  des_ctx context;
  nettle_des_set_key(&context, zero);
  std::vector<u8> answer(16);
  nettle_des_encrypt(&context, 16, answer.data(), &out[14]);
  EXPECT_FALSE(send(answer));
}

TEST_F(VncClientTest, FirstUpdateHoldsTheWholePictureRaw) {
  hello();
  ask(false);
  const std::vector<u8> out = output();
  ASSERT_EQ(out.size(), 4u + 12 + 130 * 70 * 4);
  EXPECT_EQ(load_be<u16>(&out[2]), 1);
  EXPECT_EQ(load_le<u32>(&out[16]), 0xff8040u);
  EXPECT_EQ(load_le<u32>(&out[out.size() - 4]), 0x123456u);
}

TEST_F(VncClientTest, OnlyWhatChangedIsSentAgain) {
  hello();
  ask(false);
  output();
  ask(true);
  EXPECT_TRUE(output().empty());
  client().changed({65, 3, 1, 1});
  client().update();
  const std::vector<u8> out = output();
  ASSERT_EQ(out.size(), 4u + 12 + 16 * 16 * 4);
  EXPECT_EQ(load_be<u16>(&out[4]), 64);
}

TEST_F(VncClientTest, ZrleUnpacksToThePicture) {
  hello();
  ASSERT_TRUE(send({kSetEncodings, 0, 0, 1, 0, 0, 0, kZrle}));
  ask(false);
  const std::vector<u8> out = output();
  const u32 size = load_be<u32>(&out[16]);
  std::vector<u8> plain(1 << 16);
  z_stream stream{};
  ASSERT_EQ(::inflateInit(&stream), Z_OK);
  stream.next_in = const_cast<u8*>(&out[20]);
  stream.avail_in = size;
  stream.next_out = plain.data();
  stream.avail_out = static_cast<uInt>(plain.size());
  EXPECT_EQ(::inflate(&stream, Z_SYNC_FLUSH), Z_OK);
  ::inflateEnd(&stream);
  // Two colours in the first tile: a palette, then a bit a pixel, the first of which is the one coloured pixel.
  EXPECT_EQ(plain[0], 2);
  EXPECT_THAT(std::vector<u8>(plain.begin() + 1, plain.begin() + 7), ElementsAre(0x40, 0x80, 0xff, 0, 0, 0));
  EXPECT_EQ(plain[7], 0x7f);
  // Then the second tile of one colour.
  EXPECT_EQ(plain[7 + 64 * 8], 1);
}

TEST_F(VncClientTest, KeysComeBySymbolAndByNumber) {
  hello();
  ASSERT_TRUE(send({kKeyEvent, 1, 0, 0, 0, 0, 0, 'a', kKeyEvent, 0, 0, 0, 0, 0, 0xff, 0x51}));
  ASSERT_TRUE(send({kQemuMessage, 0, 0, 1, 0, 0, 0, 'q', 0, 0, 0, 0x1e}));
  ASSERT_TRUE(send({kPointerEvent, 4, 0, 7, 1, 2}));
  EXPECT_THAT(events_, ElementsAre("30+", "203-", "30+", "7,258:4"));
}

TEST_F(VncClientTest, MessageInPiecesIsUnderstood) {
  hello();
  for (int byte : {int{kKeyEvent}, 1, 0, 0, 0, 0, 0, int{'b'}}) ASSERT_TRUE(send({static_cast<u8>(byte)}));
  EXPECT_THAT(events_, ElementsAre("48+"));
}

TEST_F(VncClientTest, GarbageEndsTheConnection) {
  EXPECT_FALSE(send(std::vector<u8>(64, 'x')));
  client_.reset();
  hello();
  EXPECT_FALSE(send({99}));
}

TEST_F(VncClientTest, NewSizeIsToldToThoseWhoCanResize) {
  hello();
  ASSERT_TRUE(send({kSetEncodings, 0, 0, 1, 0xff, 0xff, 0xff, 0x21}));
  ask(false);
  output();
  picture_.resize(64, 64);
  client().resized();
  ask(true);
  EXPECT_THAT(output(), ElementsAre(0, 0, 0, 1, 0, 0, 0, 0, 0, 64, 0, 64, 0xff, 0xff, 0xff, 0x21));
  ask(true);
  EXPECT_EQ(output().size(), 4u + 12 + 64 * 64 * 4);
}

TEST_F(VncClientTest, ViewersAreToldWhoTakesPlacesAndWhichLightsAreOn) {
  input_.absolute = [] { return true; };
  input_.leds = [] { return u8{5}; };
  hello();
  understand({kRaw, kPointerType, kLedState, kQemuExtendedKeys});
  ask(true);
  const std::vector<u8> out = output();
  EXPECT_EQ(load_be<u16>(&out[2]), 4);  // and the picture
  EXPECT_EQ(static_cast<i32>(load_be<u32>(&out[12])), kQemuExtendedKeys);
  EXPECT_EQ(load_be<u16>(&out[16]), 1);
  EXPECT_EQ(static_cast<i32>(load_be<u32>(&out[24])), kPointerType);
  EXPECT_EQ(static_cast<i32>(load_be<u32>(&out[36])), kLedState);
  EXPECT_EQ(out[40], 5);
  ask(true);
  EXPECT_TRUE(output().empty());
}

TEST_F(VncClientTest, StepsComeFromViewersThatKnowOfThem) {
  input_.absolute = [] { return false; };
  input_.move = [this](i32 dx, i32 dy, u8) { events_.push_back(std::to_string(dx) + ";" + std::to_string(dy)); };
  hello();
  understand({kPointerType});
  ASSERT_TRUE(send({kPointerEvent, 0, 0x7f, 0xfe, 0x80, 0x01}));
  EXPECT_THAT(events_, ElementsAre("-1;2"));
}

TEST_F(VncClientTest, FencesAreAnsweredAndContinuousUpdatesNeedNoRequest) {
  hello();
  understand({kRaw, kFence, kContinuousUpdates});
  EXPECT_THAT(output(), ElementsAre(kServerFence, 0, 0, 0, 0x80, 0, 0, 0, 0, kEndOfContinuous));
  ASSERT_TRUE(send({kClientFence, 0, 0, 0, 0x80, 0, 0, 1, 2, 'x', 'y'}));
  EXPECT_THAT(output(), ElementsAre(kServerFence, 0, 0, 0, 0, 0, 0, 1, 2, 'x', 'y'));
  ASSERT_TRUE(send({kEnableContinuous, 1, 0, 0, 0, 0, 0, 130, 0, 70}));
  client().update();
  EXPECT_FALSE(output().empty());
  client().changed({0, 0, 1, 1});
  client().update();
  EXPECT_EQ(output().size(), 4u + 12 + 16 * 16 * 4);
  ASSERT_TRUE(send({kEnableContinuous, 0, 0, 0, 0, 0, 0, 130, 0, 70}));
  EXPECT_THAT(output(), ElementsAre(kEndOfContinuous));
}

TEST_F(VncClientTest, SizeWishesAreCarriedOutOrRefused) {
  bool possible = false;
  std::string wish;
  input_.resize = [&](u32 w, u32 h) {
    wish = std::to_string(w) + "x" + std::to_string(h);
    return possible;
  };
  hello();
  understand({kRaw, kExtendedDesktopSize});
  ask(true);
  EXPECT_EQ(output().size(), 4u + 12 + 4 + 16);
  ask(true);
  output();
  const std::vector<u8> message{kSetDesktopSize, 0, 0, 100, 0, 50, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 50, 0, 0, 0, 0};
  ASSERT_TRUE(send(message));
  ask(true);
  std::vector<u8> out = output();
  EXPECT_EQ(load_be<u16>(&out[4]), 1);  // this viewer's
  EXPECT_EQ(load_be<u16>(&out[6]), 1);  // prohibited
  possible = true;
  ASSERT_TRUE(send(message));
  EXPECT_EQ(wish, "100x50");
  picture_.resize(100, 50);
  client().resized();
  ask(true);
  out = output();
  EXPECT_EQ(load_be<u16>(&out[4]), 1);
  EXPECT_EQ(load_be<u16>(&out[6]), 0);
  EXPECT_EQ(load_be<u16>(&out[8]), 100);
}

TEST_F(VncClientTest, PowerIsOfferedOnlyWhereItIsAllowed) {
  hello();
  understand({kXvpEncoding});
  EXPECT_TRUE(output().empty());
  EXPECT_FALSE(send({kXvp, 0, 1, kXvpReset}));
  client_.reset();
  std::vector<PowerAction> actions;
  input_.power = [&](PowerAction a) {
    actions.push_back(a);
    return true;
  };
  hello();
  understand({kXvpEncoding});
  EXPECT_THAT(output(), ElementsAre(kXvp, 0, 1, kXvpInit));
  ASSERT_TRUE(send({kXvp, 0, 1, kXvpReset, kXvp, 0, 1, 9}));
  EXPECT_THAT(actions, ElementsAre(PowerAction::Reset));
  EXPECT_THAT(output(), ElementsAre(kXvp, 0, 1, kXvpFail));
}

TEST_F(VncClientTest, CursorShapesHaveAMask) {
  cursor_ = {.width = 2, .height = 1, .hot_x = 1, .hot_y = 0, .pixels = {0xff112233, 0x00000000}};
  hello();
  understand({kRaw, kCursor});
  ask(true);
  const std::vector<u8> out = output();
  EXPECT_THAT(std::vector<u8>(out.begin() + 4, out.begin() + 16), ElementsAre(0, 1, 0, 0, 0, 2, 0, 1, 0xff, 0xff, 0xff, 0x11));
  EXPECT_THAT(std::vector<u8>(out.begin() + 16, out.begin() + 19), ElementsAre(0x33, 0x22, 0x11));
  EXPECT_EQ(out[24], 0x80);
}

TEST_F(VncClientTest, SymbolAloneHoldsShift) {
  hello();
  ASSERT_TRUE(send({kKeyEvent, 1, 0, 0, 0, 0, 0, 'A', kKeyEvent, 0, 0, 0, 0, 0, 0, 'A'}));
  ASSERT_TRUE(send({kKeyEvent, 1, 0, 0, 0, 0, 0xff, 0xe1, kKeyEvent, 1, 0, 0, 0, 0, 0, 'A'}));
  EXPECT_THAT(events_, ElementsAre("42+", "30+", "30-", "42-", "42+", "30+"));
}

TEST_F(VncClientTest, TlsBeginsBehindTheAgreementOnIt) {
  settings_.tls = std::shared_ptr<const TlsCredentials>(reinterpret_cast<const TlsCredentials*>(this), [](auto*) {});
  ASSERT_TRUE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 19, 0, 2}));
  ASSERT_TRUE(send({0, 0, 1, 4}));
  const std::vector<u8> out = output();
  EXPECT_THAT(std::vector<u8>(out.begin() + 12, out.end()), ElementsAre(1, 19, 0, 2, 0, 1, 0, 0, 1, 4, 1));
  ASSERT_TRUE(client().wants_tls());
  EXPECT_FALSE(send({1}));  // nothing is read in the clear any more
  client_.reset();
  EXPECT_FALSE(send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 1}));
}

TEST_F(VncClientTest, MovementIsToldToAViewerThatHasSeenWhatMoved) {
  hello();
  understand({kRaw, kCopyRect});
  ask(true);
  ASSERT_FALSE(output().empty());  // everything
  const Motion motion{.to = {20, 10, 64, 32}, .from_x = 16, .from_y = 8};
  client().moved(motion);
  ask(true);
  const std::vector<u8> wanted{kUpdate, 0, 0, 1, 0, 20, 0, 10, 0, 64, 0, 32, 0, 0, 0, kCopyRect, 0, 16, 0, 8};
  EXPECT_EQ(output(), wanted);
  client().changed({16, 8, 1, 1});  // not sent yet: what moves from there is sent as it looks
  client().moved(motion);
  ask(true);
  const std::vector<u8> out = output();
  ASSERT_GT(out.size(), 16u);
  EXPECT_EQ(load_be<u32>(&out[12]), u32{kRaw});
}

TEST_F(VncClientTest, MovementIsPixelsToAViewerThatDoesNotKnowIt) {
  hello();
  understand({kRaw});
  ask(true);
  output();
  client().moved({.to = {16, 16, 64, 32}, .from_x = 0, .from_y = 0});
  ask(true);
  EXPECT_EQ(output().size(), 4u + 12 + 64 * 32 * 4);
}

}  // namespace
}  // namespace atl::display::vnc
