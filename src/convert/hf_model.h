// What a checkpoint of Hugging Face becomes: GGUF's tensors, each with where its rows come from, and GGUF's
// keys.  One file per family or two alike (hf_deepseek.cc, hf_qwen.cc, ...) says so of each; hf_source.cc
// carries it out.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/hf_checkpoint.h"
#include "convert/hf_weight.h"
#include "format/metadata_entry.h"
#include "odmoe/result.h"

namespace odmoe {

enum class HfRole : uint8_t {
  kExperts,  // routed experts' projections
  kDense,    // matrices that stay in memory
  kExact,    // norms, biases, routers: F32 whatever is asked for
};

// What is done with each element, in float32.
enum class HfTransform : uint8_t {
  kNone,
  kPlusOne,              // norms that multiply by one more than their weight
  kNegativeExponential,  // a decay that is stored as its logarithm: -exp(x)
};

// A tensor that is to be made.  It has ne[2] matrices of ne[1] rows.  Row r of matrix s is a row of a
// weight: of weights[s] when there is one per matrix, else of the only one.
struct HfTarget {
  std::string name;  // GGUF's
  HfRole role = HfRole::kDense;
  std::array<int64_t, 3> ne = {1, 1, 1};  // ggml order
  std::vector<HfWeight> weights;          // 1 or ne[2]
  // Matrix s begins at row matrix_rows * s + first_row of a weight that holds them all; a weight of its own
  // begins at first_row.
  int64_t matrix_rows = 0, first_row = 0;
  // Row r of a matrix is its row row_order[r] (hf_order.h); empty: as they lie.
  std::vector<int64_t> row_order;
  // A row is made of as many equal pieces as this has: piece i is the weight's piece column_order[i].  Empty:
  // as they lie.
  std::vector<int64_t> column_order;
  int64_t column_width() const {
    return column_order.empty() ? ne[0] : ne[0] / static_cast<int64_t>(column_order.size());
  }
  // The matrix is the transpose of ne[0] rows of ne[1] elements each, and has no orders: k_b.
  bool transposed = false;
  HfTransform transform = HfTransform::kNone;

  // The weight and row that row r of matrix s is.
  const HfWeight& weight(int64_t matrix) const {
    return weights[weights.size() > 1 ? static_cast<size_t>(matrix) : 0];
  }
  int64_t source_row(int64_t matrix, int64_t row) const;
};

struct HfModel {
  std::string architecture;  // GGUF's name
  std::vector<HfTarget> targets;
  std::vector<MetadataEntry> metadata;  // without the tokenizer's
  std::vector<std::string> notes;       // what was left out or is worth knowing, a line each
};

// Names and hyperparameters as the families need them: finds weights, checks shapes, gathers what is made.
// The first error stays; what is added after it is ignored.  One owner.
class HfModelBuilder {
 public:
  // `architecture` is GGUF's name: "qwen3moe".
  HfModelBuilder(const HfCheckpoint& checkpoint, const HfConfig& config, const HfQuantisation& quantisation,
                 std::string architecture);

  const HfConfig& config() const { return *config_; }

  void set_u32(std::string_view key, int64_t value);  // "block_count": without the architecture
  void set_f32(std::string_view key, double value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_i32s(std::string_view key, std::vector<int64_t> values);

  // A matrix [columns, rows] from NAME.weight.
  HfTarget* add_matrix(const std::string& target, const std::string& source, int64_t columns, int64_t rows,
                       HfRole role = HfRole::kDense);
  // A stack of matrices [columns, rows, n_matrix] from a weight of three dimensions.
  void add_stack(const std::string& target, const std::string& source, int64_t columns, int64_t rows,
                 int64_t n_matrix);
  // Biases and norms: elements of the tensor SOURCE itself.
  HfTarget* add_vector(const std::string& target, const std::string& source, int64_t elements);
  // The same with rows: biases of each expert, taps of each channel.  Dimensions of 1 between are passed
  // over.
  HfTarget* add_vectors(const std::string& target, const std::string& source, int64_t columns, int64_t rows);
  // Experts of a layer: PREFIX.E.PROJECTION for each, or stacked as PREFIX_STACKED.PROJECTION, or
  // PREFIX.gate_up_proj.
  struct ExpertNames {
    std::string each;     // "model.layers.1.mlp.experts"
    std::string stacked;  // "model.layers.1.mlp.switch_mlp"
    // Mixtral's names, of each expert alone: w1 for gate_proj, w2 for down_proj, w3 for up_proj.
    bool numbered = false;
  };
  void add_experts(const std::string& target, const ExpertNames& names, const std::string& projection,
                   int64_t columns, int64_t rows, int64_t n_expert);
  // Of a tensor of the checkpoint; empty when there is none.
  std::vector<int64_t> shape_of(const std::string& tensor) const;
  bool has(const std::string& tensor) const { return checkpoint_->find(tensor) != nullptr; }
  // Weight NAME, however it is stored.
  Result<HfWeight> weight(const std::string& name, size_t dimensions = 2);

  void add(HfTarget target);
  void fail_with(Error error);
  // kUnsupported: "CONFIG: WHAT, which is not read".
  void refuse(std::string_view what);
  template <typename T>
  T value_or_fail(Result<T> result) {
    if (result.has_value()) return *std::move(result);
    fail_with(std::move(result).error());
    return {};
  }
  void note(std::string line) { model_.notes.push_back(std::move(line)); }
  bool failed() const { return failed_; }

  // What was gathered, with notes of what is left out (hf_left_over.h, which has the errors).  `prefix` is
  // hf_name_prefix().
  Result<HfModel> finish(const std::string& prefix);

 private:
  const HfCheckpoint* checkpoint_;
  const HfConfig* config_;
  const HfQuantisation* quantisation_;
  HfModel model_;
  bool failed_ = false;
  Error error_{ErrorKind::kBadFile, {}};
};

// What config.json says of the text model: text_config where there is one.
Result<HfConfig> text_config(const HfConfig& config);

// Maps a checkpoint by its architecture (config.json's "architectures").
// Errors: kUnsupported, with the families that are known, or what of one is not read; kBadFile.
Result<HfModel> map_hf_model(const HfCheckpoint& checkpoint);

// What stands before "layers.0." in the names of the tensors of a text model: "model.",
// "language_model.model."
Result<std::string> hf_name_prefix(const HfCheckpoint& checkpoint);

// The families.  `prefix` is hf_name_prefix().
void map_deepseek(HfModelBuilder& builder, const std::string& prefix);
void map_glm4_moe(HfModelBuilder& builder, const std::string& prefix);
void map_gpt_oss(HfModelBuilder& builder, const std::string& prefix);
void map_minimax_m2(HfModelBuilder& builder, const std::string& prefix);
void map_olmoe(HfModelBuilder& builder, const std::string& prefix);
void map_qwen2_moe(HfModelBuilder& builder, const std::string& prefix);
void map_qwen3_moe(HfModelBuilder& builder, const std::string& prefix);
void map_qwen3_next(HfModelBuilder& builder, const std::string& prefix);
void map_qwen35_moe(HfModelBuilder& builder, const std::string& prefix);

}  // namespace odmoe
