// Procedures on network filters: the stock ones are shown, and which interface they guard; filters of one's own are
// refused by name.
#include <fmt/format.h>

#include <algorithm>

#include "manage/daemon.h"
#include "manage/nwfilter/stock_filters.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

constexpr i32 kMostFilters = 1024;

NwfilterRef ref_of(const StockFilter& filter) {
  return {std::string(filter.name), parse_uuid(filter.uuid).value_or(Uuid{})};
}

Status list_all(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0, "virConnectListAllNWFilters"));
  std::vector<NwfilterRef> list;
  for (const StockFilter& filter : stock_filters()) list.push_back(ref_of(filter));
  call.write_list(list, wanted);
  return {};
}

Status number_of(Call& call) {
  call.write(static_cast<i32>(stock_filters().size()));
  return {};
}

Status list_names(Call& call) {
  i32 most = 0;
  TRY(call.read(most));
  if (most < 0 || most > kMostFilters) return rpc_error("maxnames > REMOTE_NWFILTER_LIST_MAX");
  std::vector<std::string> names;
  for (const StockFilter& filter : stock_filters()) names.emplace_back(filter.name);
  names.resize(std::min(names.size(), static_cast<size_t>(most)));
  call.write(names);
  return {};
}

Status lookup_by_name(Call& call) {
  std::string name;
  TRY(call.read(name));
  const StockFilter* filter = TRY(find_stock_filter(name));
  call.write(ref_of(*filter));
  return {};
}

Result<const StockFilter*> find(const Uuid& uuid) {
  for (const StockFilter& filter : stock_filters())
    if (parse_uuid(filter.uuid) == uuid) return &filter;
  return Error(Code::NoNwfilter, fmt::format("no nwfilter with matching uuid '{}'", format_uuid(uuid)), Part::Nwfilter);
}

Status lookup_by_uuid(Call& call) {
  Uuid uuid{};
  TRY(call.read(uuid));
  const StockFilter* filter = TRY(find(uuid));
  call.write(ref_of(*filter));
  return {};
}

Status get_xml(Call& call) {
  NwfilterRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virNWFilterGetXMLDesc"));
  const StockFilter* filter = TRY(find(ref.uuid));
  call.write(stock_filter_xml(*filter));
  return {};
}

Status refuse(Call&) {
  return Error(Code::OperationUnsupported, "only the stock network filters are supported: they cannot be changed",
               Part::Nwfilter);
}

// --- bindings: which filter guards which tap. They come and go with the guests' cards.

struct Binding {
  NwfilterBindingRef ref;
  DomainRef owner;
  std::string mac;
  xml::Element filter;  // <filterref> with its parameters
};

std::vector<Binding> bindings(Call& call) {
  std::vector<Binding> found;
  for (const DomainPtr& domain : call.daemon().domains().all()) {
    const Domain::Tree live = domain->live();
    const xml::Element* devices = live ? live->child("devices") : nullptr;
    if (!devices) continue;
    for (const xml::Element* card : devices->children("interface")) {
      const xml::Element *filter = card->child("filterref"), *tap = card->child("target"), *mac = card->child("mac");
      if (!filter || !tap || !mac) continue;
      found.push_back(
          {{tap->attribute("dev"), filter->attribute("filter")}, domain->ref(), mac->attribute("address"), *filter});
    }
  }
  return found;
}

Result<Binding> find_binding(Call& call, const std::string& port_dev) {
  for (Binding& binding : bindings(call))
    if (binding.ref.port_dev == port_dev) return std::move(binding);
  return Error(Code::NoNwfilterBinding, fmt::format("no nwfilter binding for port dev '{}'", port_dev), Part::Nwfilter);
}

Status list_all_bindings(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0, "virConnectListAllNWFilterBindings"));
  std::vector<NwfilterBindingRef> list;
  for (const Binding& binding : bindings(call)) list.push_back(binding.ref);
  call.write_list(list, wanted);
  return {};
}

Status lookup_binding(Call& call) {
  std::string port_dev;
  TRY(call.read(port_dev));
  call.write(TRY(find_binding(call, port_dev)).ref);
  return {};
}

Status get_binding_xml(Call& call) {
  NwfilterBindingRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virNWFilterBindingGetXMLDesc"));
  Binding binding = TRY(find_binding(call, ref.port_dev));
  xml::Element tree("filterbinding");
  xml::Element& owner = tree.add("owner");
  owner.add("name", std::string_view(binding.owner.name));
  owner.add("uuid", format_uuid(binding.owner.uuid));
  tree.add("portdev").set("name", binding.ref.port_dev);
  tree.add("mac").set("address", binding.mac);
  tree.add(binding.filter);
  call.write(xml::write(tree));
  return {};
}

Status refuse_binding(Call&) {
  return Error(Code::OperationUnsupported, "network filter bindings come and go with the guests' interfaces",
               Part::Nwfilter);
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_NWFILTERS, Access::Read, list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_NWFILTERS, Access::Read, number_of, Where::Quick},
    {Proc::CONNECT_LIST_NWFILTERS, Access::Read, list_names, Where::Quick},
    {Proc::NWFILTER_LOOKUP_BY_NAME, Access::Read, lookup_by_name, Where::Quick},
    {Proc::NWFILTER_LOOKUP_BY_UUID, Access::Read, lookup_by_uuid, Where::Quick},
    {Proc::NWFILTER_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::NWFILTER_DEFINE_XML, Access::Write, refuse, Where::Quick},
    {Proc::NWFILTER_UNDEFINE, Access::Write, refuse, Where::Quick},
    {Proc::NWFILTER_DEFINE_XML_FLAGS, Access::Write, refuse, Where::Quick},
    {Proc::CONNECT_LIST_ALL_NWFILTER_BINDINGS, Access::Read, list_all_bindings, Where::Quick},
    {Proc::NWFILTER_BINDING_LOOKUP_BY_PORT_DEV, Access::Read, lookup_binding, Where::Quick},
    {Proc::NWFILTER_BINDING_GET_XML_DESC, Access::Read, get_binding_xml, Where::Quick},
    {Proc::NWFILTER_BINDING_CREATE_XML, Access::Write, refuse_binding, Where::Quick},
    {Proc::NWFILTER_BINDING_DELETE, Access::Write, refuse_binding, Where::Quick},
};

}  // namespace

std::span<const Procedure> nwfilter_procedures() { return kProcedures; }

}  // namespace atl::manage
