#include "server/output/mark_grammar.h"

#include <array>
#include <map>
#include <string>
#include <utility>

namespace odmoe::server {

using grammar::ByteSet;
using grammar::GrammarBuilder;

std::vector<MarkGrammar::Part> MarkGrammar::parts_of(std::string_view mark) const {
  std::vector<Part> parts;
  size_t told = 0;
  for (const Token token : engine_->encode(mark, /*add_special=*/false, /*parse_special=*/true)) {
    if (!engine_->is_control(token)) continue;
    const std::string text = engine_->token_bytes(token, /*special=*/true);
    const size_t at = mark.find(text, told);
    if (text.empty() || at == std::string_view::npos) continue;
    if (at > told) parts.push_back({.text = mark.substr(told, at - told)});
    parts.push_back({.text = mark.substr(at, text.size()), .token = token});
    told = at + text.size();
  }
  if (told < mark.size()) parts.push_back({.text = mark.substr(told)});
  return parts;
}

MarkGrammar::Expression MarkGrammar::sequence_of(const std::vector<Part>& parts, size_t from) {
  std::vector<Expression> children;
  for (size_t i = from; i < parts.size(); ++i) {
    children.push_back(parts[i].token >= 0 ? b_->token(parts[i].token) : b_->literal(parts[i].text));
  }
  return b_->sequence(std::move(children));
}

MarkGrammar::Expression MarkGrammar::written(std::string_view mark) { return sequence_of(parts_of(mark), 0); }

MarkGrammar::Expression MarkGrammar::until(std::string_view mark) {
  const std::vector<Part> parts = parts_of(mark);
  if (parts.empty()) return b_->empty();
  // Bytes are no control token: one ends any text.
  if (parts[0].token >= 0) {
    return b_->sequence({b_->repeat(b_->range(0, 255), 0, -1), sequence_of(parts, 0)});
  }
  return b_->sequence({search(parts[0].text, /*found=*/true), sequence_of(parts, 1)});
}

MarkGrammar::Expression MarkGrammar::without(std::string_view mark) {
  const std::vector<Part> parts = parts_of(mark);
  if (parts.empty() || parts[0].token >= 0) return b_->repeat(b_->range(0, 255), 0, -1);
  return search(parts[0].text, /*found=*/false);
}

// The automaton of Knuth, Morris and Pratt: a state for each byte of the text that was seen.
MarkGrammar::Expression MarkGrammar::search(std::string_view text, bool found) {
  GrammarBuilder::Graph graph;
  graph.n_state = static_cast<uint32_t>(text.size() + 1);
  std::vector<std::array<uint32_t, 256>> next(text.size());
  uint32_t border = 0;  // the state behind the longest proper suffix that is a prefix too
  for (uint32_t state = 0; state < text.size(); ++state) {
    if (state > 0) next[state] = next[border];
    const auto byte = static_cast<uint8_t>(text[state]);
    const uint32_t after = next[state][byte];
    next[state][byte] = state + 1;
    if (state > 0) border = after;
    std::map<uint32_t, ByteSet> edges;
    for (uint32_t b = 0; b < 256; ++b) edges[next[state][b]].set(b);
    for (const auto& [to, bytes] : edges) {
      if (found || to < text.size()) graph.edges.push_back({.from = state, .to = to, .by = b_->bytes(bytes)});
    }
    if (!found) graph.ends.push_back(state);
  }
  if (found) graph.ends = {static_cast<uint32_t>(text.size())};
  return b_->graph(std::move(graph));
}

MarkGrammar::Expression MarkGrammar::spaces(int64_t most) {
  ByteSet set;
  for (const char c : {' ', '\n'}) set.set(static_cast<uint8_t>(c));
  return b_->repeat(b_->bytes(set), 0, most);
}

}  // namespace odmoe::server
