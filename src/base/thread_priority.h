#pragma once

namespace odmoe {

// From now on the calling thread runs where no other wants the processor, for good: an ordinary user may not
// take that back.  It gets a tenth of its share all the same, so it may hold a lock for a moment.  Where the
// system refuses, nothing changes.
void give_way_to_other_threads();

}  // namespace odmoe
