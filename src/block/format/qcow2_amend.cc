#include "block/format/qcow2_amend.h"
namespace atl::block::qcow2 {
std::vector<CreateOption> amend_options() { return {}; }
}
