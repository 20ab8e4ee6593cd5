#include "cli/chat.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/answer_view.h"
#include "cli/chat_command.h"
#include "cli/chat_file.h"
#include "cli/chat_input.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/interrupt.h"
#include "cli/kept_files.h"
#include "cli/output.h"
#include "cli/report.h"
#include "odmoe/format.h"
#include "server/continuation.h"

namespace odmoe::cli {
namespace {

class Chat {
 public:
  Chat(const RunOptions& options, Engine& engine, const ChatTemplate& chat_template, Session& session)
      : options_(options),
        engine_(engine),
        template_(chat_template),
        session_(session),
        format_(*server::output_of_template(chat_template.source()).format),
        input_(options.keeps_history ? default_history_file() : std::filesystem::path()),
        sampling_(options.generate.sampling) {
    if (options.system) turns_.push_back({"system", *options.system});
  }

  Result<int> converse() {
    if (options_.prompt && *options_.prompt != "-") {
      ODMOE_ASSIGN_OR_RETURN(const auto end, say({.argument = *options_.prompt}));
      if (end) return *end;
    }
    if (input_.interactive()) (void)terminal_.write("/help lists what there is besides messages.\n");
    while (true) {
      ODMOE_ASSIGN_OR_RETURN(const auto line, input_.next());
      if (!line) {
        if (input_.interactive()) (void)terminal_.write("\n");
        return kExitOk;
      }
      if (line->text.find_first_not_of(" \t\n") == std::string::npos) continue;
      // Through a pipe come messages, whatever they begin with.
      const bool may_be_command = input_.interactive() && line->may_be_command;
      auto command = may_be_command ? parse_chat_command(line->text) : ChatCommand{.argument = line->text};
      auto end = command.has_value() ? say(*command) : std::unexpected(command.error());
      if (end.has_value()) {
        if (*end) return **end;
        continue;
      }
      // At a terminal whoever typed it can do it better; the conversation goes on.
      if (!input_.interactive() || end.error().kind == ErrorKind::kInterrupted)
        return std::unexpected(end.error());
      (void)terminal_.write("odmoe: " + end.error().message + "\n");
    }
  }

 private:
  // An exit code: it is over.
  using End = std::optional<int>;

  Result<End> say(const ChatCommand& command) {
    switch (command.kind) {
      case ChatCommand::Kind::kMessage: {
        turns_.push_back({"user", command.argument});
        auto end = answer();
        if (!end.has_value()) turns_.pop_back();  // as if it had not been said
        return end;
      }
      case ChatCommand::Kind::kRetry:
        return retry();
      case ChatCommand::Kind::kSystem:
        std::erase_if(turns_, [](const ChatTurn& turn) { return turn.role == "system"; });
        if (!command.argument.empty()) turns_.insert(turns_.begin(), {"system", command.argument});
        return End();
      case ChatCommand::Kind::kNew:
        std::erase_if(turns_, [](const ChatTurn& turn) { return turn.role != "system"; });
        return End();
      case ChatCommand::Kind::kSave:
        ODMOE_RETURN_IF_ERROR(save_conversation(command.argument, turns_));
        return tell(odmoe::format("{} messages are in {}\n", turns_.size(), command.argument));
      case ChatCommand::Kind::kLoad: {
        ODMOE_ASSIGN_OR_RETURN(turns_, load_conversation(command.argument));
        return tell(odmoe::format("{} messages from {}\n", turns_.size(), command.argument));
      }
      case ChatCommand::Kind::kStats:
        return tell(work_text(engine_.stats()));
      case ChatCommand::Kind::kHelp:
        return tell(std::string(chat_help()));
      case ChatCommand::Kind::kQuit:
        return End(kExitOk);
    }
    std::unreachable();
  }

  Result<End> tell(const std::string& text) {
    (void)terminal_.write(text);
    return End();
  }

  Result<End> retry() {
    if (turns_.empty() || turns_.back().role == "system") {
      return fail(ErrorKind::kUsage, "there is no message yet that could be answered again");
    }
    std::optional<ChatTurn> before;
    if (turns_.back().role == "assistant") {
      before = std::move(turns_.back());
      turns_.pop_back();
    }
    ++sampling_.seed;  // the same one would draw the same answer
    auto end = answer();
    if (!end.has_value() && before) turns_.push_back(std::move(*before));
    return end;
  }

  // To the last message.
  Result<End> answer() {
    const Conversation conversation{.turns = turns_};
    ODMOE_ASSIGN_OR_RETURN(const auto tokens, engine_.encode_chat(conversation, template_));
    const server::AnswerPlace place = server::place_of_answer(engine_, format_, conversation, tokens);
    AnswerView view(format_, place.start, answers_, answers_.is_terminal());
    GenerateOptions generate = options_.generate;
    generate.sampling = sampling_;
    generate.shows_control = [this](std::string_view token) { return server::is_mark(format_, token); };
    const auto show = [&](std::string_view text) { return view.push(text); };
    auto generated = generate_with(show, engine_, session_, tokens, generate);
    if (answers_.reader_gone()) return End(kExitReaderGone);
    ODMOE_ASSIGN_OR_RETURN(const GenerateResult result, std::move(generated));
    const Status shown = view.finish();
    explain_end(result, session_);
    if (answers_.reader_gone()) return End(kExitReaderGone);
    if (!shown.has_value()) return std::unexpected(shown.error());
    turns_.push_back(view.turn());
    if (result.finish != FinishReason::kInterrupted) return End();
    if (!input_.interactive()) return End(kExitInterrupted);
    interrupt::clear();
    return End();
  }

  const RunOptions& options_;
  Engine& engine_;
  const ChatTemplate& template_;
  Session& session_;
  const server::OutputFormat& format_;
  ChatInput input_;
  SamplingOptions sampling_;
  std::vector<ChatTurn> turns_;
  Output answers_ = Output::standard_output();
  Output terminal_ = Output::standard_error();
};

}  // namespace

Result<int> converse(const RunOptions& options, const ChatTemplateChoice& choice, Engine& engine) {
  ODMOE_ASSIGN_OR_RETURN(const auto chat_template, engine.chat_template(choice));
  ODMOE_ASSIGN_OR_RETURN(const auto session, engine.new_session());
  return Chat(options, engine, *chat_template, *session).converse();
}

}  // namespace odmoe::cli
