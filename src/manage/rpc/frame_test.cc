#include "manage/rpc/frame.h"

#include <gmock/gmock.h>

#include "manage/rpc/procedure.h"

namespace atl::manage::rpc {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

TEST(Frame, IsWholeWhenItsLengthHasCome) {
  Header header{kRemoteProgram, 1, 66, FrameType::Call, 7, FrameStatus::Ok};
  std::vector<u8> bytes = encode_frame(header, std::vector<u8>{1, 2, 3, 4});
  u32 length = 0;
  EXPECT_EQ(scan_frame(std::span(bytes).first(3), length), Scan::NeedsMore);
  EXPECT_EQ(scan_frame(std::span(bytes).first(31), length), Scan::NeedsMore);
  EXPECT_EQ(scan_frame(bytes, length), Scan::Whole);
  EXPECT_EQ(length, 32u);
  Frame frame = parse_frame(bytes);
  EXPECT_EQ(frame.header.procedure, 66u);
  EXPECT_EQ(frame.header.serial, 7u);
  EXPECT_THAT(frame.payload, SizeIs(4));
}

TEST(Frame, ImpossibleLengthsAreBad) {
  u32 length = 0;
  for (u32 value : {0u, 27u, kFrameMax + 1, 0xffff'ffffu}) {
    XdrWriter out;
    out.write(value);
    EXPECT_EQ(scan_frame(out.data(), length), Scan::Bad) << value;
  }
}

TEST(Frame, ErrorsComeBackAsTheyWent) {
  auto error = decode_error(encode_error(no_domain("x")));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), Code::NoDomain);
  EXPECT_EQ(error->part(), Part::Qemu);
  EXPECT_EQ(error->message(), "Domain not found: no domain with matching name 'x'");
}

TEST(Procedures, EachIsServedOnceAndNamed) {
  EXPECT_EQ(procedure_name(1), "CONNECT_OPEN");
  EXPECT_EQ(procedure_name(443), "DOMAIN_FD_ASSOCIATE");
  EXPECT_THAT(procedure_name(0), IsEmpty());
  EXPECT_THAT(procedure_name(444), IsEmpty());
  EXPECT_EQ(function_name(14), "virDomainGetXMLDesc");
  EXPECT_EQ(function_name(351), "virDomainGetIOThreadInfo");
  ASSERT_NE(find_procedure(1), nullptr);  // builds the index: two rows of one number would end the program
  EXPECT_EQ(find_procedure(0), nullptr);
  EXPECT_EQ(find_procedure(1'000'000), nullptr);
}

TEST(Errors, CauseBelowKeepsItsText) {
  Status status = []() -> Status { return atl::Error(ErrorKind::Io, "open disk.raw: No such file", 2); }();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), Code::SystemError);
  EXPECT_EQ(status.error().message(), "open disk.raw: No such file");
}

TEST(Errors, UnknownFlagsAreNamed) {
  Status status = check_flags(0x11, 1, "virDomainCreate");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message(), "unsupported flags (0x10) in function qemuDomainCreate");
}

}  // namespace
}  // namespace atl::manage::rpc
