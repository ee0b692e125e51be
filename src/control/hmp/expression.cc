#include "control/hmp/expression.h"

#include <fmt/format.h>

#include "base/strings.h"

namespace atl::control {
namespace {

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

constexpr bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// Recursive descent over three levels of binary operators; C's precedence, with & | ^ on one level as QEMU has it.
class Parser {
 public:
  Parser(std::string_view text, const RegisterLookup& registers) : text_(text), registers_(registers) {}

  Result<u64> logic() { return binary("&|^", &Parser::sum); }
  std::string_view rest() const { return text_; }
  void skip_blanks() {
    while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
  }

 private:
  using Level = Result<u64> (Parser::*)();
  static constexpr int kMaxDepth = 64;

  Result<u64> sum() { return binary("+-", &Parser::product); }
  Result<u64> product() { return binary("*/%", &Parser::unary); }

  Result<u64> binary(std::string_view operators, Level next) {
    u64 left = TRY((this->*next)());
    for (skip_blanks(); !text_.empty() && operators.find(text_.front()) != std::string_view::npos; skip_blanks()) {
      char op = text_.front();
      text_.remove_prefix(1);
      u64 right = TRY((this->*next)());
      left = TRY(apply(op, left, right));
    }
    return left;
  }

  static Result<u64> apply(char op, u64 a, u64 b) {
    if ((op == '/' || op == '%') && b == 0) return invalid("division by zero");
    switch (op) {
      case '+': return a + b;
      case '-': return a - b;
      case '*': return a * b;
      case '/': return a / b;
      case '%': return a % b;
      case '&': return a & b;
      case '|': return a | b;
      default: return a ^ b;
    }
  }

  Result<u64> unary() {
    skip_blanks();
    if (text_.empty()) return invalid("unexpected end of expression");
    if (++depth_ > kMaxDepth) return invalid("expression nests too deep");
    Result<u64> value = operand();
    --depth_;
    return value;
  }

  Result<u64> operand() {
    char c = text_.front();
    if (c == '+' || c == '-' || c == '~') {
      text_.remove_prefix(1);
      u64 value = TRY(unary());
      return c == '-' ? 0 - value : c == '~' ? ~value : value;
    }
    if (c == '(') return parenthesis();
    if (c == '$') return register_value();
    std::string_view word = take_word();
    if (auto number = parse_u64(word)) return *number;
    return invalid(fmt::format("invalid number '{}'", word.empty() ? text_ : word));
  }

  Result<u64> parenthesis() {
    text_.remove_prefix(1);
    u64 value = TRY(logic());
    if (text_.empty() || text_.front() != ')') return invalid("')' expected");
    text_.remove_prefix(1);
    return value;
  }

  Result<u64> register_value() {
    text_.remove_prefix(1);
    std::string_view name = take_word();
    if (auto value = registers_ ? registers_(name) : std::nullopt) return *value;
    return invalid(fmt::format("unknown register '{}'", name));
  }

  std::string_view take_word() {
    size_t length = 0;
    while (length < text_.size() && is_word(text_[length])) ++length;
    std::string_view word = text_.substr(0, length);
    text_.remove_prefix(length);
    return word;
  }

  std::string_view text_;
  const RegisterLookup& registers_;
  int depth_ = 0;
};

}  // namespace

Result<u64> take_expression(std::string_view& text, const RegisterLookup& registers) {
  Parser parser(text, registers);
  u64 value = TRY(parser.logic());
  parser.skip_blanks();
  text = parser.rest();
  return value;
}

}  // namespace atl::control
