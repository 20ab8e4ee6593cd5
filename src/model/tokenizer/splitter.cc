#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/tokenizer/splitter.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "model/tokenizer/split_rules.h"

namespace odmoe {
namespace pcre {

struct Deleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
using Code = std::unique_ptr<pcre2_code, Deleter>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter>;

}  // namespace pcre
namespace {

// PCRE2 counts U+180E as \s, and takes \p{Han} for the script extensions; the engines that the vocabularies
// were made with do neither.
std::string to_pcre2(std::string_view expression) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kRewritings = {{
      {R"(\s)", R"(\p{White_Space})"},
      {R"(\S)", R"(\P{White_Space})"},
      {R"(\p{Han})", R"(\p{sc:Han})"},
  }};
  std::string out;
  while (!expression.empty()) {
    size_t taken = 0;
    for (const auto& [from, to] : kRewritings) {
      if (expression.starts_with(from)) {
        out += to;
        taken = from.size();
        break;
      }
    }
    if (taken == 0) {
      taken = expression.starts_with('\\') && expression.size() > 1 ? 2 : 1;  // an escape is taken as a whole
      out += expression.substr(0, taken);
    }
    expression.remove_prefix(taken);
  }
  return out;
}

struct Range {
  size_t begin;
  size_t end;
};

// Finds the first match at or after `from`; false: none.
bool find_match(const pcre2_code* code, std::string_view piece, size_t from, pcre2_match_data* data,
                pcre2_match_context* context, Range* found) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
  int count = pcre2_match(code, subject, piece.size(), from, PCRE2_NO_UTF_CHECK, data, context);
  if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
    // The interpreter keeps its backtracking points on the heap.
    count = pcre2_match(code, subject, piece.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context);
  }
  // Any other failure (out of memory) counts as no match: the rest of the piece stays whole, and nothing is
  // lost.
  if (count < 0) return false;
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data);
  *found = {offsets[0], offsets[1]};
  return found->end > found->begin;
}

// Cuts a match in threes of its characters, counted from its end.
bool give_threes(std::string_view match, const Splitter::WordSink& give) {
  const auto begins = [](char c) { return (c & 0xC0) != 0x80; };
  const auto n = static_cast<size_t>(std::ranges::count_if(match, begins));
  for (size_t left = n, begin = 0; left > 0;) {
    const size_t characters = (left - 1) % 3 + 1;
    size_t end = begin;
    for (size_t i = 0; i < characters; ++i) {
      do ++end;
      while (end < match.size() && !begins(match[end]));
    }
    if (!give(match.substr(begin, end - begin))) return false;
    begin = end;
    left -= characters;
  }
  return true;
}

}  // namespace

struct Splitter::Expressions {
  struct Step {
    pcre::Code code;
    bool threes;
  };
  std::vector<Step> steps;
  pcre::MatchContext context;

  using Data = std::vector<pcre::MatchData>;  // one for each expression

  // Cuts the piece by the expressions from `step` on.  Every piece is a subject of its own, as it is in the
  // tokenizers that are followed: lookaheads see its end.  Each piece goes through all of them before the
  // next is looked for, so that nothing is kept.
  bool split_piece(size_t step, std::string_view piece, const Data& data, const WordSink& sink) const {
    if (step == steps.size()) return sink(piece);
    if (data[step] == nullptr) return split_piece(step + 1, piece, data, sink);  // out of memory: fewer cuts
    size_t done = 0;
    Range match{};
    while (done < piece.size() &&
           find_match(steps[step].code.get(), piece, done, data[step].get(), context.get(), &match)) {
      if (match.begin > done && !split_piece(step + 1, piece.substr(done, match.begin - done), data, sink)) {
        return false;
      }
      const std::string_view found = piece.substr(match.begin, match.end - match.begin);
      const auto go_on = [&](std::string_view part) { return split_piece(step + 1, part, data, sink); };
      if (!(steps[step].threes ? give_threes(found, go_on) : go_on(found))) return false;
      done = match.end;
    }
    return done == piece.size() || split_piece(step + 1, piece.substr(done), data, sink);
  }
};

Splitter::Splitter(std::unique_ptr<Expressions> expressions) : expressions_(std::move(expressions)) {}
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

Result<Splitter> Splitter::compile(std::span<const std::string_view> expressions) {
  auto compiled = std::make_unique<Expressions>();
  compiled->context.reset(pcre2_match_context_create(nullptr));
  if (compiled->context == nullptr) return fail(ErrorKind::kUnsupported, "PCRE2: out of memory");
  // A long run of spaces is honest work, not an attack: only the heap bounds a match.
  pcre2_set_match_limit(compiled->context.get(), UINT32_MAX);

  for (const std::string_view expression : expressions) {
    const std::string pattern = to_pcre2(expression);
    int error = 0;
    PCRE2_SIZE error_offset = 0;
    pcre::Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                  PCRE2_UTF | PCRE2_UCP, &error, &error_offset, nullptr));
    if (code == nullptr) {
      std::array<PCRE2_UCHAR, 256> message{};
      pcre2_get_error_message(error, message.data(), message.size());
      return fail(
          ErrorKind::kUnsupported,
          "PCRE2 does not compile a splitting rule of this tokenizer ({} at {}): use PCRE2 10.40 or newer",
          reinterpret_cast<const char*>(message.data()), error_offset);
    }
    // Where there is no JIT, or the system forbids writable code, pcre2_match interprets.
    static_cast<void>(pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE));
    compiled->steps.push_back({.code = std::move(code), .threes = expression.starts_with(kThrees)});
  }
  return Splitter(std::move(compiled));
}

bool Splitter::split(std::string_view text, const WordSink& sink) const {
  Expressions::Data data;
  for (size_t i = 0; i < expressions_->steps.size(); ++i)
    data.emplace_back(pcre2_match_data_create(1, nullptr));
  size_t begin = 0;  // of the run of valid, or of invalid, characters
  bool valid = true;
  const auto end_run = [&](size_t end) {
    if (end == begin) return true;
    const std::string_view run = text.substr(begin, end - begin);
    begin = end;
    return valid ? expressions_->split_piece(0, run, data, sink) : sink(run);
  };
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = read_utf8(text.substr(at));
    if (c.valid != valid) {
      if (!end_run(at)) return false;
      valid = c.valid;
    }
    at += c.length;
  }
  return end_run(text.size());
}

}  // namespace odmoe
