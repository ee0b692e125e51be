#include "base/tls.h"

#include <fmt/format.h>
#include <gnutls/x509.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/fd.h"
#include "base/strings.h"

namespace atl {
namespace {

constexpr u64 kMaxKeyFile = kMiB;
/// By TlsOptions::Kind.
constexpr const char* kPriorities[] = {"NORMAL", "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK", "NORMAL:+ANON-ECDH:+ANON-DH"};

Error tls_error(std::string_view what, int code) {
  return Error(ErrorKind::Io, fmt::format("{}: {}", what, gnutls_strerror(code)), EIO);
}

Status check(std::string_view what, int code) {
  if (code < 0) return tls_error(what, code);
  return {};
}

bool exists(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

}  // namespace

// --- credentials ---

Result<TlsOptions> read_tls_options(std::string_view type, KeyValues values) {
  static constexpr std::string_view kTypes[] = {"tls-creds-x509", "tls-creds-psk", "tls-creds-anon"};  // by Kind
  static constexpr std::string_view kEndpoints[] = {"client", "server"};
  const auto kind = std::ranges::find(kTypes, type) - std::begin(kTypes);
  if (kind == std::ssize(kTypes)) return Error(ErrorKind::Unsupported, fmt::format("invalid object type: {}", type));
  TlsOptions tls;
  tls.kind = static_cast<TlsOptions::Kind>(kind);
  tls.dir = values.take("dir").value_or("");
  tls.priority = values.take("priority").value_or("");
  if (tls.kind == TlsOptions::Psk) tls.username = values.take("username").value_or(tls.username);
  tls.server = TRY(values.take_choice("endpoint", kEndpoints, 0)) == 1;
  tls.verify_peer = TRY(values.take_bool("verify-peer", true));
  TRY(values.expect_empty());
  return tls;
}

Result<std::shared_ptr<const TlsCredentials>> TlsCredentials::load(const TlsOptions& options) {
  std::shared_ptr<TlsCredentials> credentials(new TlsCredentials(options));
  if (options.kind == TlsOptions::Anonymous) {
    if (!options.server) return Error(ErrorKind::Unsupported, "anonymous TLS credentials are for servers here");
    TRY(check("keys", gnutls_anon_allocate_server_credentials(&credentials->anonymous_server_)));
    TRY(check("keys", gnutls_anon_set_server_known_dh_params(credentials->anonymous_server_, GNUTLS_SEC_PARAM_MEDIUM)));
    return std::shared_ptr<const TlsCredentials>(std::move(credentials));
  }
  if (options.dir.empty() && options.psk_file.empty()) return Error(ErrorKind::Invalid, "Missing 'dir' property value");
  if (options.kind == TlsOptions::X509)
    TRY(credentials->load_certificates());
  else if (options.server)
    TRY(credentials->load_server_keys());
  else
    TRY(credentials->load_client_key());
  return std::shared_ptr<const TlsCredentials>(std::move(credentials));
}

TlsCredentials::~TlsCredentials() {
  if (certificates_) gnutls_certificate_free_credentials(certificates_);
  if (psk_server_) gnutls_psk_free_server_credentials(psk_server_);
  if (psk_client_) gnutls_psk_free_client_credentials(psk_client_);
  if (anonymous_server_) gnutls_anon_free_server_credentials(anonymous_server_);
}

Status TlsCredentials::load_certificates() {
  TRY(check("certificates", gnutls_certificate_allocate_credentials(&certificates_)));
  const std::string ca = options_.dir + "/ca-cert.pem", crl = options_.dir + "/ca-crl.pem";
  const std::string own = options_.dir + (options_.server ? "/server-" : "/client-");
  const std::string certificate = own + "cert.pem", key = own + "key.pem";
  bool needs_ca = !options_.server || options_.verify_peer;
  if (needs_ca && !exists(ca))
    return Error(ErrorKind::NotFound, fmt::format("Unable to access credentials {}: {}", ca, std::strerror(errno)), errno);
  if (exists(ca))
    TRY(check("load " + ca, gnutls_certificate_set_x509_trust_file(certificates_, ca.c_str(), GNUTLS_X509_FMT_PEM)));
  if (exists(crl))
    TRY(check("load " + crl, gnutls_certificate_set_x509_crl_file(certificates_, crl.c_str(), GNUTLS_X509_FMT_PEM)));
  if (!options_.server && !exists(certificate)) return {};
  return check("load " + certificate, gnutls_certificate_set_x509_key_file(certificates_, certificate.c_str(), key.c_str(),
                                                                           GNUTLS_X509_FMT_PEM));
}

Status TlsCredentials::load_server_keys() {
  TRY(check("keys", gnutls_psk_allocate_server_credentials(&psk_server_)));
  std::string file = options_.psk_file.empty() ? options_.dir + "/keys.psk" : options_.psk_file;
  return check("load " + file, gnutls_psk_set_server_credentials_file(psk_server_, file.c_str()));
}

Status TlsCredentials::load_client_key() {
  TRY(check("keys", gnutls_psk_allocate_client_credentials(&psk_client_)));
  std::string file = options_.psk_file.empty() ? options_.dir + "/keys.psk" : options_.psk_file;
  std::string text = TRY(read_file(file, kMaxKeyFile));
  for (std::string_view line : split(text, '\n')) {
    size_t colon = line.find(':');
    if (colon == line.npos || line.substr(0, colon) != options_.username) continue;
    std::string key(trim(line.substr(colon + 1)));
    gnutls_datum_t datum{reinterpret_cast<unsigned char*>(key.data()), static_cast<unsigned>(key.size())};
    return check("set the key of " + options_.username,
                 gnutls_psk_set_client_credentials(psk_client_, options_.username.c_str(), &datum, GNUTLS_PSK_KEY_HEX));
  }
  return Error(ErrorKind::NotFound, fmt::format("{} has no key for '{}'", file, options_.username));
}

// --- sessions ---

Result<std::unique_ptr<TlsSession>> TlsSession::create(std::shared_ptr<const TlsCredentials> credentials, std::string hostname) {
  std::unique_ptr<TlsSession> session(new TlsSession(std::move(credentials), std::move(hostname)));
  TRY(session->set_up());
  return session;
}

TlsSession::~TlsSession() {
  if (session_) gnutls_deinit(session_);
}

Status TlsSession::set_up() {
  const TlsOptions& o = credentials_->options();
  TRY(check("TLS", gnutls_init(&session_, (o.server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL)));
  const std::string priority = o.priority.empty() ? kPriorities[o.kind] : o.priority;
  TRY(check("TLS priority " + priority, gnutls_priority_set_direct(session_, priority.c_str(), nullptr)));
  TRY(check("TLS credentials", set_credentials()));
  const bool x509 = o.kind == TlsOptions::X509;
  if (x509 && o.server && o.verify_peer) gnutls_certificate_server_set_request(session_, GNUTLS_CERT_REQUIRE);
  if (x509 && !o.server && !hostname_.empty())
    gnutls_server_name_set(session_, GNUTLS_NAME_DNS, hostname_.data(), hostname_.size());
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_push_function(session_, push);
  gnutls_transport_set_pull_function(session_, pull);
  return {};
}

int TlsSession::set_credentials() {
  const TlsCredentials& c = *credentials_;
  switch (c.options().kind) {
    case TlsOptions::X509: return gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, c.certificates_);
    case TlsOptions::Anonymous: return gnutls_credentials_set(session_, GNUTLS_CRD_ANON, c.anonymous_server_);
    default: break;
  }
  if (c.options().server) return gnutls_credentials_set(session_, GNUTLS_CRD_PSK, c.psk_server_);
  return gnutls_credentials_set(session_, GNUTLS_CRD_PSK, c.psk_client_);
}

Status TlsSession::verify() {
  const TlsOptions& o = credentials_->options();
  if (o.kind != TlsOptions::X509 || !o.verify_peer) return {};
  unsigned status = 0;
  const char* name = o.server || hostname_.empty() ? nullptr : hostname_.c_str();
  TRY(check("verify the peer's certificate", gnutls_certificate_verify_peers3(session_, name, &status)));
  if (status == 0) return {};
  gnutls_datum_t text{};
  std::string reason = "not trusted";
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0) {
    reason.assign(reinterpret_cast<char*>(text.data), text.size);
    gnutls_free(text.data);
  }
  return Error(ErrorKind::Permission, "the peer's certificate is refused: " + reason, EACCES);
}

Result<TlsSession::Step> TlsSession::handshake() {
  int r = gnutls_handshake(session_);
  while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r)) r = gnutls_handshake(session_);
  if (r == GNUTLS_E_AGAIN) return Step::NeedsInput;
  if (r < 0) return tls_error("TLS handshake failed", r);
  TRY(verify());
  return Step::Done;
}

std::string TlsSession::peer_name() const {
  unsigned count = 0;
  const gnutls_datum_t* list = gnutls_certificate_get_peers(session_, &count);
  gnutls_x509_crt_t certificate = nullptr;
  if (!list || count == 0 || gnutls_x509_crt_init(&certificate) < 0) return {};
  gnutls_datum_t text{};
  std::string name;
  if (gnutls_x509_crt_import(certificate, &list[0], GNUTLS_X509_FMT_DER) == 0 &&
      gnutls_x509_crt_get_dn3(certificate, &text, GNUTLS_X509_DN_FLAG_COMPAT) == 0) {
    name.assign(reinterpret_cast<char*>(text.data), text.size);
    gnutls_free(text.data);
  }
  gnutls_x509_crt_deinit(certificate);
  return name;
}

Result<size_t> TlsSession::read(std::span<u8> out) {
  while (true) {
    ssize_t n = gnutls_record_recv(session_, out.data(), out.size());
    if (n > 0) return static_cast<size_t>(n);
    if (n == GNUTLS_E_AGAIN) return 0;
    if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION) return os_error("the peer closed the connection", ECONNRESET);
    if (gnutls_error_is_fatal(static_cast<int>(n)) || n == GNUTLS_E_REHANDSHAKE)
      return tls_error("receive through TLS", static_cast<int>(n));
  }
}

Status TlsSession::write(std::span<const u8> data) {
  while (!data.empty()) {
    ssize_t n = gnutls_record_send(session_, data.data(), data.size());
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) continue;  // never: push() takes all
    if (n < 0) return tls_error("send through TLS", static_cast<int>(n));
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

void TlsSession::bye() { gnutls_bye(session_, GNUTLS_SHUT_WR); }

ssize_t TlsSession::push(void* self, const void* data, size_t size) {
  static_cast<TlsSession*>(self)->output_.append(static_cast<const char*>(data), size);
  return static_cast<ssize_t>(size);
}

ssize_t TlsSession::pull(void* self, void* data, size_t size) {
  auto* session = static_cast<TlsSession*>(self);
  size_t n = std::min(size, session->input_.size() - session->taken_);
  if (n == 0) {
    gnutls_transport_set_errno(session->session_, EAGAIN);
    return -1;
  }
  std::memcpy(data, session->input_.data() + session->taken_, n);
  session->taken_ += n;
  if (session->taken_ == session->input_.size()) {
    session->input_.clear();
    session->taken_ = 0;
  }
  return static_cast<ssize_t>(n);
}

}  // namespace atl
