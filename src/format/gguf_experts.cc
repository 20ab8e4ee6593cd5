#include "format/gguf_experts.h"

#include <cassert>
#include <utility>
#include <vector>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// One stacked tensor: expert e's bytes begin at offset + e * bytes_per_expert.
struct Stack {
  int file = 0;
  uint64_t offset = 0;
};

struct Layer {
  RecordLayout layout;
  std::vector<Stack> stacks;  // one per slice; empty in a dense layer
};

class GgufExperts final : public ExpertSource {
 public:
  GgufExperts(std::vector<std::filesystem::path> files, std::vector<Layer> layers, int n_expert,
              int n_expert_used)
      : files_(std::move(files)),
        layers_(std::move(layers)),
        n_expert_(n_expert),
        n_expert_used_(n_expert_used) {}

  int n_layer() const override { return static_cast<int>(layers_.size()); }
  int n_expert(int layer) const override { return at(layer).stacks.empty() ? 0 : n_expert_; }
  int n_expert_used() const override { return n_expert_used_; }
  const RecordLayout& layout(int layer) const override { return at(layer).layout; }
  SliceLocation locate(ExpertKey key, int slice) const override {
    assert(key.expert >= 0 && key.expert < n_expert(key.layer));
    const Layer& layer = at(key.layer);
    const Stack& stack = layer.stacks[static_cast<size_t>(slice)];
    const uint64_t bytes = layer.layout.slices[static_cast<size_t>(slice)].bytes;
    return {.file = stack.file, .offset = stack.offset + static_cast<uint64_t>(key.expert) * bytes};
  }
  const std::vector<std::filesystem::path>& files() const override { return files_; }

 private:
  const Layer& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }

  std::vector<std::filesystem::path> files_;
  std::vector<Layer> layers_;
  int n_expert_;
  int n_expert_used_;
};

// The tensors of one layer; null where the file has none.
struct LayerTensors {
  const TensorInfo* gate = nullptr;
  const TensorInfo* up = nullptr;
  const TensorInfo* gate_up = nullptr;
  const TensorInfo* down = nullptr;
};

class LayerReader {
 public:
  LayerReader(const GgufFile& file, int n_expert) : file_(&file), n_expert_(n_expert) {}

  Result<Layer> read(int layer) const {
    const auto name = [layer](std::string_view part) {
      return odmoe::format("blk.{}.ffn_{}_exps.weight", layer, part);
    };
    const LayerTensors tensors = {.gate = file_->find_tensor(name("gate")),
                                  .up = file_->find_tensor(name("up")),
                                  .gate_up = file_->find_tensor(name("gate_up")),
                                  .down = file_->find_tensor(name("down"))};
    if (tensors.gate == nullptr && tensors.up == nullptr && tensors.gate_up == nullptr &&
        tensors.down == nullptr) {
      return Layer{};
    }
    if (tensors.down == nullptr) return missing(name("down"));
    ODMOE_RETURN_IF_ERROR(check_stack(*tensors.down));
    if (tensors.gate_up != nullptr) {
      for (const TensorInfo* other : {tensors.gate, tensors.up}) {
        if (other != nullptr)
          return bad(*other, odmoe::format("is there twice, merged in {} too", name("gate_up")));
      }
      return merged(*tensors.gate_up, *tensors.down);
    }
    if (tensors.up == nullptr) return missing(name("up"));
    if (tensors.gate == nullptr) return without_gate(*tensors.up, *tensors.down);
    return apart(*tensors.gate, *tensors.up, *tensors.down);
  }

 private:
  Result<Layer> apart(const TensorInfo& gate, const TensorInfo& up, const TensorInfo& down) const {
    ODMOE_RETURN_IF_ERROR(check_stack(gate));
    ODMOE_RETURN_IF_ERROR(check_stack(up));
    if (up.ne != gate.ne)
      return bad(up, odmoe::format("has the shape {}, not {} as {}", shape(up), shape(gate), gate.name));
    ODMOE_RETURN_IF_ERROR(check_down(down, gate, gate.ne[1]));
    Layer layer;
    layer.layout.gate = add_slice(layer, gate);
    layer.layout.up = add_slice(layer, up);
    layer.layout.down = add_slice(layer, down);
    return layer;
  }

  Result<Layer> without_gate(const TensorInfo& up, const TensorInfo& down) const {
    ODMOE_RETURN_IF_ERROR(check_stack(up));
    ODMOE_RETURN_IF_ERROR(check_down(down, up, up.ne[1]));
    Layer layer;
    layer.layout.up = add_slice(layer, up);
    layer.layout.gate = layer.layout.up;
    layer.layout.down = add_slice(layer, down);
    return layer;
  }

  Result<Layer> merged(const TensorInfo& gate_up, const TensorInfo& down) const {
    ODMOE_RETURN_IF_ERROR(check_stack(gate_up));
    if (gate_up.ne[1] % 2 != 0) {
      return bad(gate_up, odmoe::format("has {} rows, an odd number, for gate and up", gate_up.ne[1]));
    }
    ODMOE_RETURN_IF_ERROR(check_down(down, gate_up, gate_up.ne[1] / 2));
    Layer layer;
    const RecordLayout::Projection both = add_slice(layer, gate_up);
    const uint64_t half = both.bytes / 2;  // the rows are of one size, and even in number
    layer.layout.gate = {.slice = both.slice, .offset = 0, .bytes = half};
    layer.layout.up = {.slice = both.slice, .offset = half, .bytes = half};
    layer.layout.down = add_slice(layer, down);
    return layer;
  }

  Status check_stack(const TensorInfo& tensor) const {
    if (tensor.ne[2] != n_expert_ || tensor.ne[3] != 1) {
      return bad(tensor,
                 odmoe::format("has the shape {}, whose third dimension is not the model's {} experts",
                               shape(tensor), n_expert_));
    }
    if (!is_weight_type(tensor.type)) {
      return fail(ErrorKind::kUnsupported,
                  "{}: tensor '{}' is of type {}, which cannot hold weights; download another "
                  "quantisation",
                  file_name(tensor), printable(tensor.name), ggml_type_name(tensor.type));
    }
    return {};
  }

  // `into` gives the residual stream's width, `n_ff` the inner one.
  Status check_down(const TensorInfo& down, const TensorInfo& into, int64_t n_ff) const {
    if (down.ne[0] == n_ff && down.ne[1] == into.ne[0]) return {};
    return bad(down, odmoe::format("has the shape {}, which does not fit {} of {}", shape(down), shape(into),
                                   into.name));
  }

  RecordLayout::Projection add_slice(Layer& layer, const TensorInfo& tensor) const {
    const uint64_t bytes =
        tensor.bytes / static_cast<uint64_t>(n_expert_);  // whole rows: nothing is left over
    layer.layout.slices.push_back({.bytes = bytes, .name = tensor.name});
    layer.stacks.push_back({.file = tensor.file, .offset = tensor.offset});
    return {.slice = static_cast<int>(layer.stacks.size()) - 1, .offset = 0, .bytes = bytes};
  }

  static std::string shape(const TensorInfo& tensor) {
    return odmoe::format("{} x {} x {} x {}", tensor.ne[0], tensor.ne[1], tensor.ne[2], tensor.ne[3]);
  }
  std::string file_name(const TensorInfo& tensor) const {
    return printable(file_->files()[static_cast<size_t>(tensor.file)].string(), 400);
  }
  std::unexpected<Error> bad(const TensorInfo& tensor, const std::string& what) const {
    return fail(ErrorKind::kBadFile, "{}: tensor '{}' {}; download or convert the model again",
                file_name(tensor), printable(tensor.name), what);
  }
  std::unexpected<Error> missing(const std::string& tensor) const {
    return fail(
        ErrorKind::kBadFile,
        "{} has no tensor '{}' although it has others of this layer's experts; download or convert it again",
        printable(file_->files().front().string(), 400), tensor);
  }

  const GgufFile* file_;
  int n_expert_;
};

}  // namespace

Result<std::unique_ptr<ExpertSource>> make_gguf_experts(const GgufFile& file, int n_layer, int n_expert,
                                                        int n_expert_used) {
  const std::string name = printable(file.files().front().string(), 400);
  if (n_expert_used < 1 || n_expert_used > n_expert) {
    return fail(ErrorKind::kBadFile,
                "{} has {} experts of which {} are used, which cannot be; download it again", name, n_expert,
                n_expert_used);
  }
  if (n_layer < 1 || n_layer > kMaxLayers) {
    return fail(ErrorKind::kBadFile, "{} has {} layers, not 1 to {}: download it again", name, n_layer,
                kMaxLayers);
  }
  const LayerReader reader(file, n_expert);
  std::vector<Layer> layers;
  bool any = false;
  for (int i = 0; i < n_layer; ++i) {
    ODMOE_ASSIGN_OR_RETURN(Layer layer, reader.read(i));
    any = any || !layer.stacks.empty();
    layers.push_back(std::move(layer));
  }
  if (!any) {
    return fail(ErrorKind::kBadFile, "{} has no expert tensors (blk.N.ffn_gate_exps.weight) in its {} layers",
                name, n_layer);
  }
  return std::make_unique<GgufExperts>(file.files(), std::move(layers), n_expert, n_expert_used);
}

}  // namespace odmoe
