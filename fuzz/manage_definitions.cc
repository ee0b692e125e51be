// Networks, network filters, pools and volumes as clients define them: what is taken is printed so that it is taken
// again, and what is written for dnsmasq and nft holds no line that a client made up.
#include <cstdlib>

#include "manage/network/definition.h"
#include "manage/network/dnsmasq.h"
#include "manage/network/firewall.h"
#include "manage/nwfilter/ruleset.h"
#include "manage/storage/definition.h"
#include "manage/xml/write.h"

namespace {

using namespace atl::manage;

void try_network(std::string_view text) {
  auto network = parse_network(text);
  if (!network) return;
  if (!parse_network(xml::write(network->tree))) std::abort();
  (void)dnsmasq_files(*network, {"/c", "/d", "/l", "/p"});
  (void)firewall_rules(*network);
}

void try_filter(std::string_view text) {
  auto filter = parse_filter(text);
  if (!filter) return;
  if (!parse_filter(filter_xml(*filter))) std::abort();
  FilterLookup lookup = [&](const std::string&) { return &*filter; };
  (void)binding_rules({"guest", {}, "vnet0", "52:54:00:00:00:01", filter->name, {{"A", "10.0.0.1"}, {"A", "80"}}},
                      lookup);
}

void try_pool(std::string_view text) {
  auto pool = parse_pool(text);
  if (pool && !parse_pool(xml::write(pool->tree))) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try_network(text);
  try_filter(text);
  try_pool(text);
  (void)parse_volume(text, PoolType::Dir);
  return 0;
}
