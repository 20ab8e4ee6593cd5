// How long threads that compute spin while they wait for each other.
#pragma once

namespace odmoe::cli {

// ggml's CPU backend computes with GNU OpenMP where it was built so, whose threads spin at every barrier for
// milliseconds.  With more runnable threads than cores, readers included, they spin away each other's time
// (docs/performance.md); a shorter spin still bridges the microseconds between two operations.  The library
// reads the environment when it is loaded, which is before main() where ggml is linked with it: there the
// program is started anew with the setting, once, and this does not return.  Returns where the user has set
// something, where there is no such library, and where the program cannot be started.  First of all, before
// anything is opened.
void bound_openmp_spinning(char** argv);

}  // namespace odmoe::cli
