#include "display/input.h"

#include <gtest/gtest.h>

namespace atl::display {
namespace {

class Keyboard final : public KeySink {
 public:
  std::string_view name() const override { return "keyboard"; }
  void key(u8, bool) override { ++keys; }
  void always() { in_use_.set_always(); }
  int keys = 0;
};

class Pointer final : public PointerSink {
 public:
  using PointerSink::PointerSink;
  std::string_view name() const override { return absolute() ? "tablet" : "mouse"; }
  void pointer(const PointerEvent& event) override { last = event; }
  void always() { in_use_.set_always(); }
  PointerEvent last;
};

TEST(InputRouter, KeysGoToTheKeyboardThatCameIntoUseLast) {
  InputRouter router;
  Keyboard ps2, usb;
  EXPECT_FALSE(router.key(1, true));
  ps2.always();
  router.add(ps2);
  router.add(usb);
  EXPECT_TRUE(router.key(1, true));
  usb.set_in_use(true);
  usb.set_leds(kLedCaps);
  EXPECT_TRUE(router.key(1, false));
  EXPECT_EQ(router.leds(), kLedCaps);
  usb.set_in_use(false);
  EXPECT_TRUE(router.key(2, true));
  EXPECT_EQ(ps2.keys, 2);
  EXPECT_EQ(usb.keys, 1);
}

TEST(InputRouter, PlacesNeedAPointerThatTakesThem) {
  InputRouter router;
  Pointer mouse(false), tablet(true);
  mouse.always();
  router.add(mouse);
  router.add(tablet);
  EXPECT_FALSE(router.absolute());
  EXPECT_FALSE(router.point({.x = 5}));
  tablet.set_in_use(true);
  EXPECT_TRUE(router.absolute());
  EXPECT_TRUE(router.point({.x = 5}));
  EXPECT_TRUE(router.move({.x = 6}));
  EXPECT_EQ(tablet.last.x, 5);
  EXPECT_EQ(mouse.last.x, 6);
}

TEST(InputRouter, MiceAreListedAndOneIsChosen) {
  InputRouter router;
  Pointer mouse(false), tablet(true);
  router.add(mouse);
  router.add(tablet);
  ASSERT_TRUE(router.select_mouse(1));
  EXPECT_FALSE(router.select_mouse(2));
  ASSERT_EQ(router.mice().size(), 2u);
  EXPECT_TRUE(router.mice()[1].current);
  router.remove(tablet);
  EXPECT_EQ(router.mice().size(), 1u);
}

}  // namespace
}  // namespace atl::display
