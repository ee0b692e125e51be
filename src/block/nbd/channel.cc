#include "block/nbd/channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "block/iovecs.h"

namespace atl::block::nbd {
namespace {

constexpr size_t kTlsRecord = 16 * kKiB;
constexpr size_t kTlsBatch = 256 * kKiB;   // ciphertext held before it is sent

Error closed() { return os_error("the peer closed the connection", ECONNRESET); }

}  // namespace

// --- reading ---

/// Some bytes from the socket: at least one.
Task<Result<size_t>> Channel::receive(std::span<u8> out) {
  while (true) {
    iovec piece{out.data(), out.size()};
    i32 n = co_await loop_.readv(socket_.get(), {&piece, 1}, 0);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n == 0) co_return closed();
    if (n < 0) co_return os_error("receive", -n);
    co_return static_cast<size_t>(n);
  }
}

/// Refills the empty buffer.
Task<Status> Channel::fill() {
  buffer_.resize(kBufferBytes);
  begin_ = end_ = 0;
  while (end_ == 0) {
    if (tls_) {
      end_ = CO_TRY(tls_->read(buffer_));
      if (end_) break;
    }
    auto got = co_await receive(buffer_);
    size_t n = CO_TRY(std::move(got));
    if (tls_)
      tls_->put_input({buffer_.data(), n});
    else
      end_ = n;
  }
  co_return Status{};
}

Task<Status> Channel::read_exact(std::span<u8> out) {
  while (!out.empty()) {
    size_t n = std::min(out.size(), end_ - begin_);
    if (n == 0 && !tls_ && out.size() >= kBufferBytes) {  // large data go straight to their place
      auto got = co_await receive(out);
      out = out.subspan(CO_TRY(std::move(got)));
      continue;
    }
    if (n == 0) {
      Status filled = co_await fill();
      CO_TRY(std::move(filled));
      continue;
    }
    std::memcpy(out.data(), buffer_.data() + begin_, n);
    begin_ += n;
    out = out.subspan(n);
  }
  co_return Status{};
}

Task<Status> Channel::read_exact(std::span<const iovec> out) {
  for (const iovec& part : out) {
    std::span<u8> bytes(static_cast<u8*>(part.iov_base), part.iov_len);
    Status status = co_await read_exact(bytes);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> Channel::skip(u64 bytes) {
  while (bytes > 0) {
    if (begin_ == end_) {
      Status filled = co_await fill();
      CO_TRY(std::move(filled));
    }
    u64 n = std::min<u64>(bytes, end_ - begin_);
    begin_ += n;
    bytes -= n;
  }
  co_return Status{};
}

// --- writing ---

Task<Status> Channel::send_raw(std::vector<iovec> parts) {
  const u64 total = iovec_bytes(parts);
  for (u64 done = 0; done < total;) {
    auto rest = iovec_slice(parts, done);
    rest.resize(std::min<size_t>(rest.size(), IOV_MAX));
    i32 n = co_await loop_.writev(socket_.get(), rest, 0);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return os_error("send", -n);
    done += static_cast<u64>(n);
  }
  co_return Status{};
}

Task<Status> Channel::send_tls_output() {
  std::string bytes = tls_->take_output();
  std::vector<iovec> parts{{bytes.data(), bytes.size()}};
  co_return co_await send_raw(std::move(parts));
}

Task<Status> Channel::write_all(std::vector<iovec> parts) {
  if (!tls_) co_return co_await send_raw(std::move(parts));
  size_t held = 0;
  for (const iovec& part : parts) {
    std::span<const u8> data(static_cast<const u8*>(part.iov_base), part.iov_len);
    while (!data.empty()) {
      size_t n = std::min(data.size(), kTlsRecord);
      CO_TRY(tls_->write(data.first(n)));
      data = data.subspan(n);
      held += n;
      if (held < kTlsBatch) continue;
      held = 0;
      Status sent = co_await send_tls_output();
      CO_TRY(std::move(sent));
    }
  }
  co_return co_await send_tls_output();
}

Task<Status> Channel::write_all(std::span<const u8> data) {
  std::vector<iovec> parts{{const_cast<u8*>(data.data()), data.size()}};  // only written from
  co_return co_await write_all(std::move(parts));
}

void Channel::write_now(std::span<const u8> data) {
  std::string bytes(reinterpret_cast<const char*>(data.data()), data.size());
  if (tls_) {
    if (!tls_->write(data)) return;
    tls_->bye();
    bytes = tls_->take_output();
  }
  [[maybe_unused]] ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);  // a courtesy
}

void Channel::shutdown() { ::shutdown(socket_.get(), SHUT_RDWR); }

// --- TLS ---

Task<Status> Channel::start_tls(std::shared_ptr<const TlsCredentials> credentials, std::string hostname) {
  if (begin_ != end_) co_return Error(ErrorKind::Invalid, "the peer sent data before the TLS handshake", EINVAL);
  tls_ = CO_TRY(TlsSession::create(std::move(credentials), std::move(hostname)));
  co_return co_await tls_handshake();
}

Task<Status> Channel::tls_handshake() {
  std::vector<u8> bytes(kTlsRecord);
  while (true) {
    auto step = tls_->handshake();
    if (tls_->has_output()) {  // also the alert of a failure
      Status sent = co_await send_tls_output();
      if (step) CO_TRY(std::move(sent));
    }
    if (CO_TRY(std::move(step)) == TlsSession::Step::Done) co_return Status{};
    auto got = co_await receive(bytes);
    size_t n = CO_TRY(std::move(got));
    tls_->put_input({bytes.data(), n});
  }
}

}  // namespace atl::block::nbd
