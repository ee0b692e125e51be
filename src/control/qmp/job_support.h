// What the commands that start jobs share.
#pragma once

#include "block/job/jobs.h"
#include "control/qmp/block_support.h"

namespace atl::control {

using JobPtr = std::shared_ptr<block::Job>;

/// Bytes a second.
Result<u64> speed_argument(const Json& arguments);
/// What all kinds of jobs have. Without a name of its own a job goes by that of the drive `device`.
Result<block::JobOptions> job_options(QmpContext& c, const Json& arguments, const std::string& device);
/// Makes a job with `make` and starts it, on the loop of `place`.
Result<Undo> start_job(QmpContext& c, BlockStore::Place& place, const std::function<Result<JobPtr>()>& make);

}  // namespace atl::control
