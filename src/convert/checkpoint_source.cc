#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "convert/tensor_source.h"
#include "format/printable.h"
#include "io/range_reader.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

class CheckpointSource final : public TensorSource {
 public:
  // Where the experts of a stack without a place of its own are.
  struct Stack {
    int layer = 0;
    RecordLayout::Projection projection;  // of each record
    uint64_t expert_bytes = 0;            // of the stack, one expert's
  };

  CheckpointSource(std::unique_ptr<Checkpoint> checkpoint, std::unique_ptr<ExpertSource> experts)
      : checkpoint_(std::move(checkpoint)), experts_(std::move(experts)), metadata_(checkpoint_->entries()) {
    for (const TensorInfo& tensor : checkpoint_->tensors()) {
      tensors_.push_back({.name = tensor.name, .type = tensor.type, .ne = tensor.ne});
      stacks_.push_back(tensor.file < 0 ? find_stack(tensor) : std::nullopt);
    }
    for (const auto& path : checkpoint_->files()) {
      std::error_code error;
      const uint64_t bytes = std::filesystem::file_size(path, error);
      files_.push_back({.path = path, .bytes = error ? 0 : bytes});
    }
  }

  const std::vector<Tensor>& tensors() const override { return tensors_; }
  const std::vector<MetadataEntry>& metadata() const override { return metadata_; }
  const std::vector<File>& files() const override { return files_; }

  // Whether each expert stack is of a layer that the model has.
  Status check_stacks(const std::string& architecture) const {
    for (size_t i = 0; i < stacks_.size(); ++i) {
      const TensorInfo& tensor = checkpoint_->tensors()[i];
      if (tensor.file >= 0 || stacks_[i]) continue;
      return fail(ErrorKind::kBadFile,
                  "{}: tensor {} is of a layer that {}.block_count, {}, leaves out; convert the model again",
                  checkpoint_->path().string(), printable(tensor.name), printable(architecture),
                  experts_->n_layer());
    }
    return {};
  }

  Status read(size_t tensor, uint64_t offset, std::span<std::byte> out) const override {
    const TensorInfo& info = checkpoint_->tensors()[tensor];
    if (info.file >= 0) {
      return reader_.read(checkpoint_->files()[static_cast<size_t>(info.file)], info.offset + offset, out);
    }
    const Stack& stack = *stacks_[tensor];
    const auto expert = static_cast<int32_t>(offset / stack.expert_bytes);
    const SliceLocation at =
        experts_->locate({.layer = stack.layer, .expert = expert}, stack.projection.slice);
    return reader_.read(experts_->files()[static_cast<size_t>(at.file)],
                        at.offset + stack.projection.offset + offset % stack.expert_bytes, out);
  }

 private:
  std::optional<Stack> find_stack(const TensorInfo& tensor) const {
    for (int layer = 0; layer < experts_->n_layer(); ++layer) {
      if (!tensor.name.starts_with(odmoe::format("blk.{}.", layer))) continue;
      const RecordLayout& layout = experts_->layout(layer);
      // Merged gate and up begin where gate begins.
      const auto& projection = tensor.name.find(".ffn_down") != std::string::npos ? layout.down
                               : tensor.name.find(".ffn_up") != std::string::npos ? layout.up
                                                                                  : layout.gate;
      return Stack{.layer = layer,
                   .projection = projection,
                   .expert_bytes = tensor.bytes / static_cast<uint64_t>(tensor.ne[2])};
    }
    return std::nullopt;
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ExpertSource> experts_;
  std::vector<MetadataEntry> metadata_;
  std::vector<Tensor> tensors_;
  std::vector<std::optional<Stack>> stacks_;  // by tensor
  std::vector<File> files_;
  RangeReader reader_;
};

}  // namespace

Result<std::unique_ptr<TensorSource>> make_checkpoint_source(std::unique_ptr<Checkpoint> checkpoint) {
  if (const RepackedExperts* repacked = checkpoint->repacked(); repacked != nullptr) {
    return fail(ErrorKind::kUnsupported,
                "{} has experts that are repacked ({}), which cannot be taken back; convert what it was made "
                "from",
                checkpoint->path().string(), printable(repacked->layout));
  }
  if (const ExpertShare* share = checkpoint->share(); share != nullptr) {
    return fail(ErrorKind::kUnsupported, "{} has {} of the model's experts alone; convert the whole model",
                checkpoint->path().string(), share->name());
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string architecture, checkpoint->get_string("general.architecture"));
  std::array<int, 3> numbers{};
  for (size_t i = 0; const char* const key : {"block_count", "expert_count", "expert_used_count"}) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t number, checkpoint->get_int(architecture + "." + key));
    numbers[i++] = static_cast<int>(std::clamp<int64_t>(number, 0, 1 << 20));
  }
  // For a GGUF too: it checks that the experts can be taken apart.
  ODMOE_ASSIGN_OR_RETURN(auto experts, checkpoint->expert_source(numbers[0], numbers[1], numbers[2]));
  auto source = std::make_unique<CheckpointSource>(std::move(checkpoint), std::move(experts));
  ODMOE_RETURN_IF_ERROR(source->check_stacks(architecture));
  return source;
}

}  // namespace odmoe
