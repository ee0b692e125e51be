// What every emulated network card has behind it: a back end that carries frames, a link that goes up and down, and the
// loop on which rings are served. Frames are plain here: offload headers of back ends end at this class.
//
// Threads: built and destroyed on the loop. kick(), resume_receive(), set_link() and link_up() any thread; quiesce() and
// resume() control thread; the rest, and all calls to the card, on the loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/loop.h"
#include "net/backend.h"

namespace atl::devices {

class NicPort final : private net::FrameSink {
 public:
  /// What a card does for its port.
  class Card {
   public:
    virtual ~Card() = default;
    /// Takes a frame or drops it; false: no room now, resume_receive() tells when.
    virtual bool receive_frame(std::span<const u8> frame) = 0;
    /// Sends what the rings hold; true if some may be left (the card's share of the loop is used up).
    virtual bool transmit() = 0;
    virtual void link_changed(bool up) = 0;
  };

  /// `backend` outlives the port; nullptr is a cable that is not plugged in.
  NicPort(Card& card, net::Backend* backend, Loop& loop);
  ~NicPort() override;

  /// The driver has put something into a transmit ring.
  void kick();
  /// The driver has made room.
  void resume_receive();
  bool link_up() const { return connected_ && link_.load(std::memory_order_relaxed); }
  void set_link(bool up);

  /// Announces the card's address to the network. Any thread.
  void announce(const std::array<u8, 6>& mac);
  /// Sends one frame, padded to Ethernet's shortest; lost without a link.
  void send(std::span<const u8> frame);
  Loop& loop() { return loop_; }

  void quiesce(std::function<void()> done);
  void resume();

 private:
  bool receive(std::span<const iovec> frame) override;
  void serve();
  void post(std::function<void()> function);

  Card& card_;
  net::Backend* const backend_;
  const bool connected_;
  Loop& loop_;
  std::atomic<bool> link_ = true, kicked_ = false;
  bool paused_ = false;                 // loop
  std::atomic<bool> blocked_ = false;   // the back end waits for resume_receive()
  std::vector<u8> received_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace atl::devices
