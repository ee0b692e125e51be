#include <fmt/format.h>

#include <algorithm>

#include "base/strings.h"
#include "client/install.h"

namespace atl::client {
namespace {

enum class Takes : u8 { Nothing, Value, Device };

struct Option {
  std::string_view name, other;  // other: a second spelling
  Takes takes;
};

constexpr Option kOptions[] = {
    {"name", "n", Takes::Value},
    {"memory", "ram", Takes::Value},
    {"vcpus", "", Takes::Value},
    {"cpu", "", Takes::Value},
    {"virt-type", "", Takes::Value},
    {"arch", "", Takes::Value},
    {"machine", "", Takes::Value},
    {"uuid", "u", Takes::Value},
    {"description", "", Takes::Value},
    {"os-variant", "osinfo", Takes::Value},
    {"os-type", "", Takes::Value},
    {"cdrom", "c", Takes::Value},
    {"location", "l", Takes::Value},
    {"extra-args", "x", Takes::Value},
    {"install", "", Takes::Value},
    {"boot", "", Takes::Value},
    {"wait", "", Takes::Value},
    {"autoconsole", "", Takes::Value},
    {"rng", "", Takes::Value},
    {"memballoon", "", Takes::Value},
    {"connect", "", Takes::Value},
    {"disk", "", Takes::Device},
    {"network", "w", Takes::Device},
    {"graphics", "", Takes::Device},
    {"video", "", Takes::Device},
    {"serial", "", Takes::Device},
    {"console", "", Takes::Device},
    {"input", "", Takes::Device},
    {"controller", "", Takes::Device},
    {"import", "", Takes::Nothing},
    {"pxe", "", Takes::Nothing},
    {"hvm", "v", Takes::Nothing},
    {"noautoconsole", "", Takes::Nothing},
    {"noreboot", "", Takes::Nothing},
    {"autostart", "", Takes::Nothing},
    {"transient", "", Takes::Nothing},
    {"dry-run", "", Takes::Nothing},
    {"quiet", "q", Takes::Nothing},
    {"help", "h", Takes::Nothing},
};

constexpr std::string_view kHelp =
    "Usage: atoll install --name NAME --memory MIB (--cdrom FILE | --import | --install kernel=FILE,... | --pxe) "
    "[OPTION]...\n\n"
    "  -n, --name NAME           --memory MIB[,maxmemory=MIB]       --vcpus N[,maxvcpus=N]   --cpu "
    "MODEL|host-passthrough|...\n"
    "  --virt-type kvm|qemu      --machine TYPE   --uuid UUID       --description TEXT       --os-variant NAME   "
    "--arch x86_64\n"
    "  -c, --cdrom FILE          boot the installer on it           --import                 boot the first disk\n"
    "  --install kernel=FILE,initrd=FILE,kernel_args=TEXT           -x, --extra-args TEXT    --pxe\n"
    "  --boot hd,cdrom,network,fd | uefi | kernel=FILE,initrd=FILE,kernel_args=TEXT,menu=on|off,loader=FILE\n"
    "  --disk path=FILE,size=GIB,format=F,bus=B,device=disk|cdrom|floppy,readonly=on,cache=C,io=I,discard=D,serial=S,\n"
    "         backing_store=FILE,backing_format=F,sparse=no,target.dev=D,pool=P,vol=P/V | none\n"
    "  --network network=N,bridge=B,user,model=M,mac=A,portgroup=P,filterref=F,mtu.size=N | none\n"
    "  --graphics vnc,port=N,listen=A,password=P,keymap=K | none    --video MODEL   --input TYPE[,bus=B]\n"
    "  --serial pty|file,path=F  --console pty    --controller TYPE[,model=M]   --rng FILE|none   --memballoon "
    "MODEL|none\n"
    "  --noautoconsole  --autoconsole text|none  --wait MINUTES  --noreboot  --autostart  --transient\n"
    "  --print-xml [1|2|all]     show what would be defined         --dry-run   check, change nothing\n";

const Option* find(std::string_view name) {
  auto fits = [&](const Option& option) {
    return option.name == name || (!option.other.empty() && option.other == name);
  };
  auto found = std::ranges::find_if(kOptions, fits);
  return found == std::end(kOptions) ? nullptr : &*found;
}

}  // namespace

std::string_view install_help() { return kHelp; }

const std::string& InstallOptions::operator[](const std::string& name) const {
  static const std::string kNone;
  auto found = single.find(name);
  return found == single.end() ? kNone : found->second;
}

SubOptions split_sub_options(std::string_view text) {
  SubOptions list;
  std::string word;
  auto take = [&] {
    size_t equals = word.find('=');
    if (equals == std::string::npos)
      list.emplace_back(list.empty() ? "" : word, list.empty() ? word : "");
    else
      list.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    word.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {  // ",," is a comma that belongs to the value
    if (text[i] != ',') {
      word += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      word += text[i++];
    } else {
      take();
    }
  }
  if (!word.empty()) take();
  return list;
}

Result<InstallOptions> parse_install_options(std::span<const std::string> words) {
  InstallOptions options;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') return manage::invalid_arg(fmt::format("unexpected '{}'", word));
    size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    std::string name = word.substr(word.starts_with("--") ? 2 : 1, equals == word.npos ? equals : equals - 2);
    if (name == "print-xml") {  // its value may be left out
      bool has_value = equals == word.npos && i + 1 < words.size() && !words[i + 1].starts_with("-");
      options.single[name] = equals != word.npos ? word.substr(equals + 1) : has_value ? words[++i] : "";
      continue;
    }
    const Option* option = find(name);
    if (!option)
      return manage::invalid_arg(fmt::format("option '{}' is not supported; see atoll install --help", word));
    std::string value;
    if (option->takes != Takes::Nothing) {
      if (equals == word.npos && i + 1 == words.size())
        return manage::invalid_arg(fmt::format("option '{}' needs a value", word));
      value = equals != word.npos ? word.substr(equals + 1) : words[++i];
    }
    if (option->takes == Takes::Device)
      options.devices[std::string(option->name)].push_back(split_sub_options(value));
    else
      options.single[std::string(option->name)] = value;
  }
  return options;
}

}  // namespace atl::client
