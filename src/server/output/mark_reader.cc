// Reads outputs whose parts stand between marks.
#include <algorithm>
#include <optional>
#include <utility>

#include "odmoe/format.h"
#include "server/output/output_reader.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

// Of text that was read as a call, was none, and is read again.  Beyond it no more calls are looked for: the
// time that a text takes stays proportional to its length.
constexpr size_t kMaxReadAgain = 4 << 20;

enum class Mark : uint8_t {
  kThoughtOpen,
  kThoughtClose,
  kContentOpen,
  kContentClose,
  kListOpen,
  kListClose,
  kCallOpen,
  kCallClose
};

// The marks that count in one place.
class MarkSet {
 public:
  void add(const Marks& marks, Mark meaning) {
    for (const std::string_view mark : marks) {
      marks_.emplace_back(mark, meaning);
      if (!first_.contains(mark[0])) first_ += mark[0];
    }
  }

  struct Match {
    Begins begins = Begins::kNo;
    Mark meaning = Mark::kCallOpen;
    size_t size = 0;
  };
  // The longest that begins at `at`.  kMaybe: more of the text decides; `last`: there is no more.
  Match match(std::string_view text, size_t at, bool last) const {
    Match best;
    for (const auto& [mark, meaning] : marks_) {
      const Begins begins = begins_at(text, at, mark);
      if (begins == Begins::kMaybe && !last) return {.begins = Begins::kMaybe};
      if (begins == Begins::kYes && mark.size() > best.size) {
        best = {.begins = Begins::kYes, .meaning = meaning, .size = mark.size()};
      }
    }
    return best;
  }
  // Where the next one begins or may begin; the text's size: nowhere.
  size_t find(std::string_view text, bool last, Match& match) const {
    for (size_t at = 0; (at = text.find_first_of(first_, at)) != std::string_view::npos; ++at) {
      match = this->match(text, at, last);
      if (match.begins != Begins::kNo) return at;
    }
    match = {};
    return text.size();
  }

 private:
  std::vector<std::pair<std::string_view, Mark>> marks_;
  std::string first_;  // bytes that they begin with
};

class MarkReader final : public OutputReader {
 public:
  explicit MarkReader(OutputReaderOptions options)
      : options_(std::move(options)), calls_wanted_(options_.calls) {
    if (options_.format->calls) syntax_ = &*options_.format->calls;
    choose_marks();
    switch (options_.start) {
      case OutputStart::kAnswer:
        pending_ = options_.format->begins_with;
        break;
      case OutputStart::kThought:
        thought_ = true;
        break;
      case OutputStart::kContent:
        state_ = State::kText;
        break;
    }
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
    if (!doubt_.empty()) {
      // The thought did not end, or the whole answer was calls.
      delta_.reasoning += std::exchange(doubt_text_, {});
      tell(std::exchange(doubt_calls_, {}));
      doubt_.clear();
    }
    if (n_call_ == 0) delta_.content += std::exchange(spaces_, {});
    return std::move(delta_);
  }

 private:
  // kBegin: of the answer, or of a thought.  kOpening: a list was opened, a call was not yet.  kBetween:
  // behind a call.
  enum class State : uint8_t { kBegin, kText, kOpening, kCall, kBetween };

  void choose_marks() {
    const OutputFormat& format = *options_.format;
    begin_ = content_ = thought_marks_ = opening_ = between_ = {};
    begin_.add(format.thought_open, Mark::kThoughtOpen);
    begin_.add(format.content_open, Mark::kContentOpen);
    begin_.add(format.content_close, Mark::kContentClose);
    // Of a thought that is not there.
    begin_.add(format.thought_close, Mark::kContentClose);
    content_.add(format.content_close, Mark::kContentClose);
    if (format.tokens) {
      content_.add(format.thought_open, Mark::kThoughtOpen);
      content_.add(format.content_open, Mark::kContentOpen);
    }
    thought_marks_.add(format.thought_close, Mark::kThoughtClose);
    if (format.tokens) thought_marks_.add(format.content_open, Mark::kThoughtClose);
    if (!calls_wanted_) return;
    for (MarkSet* set : {&begin_, &content_, &thought_marks_, &opening_, &between_}) {
      set->add(syntax_->list_open, Mark::kListOpen);
      set->add(syntax_->open, Mark::kCallOpen);
    }
    for (MarkSet* set : {&opening_, &between_}) {
      set->add(syntax_->list_close, Mark::kListClose);
      set->add(syntax_->close, Mark::kCallClose);
    }
    for (const std::string_view end : syntax_->arguments_end) {
      if (const std::string_view mark = trim_text(end); !mark.empty()) between_.add({mark}, Mark::kCallClose);
    }
    if (format.tokens) {
      content_.add(syntax_->list_close, Mark::kListClose);
      content_.add(syntax_->close, Mark::kCallClose);
    }
  }

  void read(bool last) {
    while (read_state(last)) {
    }
  }

  // False when more text is needed, or none is left.
  bool read_state(bool last) {
    switch (state_) {
      case State::kBegin:
        return read_begin(last);
      case State::kText:
        return read_text(last);
      case State::kOpening:
        return read_opening(last);
      case State::kCall:
        return read_call(last);
      case State::kBetween:
        break;
    }
    return read_between(last);
  }

  size_t skip_spaces(size_t at) const {
    return std::min(pending_.find_first_not_of(kTextSpaces, at), pending_.size());
  }

  bool read_begin(bool last) {
    const size_t at = skip_spaces(0);
    if (at == pending_.size()) {
      if (last) add_text(std::exchange(pending_, {}));
      return false;
    }
    if (thought_) {
      // The prompt opened it, and some models open it again.
      MarkSet opens;
      opens.add(options_.format->thought_open, Mark::kThoughtOpen);
      const MarkSet::Match match = opens.match(pending_, at, last);
      if (match.begins == Begins::kMaybe) return false;
      if (match.begins == Begins::kYes) pending_.erase(0, at + match.size);
      state_ = State::kText;
      return true;
    }
    const MarkSet::Match match = begin_.match(pending_, at, last);
    if (match.begins == Begins::kMaybe) return false;
    if (match.begins == Begins::kYes) {
      const bool call = match.meaning == Mark::kCallOpen || match.meaning == Mark::kListOpen;
      if (call) gap_ = pending_.substr(0, at);
      pending_.erase(0, at);
      if (match.meaning == Mark::kContentClose) {
        pending_.erase(0, match.size);
        return true;
      }
      return follow(match);
    }
    const bool bare = calls_wanted_ && syntax_->bare && (pending_[at] == '{' || pending_[at] == '[');
    state_ = State::kText;
    if (bare) {
      bare_ = true;
      start_call(0, 0);
    }
    return true;
  }

  bool read_text(bool last) {
    MarkSet::Match match;
    const size_t at = (thought_ ? thought_marks_ : content_).find(pending_, last, match);
    add_text(std::string_view(pending_).substr(0, at));
    pending_.erase(0, at);
    return match.begins == Begins::kYes && follow(match);
  }

  // A mark that the pending text begins with.
  bool follow(const MarkSet::Match& match) {
    switch (match.meaning) {
      case Mark::kListOpen:
        state_ = State::kOpening;
        mark_size_ = at_ = match.size;
        return true;
      case Mark::kCallOpen:
        start_call(match.size, match.size);
        return true;
      case Mark::kThoughtOpen:
        thought_ = true;
        break;
      case Mark::kThoughtClose:
        pending_.erase(0, match.size);
        end_thought();
        return true;
      case Mark::kContentOpen:
        after_mark_ = true;
        break;
      default:
        break;
    }
    pending_.erase(0, match.size);
    state_ = State::kText;
    return true;
  }

  // A call begins at `at` of the pending text, behind a mark of `mark_size` at its beginning.
  void start_call(size_t mark_size, size_t at) {
    mark_size_ = mark_size;
    at_ = at;
    call_ = make_call_reader(*syntax_, *options_.tools, bare_);
    state_ = State::kCall;
  }

  bool read_opening(bool last) {
    const size_t at = skip_spaces(at_);
    if (at == pending_.size() && !last) return false;
    const MarkSet::Match match = opening_.match(pending_, at, last);
    if (match.begins == Begins::kMaybe && at < pending_.size()) return false;
    if (match.begins == Begins::kYes && match.meaning == Mark::kCallOpen) {
      start_call(mark_size_, at + match.size);
      return true;
    }
    const bool closed = match.begins == Begins::kYes && match.meaning == Mark::kListClose;
    if (options_.format->tokens && (closed || at == pending_.size())) {
      // A list of nothing.
      pending_.erase(0, closed ? at + match.size : at);
      gap_.clear();
      state_ = State::kText;
      return true;
    }
    if (syntax_->open.empty() && at < pending_.size()) {
      start_call(mark_size_, at);
      return true;
    }
    refuse();
    return true;
  }

  bool read_call(bool last) {
    CallReader::Step step = CallReader::Step::kMore;
    while (step == CallReader::Step::kMore && at_ < pending_.size()) step = call_->push(pending_[at_++]);
    if (step == CallReader::Step::kMore) {
      if (!last) return false;
      step = call_->finish();
    }
    if (step == CallReader::Step::kRefused) {
      refuse();
      return true;
    }
    const std::string_view raw = std::string_view(pending_).substr(0, at_);
    if (thought_ || bare_) {
      doubt_ += std::exchange(gap_, {});
      doubt_ += raw;
      std::ranges::move(call_->calls(), std::back_inserter(doubt_calls_));
    } else {
      gap_.clear();
      spaces_.clear();
      tell(std::move(call_->calls()));
    }
    pending_.erase(0, at_);
    call_.reset();
    state_ = State::kBetween;
    in_block_ = true;
    return true;
  }

  // It is not a call: its mark is text, and what follows is read again.
  void refuse() {
    n_read_again_ += at_ - mark_size_;
    if (n_read_again_ > kMaxReadAgain && calls_wanted_) {
      calls_wanted_ = false;
      choose_marks();
    }
    call_.reset();
    state_ = State::kText;
    if (bare_) return give_up_bare();
    add_text(std::exchange(gap_, {}));
    add_text(std::string_view(pending_).substr(0, mark_size_));
    pending_.erase(0, mark_size_);
  }

  // The answer only began as calls do.
  void give_up_bare() {
    bare_ = false;
    doubt_calls_.clear();
    pending_.insert(0, std::exchange(doubt_, {}) + std::exchange(gap_, {}));
    state_ = State::kText;
  }

  bool read_between(bool last) {
    size_t at = skip_spaces(0);
    // What stands between calls of one list.
    if (in_block_ && at < pending_.size() && (pending_[at] == ';' || pending_[at] == ','))
      at = skip_spaces(at + 1);
    if (at == pending_.size()) {
      if (last) pending_.clear();
      return false;
    }
    const MarkSet::Match match = between_.match(pending_, at, last);
    if (match.begins == Begins::kMaybe) return false;
    if (last && match.begins == Begins::kNo && between_.match(pending_, at, false).begins == Begins::kMaybe) {
      pending_.clear();  // a mark that was cut off
      return false;
    }
    if (match.begins == Begins::kYes) {
      gap_ += pending_.substr(0, at);
      pending_.erase(0, at);
      if (match.meaning == Mark::kCallOpen || match.meaning == Mark::kListOpen) return follow(match);
      in_block_ = false;
      if (thought_ || bare_) doubt_ += std::exchange(gap_, {}) + pending_.substr(0, match.size);
      gap_.clear();
      pending_.erase(0, match.size);
      return true;
    }
    const bool another = in_block_ && syntax_->form == CallSyntax::Form::kValues &&
                         (pending_[at] == '{' || (syntax_->python && is_tool_name_character(pending_[at])));
    if (another) {
      gap_ += pending_.substr(0, at);
      pending_.erase(0, at);
      start_call(0, 0);
      return true;
    }
    state_ = State::kText;
    if (bare_) {
      give_up_bare();
    } else if (!thought_) {
      after_mark_ = true;
    }
    return true;
  }

  void end_thought() {
    delta_.reasoning += std::exchange(doubt_, {});
    doubt_text_.clear();
    doubt_calls_.clear();
    thought_ = false;
    after_mark_ = true;
    state_ = State::kBegin;
  }

  void tell(std::vector<ChatToolCall> calls) {
    for (ChatToolCall& call : calls) {
      if (call.id.empty()) call.id = odmoe::format("{}{}", options_.id_prefix, n_call_);
      ++n_call_;
      delta_.calls.push_back(std::move(call));
    }
  }

  void add_text(std::string_view text) {
    if (thought_) {
      if (doubt_.empty()) {
        delta_.reasoning += text;
      } else {
        doubt_ += text;
        doubt_text_ += text;
      }
      return;
    }
    if (after_mark_) {
      // The lines between a thought or a call and what follows belong to neither.
      text.remove_prefix(std::min(text.find_first_not_of("\r\n"), text.size()));
      if (text.empty()) return;
      after_mark_ = false;
    }
    if (!calls_wanted_) {
      delta_.content += std::exchange(spaces_, {});
      delta_.content += text;
      return;
    }
    // Calls stand behind empty lines, which are told when something else follows.
    const size_t end = text.find_last_not_of(kTextSpaces);
    if (end != std::string_view::npos) {
      delta_.content += std::exchange(spaces_, {});
      delta_.content += text.substr(0, end + 1);
      text.remove_prefix(end + 1);
    }
    spaces_ += text;
  }

  OutputReaderOptions options_;
  const CallSyntax* syntax_ = nullptr;
  bool calls_wanted_;
  MarkSet begin_, content_, thought_marks_, opening_, between_;
  State state_ = State::kBegin;
  std::string pending_;   // not told yet; of kOpening and kCall, from the first mark on
  size_t mark_size_ = 0;  // of that mark
  size_t at_ = 0;         // of pending_, read so far
  size_t n_read_again_ = 0;
  std::unique_ptr<CallReader> call_;
  std::string gap_;       // white space before pending_, which a call would not leave in the content
  std::string spaces_;    // content that is not told until more follows
  bool thought_ = false;  // in one
  bool after_mark_ = false;
  bool in_block_ = false;  // more calls may follow without a mark
  bool bare_ = false;      // the answer began as a call without a mark
  int n_call_ = 0;
  // Calls that may be none: all that was written since the first of them, and that without them.
  std::string doubt_, doubt_text_;
  std::vector<ChatToolCall> doubt_calls_;
  OutputDelta delta_;
};

}  // namespace

std::unique_ptr<OutputReader> make_mark_reader(OutputReaderOptions options) {
  return std::make_unique<MarkReader>(std::move(options));
}

}  // namespace odmoe::server
