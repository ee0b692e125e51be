// TLS through GnuTLS: credentials as QEMU lays them out in folders, and sessions that do no I/O.
//
// X.509: ca-cert.pem, ca-crl.pem (optional), {server,client}-{cert,key}.pem (optional for clients). PSK: keys.psk with lines
// "name:hexadecimal key". Anonymous: no keys at all, for the server side (VNC). Missing: encrypted private keys.
#pragma once

#include <gnutls/gnutls.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/key_values.h"
#include "base/result.h"
#include "base/types.h"

namespace atl {

struct TlsOptions {
  enum Kind : u8 { X509, Psk, Anonymous } kind = X509;
  std::string dir;
  std::string psk_file;            // instead of dir/keys.psk
  std::string username = "qemu";   // PSK client
  std::string priority;            // GnuTLS priority string; "": the usual
  bool server = false;
  bool verify_peer = true;
};

/// Of `-object tls-creds-x509|psk|anon,dir=...,endpoint=...`; "qom-type" and "id" are taken already.
Result<TlsOptions> read_tls_options(std::string_view type, KeyValues values);

/// Certificates and keys, loaded once and shared by sessions.
class TlsCredentials {
 public:
  static Result<std::shared_ptr<const TlsCredentials>> load(const TlsOptions& options);
  ~TlsCredentials();
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;
  const TlsOptions& options() const { return options_; }

 private:
  friend class TlsSession;
  explicit TlsCredentials(const TlsOptions& options) : options_(options) {}
  Status load_certificates();
  Status load_server_keys();
  Status load_client_key();

  TlsOptions options_;
  gnutls_certificate_credentials_t certificates_ = nullptr;
  gnutls_psk_server_credentials_t psk_server_ = nullptr;
  gnutls_psk_client_credentials_t psk_client_ = nullptr;
  gnutls_anon_server_credentials_t anonymous_server_ = nullptr;
};

/// One connection's state. Ciphertext comes in through put_input() and goes out through take_output(); nothing blocks.
class TlsSession {
 public:
  /// `hostname`: whose certificate a client expects; "" for none (PSK).
  static Result<std::unique_ptr<TlsSession>> create(std::shared_ptr<const TlsCredentials> credentials, std::string hostname);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  enum class Step : u8 { Done, NeedsInput };
  /// Goes on with the handshake; once Done the peer has been verified.
  Result<Step> handshake();
  /// The distinguished name of the peer's certificate, as in "CN=name,O=company"; "" if it showed none.
  std::string peer_name() const;
  /// Plaintext bytes; 0: more ciphertext is needed. A closed connection is an error.
  Result<size_t> read(std::span<u8> out);
  Status write(std::span<const u8> data);
  /// Says that nothing more will be sent.
  void bye();

  void put_input(std::span<const u8> bytes) { input_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }
  std::string take_output() { return std::move(output_); }
  bool has_output() const { return !output_.empty(); }

 private:
  TlsSession(std::shared_ptr<const TlsCredentials> credentials, std::string hostname)
      : credentials_(std::move(credentials)), hostname_(std::move(hostname)) {}
  Status set_up();
  int set_credentials();
  Status verify();
  static ssize_t push(void* self, const void* data, size_t size);
  static ssize_t pull(void* self, void* data, size_t size);

  std::shared_ptr<const TlsCredentials> credentials_;
  std::string hostname_;
  gnutls_session_t session_ = nullptr;
  std::string input_, output_;
  size_t taken_ = 0;  // of input_
};

}  // namespace atl
