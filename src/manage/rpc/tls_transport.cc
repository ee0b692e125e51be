#include "manage/rpc/tls_transport.h"

#include <fnmatch.h>

#include <algorithm>

namespace atl::manage::rpc {

atl::Result<std::unique_ptr<TlsTransport>> TlsTransport::create(Fd socket,
                                                                std::shared_ptr<const TlsCredentials> credentials,
                                                                std::vector<std::string> allowed_names) {
  auto session = TRY(TlsSession::create(std::move(credentials), ""));
  return std::unique_ptr<TlsTransport>(new TlsTransport(std::move(socket), std::move(session), std::move(allowed_names)));
}

/// Whether the certificate is one of those that may come in.
atl::Status TlsTransport::check_name() const {
  if (allowed_names_.empty()) return {};
  const std::string name = session_->peer_name();
  auto fits = [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; };
  if (std::ranges::any_of(allowed_names_, fits)) return {};
  return atl::Error(ErrorKind::Permission, "client '" + name + "' is not in tls_allowed_dn_list", EACCES);
}

/// Goes on with what the peer has sent so far.
atl::Status TlsTransport::shake_hands() {
  auto step = session_->handshake();
  TRY(flush());  // also the alert that says what was wrong
  if (!step) return std::move(step).error();
  if (*step != TlsSession::Step::Done) return {};
  TRY(check_name());
  ready_ = true;
  const u8 good = 1;
  TRY(session_->write({&good, 1}));
  return flush();
}

atl::Status TlsTransport::flush() {
  while (has_unsent()) {
    if (sent_ == pending_.size()) {
      pending_ = session_->take_output();
      sent_ = 0;
    }
    auto rest = std::string_view(pending_).substr(sent_);
    size_t n = TRY(Transport::write({reinterpret_cast<const u8*>(rest.data()), rest.size()}));
    if (n == 0) return {};
    sent_ += n;
  }
  return {};
}

atl::Result<size_t> TlsTransport::read(std::span<u8> out, std::vector<Fd>&) {
  while (true) {
    if (ready_) {
      size_t n = TRY(session_->read(out));
      if (n > 0) return n;
    }
    u8 raw[16 * kKiB];
    std::vector<Fd> none;
    size_t n = TRY(Transport::read(raw, none));
    if (n == 0) return 0;
    session_->put_input({raw, n});
    if (!ready_) TRY(shake_hands());
  }
}

atl::Result<size_t> TlsTransport::write(std::span<const u8> data) {
  TRY(flush());
  if (!ready_ || has_unsent() || data.empty()) return 0;
  size_t n = std::min<size_t>(data.size(), 64 * kKiB);
  TRY(session_->write(data.first(n)));
  TRY(flush());
  return n;
}

}  // namespace atl::manage::rpc
