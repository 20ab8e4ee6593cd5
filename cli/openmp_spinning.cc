#include "cli/openmp_spinning.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

#include "base/program_path.h"

namespace odmoe::cli {

void bound_openmp_spinning(char** argv) {
  constexpr const char* kSpinCount = "GOMP_SPINCOUNT";
  // Set by mpirun.  Ranks that share a machine share its processors: who spins there keeps another from
  // computing.
  const char* const ranks_here = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  const char* const spins = ranks_here != nullptr && std::atoi(ranks_here) > 1 ? "0" : "10000";
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv(kSpinCount) != nullptr) return;
  if (dlsym(RTLD_DEFAULT, "GOMP_parallel") == nullptr) return;
  if (setenv(kSpinCount, spins, /*overwrite=*/1) != 0) return;  // or it would be started again and again
  execv(program_path().c_str(), argv);
}

}  // namespace odmoe::cli
