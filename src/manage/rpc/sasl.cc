#include "manage/rpc/sasl.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace atl::manage::rpc {

namespace {

/// What SASL calls 56 bits, the least that libvirt takes for encryption.
constexpr unsigned kLeastStrength = 56, kMostStrength = 100'000;
constexpr unsigned kBufferBytes = 64 * kKiB;

/// SASL's layer over another transport.
class SaslTransport final : public Transport {
 public:
  SaslTransport(std::unique_ptr<Transport> below, std::shared_ptr<SaslSession> session)
      : Transport(Fd()), below_(std::move(below)), session_(std::move(session)) {}

  int fd() const override { return below_->fd(); }

  atl::Result<size_t> read(std::span<u8> out, std::vector<Fd>& fds) override {
    while (read_ == plain_.size()) {
      u8 raw[16 * kKiB];
      size_t n = TRY(below_->read(raw, fds));
      if (n == 0) return 0;
      plain_ = TRY(session_->decode({raw, n}));
      read_ = 0;
    }
    size_t n = std::min(out.size(), plain_.size() - read_);
    std::copy_n(plain_.begin() + static_cast<ptrdiff_t>(read_), n, out.begin());
    read_ += n;
    return n;
  }

  atl::Result<size_t> write(std::span<const u8> data) override {
    TRY(flush());
    if (has_unsent() || data.empty()) return 0;
    size_t n = std::min<size_t>(data.size(), kBufferBytes / 2);
    pending_ = TRY(session_->encode(data.first(n)));
    sent_ = 0;
    TRY(flush());
    return n;
  }

  bool has_unsent() const override { return sent_ < pending_.size() || below_->has_unsent(); }

 private:
  atl::Status flush() {
    while (sent_ < pending_.size()) {
      auto rest = std::string_view(pending_).substr(sent_);
      size_t n = TRY(below_->write({reinterpret_cast<const u8*>(rest.data()), rest.size()}));
      if (n == 0) return {};
      sent_ += n;
    }
    return {};
  }

  std::unique_ptr<Transport> below_;
  std::shared_ptr<SaslSession> session_;
  std::string plain_, pending_;
  size_t read_ = 0, sent_ = 0;
};

}  // namespace

Status SaslSession::init_library() {
  static const int result = ::sasl_server_init(nullptr, "libvirt");
  if (result != SASL_OK)
    return Error(Code::AuthFailed, fmt::format("failed to initialize SASL library: {}", result), Part::Rpc);
  return {};
}

Result<std::shared_ptr<SaslSession>> SaslSession::create(bool safe) {
  TRY(init_library());
  sasl_conn_t* connection = nullptr;
  int result =
      ::sasl_server_new("libvirt", nullptr, nullptr, nullptr, nullptr, nullptr, SASL_SUCCESS_DATA, &connection);
  if (result != SASL_OK) return Error(Code::AuthFailed, fmt::format("sasl context setup failed {}", result), Part::Rpc);
  std::shared_ptr<SaslSession> session(new SaslSession(connection, safe));
  sasl_security_properties_t properties{};
  properties.min_ssf = safe ? 0 : kLeastStrength;
  properties.max_ssf = safe ? 0 : kMostStrength;
  properties.maxbufsize = kBufferBytes;
  properties.security_flags = safe ? 0 : SASL_SEC_NOPLAINTEXT | SASL_SEC_NOANONYMOUS;
  ::sasl_setprop(connection, SASL_SEC_PROPS, &properties);
  return session;
}

SaslSession::~SaslSession() {
  sasl_conn_t* connection = connection_;
  ::sasl_dispose(&connection);
}

/// The client learns no more than that it failed; the log has the reason.
Error SaslSession::failed(int result) const {
  log_warning("SASL authentication failed: {} ({})", ::sasl_errdetail(connection_), result);
  return {Code::AuthFailed, "authentication failed", Part::Rpc};
}

Result<std::string> SaslSession::mechanisms() {
  Lock lock(mutex_);
  const char* list = nullptr;
  int result = ::sasl_listmech(connection_, nullptr, "", ",", "", &list, nullptr, nullptr);
  if (result != SASL_OK) return failed(result);
  return std::string(list);
}

Result<SaslSession::Answer> SaslSession::answer(int result, const char* data, unsigned length) {
  if (result != SASL_OK && result != SASL_CONTINUE) return failed(result);
  complete_ = result == SASL_OK;
  if (complete_ && !safe_) {
    const void* strength = nullptr;
    result = ::sasl_getprop(connection_, SASL_SSF, &strength);
    if (result != SASL_OK || *static_cast<const sasl_ssf_t*>(strength) < kLeastStrength) return failed(SASL_TOOWEAK);
  }
  Answer answer{{}, complete_};
  if (data) answer.data = std::string(data, length);
  return answer;
}

Result<SaslSession::Answer> SaslSession::start(const std::string& mechanism, const std::optional<std::string>& data) {
  Lock lock(mutex_);
  if (std::exchange(started_, true)) return failed(SASL_BADPROT);
  const char* out = nullptr;
  unsigned length = 0;
  int result = ::sasl_server_start(connection_, mechanism.c_str(), data ? data->data() : nullptr,
                                   data ? static_cast<unsigned>(data->size()) : 0, &out, &length);
  return answer(result, out, length);
}

Result<SaslSession::Answer> SaslSession::step(const std::optional<std::string>& data) {
  Lock lock(mutex_);
  if (!started_ || complete_) return failed(SASL_BADPROT);
  const char* out = nullptr;
  unsigned length = 0;
  int result = ::sasl_server_step(connection_, data ? data->data() : nullptr,
                                  data ? static_cast<unsigned>(data->size()) : 0, &out, &length);
  return answer(result, out, length);
}

Result<std::string> SaslSession::user() {
  Lock lock(mutex_);
  const void* name = nullptr;
  int result = ::sasl_getprop(connection_, SASL_USERNAME, &name);
  if (result != SASL_OK || !name) return failed(result);
  return std::string(static_cast<const char*>(name));
}

bool SaslSession::has_layer() {
  Lock lock(mutex_);
  const void* strength = nullptr;
  return !safe_ && ::sasl_getprop(connection_, SASL_SSF, &strength) == SASL_OK &&
         *static_cast<const sasl_ssf_t*>(strength) > 0;
}

atl::Result<std::string> SaslSession::encode(std::span<const u8> data) {
  Lock lock(mutex_);
  const char* out = nullptr;
  unsigned length = 0;
  if (::sasl_encode(connection_, reinterpret_cast<const char*>(data.data()), static_cast<unsigned>(data.size()), &out,
                    &length) != SASL_OK)
    return atl::Error(ErrorKind::Io, "cannot encode SASL data");
  return std::string(out, length);
}

atl::Result<std::string> SaslSession::decode(std::span<const u8> data) {
  Lock lock(mutex_);
  const char* out = nullptr;
  unsigned length = 0;
  if (::sasl_decode(connection_, reinterpret_cast<const char*>(data.data()), static_cast<unsigned>(data.size()), &out,
                    &length) != SASL_OK)
    return atl::Error(ErrorKind::Io, "cannot decode SASL data");
  return std::string(out ? out : "", length);
}

std::unique_ptr<Transport> make_sasl_transport(std::unique_ptr<Transport> below, std::shared_ptr<SaslSession> session) {
  return std::make_unique<SaslTransport>(std::move(below), std::move(session));
}

}  // namespace atl::manage::rpc
