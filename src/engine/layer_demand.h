// What the tokens of an evaluation want of the routed experts of one layer, expert by expert.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace odmoe {

// One routed expert of one token.
struct DemandPair {
  int32_t column = 0;  // of Activations::ffn_input
  int32_t rank = 0;    // its output is column `column` * n_expert_used + `rank` of Activations::expert_output
};

// One owner.  Allocates at creation alone.
class LayerDemand {
 public:
  LayerDemand(int32_t n_expert, int32_t n_expert_used, int64_t max_tokens);

  // chosen: [n_expert_used, n_token], what the tokens' routers chose in `layer`; columns: [n_token], where
  // the tokens are.  Both stay as they are until the next set().
  void set(int layer, std::span<const int32_t> chosen, std::span<const int32_t> columns);

  int layer() const { return layer_; }
  int64_t n_token() const { return n_token_; }
  int32_t n_expert() const { return static_cast<int32_t>(begin_.size()) - 1; }
  // As set() was given them.
  std::span<const int32_t> chosen() const { return chosen_; }
  std::span<const int32_t> columns() const { return columns_; }
  // Those that are wanted, in the order in which tokens first ask for them.
  std::span<const int32_t> experts() const { return experts_; }
  // Who wants an expert, tokens in their order.
  std::span<const DemandPair> pairs(int32_t expert) const {
    const auto begin = static_cast<size_t>(begin_[static_cast<size_t>(expert)]);
    const auto end = static_cast<size_t>(begin_[static_cast<size_t>(expert) + 1]);
    return std::span(pairs_).subspan(begin, end - begin);
  }

 private:
  int layer_ = 0;
  int64_t n_token_ = 0;
  int32_t n_expert_used_;
  std::span<const int32_t> chosen_, columns_;
  std::vector<int32_t> experts_;
  std::vector<DemandPair> pairs_;  // by expert
  std::vector<int32_t> begin_;     // [n_expert + 1]: expert e has pairs_[begin_[e]] to pairs_[begin_[e + 1]]
};

}  // namespace odmoe
