// The C library's allocator keeps what is given back to it; here it is made to give it to the system.
#pragma once

namespace odmoe {

// Large blocks have pages of their own, which go with them, and threads share a few arenas: for a process
// that serves others for long.  Called before it has threads.  No effect where the library has no such
// switches.
void settle_heap();

// Gives back to the system what nobody uses: after much was freed.  Thread-safe; takes some milliseconds.
void return_free_memory();

}  // namespace odmoe
