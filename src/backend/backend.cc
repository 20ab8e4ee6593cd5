#include "backend/backend.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <string_view>

#include "base/processors.h"

namespace odmoe {
namespace {

constexpr int64_t kSmallBlock = 32;  // the values of a block in the smaller quantisations

void log_from_ggml(ggml_log_level level, const char* text, void*) {
  std::string_view line(text);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (line.empty()) return;
  if (level == GGML_LOG_LEVEL_ERROR) {
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

}  // namespace

Result<std::unique_ptr<Backend>> Backend::create(const Options& options) {
  load_backends_once();
  std::unique_ptr<Backend> backend(new Backend);
  backend->device_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (backend->device_ == nullptr) {
    return fail(ErrorKind::kUnsupported,
                "ggml found no CPU backend; reinstall ggml (Debian: libggml0, macOS: brew reinstall ggml)");
  }
  ggml_backend_dev_props props{};
  ggml_backend_dev_get_props(backend->device_, &props);
  backend->backend_.reset(ggml_backend_dev_init(backend->device_, nullptr));
  if (backend->backend_ == nullptr || !props.caps.buffer_from_host_ptr) {
    return fail(ErrorKind::kUnsupported, "ggml's device {} cannot compute on memory of the host",
                ggml_backend_dev_name(backend->device_));
  }
  backend->on_host_memory_ = !options.memory_of_its_own;
  const int threads = options.threads;
  const int usable = usable_processors();
  backend->threads_ = threads > 0 ? threads : usable;
  if (threads > usable) {
    spdlog::warn("{} threads compute where this process may use {} processor{}: that is slower than {}",
                 threads, usable, usable == 1 ? "" : "s", usable);
  }
  const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(backend->device_), "ggml_backend_set_n_threads"));
  if (set_threads != nullptr) set_threads(backend->backend_.get(), backend->threads_);
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(backend->device_), "ggml_backend_dev_get_extra_bufts"));
  if (extra != nullptr) {
    for (auto* type = extra(backend->device_); type != nullptr && *type != nullptr; ++type) {
      backend->extra_buffer_types_.push_back(*type);
    }
  }
  return backend;
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

uint64_t Backend::available_bytes() const {
  size_t free = 0;
  size_t total = 0;
  ggml_backend_dev_memory(device_, &free, &total);
  return free;
}

Status Backend::compute(ggml_cgraph* graph) {
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
  const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
  if (status != GGML_STATUS_SUCCESS) {
    return fail(ErrorKind::kIo, "ggml could not compute a graph of {} nodes: {}", ggml_graph_n_nodes(graph),
                ggml_status_to_string(status));
  }
  return {};
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

std::string Backend::description() const {
  return odmoe::format("{}: {}, {} threads", ggml_backend_dev_name(device_),
                       ggml_backend_dev_description(device_), threads_);
}

}  // namespace odmoe
