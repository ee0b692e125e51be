#include "manage/domain/firmware.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "manage/domain/definition.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

host::FirmwareFile flash(std::string code, std::vector<std::string> features, std::string machines = "pc-q35-*") {
  return {.interfaces = {"uefi"}, .features = std::move(features), .targets = {{"x86_64", {std::move(machines)}}}, .flash = true, .code = code,
          .variables = code + ".vars"};
}

FirmwareHost some_host(bool kvm_without_smm = false) {
  return {.state = "/state", .kvm_without_smm = kvm_without_smm,
          .files = {flash("/enrolled", {"secure-boot", "enrolled-keys", "requires-smm", "acpi-s3"}), flash("/secure", {"secure-boot", "requires-smm"}),
                    flash("/plain", {"acpi-s3"}, "pc-*")}};
}

std::string domain_text(std::string_view os, std::string_view attributes = "firmware='efi'", std::string_view more = "", std::string_view machine = "q35") {
  return fmt::format("<domain type='kvm'><name>n</name><memory>65536</memory><os {}><type arch='x86_64' machine='{}'>hvm</type>{}</os>{}</domain>",
                     attributes, machine, os, more);
}

struct Chosen {
  std::string code, variables, file, secure, smm, error;
};

Chosen choose(const std::string& text, const FirmwareHost& host = some_host()) {
  auto tree = read_definition(text, {.state = "/state"});
  if (!tree) return {.error = "definition: " + tree.error().message()};
  if (Status done = choose_firmware(*tree, host); !done) return {.error = done.error().message()};
  EXPECT_FALSE(tree->find("os/firmware"));
  EXPECT_FALSE(tree->child("os")->has_attribute("firmware"));
  return {text_at(*tree, "os/loader"), at(*tree, "os/nvram", "template"), text_at(*tree, "os/nvram"), at(*tree, "os/loader", "secure"),
          at(*tree, "features/smm", "state"), ""};
}

TEST(Firmware, TheFirstThatFitsIsTakenWithWhatItNeeds) {
  const Chosen chosen = choose(domain_text(""));
  EXPECT_EQ(chosen.code, "/enrolled");
  EXPECT_EQ(chosen.variables, "/enrolled.vars");
  EXPECT_EQ(chosen.file, "/state/nvram/n_VARS.fd");
  EXPECT_EQ(chosen.secure, "yes");
  EXPECT_EQ(chosen.smm, "on");
}

TEST(Firmware, WishesChoose) {
  auto wish = [](const char* secure, const char* keys) {
    std::string text = "<firmware>";
    if (*secure) text += fmt::format("<feature enabled='{}' name='secure-boot'/>", secure);
    if (*keys) text += fmt::format("<feature enabled='{}' name='enrolled-keys'/>", keys);
    return choose(domain_text(text + "</firmware>")).code;
  };
  EXPECT_EQ(wish("yes", ""), "/enrolled");
  EXPECT_EQ(wish("yes", "no"), "/secure");
  EXPECT_EQ(wish("no", ""), "/plain");
  EXPECT_EQ(choose(domain_text("<loader secure='yes'/>")).secure, "yes");
  EXPECT_EQ(choose(domain_text("", "firmware='efi'", "", "pc")).code, "/plain");
}

TEST(Firmware, HardwareWithoutManagementModeGetsFirmwareThatNeedsNone) {
  const Chosen chosen = choose(domain_text(""), some_host(true));
  EXPECT_EQ(chosen.code, "/plain");
  EXPECT_EQ(chosen.smm, "");
  EXPECT_EQ(choose(domain_text("<loader secure='yes'/>"), some_host(true)).error, "operation failed: Unable to find any firmware to satisfy 'efi'");
}

TEST(Firmware, WhatNothingSatisfiesIsRefusedAtTheStart) {
  const std::string none = "operation failed: Unable to find any firmware to satisfy 'efi'";
  EXPECT_EQ(choose(domain_text("<firmware><feature enabled='yes' name='secure-boot'/></firmware>", "firmware='efi'", "", "pc")).error, none);
  EXPECT_EQ(choose(domain_text("<loader stateless='yes'/>")).error, none);
  EXPECT_EQ(choose(domain_text("", "firmware='efi'", "<pm><suspend-to-disk enabled='yes'/></pm>")).error, none);
  EXPECT_EQ(choose(domain_text("", "firmware='bios'")).error, "operation failed: Unable to find any firmware to satisfy 'bios'");
  EXPECT_EQ(choose(domain_text("", "firmware='efi'", "<features><smm state='off'/></features>")).error,
            "Requested operation is not valid: domain has SMM turned off but chosen firmware requires it");
}

TEST(Firmware, ANamedLoaderGetsTheVariablesOfItsDescription) {
  const Chosen chosen = choose(domain_text("<loader readonly='yes' type='pflash'>/secure</loader>", ""));
  EXPECT_EQ(chosen.variables, "/secure.vars");
  EXPECT_EQ(chosen.secure, "yes");
  EXPECT_EQ(chosen.smm, "on");
  EXPECT_EQ(choose(domain_text("<loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>", "")).variables, "/usr/share/OVMF/OVMF_VARS.fd");
  EXPECT_EQ(choose(domain_text("<loader type='pflash'>/unknown</loader><nvram template='/mine'>/v</nvram>", "")).variables, "/mine");
  EXPECT_EQ(choose(domain_text("<loader type='pflash'>/unknown</loader>", "")).error,
            "operation failed: unable to find any master var store for loader: /unknown");
  EXPECT_EQ(choose(domain_text("<loader type='rom'>/bios.bin</loader>", "")).file, "");
}

TEST(Firmware, ContradictionsAreRefusedAtTheDefinition) {
  struct {
    const char *os, *attributes, *why;
  } const cases[] = {
      {"", "firmware='foo'", "unknown firmware value foo"},
      {"<firmware><feature enabled='yes' name='foo'/></firmware>", "firmware='efi'", "'name' in element 'feature': 'foo'"},
      {"<firmware><feature enabled='perhaps' name='secure-boot'/></firmware>", "firmware='efi'", "'enabled' in element 'feature': 'perhaps'"},
      {"<firmware><feature enabled='no' name='secure-boot'/><feature enabled='yes' name='enrolled-keys'/></firmware>", "firmware='efi'", "cannot be enabled when"},
      {"<firmware><feature enabled='yes' name='secure-boot'/></firmware>", "", "cannot use feature-based firmware autoselection"},
      {"<loader readonly='yes'/>", "firmware='efi'", "loader attribute 'readonly' cannot be specified"},
      {"<loader secure='no'/>", "firmware='efi'", "loader attribute 'secure' cannot be specified"},
      {"<loader>/x</loader>", "firmware='efi'", "loader path cannot be specified"},
      {"<nvram template='/x'/>", "firmware='efi'", "nvram attribute 'template' cannot be specified"},
      {"<loader secure='yes' type='pflash'/>", "", "no loader path specified"},
      {"<loader secure='yes' type='pflash'>/x</loader>", "", "Secure boot requires SMM feature enabled"},
  };
  for (const auto& item : cases) {
    const std::string error = choose(domain_text(item.os, item.attributes)).error;
    EXPECT_TRUE(error.starts_with("definition: ") && error.find(item.why) != std::string::npos) << item.why << " / " << error;
  }
  EXPECT_NE(choose(domain_text("<loader secure='yes' type='pflash'>/x</loader>", "", "<features><smm state='on'/></features>", "pc")).error.find("q35 machine types only"),
            std::string::npos);
}

TEST(Firmware, ADefinitionKeepsItsQuestionAndKnowsWhereVariablesWillBe) {
  auto tree = read_definition(domain_text(""), {.state = "/state"});
  ASSERT_TRUE(tree);
  EXPECT_EQ(tree->child("os")->attribute("firmware"), "efi");
  EXPECT_FALSE(tree->find("os/loader"));
  EXPECT_EQ(variables_path(*tree, "/state"), "/state/nvram/n_VARS.fd");
  EXPECT_EQ(variables_path(*read_definition(domain_text("", ""), {}), "/state"), "");
}

}  // namespace
}  // namespace atl::manage
