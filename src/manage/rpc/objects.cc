#include "manage/rpc/objects.h"

#include <algorithm>

namespace atl::manage {

namespace {

template <size_t I = 0>
bool decode_value(XdrReader& in, i32 type, TypedParam::Value& value) {
  if constexpr (I == std::variant_size_v<TypedParam::Value>) {
    return false;
  } else {
    if (type != static_cast<i32>(I) + 1) return decode_value<I + 1>(in, type, value);
    std::variant_alternative_t<I, TypedParam::Value> decoded{};
    if (!in.read(decoded)) return false;
    value.emplace<I>(std::move(decoded));
    return true;
  }
}

}  // namespace

bool TypedParam::decode(XdrReader& in) {
  i32 type = 0;
  return in.read(name, type).has_value() && decode_value(in, type, value);
}

void TypedParam::encode(XdrWriter& out) const {
  out.write(name, static_cast<i32>(value.index()) + 1);
  std::visit([&](const auto& v) { out.write(v); }, value);
}

const TypedParam* find_param(const TypedParams& params, std::string_view name) {
  auto found = std::ranges::find(params, name, &TypedParam::name);
  return found == params.end() ? nullptr : &*found;
}

}  // namespace atl::manage
