#include "client/install.h"

#include <gmock/gmock.h>

#include "manage/xml/write.h"

namespace atl::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

Result<InstallPlan> plan(std::vector<std::string> words) {
  auto options = parse_install_options(words);
  if (!options) return options.error();
  return plan_install(*options);
}

std::string complaint(std::vector<std::string> words) {
  auto made = plan(std::move(words));
  return made ? "" : made.error().message();
}

TEST(SubOptions, AreSplitAtSingleCommas) {
  EXPECT_THAT(split_sub_options("vnc,listen=0.0.0.0,password=a,,b"),
              ElementsAre(Pair("", "vnc"), Pair("listen", "0.0.0.0"), Pair("password", "a,b")));
  EXPECT_TRUE(split_sub_options("").empty());
}

TEST(InstallPlan, TheUsualCommandInstallsFromTheCdromAndBootsTheDiskAfterwards) {
  auto made = plan({"--virt-type", "kvm", "--name", "centos-6.4", "--ram", "1024", "--cdrom=/dev/null", "--disk",
                    "path=/nonexistent/centos.qcow2,size=10,format=qcow2", "--network", "network=default", "--graphics",
                    "vnc,listen=0.0.0.0", "--noautoconsole", "--os-type=linux", "--os-variant=rhel6"});
  ASSERT_TRUE(made);
  EXPECT_TRUE(made->installs);
  ASSERT_EQ(made->volumes.size(), 1u);
  EXPECT_EQ(made->volumes[0].bytes, u64{10} << 30);
  std::string first = manage::xml::write(made->first), last = manage::xml::write(made->last);
  EXPECT_THAT(first, HasSubstr("<boot dev='cdrom'/>"));
  EXPECT_THAT(first, HasSubstr("<on_reboot>destroy</on_reboot>"));
  EXPECT_THAT(last, Not(HasSubstr("<boot dev='cdrom'/>")));
  EXPECT_THAT(last, HasSubstr("<on_reboot>restart</on_reboot>"));
  EXPECT_THAT(last, HasSubstr("<memory unit='MiB'>1024</memory>"));
  EXPECT_THAT(last, HasSubstr("<graphics type='vnc' port='-1' listen='0.0.0.0'/>"));
  EXPECT_THAT(last, HasSubstr("<source network='default'/>"));
}

TEST(InstallPlan, AnImportHasOnePhase) {
  auto made = plan(
      {"--name=x", "--memory=512", "--import", "--disk", "/dev/null,bus=ide", "--network=none", "--graphics=none"});
  ASSERT_TRUE(made);
  EXPECT_FALSE(made->installs);
  EXPECT_TRUE(made->volumes.empty());
  EXPECT_EQ(manage::xml::write(made->first), manage::xml::write(made->last));
  EXPECT_THAT(manage::xml::write(made->last), HasSubstr("<target dev='hda' bus='ide'/>"));
}

TEST(InstallPlan, AKernelIsForTheInstallationOnly) {
  auto made =
      plan({"--name=x", "--memory=512", "--install", "kernel=/k,initrd=/i,kernel_args=console=ttyS0", "-x", "quiet"});
  ASSERT_TRUE(made);
  EXPECT_THAT(manage::xml::write(made->first), HasSubstr("<cmdline>console=ttyS0 quiet</cmdline>"));
  EXPECT_EQ(manage::xml::write(made->last).find("<kernel>"), std::string::npos);
}

TEST(InstallPlan, WhatItCannotDoIsNamed) {
  EXPECT_THAT(complaint({"--memory=512", "--import"}), HasSubstr("--name"));
  EXPECT_THAT(complaint({"--name=x", "--import"}), HasSubstr("--memory"));
  EXPECT_THAT(complaint({"--name=x", "--memory=512"}), HasSubstr("--cdrom"));
  EXPECT_THAT(complaint({"--name=x", "--memory=512", "--location=http://x/"}), HasSubstr("--location"));
  EXPECT_THAT(complaint({"--name=x", "--memory=512", "--import", "--disk=/nonexistent"}), HasSubstr("size="));
  EXPECT_THAT(complaint({"--name=x", "--memory=512", "--import", "--disk=/dev/null,shape=round"}), HasSubstr("shape"));
  EXPECT_THAT(complaint({"--name=x", "--cloud-init=x"}), HasSubstr("--cloud-init"));
}

}  // namespace
}  // namespace atl::client
