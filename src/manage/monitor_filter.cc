#include "manage/monitor_filter.h"

#include <regex.h>
#include <strings.h>

#include <fmt/format.h>

namespace atl::manage {
namespace {

/// POSIX, extended, as the C library has it.
class Expression {
 public:
  Expression(const std::string& text, bool any_case) : error_(::regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB | (any_case ? REG_ICASE : 0))) {}
  ~Expression() {
    if (!error_) ::regfree(&compiled_);
  }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  bool valid() const { return error_ == 0; }
  bool matches(const std::string& text) const { return valid() && ::regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0; }

 private:
  regex_t compiled_{};
  int error_;
};

constexpr size_t kLongest = 256;  // what compiles to a machine of bounded size

}  // namespace

std::string MonitorEventFilter::text() const {
  if (domain.empty() && event.empty()) return {};
  std::string text = fmt::format("{}{}", regex ? 'r' : '-', any_case ? 'i' : '-');
  return text + (domain.empty() ? '-' : 'd') + domain + event;
}

MonitorEventFilter MonitorEventFilter::from(std::string_view text) {
  constexpr size_t kHead = 3, kKey = 16;
  MonitorEventFilter filter;
  if (text.size() < kHead) return filter;
  filter.regex = text[0] == 'r';
  filter.any_case = text[1] == 'i';
  const size_t name = text[2] == 'd' ? kHead + kKey : kHead;
  filter.domain = text.substr(kHead, name - kHead);
  filter.event = text.substr(name);
  return filter;
}

bool MonitorEventFilter::matches(std::string_view domain_key, const std::string& name) const {
  if (!domain.empty() && domain != domain_key) return false;
  if (event.empty()) return true;
  if (regex) return Expression(event, any_case).matches(name);
  return any_case ? ::strcasecmp(event.c_str(), name.c_str()) == 0 : event == name;
}

Status MonitorEventFilter::check(const std::string& expression) {
  if (expression.size() <= kLongest && Expression(expression, false).valid()) return {};
  return invalid_arg(fmt::format("failed to compile regex '{}'", expression.substr(0, kLongest)));
}

}  // namespace atl::manage
