#include "cli/ranks.h"

#include <dlfcn.h>
#include <spdlog/spdlog.h>
#ifdef __linux__
#include <sched.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/program_path.h"
#include "cli/interrupt.h"
#include "cli/model_name.h"
#include "cluster/head.h"
#include "cluster/worker.h"

namespace odmoe::cli::ranks {
namespace {

namespace fs = std::filesystem;

// Of the process.
std::unique_ptr<Transport> transport;  // null: there is one rank
std::unique_ptr<Head> head;            // of the rank that has it, while its action runs
bool in_order = true;                  // the others can be waited for

// How many processes mpirun has started; 1 without it.
int started_ranks() {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  return size != nullptr ? std::atoi(size) : 1;
}

Result<fs::path> find_module() {
  const fs::path here = program_path().parent_path();
  for (const fs::path& path : {here / ODMOE_MPI_MODULE, here / ODMOE_LIBEXEC / "odmoe" / ODMOE_MPI_MODULE}) {
    std::error_code error;
    if (fs::exists(path, error)) return path;
  }
  return fail(
      ErrorKind::kUnsupported,
      "several ranks need {}, which is not beside {}: build odmoe where MPI is installed (libopenmpi-dev, "
      "Homebrew: open-mpi)",
      ODMOE_MPI_MODULE, program_path().string());
}

// mpirun binds ranks to processors unless it is told otherwise, to a single one where there are two ranks.
void look_at_binding() {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) >= online) return;
  spdlog::warn("{} may use {} of {} processors: mpirun binds ranks to some unless it is told --bind-to none",
               rank_name(*transport, transport->rank()), CPU_COUNT(&set), online);
#endif
}

Status join() {
  if (started_ranks() < 2) return {};
  ODMOE_ASSIGN_OR_RETURN(const fs::path path, find_module());
  // Local: its own copy of what it shares with the program meets nothing of the program's.
  void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) return fail(ErrorKind::kUnsupported, "cannot load MPI: {}", dlerror());
  using Join = Transport*(std::string*);
  auto* const join_by_mpi = reinterpret_cast<Join*>(dlsym(module, "odmoe_join_by_mpi"));
  if (join_by_mpi == nullptr) return fail(ErrorKind::kUnsupported, "{} is of another odmoe", path.string());
  std::string error;
  transport.reset(join_by_mpi(&error));
  if (transport == nullptr) return fail(ErrorKind::kIo, "cannot join the other ranks: {}", error);
  look_at_binding();
  return {};
}

Result<int> lead(const InferenceOptions& options, const Action& action) {
  head = std::make_unique<Head>(*transport, Head::Options{.mixed_allowed = options.allow_mixed,
                                                          .balance = options.balance,
                                                          .on_end = [] { interrupt::ring(); },
                                                          .leave = interrupt::pending});
  auto outcome = action();
  const Status status = head->status();
  in_order = status.has_value();
  head.reset();
  if (!status.has_value()) return std::unexpected(status.error());
  return outcome;
}

Result<int> work(const InferenceOptions& options) {
  interrupt::install_terminate();
  const WorkerOutcome outcome = run_worker(*transport, {.engine = options.engine,
                                                        .balance = options.balance,
                                                        .find_model = find_model,
                                                        .leave = interrupt::pending});
  in_order = outcome.in_order;
  if (!outcome.status.has_value()) return std::unexpected(outcome.status.error());
  return kExitOk;
}

}  // namespace

Action on_each(const InferenceOptions& options, Action action) {
  return [&options, action = std::move(action)]() -> Result<int> {
    ODMOE_RETURN_IF_ERROR(join());
    if (transport == nullptr) return action();
    return transport->rank() == 0 ? lead(options, action) : work(options);
  };
}

Result<std::unique_ptr<Engine>> open(const EngineOptions& options, const LoadProgress& progress) {
  if (head == nullptr) return Engine::open(options, progress);
  return head->open(options, progress);
}

std::string description() { return head != nullptr ? head->description() : std::string(); }

bool several() { return transport != nullptr; }

int leave(int exit_code) {
  if (transport == nullptr) return exit_code;
  if (!in_order) transport->abort(exit_code);
  transport->leave();
  transport.reset();
  return exit_code;
}

}  // namespace odmoe::cli::ranks
