#include "manage/domain/disk_secrets.h"

#include <fmt/format.h>

#include "manage/domain/aliases.h"

namespace atl::manage {
namespace {

/// Inside of <source>, or as older clients write it, of <disk>.
const Element* encryption_of(const Element& disk) {
  const Element* inside = disk.find("source/encryption");
  return inside ? inside : disk.child("encryption");
}

Status check_encryption(const Element& disk, const Element& encryption) {
  const std::string format = encryption.attribute("format"), image = at(disk, "driver", "type"), engine = encryption.attribute("engine");
  if (format == "qcow" || format == "default") return config_unsupported("old qcow/qcow2 encryption is not supported");
  if (format != "luks") return config_unsupported(fmt::format("unknown volume encryption format type {}", format));
  if (!engine.empty() && engine != "qemu") return config_unsupported(fmt::format("encryption engine '{}' is not supported by atoll-vmm", engine));
  if (image != "raw" && image != "qcow2") return config_unsupported(fmt::format("encryption of disks of format '{}' is not supported", image));
  for (const Element* secret : encryption.children("secret")) {
    const std::string type = secret->attribute("type");
    if (type != "passphrase") return config_unsupported(fmt::format("unknown volume encryption secret type {}", type));
    if (!secret->has_attribute("uuid") && !secret->has_attribute("usage")) return xml_error("missing secret uuid or usage attribute");
    if (secret->has_attribute("uuid") && !parse_uuid(secret->attribute("uuid")))
      return xml_error(fmt::format("invalid secret uuid '{}'", secret->attribute("uuid")));
  }
  return {};
}

}  // namespace

Status complete_encryption(Element& disk) {
  const Element* found = encryption_of(disk);
  if (!found) return {};
  TRY(check_encryption(disk, *found));
  Element* source = disk.child("source");
  Element* inside = source ? source->child("encryption") : nullptr;
  set_default(inside ? *inside : *disk.child("encryption"), "engine", "qemu");
  return {};
}

const Element* disk_secret(const Element& disk) {
  const Element* encryption = encryption_of(disk);
  return encryption ? encryption->child("secret") : nullptr;
}

std::string disk_secret_id(const Element& disk) {
  return encryption_of(disk) ? format_node(at(disk, "source", "index")) + "-encryption-secret0" : std::string();
}

}  // namespace atl::manage
