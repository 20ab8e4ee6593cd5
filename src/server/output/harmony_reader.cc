// Reads gpt-oss: messages that have a header, with a channel and maybe a recipient, and a body.
//
//   <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>
#include <algorithm>
#include <utility>

#include "odmoe/format.h"
#include "server/json_guard.h"
#include "server/output/output_reader.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

constexpr std::string_view kHarmonyStart = "<|start|>", kHarmonyMessage = "<|message|>",
                           kHarmonyChannel = "<|channel|>";
constexpr size_t kMaxHarmonyHeaderBytes = 512;
// What ends a body; the last two begin the next header.
constexpr std::string_view kHarmonyEnds[] = {"<|end|>", "<|call|>", "<|return|>", kHarmonyStart,
                                             kHarmonyChannel};

class HarmonyReader final : public OutputReader {
 public:
  explicit HarmonyReader(OutputReaderOptions options) : options_(std::move(options)) {
    if (options_.start != OutputStart::kAnswer) state_ = State::kBody;
    if (options_.start == OutputStart::kThought) kind_ = Kind::kThought;
  }

  OutputDelta push(std::string_view text) override {
    pending_ += text;
    delta_ = {};
    read(/*last=*/false);
    return std::move(delta_);
  }
  OutputDelta finish() override {
    delta_ = {};
    read(/*last=*/true);
    return std::move(delta_);
  }

 private:
  enum class State : uint8_t { kHeader, kBody };
  enum class Kind : uint8_t { kThought, kContent, kCall };

  void read(bool last) {
    while (state_ == State::kHeader ? read_header(last) : read_body(last)) {
    }
  }

  bool read_header(bool last) {
    const size_t at = std::min(pending_.find_first_not_of(kTextSpaces), pending_.size());
    const bool header = at == pending_.size() || begins_at(pending_, at, "<|") != Begins::kNo ||
                        begins_at(pending_, at, "to=") != Begins::kNo;
    const size_t end = header ? pending_.find(kHarmonyMessage) : std::string::npos;
    if (end <= kMaxHarmonyHeaderBytes) {
      take_header(std::string_view(pending_).substr(0, end));
      pending_.erase(0, end + kHarmonyMessage.size());
      state_ = State::kBody;
      return true;
    }
    if (header && pending_.size() <= kMaxHarmonyHeaderBytes + kHarmonyMessage.size()) {
      if (last && header_only()) pending_.clear();
      if (!last || pending_.empty()) return false;
    }
    // The model says something outside of any message.
    kind_ = Kind::kContent;
    state_ = State::kBody;
    return true;
  }

  // The beginning of a message of which nothing more came.
  bool header_only() const {
    return begins_at(pending_, 0, kHarmonyStart) == Begins::kYes ||
           begins_at(pending_, 0, kHarmonyChannel) != Begins::kNo ||
           pending_.find_first_not_of(kTextSpaces) == std::string::npos;
  }

  void take_header(std::string_view header) {
    const size_t to = header.find("to=");
    const size_t channel = header.find(kHarmonyChannel);
    recipient_.clear();
    if (to != std::string_view::npos) {
      recipient_ = header.substr(to + 3);
      recipient_ = recipient_.substr(0, recipient_.find_first_of(" \t\r\n<"));
      if (recipient_.starts_with("functions.")) recipient_.erase(0, 10);
    }
    header_ = header;
    kind_ = Kind::kContent;
    if (is_tool_name(recipient_) && options_.calls) {
      kind_ = Kind::kCall;
    } else if (channel != std::string_view::npos &&
               header.substr(channel + kHarmonyChannel.size()).starts_with("analysis")) {
      kind_ = Kind::kThought;
    }
  }

  bool read_body(bool last) {
    size_t end = pending_.size();
    std::string_view mark;
    for (size_t at = 0; (at = pending_.find("<|", at)) != std::string::npos && mark.empty(); ++at) {
      for (const std::string_view ending : kHarmonyEnds) {
        const Begins begins = begins_at(pending_, at, ending);
        if (begins == Begins::kNo || (begins == Begins::kMaybe && last)) continue;
        end = at;
        if (begins == Begins::kMaybe) return tell_to(end);
        mark = ending;
      }
    }
    if (mark.empty() && !last && pending_.ends_with('<')) --end;
    tell_to(end);
    if (mark.empty() && !last) return false;
    end_message();
    if (mark.empty()) return false;
    if (mark != kHarmonyStart && mark != kHarmonyChannel) pending_.erase(0, mark.size());
    state_ = State::kHeader;
    return true;
  }

  bool tell_to(size_t end) {
    const std::string_view text = std::string_view(pending_).substr(0, end);
    switch (kind_) {
      case Kind::kThought:
        delta_.reasoning += text;
        break;
      case Kind::kContent:
        delta_.content += text;
        break;
      case Kind::kCall:
        arguments_ += text;
        break;
    }
    pending_.erase(0, end);
    return false;
  }

  void end_message() {
    if (kind_ != Kind::kCall) return;
    kind_ = Kind::kContent;
    const std::string text = std::exchange(arguments_, {});
    const bool empty = text.find_first_not_of(kTextSpaces) == std::string::npos;
    const auto json = parse_json(empty ? "{}" : std::string_view(text));
    if (!json.has_value()) {
      delta_.content += header_ + std::string(kHarmonyMessage) + text;
      return;
    }
    delta_.calls.push_back({.id = odmoe::format("{}{}", options_.id_prefix, n_call_++),
                            .name = recipient_,
                            .arguments = json->is_object() && !empty ? text : arguments_text(*json)});
  }

  OutputReaderOptions options_;
  State state_ = State::kHeader;
  Kind kind_ = Kind::kContent;
  std::string pending_;  // not told yet
  std::string header_, recipient_, arguments_;
  int n_call_ = 0;
  OutputDelta delta_;
};

}  // namespace

std::unique_ptr<OutputReader> make_harmony_reader(OutputReaderOptions options) {
  return std::make_unique<HarmonyReader>(std::move(options));
}

}  // namespace odmoe::server
