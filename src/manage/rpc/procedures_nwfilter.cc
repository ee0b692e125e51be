// Procedures on network filters and on their bindings: which card each guards.
#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/name_list.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {
namespace {

constexpr i32 kMostFilters = 1024;
constexpr u32 kDefineValidate = 1;

Filters& filters(Call& call) { return call.daemon().filters(); }

Status list_all(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0, "virConnectListAllNWFilters"));
  call.write_list(filters(call).list(), wanted);
  return {};
}

Status number_of(Call& call) {
  call.write(static_cast<i32>(filters(call).list().size()));
  return {};
}

Status list_names(Call& call) {
  i32 most = 0;
  TRY(call.read(most));
  std::vector<std::string> names;
  for (NwfilterRef& filter : filters(call).list()) names.push_back(std::move(filter.name));
  return write_names(call, std::move(names), most, kMostFilters, "NWFILTER");
}

/// By name or by uuid.
template <class Key>
Status lookup(Call& call) {
  Key key{};
  TRY(call.read(key));
  call.write(TRY(filters(call).find(key)));
  return {};
}

Status get_xml(Call& call) {
  NwfilterRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virNWFilterGetXMLDesc"));
  call.write(TRY(filters(call).xml(ref.uuid)));
  return {};
}

Status define_xml(Call& call) {
  std::string xml;
  TRY(call.read(xml));
  call.write(TRY(filters(call).define(xml)));
  return {};
}

Status define_xml_flags(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, kDefineValidate, "virNWFilterDefineXMLFlags"));
  call.write(TRY(filters(call).define(xml)));
  return {};
}

Status undefine(Call& call) {
  NwfilterRef ref;
  TRY(call.read(ref));
  return filters(call).undefine(ref.uuid);
}

// --- bindings

NwfilterBindingRef ref_of(const FilterBinding& binding) { return {binding.port, binding.filter}; }

Status list_all_bindings(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0, "virConnectListAllNWFilterBindings"));
  std::vector<NwfilterBindingRef> list;
  for (const FilterBinding& binding : filters(call).bindings()) list.push_back(ref_of(binding));
  call.write_list(list, wanted);
  return {};
}

Status lookup_binding(Call& call) {
  std::string port;
  TRY(call.read(port));
  FilterBinding binding = TRY(filters(call).binding(port));
  call.write(ref_of(binding));
  return {};
}

Status get_binding_xml(Call& call) {
  NwfilterBindingRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virNWFilterBindingGetXMLDesc"));
  call.write(filter_binding_xml(TRY(filters(call).binding(ref.port_dev))));
  return {};
}

Status create_binding(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, kDefineValidate, "virNWFilterBindingCreateXML"));
  FilterBinding binding = TRY(parse_filter_binding(xml));
  TRY(filters(call).bind(binding));
  call.write(ref_of(binding));
  return {};
}

Status delete_binding(Call& call) {
  NwfilterBindingRef ref;
  TRY(call.read(ref));
  return filters(call).unbind(ref.port_dev);
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_NWFILTERS, Access::Read, list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_NWFILTERS, Access::Read, number_of, Where::Quick},
    {Proc::CONNECT_LIST_NWFILTERS, Access::Read, list_names, Where::Quick},
    {Proc::NWFILTER_LOOKUP_BY_NAME, Access::Read, lookup<std::string>, Where::Quick},
    {Proc::NWFILTER_LOOKUP_BY_UUID, Access::Read, lookup<Uuid>, Where::Quick},
    {Proc::NWFILTER_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::NWFILTER_DEFINE_XML, Access::Write, define_xml},
    {Proc::NWFILTER_UNDEFINE, Access::Write, undefine},
    {Proc::NWFILTER_DEFINE_XML_FLAGS, Access::Write, define_xml_flags},
    {Proc::CONNECT_LIST_ALL_NWFILTER_BINDINGS, Access::Read, list_all_bindings, Where::Quick},
    {Proc::NWFILTER_BINDING_LOOKUP_BY_PORT_DEV, Access::Read, lookup_binding, Where::Quick},
    {Proc::NWFILTER_BINDING_GET_XML_DESC, Access::Read, get_binding_xml, Where::Quick},
    {Proc::NWFILTER_BINDING_CREATE_XML, Access::Write, create_binding},
    {Proc::NWFILTER_BINDING_DELETE, Access::Write, delete_binding},
};

}  // namespace

std::span<const Procedure> nwfilter_procedures() { return kProcedures; }

}  // namespace atl::manage
