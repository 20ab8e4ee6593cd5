// odmoe render: a conversation as the text that a model gets to see.
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ordered_json.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "format/checkpoint.h"
#include "jinja/chat_prompt.h"
#include "model/left_over.h"
#include "model/tokenizer/model_tokens.h"
#include "model/tokenizer/tokenizer.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

using Json = nlohmann::ordered_json;

struct RenderOptions {
  std::string source;  // a template or a model
  std::string conversation;
  std::vector<std::string> special;
  std::string now;
};

struct ChatTemplateSource {
  std::string jinja;
  jinja::SpecialTokens special_tokens;
};

// A model is a folder or a GGUF; anything else is a template.
Result<bool> is_model(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return true;
  constexpr std::string_view kMagic = "GGUF";
  std::string begin(kMagic.size(), '\0');
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return fail(ErrorKind::kNotFound, "{} cannot be opened", path);
  const size_t size = std::fread(begin.data(), 1, begin.size(), file);
  (void)std::fclose(file);
  return size == kMagic.size() && begin == kMagic;
}

Result<ChatTemplateSource> source_of_model(const std::string& path) {
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(path));
  Account account(*file);
  ODMOE_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::create(account));
  ODMOE_RETURN_IF_ERROR(check_tokenizer_keys(account, path));
  if (tokenizer->chat_template().empty())
    return fail(ErrorKind::kUnsupported, "{} has no chat template", path);
  return ChatTemplateSource{.jinja = std::string(tokenizer->chat_template()),
                            .special_tokens = special_tokens_of(*tokenizer)};
}

Result<ChatTemplateSource> source_of(const RenderOptions& options) {
  ODMOE_ASSIGN_OR_RETURN(const bool model, is_model(options.source));
  ChatTemplateSource source;
  if (model) {
    ODMOE_ASSIGN_OR_RETURN(source, source_of_model(options.source));
  } else {
    ODMOE_ASSIGN_OR_RETURN(source.jinja, read_file(options.source));
  }
  for (const std::string& special : options.special) {
    const size_t equals = special.find('=');
    if (equals == std::string::npos || equals == 0) {
      return fail(ErrorKind::kUsage, "--special takes NAME=TEXT, not '{}'", special);
    }
    source.special_tokens.emplace_back(special.substr(0, equals), special.substr(equals + 1));
  }
  return source;
}

Result<jinja::ChatInput> input_of(const std::string& path) {
  ODMOE_ASSIGN_OR_RETURN(const std::string text, path == "-" ? read_standard_input() : read_file(path));
  auto json = read_ordered_json(text);
  const std::string source = path == "-" ? "standard input" : path;
  if (!json.has_value()) return fail(ErrorKind::kBadFile, "{} is no JSON: {}", source, json.error().message);
  if (!json->is_object() || !json->contains("messages")) {
    return fail(ErrorKind::kBadFile, "{} must be an object with \"messages\"", path);
  }
  const auto flag = [&](std::string_view name) {
    const auto found = json->find(name);
    return found != json->end() && found->is_boolean() && found->get<bool>();
  };
  const auto member = [&](std::string_view name, Json fallback) {
    const auto found = json->find(name);
    return found == json->end() ? fallback : *found;
  };
  jinja::ChatInput input{
      .messages = (*json)["messages"],
      .tools = member("tools", nullptr),
      .documents = member("documents", nullptr),
      .kwargs = member("kwargs", Json::object()),
      .add_generation_prompt = flag("add_generation_prompt"),
      .end = flag("continue_final_message") ? jinja::ChatEnd::kContent : jinja::ChatEnd::kPrompt};
  if (!input.kwargs.is_object()) return fail(ErrorKind::kBadFile, "{}: \"kwargs\" must be an object", path);
  return input;
}

// The local time, or the one that was given: 2026-07-26T12:34:56.
Result<std::tm> time_of(const std::string& text) {
  if (text.empty()) return jinja::local_time();
  std::tm time = {};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (end == nullptr || *end != '\0') {
    return fail(ErrorKind::kUsage, "--now takes a time as 2026-07-26T12:34:56, not '{}'", text);
  }
  time.tm_isdst = -1;
  (void)std::mktime(&time);
  return time;
}

Result<int> render(const RenderOptions& options) {
  ODMOE_ASSIGN_OR_RETURN(const ChatTemplateSource source, source_of(options));
  ODMOE_ASSIGN_OR_RETURN(const std::tm now, time_of(options.now));
  ODMOE_ASSIGN_OR_RETURN(const jinja::ChatInput input, input_of(options.conversation));
  ODMOE_ASSIGN_OR_RETURN(const auto chat_template, jinja::Template::parse(source.jinja));
  ODMOE_ASSIGN_OR_RETURN(const auto rendered,
                         render_chat_prompt(chat_template, input, source.special_tokens, {.now = now}));
  Output output = Output::standard_output();
  (void)output.write(rendered.text);
  return output.exit_code();
}

}  // namespace

void add_render(CLI::App& app, Action& action) {
  const auto options = std::make_shared<RenderOptions>();
  CLI::App* command = app.add_subcommand("render", "Show what a chat template makes of a conversation");
  command->add_option("TEMPLATE", options->source, "A Jinja template, or a model, whose own is used")
      ->type_name("FILE")
      ->required();
  command->add_option("--conversation", options->conversation, "The conversation, as JSON; -: standard input")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--special", options->special,
                   "A special token, such as bos_token=<s>; of a model, in place of its own")
      ->type_name("NAME=TEXT")
      ->allow_extra_args(false);
  command->add_option("--now", options->now, "The time that templates are told, 2026-07-26T12:34:56 [now]")
      ->type_name("TIME");
  command->footer(
      "The conversation is an object: messages and, where wanted, tools, documents, add_generation_prompt,\n"
      "continue_final_message, and kwargs, an object of further variables. The text is what Hugging Face\n"
      "transformers renders. An error that a template raises ends with exit status 1 and names its line.\n"
      "\n"
      "Examples:\n"
      "  odmoe render model.gguf --conversation conversation.json\n"
      "  odmoe render chat_template.jinja --conversation conversation.json --special 'bos_token=<s>'\n"
      "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | odmoe render model.gguf "
      "--conversation -");
  command->callback(
      [&action, options] { action = with_model(options->source, [options] { return render(*options); }); });
}

}  // namespace odmoe::cli
