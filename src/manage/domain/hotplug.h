// Devices of a running VM: plugging them in and out over QMP. Callers hold the domain's job.
#pragma once

#include "manage/domain/domains.h"

namespace atl::manage {

/// The domain's device that a client means: a disk by its target, a network card by its MAC, others by all that is given.
const Element* find_device(const Element& domain, const Element& wanted);
/// What clients are told when there is no such device.
Error missing_device(const Element& wanted);
/// A device of this name or address is there already.
Status check_no_clash(const Element& domain, const Element& device);

/// Disks of one bus stand in the order of their names.
void insert_device(Element& domain, const Element& device);
Status attach_live(Domains& domains, Domain& domain, Element device);
/// Asks the guest to let go; the device leaves the tree when it has (DEVICE_DELETED).
Status detach_live(Domains& domains, Domain& domain, Element device);
/// A new medium, a link's state, a screen's password.
Status update_live(Domains& domains, Domain& domain, Element device);

/// The block nodes of a disk that has no device any more.
void delete_nodes(QmpClient& monitor, const Element& disk);
/// What of a device is left in the VM once the guest has let it go: nodes, network back end, objects.
void delete_back_end(QmpClient& monitor, const Element& device);

}  // namespace atl::manage
