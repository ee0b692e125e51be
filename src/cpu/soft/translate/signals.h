// SIGFPE, SIGSEGV and SIGBUS of translated code: division errors, misaligned SSE operands, unmasked SIMD exceptions.
//
// The handler makes the thread go on at the site's `retry`, which has the interpreter run the instruction: that raises the
// guest's exception with everything in place. Signals of other code go to whoever handled them before.
#pragma once

#include "base/result.h"

namespace atl::soft::translate {

class CodeCache;

/// From now on traps in the cache's code are the guest's. Before the process confines itself.
Status watch_translated_code(const CodeCache& cache);
void unwatch_translated_code(const CodeCache& cache);

/// Lets this thread take these signals; a blocked synchronous signal would end the process.
void allow_traps();

}  // namespace atl::soft::translate
