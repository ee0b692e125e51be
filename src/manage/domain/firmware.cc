#include "manage/domain/firmware.h"

#include <unistd.h>

#include <fmt/format.h>

#include "manage/domain/definition.h"

namespace atl::manage {
namespace {

/// Code, and the variables that it begins with (package ovmf). The first that is installed is taken.
struct Firmware {
  std::string_view code, variables;
};
constexpr Firmware kFirmware[] = {{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
                                  {"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
                                  {"/usr/share/ovmf/x64/OVMF_CODE.4m.fd", "/usr/share/ovmf/x64/OVMF_VARS.4m.fd"}};

/// Secure boot needs SMM.
Status check_features(const Element& os) {
  const Element* wanted = os.child("firmware");
  for (const Element* feature : wanted ? wanted->children("feature") : std::vector<const Element*>())
    if (feature->attribute("enabled") == "yes") return operation_failed(fmt::format("Unable to find any firmware to satisfy 'efi' with '{}'", feature->attribute("name")));
  if (at(os, "loader", "secure") == "yes") return operation_failed("Unable to find any firmware to satisfy 'efi' with secure boot");
  return {};
}

std::string template_of(const std::string& code) {
  for (const auto& firmware : kFirmware)
    if (firmware.code == code) return std::string(firmware.variables);
  return {};
}

Status choose_code(Element& os) {
  TRY(check_features(os));
  for (const auto& firmware : kFirmware) {
    if (::access(std::string(firmware.code).c_str(), R_OK) != 0) continue;
    Element& loader = ensure(os, "loader");
    set_default(loader, "readonly", "yes");
    loader.set("type", "pflash");
    loader.set_text(firmware.code);
    return {};
  }
  return operation_failed("Unable to find any firmware to satisfy 'efi'");
}

}  // namespace

Status choose_firmware(Element& domain, const std::string& state) {
  Element* os = domain.child("os");
  if (!os) return {};
  const std::string wanted = os->attribute("firmware");
  if (wanted == "bios" || (wanted.empty() && !os->child("loader"))) return {};
  if (!wanted.empty() && wanted != "efi") return xml_error(fmt::format("Invalid value for attribute 'firmware' in element 'os': '{}'.", wanted));
  if (text_at(*os, "loader").empty()) TRY(choose_code(*os));
  if (at(*os, "loader", "type") != "pflash") return {};
  Element& nvram = ensure(*os, "nvram");
  if (const std::string from = template_of(text_at(*os, "loader")); !from.empty()) set_default(nvram, "template", from);
  if (trim(nvram.text()).empty()) nvram.set_text(fmt::format("{}/nvram/{}_VARS.fd", state, text_at(domain, "name")));
  if (!nvram.has_attribute("template") && ::access(std::string(trim(nvram.text())).c_str(), F_OK) != 0)
    return operation_failed(fmt::format("unable to find any master var store for loader: {}", text_at(*os, "loader")));
  put_in_order(domain);
  return {};
}

}  // namespace atl::manage
