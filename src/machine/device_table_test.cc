#include "machine/device_table.h"

#include <gtest/gtest.h>

#include "machine/property_reader.h"

namespace atl::machine {
namespace {

std::string error_of(DeviceConfig device) {
  auto status = check_device(device);
  return status ? "" : status.error().text();
}

TEST(DeviceTable, UnknownTypeIsNamed) {
  EXPECT_EQ(error_of({.type = "foo"}), "'foo' is not a valid device model name");
}

TEST(DeviceTable, UnknownPropertyIsNamed) {
  EXPECT_EQ(error_of({.type = "virtio-blk-pci", .properties = {{"bar", "1"}}}), "Property 'virtio-blk-pci.bar' not found");
}

TEST(DeviceTable, MalformedValuesAreRefused) {
  EXPECT_NE(error_of({.type = "virtio-net-pci", .properties = {{"mac", "52:54:00:12:34"}}}), "");
  EXPECT_NE(error_of({.type = "virtio-net-pci", .properties = {{"mac", "52:54:00:12:34:xx"}}}), "");
  EXPECT_NE(error_of({.type = "virtio-blk-pci", .properties = {{"addr", "20"}}}), "");
  EXPECT_NE(error_of({.type = "virtio-blk-pci", .properties = {{"num-queues", "70000"}}}), "");
  EXPECT_NE(error_of({.type = "virtio-blk-pci", .properties = {{"packed", "maybe"}}}), "");
}

TEST(DeviceTable, FixedSwitchesTakeTheirOneSetting) {
  EXPECT_EQ(error_of({.type = "virtio-blk-pci", .properties = {{"scsi", "off"}}}), "");
  EXPECT_EQ(error_of({.type = "virtio-blk-pci", .properties = {{"scsi", "on"}}}), "Property 'virtio-blk-pci.scsi' is always off here");
}

TEST(DeviceTable, GoodValuesPass) {
  EXPECT_EQ(error_of({.type = "virtio-net-pci", .properties = {{"mac", "52:54:00:12:34:56"}, {"addr", "1f.7"}}}), "");
}

TEST(DeviceTable, EveryDefaultHasTheFormOfItsType) {
  for (const DeviceSpec& spec : device_specs()) {
    DeviceConfig device{.type = std::string(spec.type)};
    for (const PropertySpec& p : spec.properties) {
      if (!p.fallback.empty()) device.properties.emplace_back(p.name, p.fallback);
    }
    EXPECT_EQ(error_of(device), "") << spec.type;
  }
}

TEST(PropertyReader, LastValueWinsOverDefault) {
  const DeviceConfig device{.type = "virtio-blk-pci", .properties = {{"queue-size", "64"}, {"queue-size", "128"}}};
  const PropertyReader p(device);
  EXPECT_EQ(p.number("queue-size"), 128u);
  EXPECT_EQ(p.size("logical_block_size"), 512u);
  EXPECT_FALSE(p.optional_number("vectors").has_value());
  EXPECT_TRUE(p.flag("discard"));
}

}  // namespace
}  // namespace atl::machine
