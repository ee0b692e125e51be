// For tests of image formats against qemu-img: a disk of which we know every byte, in our images and in theirs.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <random>

#include "block/driver.h"
#include "block/test_support.h"

namespace atl::block::format_test {

struct Outcome {
  int code = -1;
  std::string output;
};

/// Runs a shell command; standard error included.
inline Outcome run(const std::string& command) {
  Outcome outcome;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return outcome;
  char buffer[4096];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) outcome.output.append(buffer, n);
  int status = ::pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

inline bool has_program(const std::string& name) { return run("command -v " + name).code == 0; }

/// A folder that goes with the test.
class TempFolder {
 public:
  TempFolder() { CHECK(::mkdtemp(path_.data())); }
  ~TempFolder() { run("rm -rf " + path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_ = "/tmp/atoll-formats-XXXXXX";
};

/// Mixed content: data, repetitive data, zeroes.
inline std::string make_content(u64 size, u32 seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (u64 at = 0; at < size;) {
    u64 length = std::min<u64>(size - at, 512 * (1 + random() % 700));
    u32 kind = random() % 3;
    for (u64 i = 0; i < length && kind; ++i) bytes[at + i] = static_cast<char>(kind == 1 ? random() : 'a' + i % 5);
    at += length;
  }
  return bytes;
}

struct Fixture {
  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create(64)); }  // no test can do without
  std::unique_ptr<Loop> loop = make_loop();
  Graph graph{*loop};
  TempFolder folder;

  Status create(const std::string& format, const std::string& path, Json options) {
    return finish(*loop, graph.create(*find_driver(format), path, std::move(options)));
  }
  Result<NodePtr> open(const std::string& format, const std::string& path, bool readonly = false) {
    OpenMode mode;
    mode.readonly = readonly;
    return finish(*loop, graph.open_name(path, format, mode));
  }
  Status write(Node& node, u64 offset, std::string_view bytes) {
    iovec v{const_cast<char*>(bytes.data()), bytes.size()};
    return finish(*loop, node.write(offset, {&v, 1}, kNoFlags));
  }
  Status write_compressed(Node& node, u64 offset, std::string_view bytes) {
    iovec v{const_cast<char*>(bytes.data()), bytes.size()};
    return finish(*loop, node.write_compressed(offset, {&v, 1}));
  }
  Status zero(Node& node, u64 offset, u64 size) { return finish(*loop, node.write_zeroes(offset, size, kMayUnmap)); }
  Status flush(Node& node) { return finish(*loop, node.flush()); }
  std::string read(Node& node, u64 offset, u64 size) {
    std::string bytes(size, '?');
    iovec v{bytes.data(), bytes.size()};
    Status status = finish(*loop, node.read(offset, {&v, 1}));
    EXPECT_TRUE(status) << status.error().text();
    return bytes;
  }
};

inline void write_file(const std::string& path, std::string_view bytes) {
  FILE* file = std::fopen(path.c_str(), "wb");
  CHECK(file && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
  std::fclose(file);
}

/// The offset of the first difference, for messages; nothing if equal.
inline std::optional<u64> first_difference(std::string_view a, std::string_view b) {
  for (u64 i = 0; i < std::min(a.size(), b.size()); ++i)
    if (a[i] != b[i]) return i;
  if (a.size() != b.size()) return std::min(a.size(), b.size());
  return std::nullopt;
}

}  // namespace atl::block::format_test
