#include "manage/host/firmware_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>

namespace atl::manage::host {
namespace {

std::string description(std::string_view code, std::string_view more = "") {
  return fmt::format(R"({{"interface-types": ["uefi"], "mapping": {{"device": "flash", {}"executable": {{"filename": "{}", "format": "raw"}},
    "nvram-template": {{"filename": "/vars.fd", "format": "raw"}}}},
    "targets": [{{"architecture": "x86_64", "machines": ["pc-q35-*"]}}], "features": ["secure-boot", "requires-smm"]}})", more, code);
}

TEST(FirmwareFiles, ADescriptionIsRead) {
  auto file = read_firmware_file(description("/code.fd"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->code, "/code.fd");
  EXPECT_EQ(file->variables, "/vars.fd");
  EXPECT_TRUE(file->flash && !file->stateless && file->is("uefi") && !file->is("bios"));
  EXPECT_TRUE(file->has("requires-smm"));
  EXPECT_FALSE(file->has("enrolled-keys"));
  EXPECT_TRUE(file->fits("x86_64", "pc-q35-7.2"));
  EXPECT_FALSE(file->fits("x86_64", "pc-i440fx-7.2"));
  EXPECT_FALSE(file->fits("i686", "pc-q35-7.2"));
}

TEST(FirmwareFiles, StatelessFlashNeedsNoVariables) {
  auto file = read_firmware_file(R"({"mapping": {"device": "flash", "mode": "stateless", "executable": {"filename": "/c", "format": "raw"}}})");
  ASSERT_TRUE(file);
  EXPECT_TRUE(file->stateless);
}

TEST(FirmwareFiles, RomIsNotFlash) {
  auto file = read_firmware_file(R"({"interface-types": ["bios"], "mapping": {"device": "memory", "filename": "/bios.bin"}})");
  ASSERT_TRUE(file);
  EXPECT_FALSE(file->flash);
  EXPECT_EQ(file->code, "/bios.bin");
}

TEST(FirmwareFiles, WhatIsNotOneIsRefusedByName) {
  for (auto [text, why] : {std::pair{"", "no JSON object"}, {"[]", "no JSON object"}, {"{}", "device '' is unknown"}, {R"({"mapping": 7})", "device '' is unknown"},
                           {R"({"mapping": {"device": "kernel"}})", "device 'kernel' is unknown"},
                           {R"({"mapping": {"device": "memory"}})", "no 'filename'"},
                           {R"({"mapping": {"device": "flash", "executable": {"filename": "/c", "format": "qcow2"}}})", "format 'qcow2'"},
                           {R"({"mapping": {"device": "flash", "executable": {"filename": "/c", "format": "raw"}}})", "'nvram-template' has no 'filename'"}}) {
    auto file = read_firmware_file(text);
    ASSERT_FALSE(file) << text;
    EXPECT_NE(file.error().message().find(why), std::string::npos) << file.error().message();
  }
  EXPECT_FALSE(read_firmware_file(description("/code.fd", R"("mode": "combined", )")));
}

TEST(FirmwareFiles, LaterFoldersReplaceAndHideAndNamesAreTheOrder) {
  const std::string root = testing::TempDir() + "firmware_files_test";
  std::filesystem::create_directories(root + "/usr");
  std::filesystem::create_directories(root + "/etc");
  auto write = [&](const char* name, const std::string& text) { std::ofstream(root + name) << text; };
  write("/usr/20-b.json", description("/b"));
  write("/usr/10-a.json", description("/a"));
  write("/usr/30-c.json", description("/c"));
  write("/usr/40-broken.json", "{");
  write("/usr/readme.txt", description("/text"));
  write("/etc/10-a.json", "");
  write("/etc/30-c.json", description("/own"));
  const std::string folders[] = {root + "/usr", root + "/etc", root + "/absent"};
  const auto files = firmware_files(folders);
  std::filesystem::remove_all(root);
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].code, "/b");
  EXPECT_EQ(files[1].code, "/own");
}

}  // namespace
}  // namespace atl::manage::host
