// The machine's screen as a picture file.
#pragma once

#include <string>

#include "base/result.h"
#include "machine/machine.h"

namespace atl::control {

enum class PictureFormat : u8 { Ppm, Png };

/// `device`: the adapter's id, "" for the first one. Control thread. Errors name the file, or say that there is no screen.
Status screendump(machine::Machine& machine, const std::string& device, const std::string& filename, PictureFormat format);
/// "ppm" or "png".
Result<PictureFormat> picture_format(std::string_view name);

}  // namespace atl::control
