#include "cli/answer_view.h"

#include <algorithm>

namespace odmoe::cli {
namespace {

constexpr std::string_view kDim = "\x1b[2m", kPlain = "\x1b[0m";

}  // namespace

AnswerView::AnswerView(const server::OutputFormat& format, server::OutputStart start, Output& output,
                       bool dims)
    : reader_(
          server::make_output_reader({.format = &format, .start = start, .tools = nullptr, .id_prefix = ""})),
      output_(&output),
      dims_(dims) {}

Status AnswerView::push(std::string_view text) { return show(reader_->push(text)); }

Status AnswerView::finish() {
  ODMOE_RETURN_IF_ERROR(show(reader_->finish()));
  if (in_thought_) ODMOE_RETURN_IF_ERROR(end_thought());
  return line_begun_ ? output_->write("\n") : Status();
}

Status AnswerView::show(const server::OutputDelta& delta) {
  if (!delta.reasoning.empty()) {
    if (!turn_.reasoning) turn_.reasoning.emplace();
    *turn_.reasoning += delta.reasoning;
    // Models put lines between a mark and what is thought.
    const size_t begin =
        in_thought_ ? 0 : std::min(delta.reasoning.find_first_not_of('\n'), delta.reasoning.size());
    const std::string_view thought = std::string_view(delta.reasoning).substr(begin);
    if (!thought.empty()) {
      if (!in_thought_) ODMOE_RETURN_IF_ERROR(output_->write(dims_ ? kDim : "<think>\n"));
      in_thought_ = true;
      line_begun_ = !thought.ends_with('\n');
      ODMOE_RETURN_IF_ERROR(output_->write(thought));
    }
  }
  if (delta.content.empty()) return {};
  if (in_thought_) ODMOE_RETURN_IF_ERROR(end_thought());
  turn_.content += delta.content;
  line_begun_ = !delta.content.ends_with('\n');
  return output_->write(delta.content);
}

Status AnswerView::end_thought() {
  in_thought_ = false;
  const bool begun = std::exchange(line_begun_, false);
  std::string text = begun ? "\n" : "";
  text += dims_ ? kPlain : "</think>\n";
  return output_->write(text + "\n");
}

}  // namespace odmoe::cli
