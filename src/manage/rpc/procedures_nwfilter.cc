// Procedures on network filters: the stock ones are shown; filters of one's own are refused by name.
#include <fmt/format.h>

#include <algorithm>

#include "manage/nwfilter/stock_filters.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"

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

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_NWFILTERS, Access::Read, list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_NWFILTERS, Access::Read, number_of, Where::Quick},
    {Proc::CONNECT_LIST_NWFILTERS, Access::Read, list_names, Where::Quick},
    {Proc::NWFILTER_LOOKUP_BY_NAME, Access::Read, lookup_by_name, Where::Quick},
    {Proc::NWFILTER_LOOKUP_BY_UUID, Access::Read, lookup_by_uuid, Where::Quick},
    {Proc::NWFILTER_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::NWFILTER_DEFINE_XML, Access::Write, refuse, Where::Quick},
    {Proc::NWFILTER_UNDEFINE, Access::Write, refuse, Where::Quick},
};

}  // namespace

std::span<const Procedure> nwfilter_procedures() { return kProcedures; }

}  // namespace atl::manage
