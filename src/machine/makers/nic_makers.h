// Network cards from their properties: addresses, boot code, and the emulated models.
#pragma once

#include "devices/nic/ethernet.h"
#include "machine/makers/device_makers.h"
#include "machine/property_reader.h"

namespace atl::machine {

/// The address that the card was given, or QEMU's default one for its place among the cards: 52:54:00:12:34:56 and up.
Result<devices::MacAddress> card_address(const PropertyReader& p, const std::string& user, const MakerContext& context);
/// The file of the card's boot code: romfile=, or iPXE's for its type where that is installed; "" for none.
Result<std::string> option_rom_of(const PropertyReader& p);

bool is_emulated_card(std::string_view type);
/// e1000, e1000e or rtl8139.
Result<MadeDevice> make_emulated_card(const PropertyReader& p, const std::string& user, const MakerContext& context);

}  // namespace atl::machine
