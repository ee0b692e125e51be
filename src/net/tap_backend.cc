#include "net/tap_backend.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include <fmt/core.h>

namespace atl::net {

namespace {

constexpr const char* kTunDevice = "/dev/net/tun";
constexpr size_t kFrameBytes = kVnetHeaderBytes + 65535 + 18;
constexpr int kFramesATurn = 64;  // then others on the loop get theirs

/// Runs "script ifname" and waits. The error names the script.
Status run_script(const std::string& script, const std::string& ifname) {
  if (script.empty() || script == "no") return {};
  std::string path = script, name = ifname;
  char* arguments[] = {path.data(), name.data(), nullptr};
  pid_t pid = 0;
  if (int err = ::posix_spawn(&pid, script.c_str(), nullptr, nullptr, arguments, environ))
    return os_error("run network script " + script, err);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return os_error("wait for network script " + script);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return Error(ErrorKind::Io, fmt::format("network script {} failed with status {}", script,
                                          WIFEXITED(status) ? WEXITSTATUS(status) : status));
}

unsigned kernel_bits(const Offloads& offloads) {
  if (!offloads.checksum) return 0;  // the others build on it
  return TUN_F_CSUM | (offloads.tso4 ? TUN_F_TSO4 : 0) | (offloads.tso6 ? TUN_F_TSO6 : 0) |
         (offloads.ecn && (offloads.tso4 || offloads.tso6) ? TUN_F_TSO_ECN : 0) | (offloads.ufo ? TUN_F_UFO : 0);
}

}  // namespace

TapBackend::TapBackend(Loop& loop, const TapOptions& options)
    : loop_(loop), options_(options), ifname_(options.ifname), buffer_(kFrameBytes) {
  if (options.fd >= 0) fd_.reset(options.fd);
}

Result<std::unique_ptr<Backend>> TapBackend::create(Loop& loop, const TapOptions& options) {
  std::unique_ptr<TapBackend> tap(new TapBackend(loop, options));
  TRY(tap->fd_ ? tap->adopt_descriptor() : tap->open_device());
  TRY(tap->set_up_header());
  if (options.fd < 0) {
    TRY(run_script(options.script, tap->ifname_));
    tap->down_due_ = true;
  }
  tap->watch_ = std::make_unique<Loop::Watch>(loop, tap->fd_.get(), 0, [raw = tap.get()](u32) { raw->read_frames(); });
  return std::unique_ptr<Backend>(std::move(tap));
}

Result<std::unique_ptr<Backend>> create_tap_backend(Loop& loop, const TapOptions& options) {
  return TapBackend::create(loop, options).context("tap network " + options.id);
}

TapBackend::~TapBackend() {
  watch_.reset();
  if (down_due_) (void)run_script(options_.downscript, ifname_);  // nobody is left to hear of a failure
}

Status TapBackend::open_device() {
  if (options_.ifname.size() >= IFNAMSIZ)
    return Error(ErrorKind::Invalid, fmt::format("ifname={}: too long for an interface", options_.ifname));
  fd_ = TRY(open_file(kTunDevice, O_RDWR | O_NONBLOCK));
  unsigned can = 0;
  if (::ioctl(fd_.get(), TUNGETFEATURES, &can) < 0) can = 0;
  vnet_header_ = options_.vnet_header && (can & IFF_VNET_HDR);
  ifreq request{};
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | (vnet_header_ ? IFF_VNET_HDR : 0));
  std::ranges::copy(options_.ifname, request.ifr_name);
  if (::ioctl(fd_.get(), TUNSETIFF, &request) < 0) return os_error("attach to tap interface " + options_.ifname);
  ifname_ = request.ifr_name;
  return {};
}

/// A descriptor that somebody with more rights has opened for us.
Status TapBackend::adopt_descriptor() {
  ifreq request{};
  if (::ioctl(fd_.get(), TUNGETIFF, &request) < 0) return os_error(fmt::format("fd={}: not a tap device", fd_.get()));
  if (!(request.ifr_flags & IFF_TAP)) return Error(ErrorKind::Invalid, fmt::format("fd={}: not a tap device", fd_.get()));
  ifname_ = request.ifr_name;
  vnet_header_ = request.ifr_flags & IFF_VNET_HDR;
  int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK) < 0) return os_error("make the tap non-blocking");
  return {};
}

Status TapBackend::set_up_header() {
  if (!vnet_header_) return {};
  int size = kVnetHeaderBytes;
  if (::ioctl(fd_.get(), TUNSETVNETHDRSZ, &size) < 0) return os_error("set the tap's header size");
  probe_offloads();
  set_offloads({});
  return {};
}

bool TapBackend::kernel_takes(unsigned offloads) { return ::ioctl(fd_.get(), TUNSETOFFLOAD, offloads) == 0; }

void TapBackend::probe_offloads() {
  offloads_.checksum = kernel_takes(TUN_F_CSUM);
  if (!offloads_.checksum) return;
  offloads_.tso4 = kernel_takes(TUN_F_CSUM | TUN_F_TSO4);
  offloads_.tso6 = kernel_takes(TUN_F_CSUM | TUN_F_TSO6);
  offloads_.ecn = offloads_.tso4 && kernel_takes(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN);
  offloads_.ufo = kernel_takes(TUN_F_CSUM | TUN_F_UFO);
}

void TapBackend::set_offloads(const Offloads& guest) {
  if (vnet_header_) kernel_takes(kernel_bits(guest));
}

void TapBackend::set_sink(FrameSink* sink) {
  sink_ = sink;
  held_bytes_ = 0;
  watch_->set_events(sink ? POLLIN : 0);
}

bool TapBackend::send(std::span<const iovec> frame) {
  ssize_t n = 0;
  do n = ::writev(fd_.get(), frame.data(), static_cast<int>(frame.size()));
  while (n < 0 && errno == EINTR);
  if (n < 0) ++dropped_;
  return n >= 0;
}

void TapBackend::read_frames() {
  for (int i = 0; i < kFramesATurn && sink_; ++i) {
    ssize_t n = ::read(fd_.get(), buffer_.data(), buffer_.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) return fail(n < 0 ? os_error("read from tap " + ifname_).text() : "tap " + ifname_ + " is gone");
    if (!offer(static_cast<size_t>(n))) {
      held_bytes_ = static_cast<size_t>(n);
      watch_->set_events(0);
      break;
    }
  }
  if (sink_) sink_->received_batch();
}

bool TapBackend::offer(size_t bytes) {
  iovec part{buffer_.data(), bytes};
  return sink_->receive({&part, 1});
}

void TapBackend::resume_receive() {
  if (!sink_) return;
  if (held_bytes_) {
    if (!offer(held_bytes_)) return;
    held_bytes_ = 0;
    sink_->received_batch();
  }
  watch_->set_events(POLLIN);
}

/// An interface that was deleted reads as an error for ever.
void TapBackend::fail(std::string why) {
  watch_->set_events(0);
  if (on_failure) on_failure(std::move(why));
}

std::string TapBackend::describe() const {
  return fmt::format("type=tap,ifname={}{}", ifname_, options_.fd >= 0 ? ",fd" : "");
}

}  // namespace atl::net
