#include "convert/hf_left_over.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// Of models that see: the text model does without.
constexpr auto kVision = std::to_array<std::string_view>(
    {"vision_tower.", "vision_model.", "visual.", "mm_projector.", "multi_modal_projector.", "model.visual.",
     "model.vision_tower.", "model.vision_model.", "model.multi_modal_projector."});

// For speculation, in families that do not number them among the layers.
constexpr auto kSpeculation = std::to_array<std::string_view>({"mtp.", "model.mtp."});

constexpr std::string_view kSpeculates = "predicts tokens after the next (MTP)";

// The N of "PREFIXlayers.N.".
std::optional<int64_t> layer_of(std::string_view name, std::string_view prefix) {
  constexpr std::string_view kLayers = "layers.";
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  if (!name.starts_with(kLayers)) return std::nullopt;
  int64_t number = 0;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kLayers.size(), end, number);
  if (error != std::errc() || at == end || *at != '.') return std::nullopt;
  return number;
}

}  // namespace

Result<std::vector<std::string>> hf_left_over(const HfCheckpoint& checkpoint, const HfConfig& config,
                                              std::string_view prefix,
                                              const std::set<std::string_view>& used) {
  ODMOE_ASSIGN_OR_RETURN(const int64_t n_layer, config.integer("num_hidden_layers", 1, 1024));
  ODMOE_ASSIGN_OR_RETURN(const int64_t n_nextn, config.integer_or("num_nextn_predict_layers", 0, 0, 1024));
  ODMOE_ASSIGN_OR_RETURN(const bool tied, config.boolean_or("tie_word_embeddings", false));
  const std::string folder = printable(checkpoint.folder().string(), 400);
  std::map<std::pair<std::string, std::string_view>, size_t> parts;  // by name and reason
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    // What the shapes and the frequencies are is known without these.
    if (used.contains(name) || name.ends_with(".weight_shape") || name.ends_with("rotary_emb.inv_freq"))
      continue;
    const std::optional<int64_t> layer = layer_of(name, prefix);
    if (layer && *layer >= n_layer) {
      if (*layer < n_layer + n_nextn) {
        ++parts[{odmoe::format("{}layers.{}", prefix, *layer), kSpeculates}];
        continue;
      }
      return fail(ErrorKind::kBadFile,
                  "{}: tensor '{}' is of a layer that config.json leaves out (num_hidden_layers {}, "
                  "num_nextn_predict_layers {}); download the model again",
                  folder, printable(name), n_layer, n_nextn);
    }
    const auto begins = [&](std::string_view start) { return name.starts_with(start); };
    if (const auto* vision = std::ranges::find_if(kVision, begins); vision != kVision.end()) {
      ++parts[{std::string(vision->substr(0, vision->size() - 1)), "is for images"}];
      continue;
    }
    if (const auto* mtp = std::ranges::find_if(kSpeculation, begins); mtp != kSpeculation.end()) {
      ++parts[{std::string(mtp->substr(0, mtp->size() - 1)), kSpeculates}];
      continue;
    }
    if (tied && name.ends_with("lm_head.weight")) {
      ++parts[{std::string(name), "is the embedding once more (tie_word_embeddings)"}];
      continue;
    }
    return fail(ErrorKind::kUnsupported,
                "{}: a model of this architecture has no tensor '{}' here; results would be wrong "
                "without it",
                folder, printable(name));
  }
  std::vector<std::string> notes;
  for (const auto& [part, count] : parts) {
    notes.push_back(odmoe::format("left out: {} {} of {}, which {}", count, count == 1 ? "tensor" : "tensors",
                                  printable(part.first), part.second));
  }
  return notes;
}

}  // namespace odmoe
