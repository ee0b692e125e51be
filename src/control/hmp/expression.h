// Integer expressions of the monitor: numbers, $registers, + - * / % & | ^ ~ and parentheses, as C has them.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace atl::control {

/// The value of a register by name, without the dollar sign.
using RegisterLookup = std::function<std::optional<u64>(std::string_view name)>;

/// Evaluates the expression at the start of `text` and cuts it off, with the blanks behind it. Wraps modulo 2^64.
Result<u64> take_expression(std::string_view& text, const RegisterLookup& registers);

}  // namespace atl::control
