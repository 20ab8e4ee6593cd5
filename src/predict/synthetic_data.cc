#include "predict/synthetic_data.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>
#include <system_error>

#include "ggml.h"

namespace odmoe {
namespace {

using Matrix = std::vector<float>;  // rows one after another

constexpr size_t kMaxLookaheadLayers = 4;
constexpr size_t kShardTokens = 4096;

// std::normal_distribution differs between standard libraries; this does not.
class Normal {
 public:
  explicit Normal(uint64_t seed) : random_(seed) {}
  float operator()() {
    if (spare_) {
      spare_ = false;
      return second_;
    }
    // Box and Muller (1958).
    const double radius = std::sqrt(-2 * std::log(uniform()));
    const double angle = 2 * std::numbers::pi * uniform();
    second_ = static_cast<float>(radius * std::sin(angle));
    spare_ = true;
    return static_cast<float>(radius * std::cos(angle));
  }

 private:
  double uniform() { return (static_cast<double>(random_() >> 11U) + 0.5) * 0x1p-53; }
  std::mt19937_64 random_;
  bool spare_ = false;
  float second_ = 0;
};

// Directions of length 1.  `orthogonal` (to those before, by Gram and Schmidt): a rotation if there are n.
Matrix random_rows(Normal& normal, size_t n_row, size_t n, bool orthogonal = false) {
  Matrix matrix(n_row * n);
  for (float& value : matrix) value = normal();
  for (size_t i = 0; i < n_row; ++i) {
    float* row = &matrix[i * n];
    for (size_t j = 0; orthogonal && j < i; ++j) {
      const float* other = &matrix[j * n];
      const float along = std::inner_product(row, row + n, other, 0.0F);
      for (size_t k = 0; k < n; ++k) row[k] -= along * other[k];
    }
    const float length = std::sqrt(std::inner_product(row, row + n, row, 0.0F));
    for (size_t k = 0; k < n; ++k) row[k] /= length;
  }
  return matrix;
}

std::vector<float> multiply(const Matrix& matrix, const std::vector<float>& x) {
  std::vector<float> y(matrix.size() / x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] =
        std::inner_product(x.begin(), x.end(), matrix.begin() + static_cast<ptrdiff_t>(i * x.size()), 0.0F);
  }
  return y;
}

std::vector<uint16_t> top(const std::vector<float>& logits, size_t k) {
  std::vector<uint16_t> order(logits.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  std::ranges::partial_sort(order, order.begin() + static_cast<ptrdiff_t>(k), [&](uint16_t a, uint16_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  order.resize(k);
  return order;
}

void append_halves(std::vector<uint16_t>& to, const std::vector<float>& values) {
  const size_t n = to.size();
  to.resize(n + values.size());
  ggml_fp32_to_fp16_row(values.data(), &to[n], static_cast<int64_t>(values.size()));
}

class Generator {
 public:
  Generator(const SyntheticOptions& options)
      : options_(options), normal_(options.seed), n_(static_cast<size_t>(options.n_embd)) {
    for (int32_t layer = 0; layer < options.n_layer; ++layer) {
      routers_.push_back({.layer = layer,
                          .weight = random_rows(normal_, static_cast<size_t>(options.n_expert), n_),
                          .norm = std::vector<float>(n_, 1),
                          .norm_bias = {},
                          .bias = {}});
      rotations_.push_back(random_rows(normal_, n_, n_, true));
    }
    const size_t n_ahead = std::min(kMaxLookaheadLayers, static_cast<size_t>(options.n_layer) - 1);
    found_.resize(n_ahead);
    wanted_.resize(n_ahead);
  }

  const std::vector<RouterWeights>& routers() const { return routers_; }

  void add_token(RoutingShard& shard, int32_t document, int32_t position) {
    ++shard.n_token;
    shard.token.push_back(position);
    shard.document.push_back(document);
    shard.position.push_back(position);
    const auto k = static_cast<size_t>(options_.n_expert_used);
    const auto noise = static_cast<float>(options_.noise);
    const float kept = std::sqrt(1 - noise * noise);
    std::vector<float> x(n_);
    for (float& value : x) value = normal_();
    append_halves(shard.embedding, x);
    std::vector<std::vector<float>>
        means;  // of this layer's state, as the layers before expect it, nearest last
    for (size_t layer = 0; layer < routers_.size(); ++layer) {
      const std::vector<float> logits = multiply(routers_[layer].weight, x);
      const std::vector<uint16_t> chosen = top(logits, k);
      shard.experts.insert(shard.experts.end(), chosen.begin(), chosen.end());
      append_halves(shard.weights, softmax(logits, chosen));
      append_halves(shard.router_input, x);
      append_halves(shard.attention_input, x);
      for (size_t ahead = 1; ahead <= std::min(means.size(), found_.size()); ++ahead) {
        const auto guess = top(multiply(routers_[layer].weight, means[means.size() - ahead]), k);
        for (const uint16_t expert : chosen) {
          found_[ahead - 1] += std::ranges::contains(guess, expert) ? 1 : 0;
        }
        wanted_[ahead - 1] += static_cast<int64_t>(k);
      }
      means.push_back(x);
      for (std::vector<float>& mean : means) mean = multiply(rotations_[layer], mean);
      x = means.back();
      for (float& value : x) value = kept * value + noise * normal_();
    }
  }

  std::vector<double> best_recall() const {
    std::vector<double> recall;
    for (size_t i = 0; i < found_.size(); ++i) {
      recall.push_back(static_cast<double>(found_[i]) /
                       static_cast<double>(std::max<int64_t>(wanted_[i], 1)));
    }
    return recall;
  }

 private:
  static std::vector<float> softmax(const std::vector<float>& logits, const std::vector<uint16_t>& chosen) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    std::vector<float> weights;
    for (const uint16_t expert : chosen) {
      weights.push_back(static_cast<float>(std::exp(static_cast<double>(logits[expert])) / sum));
    }
    return weights;
  }

  SyntheticOptions options_;
  Normal normal_;
  size_t n_;
  std::vector<RouterWeights> routers_;
  std::vector<Matrix> rotations_;
  std::vector<int64_t> found_, wanted_;
};

}  // namespace

Status SyntheticOptions::validate() const {
  const auto in_range = [](std::string_view option, int64_t value, int64_t least, int64_t most) -> Status {
    if (value >= least && value <= most) return {};
    return fail(ErrorKind::kUsage, "{} is {}; from {} to {} is possible", option, value, least, most);
  };
  ODMOE_RETURN_IF_ERROR(in_range("--n-embd", n_embd, 2, 8192));
  ODMOE_RETURN_IF_ERROR(in_range("--layers", n_layer, 2, 256));
  ODMOE_RETURN_IF_ERROR(in_range("--experts", n_expert, 2, kMaxCollectionExperts));
  ODMOE_RETURN_IF_ERROR(in_range("--top-k", n_expert_used, 1, n_expert));
  ODMOE_RETURN_IF_ERROR(in_range("--tokens", n_token, 1, 100'000'000));
  ODMOE_RETURN_IF_ERROR(in_range("--document-tokens", document_tokens, 1, 1 << 20));
  if (!(noise >= 0 && noise <= 1))
    return fail(ErrorKind::kUsage, "--noise is {}; from 0 to 1 is possible", noise);
  return {};
}

Result<SyntheticResult> make_synthetic_data(const std::filesystem::path& folder,
                                            const SyntheticOptions& options, const std::string& tool,
                                            const std::function<bool(int64_t, int64_t)>& progress) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(ErrorKind::kIo, "cannot make {}: {}", folder.string(), error.message());
  Generator generator(options);
  Collection collection;
  collection.tool = tool;
  RoutedModel& model = collection.model;
  model.architecture = "synthetic";
  model.name = odmoe::format("synthetic, noise {}", options.noise);
  model.n_embd = options.n_embd;
  model.n_expert = options.n_expert;
  model.n_expert_used = options.n_expert_used;
  for (int32_t layer = 0; layer < options.n_layer; ++layer) model.layers.push_back(layer);
  model.fingerprint = fingerprint_of(generator.routers(), options.n_embd, options.n_expert);
  collection.source = "synthetic";
  collection.n_token_wanted = options.n_token;
  collection.document_tokens = options.document_tokens;
  collection.seed = options.seed;
  const auto begun = read_collection(folder);
  if (begun.has_value() && (begun->source != "synthetic" || begun->model.fingerprint != model.fingerprint)) {
    return fail(ErrorKind::kUsage, "{} holds other data; delete it or give another --output",
                folder.string());
  }
  if (!begun.has_value() && begun.error().kind != ErrorKind::kNotFound) return std::unexpected(begun.error());
  ODMOE_RETURN_IF_ERROR(write_routers(folder, model, generator.routers()));
  ODMOE_RETURN_IF_ERROR(write_collection(folder, collection));

  RoutingShard shard;
  for (int64_t token = 0; token < options.n_token; ++token) {
    const auto document = static_cast<int32_t>(token / options.document_tokens);
    const auto position = static_cast<int32_t>(token % options.document_tokens);
    generator.add_token(shard, document, position);
    const bool last = token + 1 == options.n_token;
    if (!last && position + 1 != options.document_tokens) continue;
    if (last || std::cmp_greater_equal(shard.n_token, kShardTokens)) {
      collection.complete = last;
      ODMOE_RETURN_IF_ERROR(append_shard(folder, collection, shard));
      shard = {};
    }
    if (progress && !progress(token + 1, options.n_token) && !last) {
      return fail(ErrorKind::kInterrupted, "interrupted with {} of {} tokens", collection.n_token,
                  options.n_token);
    }
  }
  return SyntheticResult{.collection = std::move(collection), .best_recall = generator.best_recall()};
}

}  // namespace odmoe
