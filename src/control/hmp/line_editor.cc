#include "control/hmp/line_editor.h"

#include <algorithm>

#include <fmt/format.h>

namespace atl::control {
namespace {

constexpr u8 ctrl(char letter) { return static_cast<u8>(letter - 'a' + 1); }
constexpr u8 kEscape = 27, kDelete = 127;

}  // namespace

std::optional<std::string> LineEditor::feed(u8 byte, std::string& echo) {
  if (escape_ != Escape::None) {
    escape_key(byte, echo);
    return std::nullopt;
  }
  if (byte == '\r' || byte == '\n') {
    echo += "\r\n";
    return finish_line();
  }
  if (byte < 32 || byte == kDelete) {
    control_key(byte, echo);
    return std::nullopt;
  }
  bool at_end = cursor_ == line_.size();
  insert(static_cast<char>(byte));
  echo += at_end ? std::string(1, static_cast<char>(byte)) : redraw();
  return std::nullopt;
}

std::string LineEditor::show() const { return prompt_ + line_; }

void LineEditor::reset() {
  line_.clear();
  cursor_ = 0;
  escape_ = Escape::None;
}

void LineEditor::control_key(u8 byte, std::string& echo) {
  switch (byte) {
    case ctrl('a'): cursor_ = 0; break;
    case ctrl('e'): cursor_ = line_.size(); break;
    case ctrl('b'): cursor_ -= cursor_ > 0; break;
    case ctrl('f'): cursor_ += cursor_ < line_.size(); break;
    case ctrl('d'): erase(cursor_, cursor_ + 1); break;
    case ctrl('h'): case kDelete: if (cursor_ > 0) erase(cursor_ - 1, cursor_); break;
    case ctrl('k'): erase(cursor_, line_.size()); break;
    case ctrl('u'): erase(0, cursor_); break;
    case ctrl('w'): {
      size_t from = cursor_;
      while (from > 0 && line_[from - 1] == ' ') --from;
      while (from > 0 && line_[from - 1] != ' ') --from;
      erase(from, cursor_);
      break;
    }
    case ctrl('p'): recall(-1); break;
    case ctrl('n'): recall(1); break;
    case ctrl('i'): complete(echo); break;
    case ctrl('l'): break;
    case kEscape: escape_ = Escape::Started; return;
    default: return;
  }
  echo += redraw();
}

// Keys that terminals send as ESC [ letter or ESC [ digit ~ (ECMA-48, xterm).
void LineEditor::escape_key(u8 byte, std::string& echo) {
  if (escape_ == Escape::Started) {
    escape_ = byte == '[' || byte == 'O' ? Escape::Bracket : Escape::None;
    return;
  }
  if (escape_ == Escape::Bracket && byte >= '0' && byte <= '9') {
    digit_ = byte;
    escape_ = Escape::Digit;
    return;
  }
  bool tilde = escape_ == Escape::Digit && byte == '~';
  escape_ = Escape::None;
  u8 key = tilde ? digit_ : byte;
  switch (key) {
    case 'A': recall(-1); break;
    case 'B': recall(1); break;
    case 'C': cursor_ += cursor_ < line_.size(); break;
    case 'D': cursor_ -= cursor_ > 0; break;
    case 'H': case '1': cursor_ = 0; break;
    case 'F': case '4': cursor_ = line_.size(); break;
    case '3': erase(cursor_, cursor_ + 1); break;
    default: return;
  }
  echo += redraw();
}

void LineEditor::insert(char c) {
  if (line_.size() >= kMaxLine) return;
  line_.insert(cursor_++, 1, c);
}

void LineEditor::erase(size_t from, size_t to) {
  to = std::min(to, line_.size());
  line_.erase(from, to - from);
  cursor_ = from;
}

void LineEditor::recall(int direction) {
  if (direction < 0 && history_at_ > 0) --history_at_;
  else if (direction > 0 && history_at_ < history_.size()) ++history_at_;
  else return;
  line_ = history_at_ < history_.size() ? history_[history_at_] : "";
  cursor_ = line_.size();
}

// Extends the line as far as every completion agrees; lists them if that is no further.
void LineEditor::complete(std::string& echo) {
  auto found = completer_ ? completer_(line_) : std::vector<std::string>();
  if (found.empty()) return;
  size_t start = line_.rfind(' ') == std::string::npos ? 0 : line_.rfind(' ') + 1;
  std::string common = found[0];
  for (const auto& name : found) {
    size_t same = 0;
    while (same < std::min(common.size(), name.size()) && common[same] == name[same]) ++same;
    common.resize(same);
  }
  bool extended = common.size() > line_.size() - start;
  line_ = line_.substr(0, start) + common + (found.size() == 1 ? " " : "");
  cursor_ = line_.size();
  if (!extended && found.size() > 1) {
    echo += "\r\n";
    for (const auto& name : found) echo += name + "\r\n";
  }
}

std::string LineEditor::finish_line() {
  std::string line = std::move(line_);
  reset();
  if (!line.empty() && (history_.empty() || history_.back() != line)) history_.push_back(line);
  if (history_.size() > kMaxHistory) history_.erase(history_.begin());
  history_at_ = history_.size();
  return line;
}

// The whole line anew, everything behind it erased, and the cursor moved back to its place.
std::string LineEditor::redraw() const {
  std::string text = "\r" + prompt_ + line_ + "\x1b[K";
  if (cursor_ < line_.size()) text += fmt::format("\x1b[{}D", line_.size() - cursor_);
  return text;
}

}  // namespace atl::control
