// Names of libvirt's functions, which its errors speak of: DOMAIN_GET_XML_DESC is virDomainGetXMLDesc.
#include <algorithm>

#include "base/strings.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {
namespace {

struct Spelling {
  std::string_view word, spelled;
};
// Words that are not merely capitalised.
constexpr Spelling kSpellings[] = {
    {"XML", "XML"},           {"CPU", "CPU"},         {"OS", "OS"},           {"UUID", "UUID"},       {"ID", "ID"},
    {"URI", "URI"},           {"NMI", "NMI"},         {"IO", "IO"},           {"FD", "FD"},           {"MAC", "MAC"},
    {"NUMA", "Numa"},         {"SEV", "SEV"},         {"DHCP", "DHCP"},       {"SSH", "SSH"},         {"FSINFO", "FSInfo"},
    {"FSFREEZE", "FSFreeze"}, {"FSTHAW", "FSThaw"},   {"FSTRIM", "FSTrim"},   {"IOTHREAD", "IOThread"}, {"PM", "PM"},
    {"NWFILTER", "NWFilter"}, {"NWFILTERS", "NWFilters"}, {"SCSI", "SCSI"},   {"WWN", "WWN"},         {"DETTACH", "Dettach"},
};

std::string spelled(std::string_view word) {
  auto found = std::ranges::find(kSpellings, word, &Spelling::word);
  if (found != std::end(kSpellings)) return std::string(found->spelled);
  std::string text(word.substr(0, 1));
  for (char c : word.substr(1)) text += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

}  // namespace

std::string function_name(u32 number) {
  std::string name = "vir";
  for (std::string_view word : split(procedure_name(number), '_')) name += spelled(word);
  return name;
}

}  // namespace atl::manage
