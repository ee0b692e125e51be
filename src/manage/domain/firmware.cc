#include "manage/domain/firmware.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "cpu/kvm/accelerator.h"
#include "manage/domain/definition.h"

namespace atl::manage {
namespace {

using host::FirmwareFile;

/// Variables of firmware that has no description (package ovmf).
struct Pair {
  std::string_view code, variables;
};
constexpr Pair kPairs[] = {{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
                           {"/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
                           {"/usr/share/OVMF/OVMF_CODE.ms.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
                           {"/usr/share/ovmf/x64/OVMF_CODE.4m.fd", "/usr/share/ovmf/x64/OVMF_VARS.4m.fd"}};

constexpr std::string_view kSecureBoot = "secure-boot", kEnrolledKeys = "enrolled-keys", kNeedsSmm = "requires-smm";

Error detail(std::string text) { return {Code::XmlDetail, std::move(text), Part::DomainConf}; }

/// What <os><firmware> says of a feature: "yes", "no" or "".
std::string wish_for(const Element& os, std::string_view feature) {
  const Element* firmware = os.child("firmware");
  for (const Element* wish : firmware ? firmware->children("feature") : std::vector<const Element*>())
    if (wish->attribute("name") == feature) return wish->attribute("enabled");
  return {};
}

Status check_wishes(const Element& os) {
  const Element* firmware = os.child("firmware");
  for (const Element* wish : firmware ? firmware->children("feature") : std::vector<const Element*>()) {
    const std::string name = wish->attribute("name"), enabled = wish->attribute("enabled");
    if (name != kSecureBoot && name != kEnrolledKeys) return xml_error(fmt::format("Invalid value for attribute 'name' in element 'feature': '{}'.", name));
    if (enabled != "yes" && enabled != "no") return xml_error(fmt::format("Invalid value for attribute 'enabled' in element 'feature': '{}'.", enabled));
  }
  if (wish_for(os, kEnrolledKeys) == "yes" && wish_for(os, kSecureBoot) == "no")
    return detail("firmware feature 'enrolled-keys' cannot be enabled when firmware feature 'secure-boot' is disabled");
  return {};
}

/// With <os firmware=> nothing may be said that the choice decides.
Status check_open_choice(const Element& os) {
  constexpr const char* kBehind = "cannot be specified when firmware autoselection is enabled";
  TRY(check_wishes(os));
  if (const Element* loader = os.child("loader")) {
    for (const char* attribute : {"readonly", "type"})
      if (loader->has_attribute(attribute)) return detail(fmt::format("loader attribute '{}' {}", attribute, kBehind));
    if (loader->attribute("secure") == "no") return detail(fmt::format("loader attribute 'secure' {}", kBehind));
    if (!trim(loader->text()).empty()) return detail(fmt::format("loader path {}", kBehind));
  }
  if (!at(os, "nvram", "template").empty()) return detail(fmt::format("nvram attribute 'template' {}", kBehind));
  return {};
}

Status check_named_loader(const Element& domain, const Element& os) {
  if (os.child("firmware") && !os.child("firmware")->children("feature").empty())
    return detail("cannot use feature-based firmware autoselection when firmware autoselection is disabled");
  const Element* loader = os.child("loader");
  if (!loader) return {};
  if (trim(loader->text()).empty()) return detail("no loader path specified and firmware auto selection disabled");
  if (loader->attribute("secure") != "yes") return {};
  if (at(os, "type", "machine").find("q35") == std::string::npos)
    return config_unsupported("Secure boot is supported with q35 machine types only");
  if (at(domain, "features/smm", "state") != "on" && !(domain.find("features/smm") && !domain.find("features/smm")->has_attribute("state")))
    return config_unsupported("Secure boot requires SMM feature enabled");
  return {};
}

/// What a definition asks for against what a firmware has.
bool satisfies(const Element& domain, const Element& os, const FirmwareFile& firmware) {
  for (auto [state, feature] : {std::pair{"pm/suspend-to-mem", "acpi-s3"}, {"pm/suspend-to-disk", "acpi-s4"}})
    if (at(domain, state, "enabled") == "yes" && !firmware.has(feature)) return false;
  for (std::string_view feature : {kSecureBoot, kEnrolledKeys}) {
    const std::string wish = wish_for(os, feature);
    if (!wish.empty() && (wish == "yes") != firmware.has(feature)) return false;
  }
  if (at(os, "loader", "secure") == "yes" && !firmware.has(kNeedsSmm)) return false;
  const std::string stateless = at(os, "loader", "stateless");
  return stateless.empty() || (firmware.flash && (stateless == "yes") == firmware.stateless);
}

const FirmwareFile* pick(const Element& domain, const Element& os, const FirmwareHost& host) {
  const std::string interface = os.attribute("firmware") == "efi" ? "uefi" : "bios";
  const bool no_smm = host.kvm_without_smm && domain.attribute("type") == "kvm";
  for (const FirmwareFile& firmware : host.files) {
    const bool usable = firmware.is(interface) && firmware.fits(at(os, "type", "arch"), at(os, "type", "machine"));
    if (usable && satisfies(domain, os, firmware) && !(no_smm && firmware.has(kNeedsSmm))) return &firmware;
  }
  return nullptr;
}

const FirmwareFile* described(const std::string& code, const FirmwareHost& host) {
  auto found = std::ranges::find(host.files, code, &FirmwareFile::code);
  return found == host.files.end() || !found->flash ? nullptr : &*found;
}

/// Firmware with system management mode guards its variables by it.
Status enable_smm(Element& domain, Element& loader) {
  Element& smm = ensure(ensure(domain, "features"), "smm");
  if (smm.attribute("state") == "off") return operation_invalid("domain has SMM turned off but chosen firmware requires it");
  smm.set("state", "on");
  loader.set("secure", "yes");
  return {};
}

Status take(Element& domain, Element& os, const FirmwareFile& firmware, const FirmwareHost& host) {
  Element& loader = ensure(os, "loader");
  if (!firmware.flash) {
    loader.set("type", "rom");
    loader.set_text(firmware.code);
    return {};
  }
  set_default(loader, "readonly", "yes");
  if (firmware.has(kNeedsSmm)) TRY(enable_smm(domain, loader));
  loader.set("type", "pflash");
  loader.set_text(firmware.code);
  if (firmware.stateless) return {};
  set_default(ensure(os, "nvram"), "template", firmware.variables);
  name_variables(domain, host.state);
  return {};
}

/// A <loader> that is named: its variables, and what its description says that it needs.
Status complete_named(Element& domain, Element& os, const FirmwareHost& host) {
  if (at(os, "loader", "type") != "pflash" || at(os, "loader", "stateless") == "yes") return {};
  const std::string code = text_at(os, "loader");
  name_variables(domain, host.state);
  Element& nvram = ensure(os, "nvram");
  if (const FirmwareFile* firmware = described(code, host); firmware && !nvram.has_attribute("template")) return take(domain, os, *firmware, host);
  auto pair = std::ranges::find(kPairs, code, &Pair::code);
  if (pair != std::end(kPairs)) set_default(nvram, "template", pair->variables);
  if (!nvram.has_attribute("template") && ::access(text_at(os, "nvram").c_str(), F_OK) != 0)
    return operation_failed(fmt::format("unable to find any master var store for loader: {}", code));
  return {};
}

}  // namespace

FirmwareHost find_firmware(const std::string& state) {
  return {.state = state, .kvm_without_smm = cpu::kvm_usable(false).has_value(), .files = host::firmware_files(host::firmware_folders())};
}

Status check_firmware(const Element& domain) {
  const Element* os = domain.child("os");
  if (!os) return {};
  const std::string wanted = os->attribute("firmware");
  if (!wanted.empty() && wanted != "efi" && wanted != "bios") return xml_error(fmt::format("unknown firmware value {}", wanted));
  return wanted.empty() ? check_named_loader(domain, *os) : check_open_choice(*os);
}

void name_variables(Element& domain, const std::string& state) {
  Element* os = domain.child("os");
  if (!os || at(*os, "loader", "type") != "pflash" || at(*os, "loader", "stateless") == "yes") return;
  Element& nvram = ensure(*os, "nvram");
  if (trim(nvram.text()).empty()) nvram.set_text(fmt::format("{}/nvram/{}_VARS.fd", state, text_at(domain, "name")));
}

Status choose_firmware(Element& domain, const FirmwareHost& host) {
  Element* os = domain.child("os");
  if (!os) return {};
  const std::string wanted = os->attribute("firmware");
  if (wanted.empty() || !text_at(*os, "loader").empty()) {
    TRY(complete_named(domain, *os, host));
  } else {
    const FirmwareFile* firmware = pick(domain, *os, host);
    if (!firmware) return operation_failed(fmt::format("Unable to find any firmware to satisfy '{}'", wanted));
    TRY(take(domain, *os, *firmware, host));
  }
  os->remove_attribute("firmware");
  os->remove("firmware");
  put_in_order(domain);
  return {};
}

std::string variables_path(const Element& domain, const std::string& state) {
  if (const std::string named = text_at(domain, "os/nvram"); !named.empty()) return named;
  const Element* os = domain.child("os");
  if (!os || os->attribute("firmware") != "efi" || at(*os, "loader", "stateless") == "yes") return {};
  return fmt::format("{}/nvram/{}_VARS.fd", state, text_at(domain, "name"));
}

}  // namespace atl::manage
