// odmoe tokenize: the tokens of a text, and the text of tokens.
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "format/checkpoint.h"
#include "format/printable.h"
#include "model/left_over.h"
#include "model/tokenizer/tokenizer.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct TokenizeOptions {
  std::string model;
  std::string text;
  std::string text_file;
  bool has_text = false;
  bool add_special = false, no_parse_special = false;
  bool decode = false;
  bool json = false, pieces = false;
};

Result<std::string> read_input(const TokenizeOptions& options) {
  if (options.has_text) return options.text;
  if (options.text_file.empty() || options.text_file == "-") return read_standard_input();
  return read_file(options.text_file);
}

// Only the tokenizer is made, so only its keys are looked at.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& path) {
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(path));
  Account account(*file);
  ODMOE_ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::create(account));
  ODMOE_RETURN_IF_ERROR(check_tokenizer_keys(account, path));
  return tokenizer;
}

// Numbers with anything between that a list of them is written with: "1 2", "[1, 2]".
Result<std::vector<Token>> parse_tokens(std::string_view text, int32_t n_vocab) {
  std::vector<Token> tokens;
  while (true) {
    const size_t begin = text.find_first_not_of(" \t\r\n,[]");
    if (begin == std::string_view::npos) return tokens;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(" \t\r\n,[]"));
    Token token = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), token);
    if (error != std::errc() || end != word.data() + word.size() || token < 0) {
      return fail(ErrorKind::kUsage, "'{}' is not a token id: --decode takes numbers", printable(word, 40));
    }
    if (token >= n_vocab) {
      return fail(ErrorKind::kUsage, "token {} is beyond the vocabulary, which has {}", token, n_vocab);
    }
    tokens.push_back(token);
    text.remove_prefix(word.size());
  }
}

// A text as JSON has it; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string listed(const std::vector<Token>& tokens, const TokenizeOptions& options,
                   const Tokenizer& tokenizer) {
  if (options.json) return nlohmann::json(tokens).dump() + "\n";
  std::string text;
  for (const Token token : tokens) {
    if (options.pieces) {
      const std::string bytes = tokenizer.token_bytes(token, /*special=*/true);
      text += odmoe::format("{:>7}  '{}'\n", token, printable(bytes, bytes.size() * 4));
    } else {
      text += (text.empty() ? "" : " ") + std::to_string(token);
    }
  }
  return options.pieces ? text : text + "\n";
}

Result<int> tokenize(const TokenizeOptions& options) {
  ODMOE_ASSIGN_OR_RETURN(const auto tokenizer, open_tokenizer(options.model));
  ODMOE_ASSIGN_OR_RETURN(const std::string input, read_input(options));
  std::string text;
  if (options.decode) {
    ODMOE_ASSIGN_OR_RETURN(const auto tokens, parse_tokens(input, tokenizer->n_vocab()));
    text = tokenizer->decode(tokens, /*special=*/true);
    if (options.json) text = json_text(text) + "\n";
  } else {
    const EncodeLimits limits{.goes_on = [] { return !interrupt::pending(); }};
    ODMOE_ASSIGN_OR_RETURN(
        const auto tokens,
        tokenizer->encode(
            input, {.add_special = options.add_special, .parse_special = !options.no_parse_special}, limits));
    text = listed(tokens, options, *tokenizer);
  }
  Output output = Output::standard_output();
  (void)output.write(text);
  return output.exit_code();
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  const auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text, or the text of tokens");
  command->add_option("MODEL", options->model, kModelHelp)->type_name("FILE")->required();
  CLI::Option* text = command
                          ->add_option_function<std::string>(
                              "-p,--prompt",
                              [options](const std::string& value) {
                                options->text = value;
                                options->has_text = true;
                              },
                              "The text")
                          ->type_name("TEXT")
                          ->group("Text");
  command->add_option("-f,--file", options->text_file, "The text, byte for byte; -: standard input")
      ->type_name("FILE")
      ->group("Text")
      ->excludes(text);
  CLI::Option* add_special =
      command->add_flag("--add-special", options->add_special, "Add BOS and EOS where the vocabulary does")
          ->group("Text");
  CLI::Option* no_parse = command
                              ->add_flag("--no-parse-special", options->no_parse_special,
                                         "Control tokens that are spelt out are text like any other")
                              ->group("Text");
  CLI::Option* decode = command
                            ->add_flag("--decode", options->decode,
                                       "The other way: take ids, write their text, control tokens spelt out")
                            ->excludes(add_special)
                            ->excludes(no_parse)
                            ->group("Text");
  CLI::Option* json = command->add_flag("--json", options->json, "One array of ids; with --decode one string")
                          ->group("Report");
  command->add_flag("--pieces", options->pieces, "A token per line, with its text; bytes as \\x1b")
      ->excludes(json)
      ->excludes(decode)
      ->group("Report");
  command->footer(
      "Without -p and -f the text comes from standard input. Ids are written on one line.\n"
      "\n"
      "Examples:\n"
      "  odmoe tokenize model.gguf -p 'Hello, world!' --pieces\n"
      "  odmoe tokenize model.gguf -f prompt.txt --add-special --json | jq length\n"
      "  odmoe tokenize model.gguf --decode -p '9906 11 1917 0'");
  command->callback(
      [&action, options] { action = with_model(options->model, [options] { return tokenize(*options); }); });
}

}  // namespace odmoe::cli
