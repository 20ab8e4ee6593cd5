#include "backend/backend.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <mutex>
#include <string_view>

#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"
#include "base/processors.h"
#include "base/units.h"

namespace odmoe {
namespace {

constexpr int64_t kSmallBlock = 32;    // the values of a block in the smaller quantisations
constexpr size_t kQueuedFetches = 64;  // room for them is made beforehand

// What ggml has called an error in this thread.
thread_local uint64_t logged_errors = 0;
thread_local std::string logged_error;

void log_from_ggml(ggml_log_level level, const char* text, void*) {
  std::string_view line(text);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (line.empty()) return;
  if (level == GGML_LOG_LEVEL_ERROR) {
    ++logged_errors;
    logged_error = line;
    spdlog::warn("ggml: {}", line);
  } else {
    spdlog::debug("ggml: {}", line);
  }
}

void load_backends_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    ggml_log_set(log_from_ggml, nullptr);
    ggml_backend_load_all();
  });
}

// What can compute all that a model needs: not what only helps a CPU (BLAS), nor several devices as one.
bool is_for_models(ggml_backend_dev_t device) {
  switch (ggml_backend_dev_type(device)) {
    case GGML_BACKEND_DEVICE_TYPE_CPU:
    case GGML_BACKEND_DEVICE_TYPE_GPU:
    case GGML_BACKEND_DEVICE_TYPE_IGPU:
      return true;
    default:
      return false;
  }
}

std::string_view maker_of(ggml_backend_dev_t device) {
  return ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
}

bool is_metal(ggml_backend_dev_t device) {
  return maker_of(device) == "MTL" || maker_of(device) == "Metal";  // the second before ggml 0.9.5
}

// Mesa's lavapipe and Google's SwiftShader, which Vulkan calls CPUs and ggml GPUs.
bool is_software(const ggml_backend_dev_props& props) {
  const std::string_view description(props.description);
  return description.contains("llvmpipe") || description.contains("SwiftShader");
}

// ggml says of an integrated GPU what it is, and of Metal's, which is one wherever ggml is packaged for, that
// it computes on memory of the host.
bool shares_host_memory(const ggml_backend_dev_props& props) {
  return props.type != GGML_BACKEND_DEVICE_TYPE_CPU &&
         (props.type == GGML_BACKEND_DEVICE_TYPE_IGPU || props.caps.buffer_from_host_ptr ||
          is_software(props));
}

// ggml's Vulkan can wrap host memory and says that it cannot; where others say so, the call would end the
// process (0.27).
bool can_wrap_host_memory(ggml_backend_dev_t device, const ggml_backend_dev_props& props) {
  if (!props.caps.buffer_from_host_ptr && maker_of(device) != "Vulkan") return false;
  const auto page = AlignedBuffer::allocate(kMiB);
  if (!page.has_value()) return false;
  const ggml_backend_buffer_ptr wrapped(
      ggml_backend_dev_buffer_from_host_ptr(device, page->data(), page->size(), page->size()));
  return wrapped != nullptr;
}

std::vector<ggml_backend_dev_t> devices_for_models() {
  load_backends_once();
  std::vector<ggml_backend_dev_t> devices;
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    const ggml_backend_dev_t device = ggml_backend_dev_get(i);
    if (is_for_models(device)) devices.push_back(device);
  }
  std::ranges::stable_partition(devices, [](ggml_backend_dev_t device) {
    return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
  });
  return devices;
}

// Or else it is another way to see what is there.
bool computes(ggml_op op) {
  return op != GGML_OP_NONE && op != GGML_OP_VIEW && op != GGML_OP_RESHAPE && op != GGML_OP_PERMUTE &&
         op != GGML_OP_TRANSPOSE;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

std::vector<DeviceInfo> listed_devices() {
  std::vector<DeviceInfo> found;
  for (const ggml_backend_dev_t device : devices_for_models()) {
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(device, &props);
    found.push_back({.name = ggml_backend_dev_name(device),
                     .description = ggml_backend_dev_description(device),
                     .kind = props.type == GGML_BACKEND_DEVICE_TYPE_CPU    ? DeviceInfo::Kind::kCpu
                             : props.type == GGML_BACKEND_DEVICE_TYPE_IGPU ? DeviceInfo::Kind::kIntegratedGpu
                                                                           : DeviceInfo::Kind::kGpu,
                     .memory_bytes = props.memory_total,
                     .free_bytes = props.memory_free,
                     .shares_host_memory = shares_host_memory(props),
                     .is_software = is_software(props)});
  }
  return found;
}

std::string ggml_build() { return odmoe::format("{} ({})", ggml_version(), ggml_commit()); }

std::vector<DeviceInfo> found_devices() {
  std::vector<DeviceInfo> found = listed_devices();
  const std::vector<ggml_backend_dev_t> devices = devices_for_models();
  for (size_t i = 0; i < found.size(); ++i) {
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(devices[i], &props);
    found[i].reads_host_memory = can_wrap_host_memory(devices[i], props);
  }
  return found;
}

Result<std::unique_ptr<Backend>> Backend::create(const Options& options) {
  load_backends_once();
  std::unique_ptr<Backend> backend(new Backend);
  backend->fault_ = options.fault;
  backend->memory_fault_ = options.memory_fault;
  backend->max_buffer_bytes_ = options.max_buffer_bytes;
  backend->clock_ = options.clock;
  if (options.device.empty() || same_word(options.device, "cpu")) {
    ODMOE_RETURN_IF_ERROR(backend->open_cpu(options));
  } else {
    ODMOE_RETURN_IF_ERROR(backend->open_device(options.device));
  }
  return backend;
}

Status Backend::open_device(const std::string& name) {
  const std::vector<ggml_backend_dev_t> devices = devices_for_models();
  std::string names;
  for (const ggml_backend_dev_t device : devices) {
    if (same_word(ggml_backend_dev_name(device), name)) device_ = device;
    names += odmoe::format("{}{} ({})", names.empty() ? "" : ", ", ggml_backend_dev_name(device),
                           ggml_backend_dev_description(device));
  }
  if (device_ == nullptr) {
    return fail(ErrorKind::kUsage,
                "there is no device {}; ggml finds {}; others need a package of ggml's (docs/devices.md)",
                name, names);
  }
  try {
    backend_.reset(ggml_backend_dev_init(device_, nullptr));
  } catch (const std::exception& error) {  // of a driver
    return fail(ErrorKind::kIo, "{} cannot be used: {}", ggml_backend_dev_name(device_), error.what());
  }
  if (backend_ == nullptr) {
    return fail(ErrorKind::kIo, "{} ({}) cannot be used; its driver may say why with --log-level debug",
                ggml_backend_dev_name(device_), ggml_backend_dev_description(device_));
  }
  on_host_memory_ = false;
  ggml_backend_dev_props props{};
  ggml_backend_dev_get_props(device_, &props);
  reads_host_memory_ = can_wrap_host_memory(device_, props);
  shares_host_memory_ = odmoe::shares_host_memory(props);
  // ggml's Metal would have the GPU write to where it goes, which must begin and end with pages of the system
  // or the process ends; what is in its memory is the host's to read.
  fetches_at_the_end_ = is_metal(device_);
  queued_.reserve(kQueuedFetches);
  alignment_ = std::max<uint64_t>(kTensorAlignment, ggml_backend_buft_get_alignment(buffer_type()));
  return {};
}

Status Backend::open_cpu(const Options& options) {
  device_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device_ == nullptr) {
    return fail(ErrorKind::kUnsupported,
                "ggml found no CPU backend; reinstall ggml (Debian: libggml1, macOS: brew reinstall ggml)");
  }
  ggml_backend_dev_props props{};
  ggml_backend_dev_get_props(device_, &props);
  backend_.reset(ggml_backend_dev_init(device_, nullptr));
  if (backend_ == nullptr || !props.caps.buffer_from_host_ptr) {
    return fail(ErrorKind::kUnsupported, "ggml's device {} cannot compute on memory of the host",
                ggml_backend_dev_name(device_));
  }
  on_host_memory_ = !options.memory_of_its_own;
  shares_host_memory_ = options.shares_host_memory;
  fetches_at_the_end_ = options.memory_of_its_own;
  const int threads = options.threads;
  const int usable = usable_processors();
  threads_ = threads > 0 ? threads : usable;
  if (threads > usable) {
    spdlog::warn("{} threads compute where this process may use {} processor{}: that is slower than {}",
                 threads, usable, usable == 1 ? "" : "s", usable);
  }
  const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device_), "ggml_backend_set_n_threads"));
  if (set_threads != nullptr) set_threads(backend_.get(), threads_);
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(device_), "ggml_backend_dev_get_extra_bufts"));
  if (extra != nullptr) {
    for (auto* type = extra(device_); type != nullptr && *type != nullptr; ++type) {
      extra_buffer_types_.push_back(*type);
    }
  }
  return {};
}

ggml_backend_buffer_ptr Backend::wrap(std::span<std::byte> memory) const {
  return ggml_backend_buffer_ptr(
      ggml_backend_dev_buffer_from_host_ptr(device_, memory.data(), memory.size(), memory.size()));
}

ggml_backend_buffer_type_t Backend::matrix_buffer_type(ggml_type type, int64_t n_in, int64_t n_out) const {
  // ggml's AMX adds to what is there already where a row is one block, from 32 rows of the other operand on.
  if (n_in <= kSmallBlock) return nullptr;
  // ggml tells by being asked for the product itself, with an operand in an (empty) buffer of the type.
  const ggml_context_ptr context(
      ggml_init({.mem_size = ggml_tensor_overhead() * 4, .mem_buffer = nullptr, .no_alloc = true}));
  ggml_tensor* matrix = ggml_new_tensor_2d(context.get(), type, n_in, n_out);
  ggml_tensor* product =
      ggml_mul_mat(context.get(), matrix, ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, n_in));
  for (const ggml_backend_buffer_type_t candidate : extra_buffer_types_) {
    const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(candidate, 0));
    matrix->buffer = empty.get();
    if (empty != nullptr && supports(product)) return candidate;
  }
  return nullptr;
}

ggml_backend_buffer_type_t Backend::host_buffer_type() const {
  return on_host_memory_ ? nullptr : ggml_backend_dev_host_buffer_type(device_);
}

uint64_t Backend::available_bytes() const {
  size_t free = 0;
  size_t total = 0;
  ggml_backend_dev_memory(device_, &free, &total);
  return free;
}

// A driver's own words, of which the first are kept; what the device had in its memory is not to be trusted
// from now on.
std::unexpected<Error> Backend::lost(std::string_view said) {
  const MutexLock lock(said_mutex_);
  if (!lost_.exchange(true)) said_ = said;
  return lost_error();
}

std::unexpected<Error> Backend::lost_error() const {
  return fail(ErrorKind::kDeviceLost,
              "the device {} failed: {}; start again, with another --device if it stays so", name(), said_);
}

Status Backend::condition() const {
  if (!lost_) return {};
  const MutexLock lock(said_mutex_);
  return lost_error();
}

// Does what a driver may fail at, unless the device has failed.  Some throw; Metal's, which ends a graph when
// nobody asks any more, says it in the log alone.
template <typename Move>
void Backend::guard(const Move& move) {
  if (lost_) return;
  const uint64_t before = logged_errors;
  try {
    move();
  } catch (const std::exception& error) {
    static_cast<void>(lost(error.what()));
    return;
  }
  if (!on_host_memory_ && logged_errors != before) static_cast<void>(lost(logged_error));
}

// Of a device with memory of its own the time that it takes counts too.
template <typename Move>
void Backend::timed_guard(uint64_t DeviceTraffic::* us, const Move& move) {
  if (on_host_memory_) return guard(move);
  const int64_t begin_us = clock_->now_us();
  guard(move);
  traffic_.*us += static_cast<uint64_t>(clock_->now_us() - begin_us);
}

Status Backend::compute(ggml_cgraph* graph) {
  ODMOE_RETURN_IF_ERROR(launch(graph));
  return settle();
}

Status Backend::settle() {
  if (lost_) return lost({});
  if (on_host_memory_) return {};  // whose graphs run as they are launched
  ++traffic_.waits;
  timed_guard(&DeviceTraffic::wait_us, [&] {
    ggml_backend_synchronize(backend_.get());
    for (const Fetch& fetch : queued_) read_tensor(fetch.tensor, fetch.offset, fetch.bytes);
  });
  queued_.clear();
  return condition();
}

// Before what they are of may change.
Status Backend::fetch_queued() { return queued_.empty() ? Status() : settle(); }

void Backend::queue_fetch(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes) {
  if (!on_host_memory_) traffic_.fetched_bytes += bytes.size();
  if (fetches_at_the_end_) {
    queued_.push_back({.tensor = tensor, .offset = offset, .bytes = bytes});
    return;
  }
  timed_guard(&DeviceTraffic::exchange_us, [&] {
    ggml_backend_tensor_get_async(backend_.get(), tensor, bytes.data(), offset, bytes.size());
  });
}

void Backend::fetch(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes) {
  if (!on_host_memory_) {
    ++traffic_.waits;
    traffic_.fetched_bytes += bytes.size();
  }
  timed_guard(&DeviceTraffic::wait_us, [&] { read_tensor(tensor, offset, bytes); });
}

void Backend::send(ggml_tensor* tensor, uint64_t offset, std::span<const std::byte> bytes) {
  if (!on_host_memory_) traffic_.sent_bytes += bytes.size();
  static_cast<void>(fetch_queued());  // what fails is said by the next graph
  timed_guard(&DeviceTraffic::exchange_us, [&] {
    ggml_backend_tensor_set_async(backend_.get(), tensor, bytes.data(), offset, bytes.size());
  });
}

void Backend::read(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes) {
  guard([&] { read_tensor(tensor, offset, bytes); });
}

void Backend::write(ggml_tensor* tensor, uint64_t offset, std::span<const std::byte> bytes) {
  guard([&] { write_tensor(tensor, offset, bytes); });
}

void Backend::clear(ggml_backend_buffer_t buffer) {
  guard([&] { ggml_backend_buffer_clear(buffer, 0); });
}

Status Backend::launch(ggml_cgraph* graph) {
  if (lost_) return lost({});
  ODMOE_RETURN_IF_ERROR(fetch_queued());
  // Such kernels do not look at their operands: ggml's AMX takes rows that lie apart for rows without gaps.
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph, i);
    if (node->op != GGML_OP_MUL_MAT || node->src[0]->extra == nullptr || supports(node)) continue;
    return fail(ErrorKind::kUnsupported,
                "ggml cannot multiply {} as it is laid out ({}) by [{}, {}, {}, {}]; please report this",
                node->src[0]->name,
                ggml_backend_buft_name(ggml_backend_buffer_get_type(node->src[0]->buffer)),
                node->src[1]->ne[0], node->src[1]->ne[1], node->src[1]->ne[2], node->src[1]->ne[3]);
  }
  if (!on_host_memory_) {
    ++traffic_.graphs;
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
      if (computes(ggml_graph_node(graph, i)->op)) ++traffic_.operations;
    }
  }
  ggml_status status = GGML_STATUS_FAILED;
  Status fault;
  timed_guard(&DeviceTraffic::launch_us, [&] {
    if (fault_) fault = fault_();
    if (fault.has_value()) status = ggml_backend_graph_compute_async(backend_.get(), graph);
  });
  if (!fault.has_value()) return lost(fault.error().message);
  ODMOE_RETURN_IF_ERROR(condition());
  if (status == GGML_STATUS_SUCCESS) return {};
  if (!on_host_memory_) return lost(ggml_status_to_string(status));
  return fail(ErrorKind::kIo, "ggml could not compute a graph of {} nodes: {}", ggml_graph_n_nodes(graph),
              ggml_status_to_string(status));
}

std::string Backend::features() const {
  const ggml_backend_reg_t registered = ggml_backend_dev_backend_reg(device_);
  const auto list = reinterpret_cast<ggml_backend_get_features_t>(
      ggml_backend_reg_get_proc_address(registered, "ggml_backend_get_features"));
  std::string text;
  if (list == nullptr) return text;
  for (const ggml_backend_feature* feature = list(registered); feature->name != nullptr; ++feature) {
    text += odmoe::format("{}{}={}", text.empty() ? "" : " ", feature->name, feature->value);
  }
  return text;
}

std::string Backend::name() const { return ggml_backend_dev_name(device_); }

std::string Backend::description() const {
  if (ggml_backend_dev_type(device_) != GGML_BACKEND_DEVICE_TYPE_CPU) {
    return odmoe::format("{}: {}", name(), ggml_backend_dev_description(device_));
  }
  return odmoe::format("{}: {}, {} threads", ggml_backend_dev_name(device_),
                       ggml_backend_dev_description(device_), threads_);
}

}  // namespace odmoe
