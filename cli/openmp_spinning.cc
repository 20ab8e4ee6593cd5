#include "cli/openmp_spinning.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

#include "base/program_path.h"

namespace odmoe::cli {

void bound_openmp_spinning(char** argv) {
  constexpr const char* kSpinCount = "GOMP_SPINCOUNT";
  constexpr const char* kSpins = "10000";
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv(kSpinCount) != nullptr) return;
  if (dlsym(RTLD_DEFAULT, "GOMP_parallel") == nullptr) return;
  if (setenv(kSpinCount, kSpins, /*overwrite=*/1) != 0) return;  // or it would be started again and again
  execv(program_path().c_str(), argv);
}

}  // namespace odmoe::cli
