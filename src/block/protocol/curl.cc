// Drivers "http", "https", "ftp" and "ftps", through libcurl: read-only, by ranges, with read-ahead.
//
// Supported: url, readahead, timeout, sslverify, cookie, cookie-secret, username, password-secret, proxy-username,
// proxy-password-secret. A server that does not serve ranges is refused.
#include <fmt/format.h>

#include "block/driver.h"
#include "block/protocol/late_library.h"
#include "block/protocol/missing.h"
#include "block/protocol/remote_node.h"

#ifdef ATOLL_HAVE_CURL
#include <curl/curl.h>

#include <cstring>
#include <mutex>

namespace atl::block {
namespace {

constexpr unsigned kConnections = 4;
constexpr u64 kReadahead = 256 * kKiB;
constexpr long kTimeoutSeconds = 5;

struct CurlOptions {
  std::string url, scheme, cookie, username, password, proxy_username, proxy_password;
  bool verify = true;
  long timeout_seconds = kTimeoutSeconds;
};

class CurlConnection final : public RemoteConnection {
 public:
  static Result<std::unique_ptr<RemoteConnection>> create(const CurlOptions& options);
  ~CurlConnection() override { curl_easy_cleanup(easy_); }
  Result<u64> size_bytes() override;
  Status read(u64 offset, std::span<u8> out) override;

 private:
  explicit CurlConnection(CURL* easy) : easy_(easy) {}
  void set_up(const CurlOptions& options);
  Error failed(CURLcode code, std::string_view what) const;
  static size_t on_data(char* data, size_t size, size_t count, void* self);
  static size_t on_header(char* data, size_t size, size_t count, void* self);
  bool is_http() const { return scheme_.starts_with("http"); }

  CURL* const easy_;
  std::string scheme_;
  char error_[CURL_ERROR_SIZE] = {};
  std::span<u8> out_;
  size_t got_ = 0;
  bool accepts_ranges_ = false;
  bool asking_size_ = false;
};

size_t CurlConnection::on_data(char* data, size_t size, size_t count, void* self) {
  auto& c = *static_cast<CurlConnection*>(self);
  const size_t bytes = size * count, room = c.out_.size() - c.got_;
  if (c.asking_size_) return bytes;  // what libcurl makes of FTP's SIZE and MDTM: headers, told as data too
  if (bytes > room) return 0;  // more than asked for: the server does not know ranges
  std::memcpy(c.out_.data() + c.got_, data, bytes);
  c.got_ += bytes;
  return bytes;
}

size_t CurlConnection::on_header(char* data, size_t size, size_t count, void* self) {
  std::string line(data, size * count);
  for (char& c : line) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  if (line.starts_with("accept-ranges:") && line.find("bytes") != line.npos) static_cast<CurlConnection*>(self)->accepts_ranges_ = true;
  return size * count;
}

Error CurlConnection::failed(CURLcode code, std::string_view what) const {
  return Error(ErrorKind::Io, fmt::format("CURL: {}: {}", what, error_[0] ? error_ : curl_easy_strerror(code)), EIO);
}

void CurlConnection::set_up(const CurlOptions& options) {
  scheme_ = options.scheme;
  curl_easy_setopt(easy_, CURLOPT_URL, options.url.c_str());
  curl_easy_setopt(easy_, CURLOPT_PROTOCOLS_STR, options.scheme.c_str());
  curl_easy_setopt(easy_, CURLOPT_REDIR_PROTOCOLS_STR, options.scheme.c_str());
  curl_easy_setopt(easy_, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(easy_, CURLOPT_MAXREDIRS, 8L);
  curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy_, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(easy_, CURLOPT_AUTOREFERER, 1L);
  // An FTP transfer that ends at the end of a range, not of the file, leaves answers on the control connection that libcurl
  // takes for those to its next commands.
  if (!is_http()) curl_easy_setopt(easy_, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, error_);
  // Too little in too long a time, rather than a bound on large reads.
  curl_easy_setopt(easy_, CURLOPT_CONNECTTIMEOUT, options.timeout_seconds);
  curl_easy_setopt(easy_, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(easy_, CURLOPT_LOW_SPEED_TIME, options.timeout_seconds);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYPEER, options.verify ? 1L : 0L);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYHOST, options.verify ? 2L : 0L);
  curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(easy_, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy_, CURLOPT_HEADERDATA, this);
  auto text = [&](CURLoption option, const std::string& value) {
    if (!value.empty()) curl_easy_setopt(easy_, option, value.c_str());
  };
  text(CURLOPT_COOKIE, options.cookie);
  text(CURLOPT_USERNAME, options.username);
  text(CURLOPT_PASSWORD, options.password);
  text(CURLOPT_PROXYUSERNAME, options.proxy_username);
  text(CURLOPT_PROXYPASSWORD, options.proxy_password);
}

Result<std::unique_ptr<RemoteConnection>> CurlConnection::create(const CurlOptions& options) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_ALL); });
  CURL* easy = curl_easy_init();
  if (!easy) return Error(ErrorKind::NoSpace, "CURL: cannot start", ENOMEM);
  std::unique_ptr<CurlConnection> connection(new CurlConnection(easy));
  connection->set_up(options);
  return std::unique_ptr<RemoteConnection>(std::move(connection));
}

Result<u64> CurlConnection::size_bytes() {
  curl_easy_setopt(easy_, CURLOPT_NOBODY, 1L);
  asking_size_ = true;
  CURLcode code = curl_easy_perform(easy_);
  asking_size_ = false;
  curl_easy_setopt(easy_, CURLOPT_NOBODY, 0L);
  curl_easy_setopt(easy_, CURLOPT_HTTPGET, 1L);
  if (code != CURLE_OK) return failed(code, "Error opening file");
  curl_off_t length = -1;
  curl_easy_getinfo(easy_, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  if (length < 0) return Error(ErrorKind::Unsupported, "Server didn't report file size.", EINVAL);
  if (is_http() && !accepts_ranges_)
    return Error(ErrorKind::Unsupported, "Server does not support 'range' (byte ranges).", EINVAL);
  return static_cast<u64>(length);
}

Status CurlConnection::read(u64 offset, std::span<u8> out) {
  out_ = out;
  got_ = 0;
  error_[0] = 0;
  std::string range = fmt::format("{}-{}", offset, offset + out.size() - 1);
  curl_easy_setopt(easy_, CURLOPT_RANGE, range.c_str());
  CURLcode code = curl_easy_perform(easy_);
  curl_easy_setopt(easy_, CURLOPT_RANGE, nullptr);
  // An FTP transfer is cut off by us at the end of the range.
  if (code != CURLE_OK && !(got_ == out.size() && !is_http())) return failed(code, fmt::format("read {} bytes at {}", out.size(), offset));
  if (got_ != out.size())
    return Error(ErrorKind::Io, fmt::format("CURL: the server sent {} of {} bytes at {}", got_, out.size(), offset), EIO);
  return {};
}

Result<std::string> secret_of(Graph& graph, OptionReader& reader, const char* key) {
  std::string id = TRY(reader.string(key, {}));
  if (id.empty()) return std::string();
  return graph.secret(id);
}

Result<CurlOptions> read_curl_options(Graph& graph, OptionReader& reader, const char* scheme) {
  CurlOptions options;
  options.scheme = scheme;
  options.url = TRY(reader.string("filename", {}));
  options.url = TRY(reader.string("url", options.url));
  if (!options.url.starts_with(fmt::format("{}://", scheme)))
    return Error(ErrorKind::Invalid, fmt::format("{} curl driver cannot handle the URL '{}' (does not start with '{}://')", scheme, options.url, scheme), EINVAL);
  u64 timeout = TRY(reader.number("timeout", kTimeoutSeconds));
  if (timeout < 1 || timeout > 10'000'000) return Error(ErrorKind::Invalid, "timeout parameter is too large or negative", EINVAL);
  options.timeout_seconds = static_cast<long>(timeout);
  options.verify = TRY(reader.boolean("sslverify", true));
  options.cookie = TRY(reader.string("cookie", {}));
  std::string cookie = TRY(secret_of(graph, reader, "cookie-secret"));
  if (!cookie.empty() && !options.cookie.empty())
    return Error(ErrorKind::Invalid, "curl driver cannot handle both cookie and cookie secret", EINVAL);
  if (!cookie.empty()) options.cookie = cookie;
  options.username = TRY(reader.string("username", {}));
  options.password = TRY(secret_of(graph, reader, "password-secret"));
  options.proxy_username = TRY(reader.string("proxy-username", {}));
  options.proxy_password = TRY(secret_of(graph, reader, "proxy-password-secret"));
  return options;
}

Task<Result<NodePtr>> open_curl(Graph& graph, Json tree, OpenMode mode, std::string node_name, const char* scheme) {
  CO_TRY(load_library(LateLibrary::Curl));
  if (!mode.readonly && !mode.auto_readonly)
    co_return Error(ErrorKind::Permission, "curl block device does not support writes", EROFS);
  OptionReader reader(std::move(tree), scheme);
  CurlOptions options = CO_TRY(read_curl_options(graph, reader, scheme));
  RemoteOptions remote;
  remote.readahead_bytes = CO_TRY(reader.size("readahead", kReadahead));
  CO_TRY(reader.finish());
  if (remote.readahead_bytes % kSectorBytes || remote.readahead_bytes > 64 * kMiB)
    co_return Error(ErrorKind::Invalid, "HTTP_READAHEAD size is not a multiple of 512, or too large", EINVAL);
  remote.node_name = std::move(node_name);
  remote.driver = scheme;
  remote.filename = options.url;
  remote.connections = kConnections;
  Connect connect = [options] { return CurlConnection::create(options); };
  co_return co_await open_remote_node(graph.loop(), std::move(remote), std::move(connect));
}

Task<Result<NodePtr>> open_http(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  return open_curl(graph, std::move(tree), std::move(mode), std::move(node_name), "http");
}
Task<Result<NodePtr>> open_https(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  return open_curl(graph, std::move(tree), std::move(mode), std::move(node_name), "https");
}
Task<Result<NodePtr>> open_ftp(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  return open_curl(graph, std::move(tree), std::move(mode), std::move(node_name), "ftp");
}
Task<Result<NodePtr>> open_ftps(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  return open_curl(graph, std::move(tree), std::move(mode), std::move(node_name), "ftps");
}

Result<Json> parse_url(std::string_view name) {
  return Json{{"driver", std::string(name.substr(0, name.find(':')))}, {"url", std::string(name)}};
}

}  // namespace

extern const Driver kHttpDriver, kHttpsDriver, kFtpDriver, kFtpsDriver;
const Driver kHttpDriver = {.name = "http", .protocol = true, .parse_name = parse_url, .schemes = {"http"}, .open = open_http};
const Driver kHttpsDriver = {.name = "https", .protocol = true, .parse_name = parse_url, .schemes = {"https"}, .open = open_https};
const Driver kFtpDriver = {.name = "ftp", .protocol = true, .parse_name = parse_url, .schemes = {"ftp"}, .open = open_ftp};
const Driver kFtpsDriver = {.name = "ftps", .protocol = true, .parse_name = parse_url, .schemes = {"ftps"}, .open = open_ftps};

}  // namespace atl::block

#else

namespace atl::block {
extern const Driver kHttpDriver, kHttpsDriver, kFtpDriver, kFtpsDriver;
const Driver kHttpDriver = missing_driver<"http", "this build has no libcurl">();
const Driver kHttpsDriver = missing_driver<"https", "this build has no libcurl">();
const Driver kFtpDriver = missing_driver<"ftp", "this build has no libcurl">();
const Driver kFtpsDriver = missing_driver<"ftps", "this build has no libcurl">();
}  // namespace atl::block

#endif
