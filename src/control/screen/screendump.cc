#include "control/screen/screendump.h"

#include <fcntl.h>

#include <fmt/format.h>

#include "base/fd.h"
#include "display/image_file.h"

namespace atl::control {

Status screendump(machine::Machine& machine, const std::string& device, const std::string& filename, PictureFormat format) {
  display::Screen* screen = device.empty() ? machine.screens().first() : machine.screens().find(device);
  if (!screen && !device.empty()) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", device));
  if (!screen) return Error(ErrorKind::NotFound, "There is no console to take a screendump from");
  display::Surface picture;
  screen->draw(picture);
  const std::vector<u8> bytes = format == PictureFormat::Png ? display::to_png(picture) : display::to_ppm(picture);
  Fd file = TRY(open_file(filename, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  return write_all(file, bytes).context(filename);
}

Result<PictureFormat> picture_format(std::string_view name) {
  if (name == "ppm" || name.empty()) return PictureFormat::Ppm;
  if (name == "png") return PictureFormat::Png;
  return Error(ErrorKind::Invalid, fmt::format("Parameter 'format' does not accept value '{}'", name));
}

}  // namespace atl::control
