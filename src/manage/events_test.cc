#include "manage/events.h"

#include <gmock/gmock.h>

#include "manage/rpc/frame.h"

namespace atl::manage {
namespace {

using testing::SizeIs;

struct Client {
  std::vector<rpc::Frame> got;
  std::shared_ptr<Session> session = std::make_shared<Session>(1, Peer{}, false, Auth::None);
  Client() {
    session->set_send([this](std::vector<u8> bytes) { got.push_back(rpc::parse_frame(bytes)); });
  }
};

TEST(Events, GoToThoseWhoRegisteredForThem) {
  Events events;
  Client all, one, other;
  DomainRef vm{"vm", {1}, 5}, vm2{"vm2", {2}, 6};
  events.add(all.session, {Events::Family::Domain, 0, 3, false, ""});
  events.add(one.session, {Events::Family::Domain, 0, 4, false, Events::key_of(vm.uuid)});
  events.add(other.session, {Events::Family::Network, 0, 0, false, ""});
  events.domain_lifecycle(vm, 2, 0);
  events.domain_lifecycle(vm2, 5, 1);
  EXPECT_THAT(all.got, SizeIs(2));
  ASSERT_THAT(one.got, SizeIs(1));
  EXPECT_THAT(other.got, SizeIs(0));
  EXPECT_EQ(one.got[0].header.procedure, 318u);
  EXPECT_EQ(one.got[0].header.type, rpc::FrameType::Message);
  XdrReader in(one.got[0].payload);
  i32 id = 0, event = 0, detail = 0;
  DomainRef ref;
  ASSERT_TRUE(in.read(id, ref, event, detail));
  EXPECT_EQ(id, 4);
  EXPECT_EQ(ref.name, "vm");
  EXPECT_EQ(event, 2);
}

TEST(Events, OldClientsGetOldMessages) {
  Events events;
  Client client;
  events.add(client.session, {Events::Family::Domain, 0, 0, true, ""});
  events.domain_lifecycle({"vm", {1}, 5}, 2, 0);
  ASSERT_THAT(client.got, SizeIs(1));
  EXPECT_EQ(client.got[0].header.procedure, 107u);
  EXPECT_TRUE(events.remove_legacy(*client.session, 0));
  EXPECT_FALSE(events.remove_legacy(*client.session, 0));
}

TEST(Events, StopWithTheRegistrationOrTheClient) {
  Events events;
  Client client;
  events.add(client.session, {Events::Family::Secret, 1, 9, false, ""});
  EXPECT_FALSE(events.remove(*client.session, Events::Family::Domain, 9));
  EXPECT_TRUE(events.remove(*client.session, Events::Family::Secret, 9));
  events.add(client.session, {Events::Family::Secret, 1, 10, false, ""});
  events.drop(*client.session);
  events.secret_value_changed({});
  EXPECT_THAT(client.got, SizeIs(0));
}

TEST(Events, UnknownOnesHaveNoMessage) {
  EXPECT_EQ(Events::message_number(Events::Family::Domain, 27, false), 0u);
  EXPECT_EQ(Events::message_number(Events::Family::Domain, -1, false), 0u);
  EXPECT_EQ(Events::message_number(Events::Family::Domain, 16, true), 0u);  // newer than the old form
  EXPECT_EQ(Events::message_number(Events::Family::Network, 1, false), 0u);
}

}  // namespace
}  // namespace atl::manage
