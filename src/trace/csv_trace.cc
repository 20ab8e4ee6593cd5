#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/numbers.h"
#include "trace/trace_formats.h"

namespace odmoe {
namespace {

constexpr size_t kMaxLine = 4096;
constexpr size_t kMaxColumns = 64;

template <std::integral T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}
std::optional<float> read_weight(std::string_view text) {
  const auto parsed = parse_float(text);
  if (!parsed || parsed->size != text.size()) return std::nullopt;
  return parsed->value;
}

// The number behind "key=" in a comment, if there is one.
std::optional<uint64_t> said(std::string_view comment, std::string_view key) {
  for (size_t at = 0; (at = comment.find(key, at)) != std::string_view::npos; at += key.size()) {
    if (at > 0 && comment[at - 1] != ' ' && comment[at - 1] != '#') continue;
    std::string_view value = comment.substr(at + key.size());
    value = value.substr(0, value.find(' '));
    return number<uint64_t>(value);
  }
  return std::nullopt;
}

class CsvParser {
 public:
  CsvParser(std::span<const std::byte> head, const TraceInput& input, const std::string& name,
            const TraceOptions& options)
      : text_(reinterpret_cast<const char*>(head.data()), head.size()),
        input_(input),
        name_(name),
        options_(options) {}

  Result<RoutingTrace> parse() {
    while (true) {
      ODMOE_ASSIGN_OR_RETURN(const std::optional<std::string_view> line, next_line());
      if (!line.has_value()) break;
      if (line->empty()) continue;
      if (line->front() == '#') {
        ODMOE_RETURN_IF_ERROR(read_comment(*line));
      } else if (columns_.empty()) {
        ODMOE_RETURN_IF_ERROR(read_columns(*line));
      } else {
        ODMOE_RETURN_IF_ERROR(read_row(*line));
      }
    }
    return finish();
  }

 private:
  // A line without its end; nothing behind the last.
  Result<std::optional<std::string_view>> next_line() {
    text_.erase(0, consumed_);
    consumed_ = 0;
    size_t end = text_.find('\n');
    while (end == std::string::npos && !ended_ && text_.size() <= kMaxLine) {
      const size_t have = text_.size();
      text_.resize(have + kMaxLine);
      ODMOE_ASSIGN_OR_RETURN(const size_t n, input_(std::as_writable_bytes(std::span(text_).subspan(have))));
      text_.resize(have + n);
      ended_ = n < kMaxLine;
      end = text_.find('\n', have);
    }
    if (end == std::string::npos) {
      if (text_.empty()) return std::nullopt;
      end = text_.size();
    }
    ++line_;
    if (end > kMaxLine) return bad(odmoe::format("is longer than {} characters", kMaxLine));
    consumed_ = std::min(end + 1, text_.size());
    std::string_view line(text_.data(), end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  std::unexpected<Error> bad(const std::string& what) const {
    if (columns_.empty()) {
      return fail(ErrorKind::kBadFile,
                  "{} is not a routing trace: it does not begin with MOERT01, and line {}, if it is CSV, {}",
                  name_, line_, what);
    }
    return fail(ErrorKind::kBadFile, "{}: line {} {}", name_, line_, what);
  }

  Status read_comment(std::string_view line) {
    const auto bounded = [&](std::string_view key, uint64_t most, int32_t& value) -> Status {
      const auto told = said(line, key);
      if (!told.has_value()) return {};
      if (*told < 1 || *told > most) return bad(odmoe::format("has {}{}; the limit is {}", key, *told, most));
      value = static_cast<int32_t>(*told);
      return {};
    };
    ODMOE_RETURN_IF_ERROR(bounded("n_layer=", kMaxTraceLayers, trace_.n_layer));
    ODMOE_RETURN_IF_ERROR(bounded("n_expert=", kMaxTraceExperts, trace_.n_expert));
    if (const auto bytes = said(line, "expert_bytes=");
        bytes.has_value() && said(line, "layer=").has_value()) {
      if (*bytes > 1ULL << 40U) return bad("gives an expert more than a terabyte");
      expert_bytes_ += *bytes;
      ++n_expert_bytes_;
    }
    return {};
  }

  Status read_columns(std::string_view line) {
    std::vector<std::string> columns;
    for (const std::string_view column : split(line)) columns.emplace_back(column);
    const auto find = [&](std::string_view column) {
      const auto at = std::ranges::find(columns, column);
      return at == columns.end() ? -1 : static_cast<int>(at - columns.begin());
    };
    layer_ = find("layer");
    step_ = std::max(find("step"), find("scheduler_step"));
    expert_ = find("expert");
    requested_ = find("requested_experts");
    turn_ = find("turn");
    phase_ = find("phase");
    weight_ = find("weight");
    if (layer_ < 0 || step_ < 0 || (expert_ < 0 && requested_ < 0)) {
      return bad("does not name the columns layer, step and expert");
    }
    columns_ = std::move(columns);
    return {};
  }

  std::span<const std::string_view> split(std::string_view line) {
    fields_.clear();
    while (fields_.size() <= kMaxColumns) {
      const size_t comma = line.find(',');
      fields_.push_back(line.substr(0, comma));
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
    return fields_;
  }

  // The number in a column, 0 where the file has no such column.
  Result<int64_t> field(int column, int64_t most) const {
    if (column < 0) return 0;
    const std::string& title = columns_[static_cast<size_t>(column)];
    const std::string_view text = fields_[static_cast<size_t>(column)];
    const auto value = number<int64_t>(text);
    if (!value.has_value() || *value < 0 || *value > most) {
      return bad(odmoe::format("has no {} from 0 to {}", title, most));
    }
    return *value;
  }

  Status read_row(std::string_view line) {
    if (split(line).size() != columns_.size()) {
      return bad(odmoe::format("does not have the {} columns that are named", columns_.size()));
    }
    Place place;
    ODMOE_ASSIGN_OR_RETURN(place.layer, field(layer_, kMaxTraceLayers - 1));
    ODMOE_ASSIGN_OR_RETURN(place.step, field(step_, INT32_MAX));
    ODMOE_ASSIGN_OR_RETURN(place.turn, field(turn_, kMaxTraceSessions - 1));
    ODMOE_ASSIGN_OR_RETURN(place.phase, field(phase_, 1));
    trace_.n_session = std::max(trace_.n_session, static_cast<int32_t>(place.turn) + 1);
    if (!options_.keeps(static_cast<uint32_t>(place.turn))) return {};
    if (place.phase == 1 && !decodes_) {  // what came before was prompt
      decodes_ = true;
      drop_events();
    }
    if (place.phase == 0 && decodes_) return {};
    if (trace_.experts.size() + kMaxTraceExpertsUsed > kMaxTraceChoices) {
      return fail(ErrorKind::kBadFile, "{}: more than {} choices of experts", name_, kMaxTraceChoices);
    }
    if (requested_ < 0) {
      float weight = 0;
      if (weight_ >= 0) {
        const auto value = read_weight(fields_[static_cast<size_t>(weight_)]);
        if (!value.has_value() || !(*value >= 0) || std::isinf(*value)) return bad("has no weight from 0 up");
        weight = *value;
      }
      ODMOE_ASSIGN_OR_RETURN(const int64_t expert, field(expert_, kMaxTraceExperts - 1));
      return add(place, static_cast<int32_t>(expert), weight);
    }
    std::string_view list = fields_[static_cast<size_t>(requested_)];
    while (!list.empty()) {
      const size_t space = list.find(' ');
      const auto expert = number<int32_t>(list.substr(0, space));
      if (!expert.has_value() || *expert < 0 || *expert >= static_cast<int32_t>(kMaxTraceExperts)) {
        return bad(odmoe::format("has no experts from 0 to {}", kMaxTraceExperts - 1));
      }
      ODMOE_RETURN_IF_ERROR(add(place, *expert, 0));
      list.remove_prefix(space == std::string_view::npos ? list.size() : space + 1);
    }
    return {};
  }

  struct Place {
    int64_t turn = 0, phase = 0, step = 0, layer = 0;
    bool operator==(const Place&) const = default;
  };

  void drop_events() {
    trace_.events.clear();
    trace_.experts.clear();
    trace_.weights.clear();
    trace_.n_expert_used = 0;
  }

  Status add(const Place& place, int32_t expert, float weight) {
    if (trace_.events.empty() || place != last_) {
      trace_.events.push_back(
          {.layer = static_cast<int32_t>(place.layer), .n_expert = 0, .first = trace_.experts.size()});
      last_ = place;
    }
    RoutingTrace::Event& event = trace_.events.back();
    if (std::ranges::contains(trace_.experts_of(event), expert)) {
      return bad(odmoe::format("chooses expert {} a second time", expert));
    }
    if (event.n_expert == kMaxTraceExpertsUsed) {
      return bad(odmoe::format("chooses more than {} experts in one step", kMaxTraceExpertsUsed));
    }
    ++event.n_expert;
    trace_.experts.push_back(expert);
    trace_.weights.push_back(weight);
    trace_.n_expert_used = std::max(trace_.n_expert_used, static_cast<int32_t>(event.n_expert));
    highest_expert_ = std::max(highest_expert_, expert);
    highest_layer_ = std::max(highest_layer_, event.layer);
    return {};
  }

  Result<RoutingTrace> finish() {
    if (columns_.empty()) return bad("does not name the columns layer, step and expert");
    ODMOE_RETURN_IF_ERROR(finish_trace(trace_, name_));
    const auto fits = [&](int32_t& said, int32_t highest, std::string_view what) -> Status {
      if (said == 0) said = highest + 1;
      if (highest < said) return {};
      return fail(ErrorKind::kBadFile, "{}: says {} {} and has number {}", name_, said, what, highest);
    };
    ODMOE_RETURN_IF_ERROR(fits(trace_.n_layer, highest_layer_, "layers"));
    ODMOE_RETURN_IF_ERROR(fits(trace_.n_expert, highest_expert_, "experts"));
    if (n_expert_bytes_ > 0) trace_.expert_bytes = expert_bytes_ / n_expert_bytes_;
    return std::move(trace_);
  }

  std::string text_;  // read and not yet parsed, from consumed_ on
  size_t consumed_ = 0;
  bool ended_ = false;
  const TraceInput& input_;
  const std::string& name_;
  const TraceOptions& options_;
  size_t line_ = 0;
  std::vector<std::string> columns_;
  std::vector<std::string_view> fields_;
  int layer_ = -1, step_ = -1, expert_ = -1, requested_ = -1, turn_ = -1, phase_ = -1, weight_ = -1;
  bool decodes_ = false;
  Place last_;
  int32_t highest_expert_ = 0, highest_layer_ = 0;
  uint64_t expert_bytes_ = 0, n_expert_bytes_ = 0;
  RoutingTrace trace_;
};

}  // namespace

Result<RoutingTrace> parse_csv_trace(std::span<const std::byte> head, const TraceInput& input,
                                     const std::string& name, const TraceOptions& options) {
  return CsvParser(head, input, name, options).parse();
}

}  // namespace odmoe
