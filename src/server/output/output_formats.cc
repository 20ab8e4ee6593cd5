// The table of formats.  What a model is known to write besides what its template shows is here too: other
// spellings of its marks, and forms of its predecessors (docs/server.md says which).
#include <algorithm>
#include <utility>

#include "server/output/output_format.h"

namespace odmoe::server {
namespace {

using CallForm = CallSyntax::Form;

const Marks kThink = {"<think>"};
const Marks kThinkEnd = {"</think>"};

OutputFormat harmony() {
  return {.name = "gpt-oss",
          .example = R"(<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>)",
          .found_by = {{"<|channel|>", "<|message|>", "<|start|>"}},
          .structure = OutputFormat::Structure::kHarmony,
          .tokens = true,
          .thought_open = {"<|channel|>analysis<|message|>"},
          .thought_close = {"<|end|><|start|>assistant"},
          .content_open = {"<|channel|>final<|message|>", "<|channel|>commentary<|message|>"},
          .content_close = {"<|end|>", "<|return|>", "<|start|>assistant"},
          .calls = CallSyntax{.form = CallForm::kNamed,
                              .open = {"<|channel|>commentary to=functions."},
                              .close = {"<|call|>"},
                              .header = {"NAME"},
                              .header_end = {" <|constrain|>json<|message|>"}}};
}

OutputFormat kimi_k3() {
  return {.name = "kimi-k3",
          .example =
              R"(<|open|>call tool="NAME" index="1"<|sep|><|open|>argument key="x" type="number"<|sep|>3)"
              R"(<|close|>argument<|sep|><|close|>call<|sep|>)",
          .found_by = {{"<|open|>", "<|close|>", "<|sep|>"}},
          .tokens = true,
          .thought_open = {"<|open|>think<|sep|>"},
          .thought_close = {"<|close|>think<|sep|>"},
          .content_open = {"<|open|>response<|sep|>"},
          .content_close = {"<|close|>response<|sep|>", "<|close|>message<|sep|>"},
          .calls = CallSyntax{.form = CallForm::kParameters,
                              .list_open = {"<|open|>tools<|sep|>"},
                              .list_close = {"<|close|>tools<|sep|>"},
                              .open = {"<|open|>call tool=\""},
                              .close = {"<|close|>call<|sep|>"},
                              .parameters = {.name_end = "\" index=\"INDEX\"<|sep|>",
                                             .open = "<|open|>argument key=\"",
                                             .key_end = "\"<|sep|>",
                                             .close = "<|close|>argument<|sep|>",
                                             .type_attribute = "type",
                                             .string_type = "string",
                                             .json_type = "object",
                                             .escaped = true}}};
}

OutputFormat solar_open() {
  return {.name = "solar-open",
          .example = "<|tool_call:begin|>ID<|tool_call:name|>NAME<|tool_call:args|>{...}<|tool_call:end|>",
          .found_by = {{"<|tool_call:begin|>"}, {"<|tool_call:name|>"}},
          .tokens = true,
          .thought_open = {"<|think|>"},
          .thought_close = {"<|end|><|begin|>assistant", "<|end|>"},
          .content_open = {"<|content|>"},
          .content_close = {"<|end|>", "<|begin|>assistant", "<|flush|>"},
          .calls = CallSyntax{.form = CallForm::kNamed,
                              .list_open = {"<|tool_calls|>"},
                              .list_close = {"<|calls|>"},
                              .open = {"<|tool_call:begin|>"},
                              .close = {"<|tool_call:end|>"},
                              .header = {"ID<|tool_call:name|>NAME"},
                              .header_end = {"<|tool_call:args|>"}}};
}

// K2, K2-Thinking and K2.5.
OutputFormat kimi_k2() {
  return {.name = "kimi-k2",
          .example = "<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{...}<|tool_call_end|>",
          .found_by = {{"<|tool_call_argument_begin|>"}, {"<|im_middle|>"}},
          .tokens = true,
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.form = CallForm::kNamed,
                              .list_open = {"<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"},
                              .list_close = {"<|tool_calls_section_end|>", "<|tool_call_section_end|>"},
                              .open = {"<|tool_call_begin|>"},
                              .close = {"<|tool_call_end|>"},
                              .header = {"functions.NAME:INDEX", "NAME:INDEX", "functions.NAME", "NAME"},
                              .header_is_id = true,
                              .header_end = {"<|tool_call_argument_begin|>"}}};
}

OutputFormat deepseek_v32() {
  return {.name = "deepseek-v3.2",
          .example = R"(<｜DSML｜invoke name="NAME"><｜DSML｜parameter name="x" string="false">3)"
                     R"(</｜DSML｜parameter></｜DSML｜invoke>)",
          .found_by = {{"｜DSML｜"}},
          .tokens = true,
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.form = CallForm::kParameters,
                              .list_open = {"<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"},
                              .list_close = {"</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"},
                              .open = {"<｜DSML｜invoke name=\""},
                              .close = {"</｜DSML｜invoke>"},
                              .between = "\n",
                              .gap = "\n",
                              .parameters = {.name_end = "\">",
                                             .open = "<｜DSML｜parameter name=\"",
                                             .key_end = "\">",
                                             .close = "</｜DSML｜parameter>",
                                             .type_attribute = "string",
                                             .string_type = "true",
                                             .json_type = "false"}}};
}

// V3 to V3.1: each is read in the form of the other too.
OutputFormat deepseek(bool v31) {
  CallSyntax calls{.form = CallForm::kNamed,
                   .list_open = {"<｜tool▁calls▁begin｜>"},
                   .list_close = {"<｜tool▁calls▁end｜>"},
                   .open = {"<｜tool▁call▁begin｜>"},
                   .close = {"<｜tool▁call▁end｜>"},
                   .header = {"function<｜tool▁sep｜>NAME", "NAME"},
                   .header_end = {"\n```json\n", "<｜tool▁sep｜>"},
                   .arguments_end = {"\n```"}};
  if (v31) {
    calls.header = {"NAME", "function<｜tool▁sep｜>NAME"};
    calls.header_end = {"<｜tool▁sep｜>", "\n```json\n"};
    calls.arguments_end = {"", "\n```"};
  } else {
    calls.between = "\n";
  }
  return {.name = v31 ? "deepseek-v3.1" : "deepseek-v3",
          .example = v31 ? "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜>"
                         : "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\\n```json\\n{...}\\n```"
                           "<｜tool▁call▁end｜>",
          .found_by = v31 ? std::vector<Marks>{{"<｜tool▁sep｜>"}, {"<｜User｜>", "thinking is defined"}}
                          : std::vector<Marks>{{"<｜tool▁sep｜>", "```json"},
                                               {"<｜User｜>", "<think>\\n"},
                                               {"<｜User｜>", "add_generation_prompt and not ns.is_tool"}},
          .tokens = true,
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = std::move(calls)};
}

OutputFormat gemma_4() {
  return {.name = "gemma-4",
          .example = R"(<|tool_call>call:NAME{x:3,y:<|"|>text<|"|>}<tool_call|>)",
          .found_by = {{"<|tool_call>"}},
          .tokens = true,
          .thought_open = {"<|channel>thought\n", "<|channel>thought"},
          .thought_close = {"<channel|>"},
          .calls = CallSyntax{.form = CallForm::kGemma,
                              .open = {"<|tool_call>call:", "<|tool_call>"},
                              .close = {"<tool_call|>"}}};
}

OutputFormat cohere() {
  return {.name = "command-r7b",
          .example = R"(<|START_ACTION|>[{"tool_call_id": "0", "tool_name": NAME, "parameters": {...}}])"
                     R"(<|END_ACTION|>)",
          .found_by = {{"<|START_ACTION|>"}},
          .tokens = true,
          .thought_open = {"<|START_THINKING|>"},
          .thought_close = {"<|END_THINKING|>"},
          .content_open = {"<|START_RESPONSE|>", "<|START_TEXT|>"},
          .content_close = {"<|END_RESPONSE|>", "<|END_TEXT|>"},
          .calls = CallSyntax{.list_open = {},
                              .open = {"<|START_ACTION|>"},
                              .close = {"<|END_ACTION|>"},
                              .between = ",\n    ",
                              .in_list = true,
                              .name_key = "tool_name",
                              .arguments_key = "parameters",
                              .id_key = "tool_call_id",
                              .id_first = true}};
}

OutputFormat command_r_plus() {
  return {.name = "command-r-plus",
          .example = R"(Action:\n```json\n[{"tool_name": NAME, "parameters": {...}}]\n```)",
          .found_by = {{"Action:", "```json", "<|CHATBOT_TOKEN|>"}},
          .calls = CallSyntax{.open = {"Action:\n```json\n", "Action: ```json\n"},
                              .close = {"```"},
                              .between = ",\n",
                              .in_list = true,
                              .name_key = "tool_name",
                              .arguments_key = "parameters"}};
}

OutputFormat apertus() {
  return {.name = "apertus",
          .example = "<|tools_prefix|>[{NAME: {...}}]<|tools_suffix|>",
          .found_by = {{"<|tools_prefix|>"}},
          .tokens = true,
          .thought_open = {"<|inner_prefix|>"},
          .thought_close = {"<|inner_suffix|>"},
          .calls = CallSyntax{.open = {"<|tools_prefix|>"},
                              .close = {"<|tools_suffix|>"},
                              .between = ", ",
                              .in_list = true,
                              .keyed = true}};
}

OutputFormat lfm2() {
  return {.name = "lfm2",
          .example = "<|tool_call_start|>[NAME(x=3)]<|tool_call_end|>",
          .found_by = {{"<|tool_call_start|>"}, {"<|tool_list_start|>"}, {"List of tools: ["}},
          .tokens = true,
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.open = {"<|tool_call_start|>"},
                              .close = {"<|tool_call_end|>"},
                              .between = ", ",
                              .in_list = true,
                              .python = true}};
}

OutputFormat internlm2() {
  return {.name = "internlm2",
          .example = R"(<|action_start|><|plugin|>\n{"name": NAME, "parameters": {...}}<|action_end|>)",
          .found_by = {{"<|action_start|>"}},
          .tokens = true,
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.open = {"<|action_start|><|plugin|>\n", "<|action_start|><|plugin|>",
                                       "<|action_start|> <|plugin|>"},
                              .close = {"<|action_end|>"},
                              .arguments_key = "parameters"}};
}

OutputFormat phi_4_mini() {
  return {.name = "phi-4-mini",
          .example = R"(functools[{"name": NAME, "arguments": {...}}])",
          .found_by = {{"functools"}, {"<|/tool|>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.open = {"functools", "<|tool_call|>"},
                              .close = {"<|/tool_call|>"},
                              .between = ", ",
                              .in_list = true}};
}

OutputFormat granite_3() {
  return {.name = "granite-3",
          .example = R"(<|tool_call|>[{"name": NAME, "arguments": {...}}])",
          .found_by = {{"<|tool_call|>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .content_open = {"<response>"},
          .content_close = {"</response>"},
          .calls = CallSyntax{.open = {"<|tool_call|>", "<tool_call>"},
                              .close = {"</tool_call>"},
                              .between = ", ",
                              .in_list = true}};
}

OutputFormat granite_20b() {
  return {.name = "granite-20b",
          .example = R"(<function_call> {"name": NAME, "arguments": {...}})",
          .found_by = {{"<function_call>"}},
          .calls = CallSyntax{.open = {"<function_call>"}, .close = {"</function_call>"}}};
}

OutputFormat mistral(std::string_view name, std::vector<Marks> found_by, Marks header) {
  const bool named = !header.empty();
  CallSyntax calls{.form = named ? CallForm::kNamed : CallForm::kValues,
                   .open = {"[TOOL_CALLS]"},
                   .between = named ? "" : ", ",
                   .in_list = !named,
                   .id_key = named ? "" : "id",
                   .header = std::move(header)};
  if (named) calls.header_end = {"[ARGS]"};
  return {.name = name,
          .example = !named ? R"([TOOL_CALLS][{"name": NAME, "arguments": {...}, "id": ID}])"
                     : calls.header[0] == "NAME" ? "[TOOL_CALLS]NAME[ARGS]{...}"
                                                 : "[TOOL_CALLS]NAME[CALL_ID]ID[ARGS]{...}",
          .found_by = std::move(found_by),
          .tokens = true,
          .thought_open = {"[THINK]"},
          .thought_close = {"[/THINK]"},
          .calls = std::move(calls)};
}

// Hunyuan's: a list around tags.
OutputFormat hy3() {
  return {.name = "hy3",
          .example =
              "<tool_calls><tool_call>NAME<tool_sep><arg_key>x</arg_key><arg_value>3</arg_value>"
              "</tool_call></tool_calls>",
          .found_by = {{"<tool_sep>", "<arg_key>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.form = CallForm::kParameters,
                              .list_open = {"<tool_calls>"},
                              .list_close = {"</tool_calls>"},
                              .open = {"<tool_call>"},
                              .close = {"</tool_call>"},
                              .between = "\n",
                              .gap = "\n",
                              .parameters = {.name_end = "<tool_sep>",
                                             .open = "<arg_key>",
                                             .key_end = "</arg_key>",
                                             .value_open = "<arg_value>",
                                             .close = "</arg_value>"}}};
}

// GLM-4.5 and 4.6 write lines, 4.7 and 5 do not.
OutputFormat glm(bool lines) {
  return {.name = lines ? "glm-4.5" : "glm-4.7",
          .example = "<tool_call>NAME<arg_key>x</arg_key><arg_value>3</arg_value></tool_call>",
          .found_by = lines ? std::vector<Marks>{{"</arg_key>\n<arg_value>"},
                                                 {"</arg_key>\\n<arg_value>"},
                                                 {"<arg_key>", "\n<arg_value>"}}
                            : std::vector<Marks>{{"<arg_key>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .content_open = {"<answer>"},
          .content_close = {"</answer>"},
          .calls = CallSyntax{.form = CallForm::kParameters,
                              .open = {"<tool_call>"},
                              .close = {"</tool_call>"},
                              .between = lines ? "\n" : "",
                              .gap = lines ? "\n" : "",
                              .parameters = {.open = "<arg_key>",
                                             .key_end = "</arg_key>",
                                             .value_open = "<arg_value>",
                                             .close = "</arg_value>"}}};
}

OutputFormat minimax_m2() {
  return {
      .name = "minimax-m2",
      .example = R"(<minimax:tool_call><invoke name="NAME"><parameter name="x">3</parameter></invoke>)"
                 R"(</minimax:tool_call>)",
      .found_by = {{"<minimax:tool_call>"}},
      .thought_open = kThink,
      .thought_close = kThinkEnd,
      .calls = CallSyntax{
          .form = CallForm::kParameters,
          .list_open = {"<minimax:tool_call>"},
          .list_close = {"</minimax:tool_call>"},
          .open = {"<invoke name=\""},
          .close = {"</invoke>"},
          .between = "\n",
          .gap = "\n",
          .parameters = {
              .name_end = "\">", .open = "<parameter name=\"", .key_end = "\">", .close = "</parameter>"}}};
}

OutputFormat minicpm5() {
  return {.name = "minicpm5",
          .example = R"(<function name="NAME"><param name="x">3</param></function>)",
          .found_by = {{"<function name=\"", "<param name=\""}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.form = CallForm::kParameters,
                              .open = {"<function name=\""},
                              .close = {"</function>"},
                              .between = "\n",
                              .parameters = {.name_end = "\">",
                                             .open = "<param name=\"",
                                             .key_end = "\">",
                                             .close = "</param>",
                                             .cdata = true}}};
}

// <function=NAME><parameter=x>3</parameter></function>, within marks of its own.
CallSyntax function_tags(Marks list_open, Marks list_close, std::string_view pad) {
  return {.form = CallForm::kParameters,
          .list_open = std::move(list_open),
          .list_close = std::move(list_close),
          .open = {"<function="},
          .close = {"</function>"},
          .between = "\n",
          .gap = "\n",
          .list_each = true,
          .parameters = {
              .name_end = ">", .open = "<parameter=", .key_end = ">", .close = "</parameter>", .pad = pad}};
}

OutputFormat seed_oss() {
  return {.name = "seed-oss",
          .example = "<seed:tool_call><function=NAME><parameter=x>3</parameter></function></seed:tool_call>",
          .found_by = {{"<seed:tool_call>"}},
          .thought_open = {"<seed:think>"},
          .thought_close = {"</seed:think>"},
          .calls = function_tags({"<seed:tool_call>"}, {"</seed:tool_call>"}, "")};
}

// Qwen3-Coder, Qwen3.5, Nemotron 3 and Step 3.5.
OutputFormat qwen3_coder() {
  return {.name = "qwen3-coder",
          .example = "<tool_call><function=NAME><parameter=x>3</parameter></function></tool_call>",
          .found_by = {{"<tool_call>", "<function=", "<parameter="}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = function_tags({"<tool_call>"}, {"</tool_call>"}, "\n")};
}

OutputFormat functionary_31() {
  return {.name = "functionary-v3.1",
          .example = "<function=NAME>{...}</function>",
          .found_by = {{"<function="}},
          .calls = CallSyntax{.form = CallForm::kNamed,
                              .open = {"<function="},
                              .close = {"</function>"},
                              .header = {"NAME"},
                              .header_end = {">"}}};
}

OutputFormat functionary_32() {
  return {.name = "functionary-v3.2",
          .example = ">>>NAME\\n{...}",
          .found_by = {{">>>all"}, {"'>>>'"}, {"<|end_header_id|>\\n\\n>>>"}, {"<|end_header_id|>\n\n>>>"}},
          .tokens = true,
          .begins_with = ">>>",
          .content_open = {">>>all\n"},
          .calls = CallSyntax{
              .form = CallForm::kNamed, .open = {">>>"}, .header = {"NAME"}, .header_end = {"\n"}}};
}

OutputFormat nemotron_nano_2() {
  return {.name = "nemotron-nano-v2",
          .example = R"(<TOOLCALL>[{"name": NAME, "arguments": {...}}]</TOOLCALL>)",
          .found_by = {{"<TOOLCALL>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls =
              CallSyntax{.open = {"<TOOLCALL>"}, .close = {"</TOOLCALL>"}, .between = ", ", .in_list = true}};
}

// <tool_calls>[...]</tool_calls>, or with the objects in lines.
CallSyntax tool_calls_list(bool in_list, std::string_view between) {
  return {.open = {"<tool_calls>"}, .close = {"</tool_calls>"}, .between = between, .in_list = in_list};
}

OutputFormat apriel() {
  return {.name = "apriel",
          .example = R"(<tool_calls>[{"name": NAME, "arguments": {...}}]</tool_calls>)",
          .found_by = {{"[BEGIN FINAL RESPONSE]"}},
          .thought_open = {"Here are my reasoning steps:\n"},
          .thought_close = {"[BEGIN FINAL RESPONSE]"},
          .content_close = {"[END FINAL RESPONSE]"},
          .calls = tool_calls_list(true, ", ")};
}

OutputFormat hunyuan() {
  return {.name = "hunyuan",
          .example = R"(<tool_calls>[{"name": NAME, "arguments": {...}}]</tool_calls>)",
          .found_by = {{"<tool_calls>", "助手"}, {"<tool_calls>", "<|hy_"}, {"<tool_calls>", "hunyuan"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .content_open = {"<answer>", "助手："},
          .content_close = {"</answer>"},
          .calls = tool_calls_list(true, ", ")};
}

// Jamba, MiniMax-M1 and others.
OutputFormat tool_calls() {
  return {.name = "jamba",
          .example = R"(<tool_calls>[{"name": NAME, "arguments": {...}}]</tool_calls>)",
          .found_by = {{"<tool_calls>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = tool_calls_list(true, ",\n    ")};
}

OutputFormat olmo_3() {
  return {.name = "olmo-3",
          .example = "<function_calls>\\nNAME(x=3)\\n</function_calls>",
          .found_by = {{"<function_calls>"}},
          .thought_open = kThink,
          .thought_close = kThinkEnd,
          .calls = CallSyntax{.list_open = {"<function_calls>"},
                              .list_close = {"</function_calls>"},
                              .between = "\n",
                              .gap = "\n",
                              .python = true}};
}

OutputFormat pythonic() {
  return {.name = "pythonic",
          .example = "[NAME(x=3)]",
          .found_by = {{"[func_name1("}, {"[func_name("}, {"[function_name("}},
          .calls = CallSyntax{.open = {"<|python_start|>", "<|python_tag|>"},
                              .close = {"<|python_end|>"},
                              .between = ", ",
                              .in_list = true,
                              .python = true,
                              .bare = true}};
}

OutputFormat llama_3() {
  return {
      .name = "llama-3",
      .example = R"({"name": NAME, "parameters": {...}})",
      .found_by = {{"dictionary of argument name and its value"}, {"<|python_tag|>"}, {"<|python_start|>"}},
      .calls = CallSyntax{.open = {"<|python_tag|>", "<|python_start|>"},
                          .close = {"<|python_end|>"},
                          .between = "; ",
                          .bare = true,
                          .arguments_key = "parameters"}};
}

// Qwen, Hermes, Granite 4, Falcon-H1, Bielik and many others; ChatML without words for tools is taken for it.
OutputFormat hermes() {
  return {
      .name = "hermes",
      .example = R"(<tool_call>\n{"name": NAME, "arguments": {...}}\n</tool_call>)",
      .found_by = {{"<tool_call>"}, {"<|im_start|>"}},
      .thought_open = kThink,
      .thought_close = kThinkEnd,
      .calls = CallSyntax{.open = {"<tool_call>"}, .close = {"</tool_call>"}, .between = "\n", .gap = "\n"}};
}

OutputFormat plain() {
  return {.name = "plain",
          .example = "",
          .found_by = {},
          .thought_open = {"<think>", "[THINK]", "<thinking>"},
          .thought_close = {"</think>", "[/THINK]", "</thinking>"}};
}

}  // namespace

const std::vector<OutputFormat>& output_formats() {
  // The most particular marks first.
  static const std::vector<OutputFormat> formats = {
      kimi_k3(),
      solar_open(),
      kimi_k2(),
      deepseek_v32(),
      deepseek(false),
      deepseek(true),
      harmony(),
      gemma_4(),
      cohere(),
      command_r_plus(),
      apertus(),
      lfm2(),
      internlm2(),
      phi_4_mini(),
      granite_3(),
      granite_20b(),
      mistral("mistral-small-3.2", {{"[CALL_ID]"}}, {"NAME[CALL_ID]ID", "NAME"}),
      mistral("mistral-v11", {{"[TOOL_CALLS]", "[ARGS]"}}, {"NAME", "NAME[CALL_ID]ID"}),
      mistral("mistral-nemo", {{"[TOOL_CALLS]"}}, {}),
      hy3(),
      glm(true),
      glm(false),
      minimax_m2(),
      minicpm5(),
      seed_oss(),
      qwen3_coder(),
      functionary_31(),
      functionary_32(),
      nemotron_nano_2(),
      apriel(),
      hunyuan(),
      tool_calls(),
      olmo_3(),
      pythonic(),
      llama_3(),
      hermes(),
      plain(),
  };
  return formats;
}

ModelOutput output_of_template(std::string_view jinja) {
  const auto has = [&](std::string_view text) { return jinja.contains(text); };
  const std::vector<OutputFormat>& formats = output_formats();
  const auto found = std::ranges::find_if(formats, [&](const OutputFormat& format) {
    return std::ranges::any_of(format.found_by,
                               [&](const Marks& texts) { return std::ranges::all_of(texts, has); });
  });
  const OutputFormat& format = found == formats.end() ? formats.back() : *found;
  const bool thinks = std::ranges::any_of(format.thought_open, has) ||
                      std::ranges::any_of(format.thought_close, has) ||
                      format.structure == OutputFormat::Structure::kHarmony;
  return {.format = &format, .thinks = thinks};
}

const OutputFormat* find_output_format(std::string_view name) {
  const auto found = std::ranges::find(output_formats(), name, &OutputFormat::name);
  return found == output_formats().end() ? nullptr : &*found;
}

std::string known_call_formats() {
  std::string names;
  for (const OutputFormat& format : output_formats()) {
    if (!format.calls) continue;
    if (!names.empty()) names += ", ";
    names += format.name;
  }
  return names;
}

bool is_mark(const OutputFormat& format, std::string_view token) {
  if (token.empty()) return false;
  const auto within = [&](const Marks& marks) {
    return std::ranges::any_of(marks, [&](std::string_view mark) { return mark.contains(token); });
  };
  if (within(format.thought_open) || within(format.thought_close) || within(format.content_open) ||
      within(format.content_close)) {
    return true;
  }
  if (!format.calls) return false;
  const CallSyntax& calls = *format.calls;
  const ParameterSyntax& parameters = calls.parameters;
  return within(calls.list_open) || within(calls.list_close) || within(calls.open) || within(calls.close) ||
         within(calls.header) || within(calls.header_end) ||
         within({parameters.name_end, parameters.open, parameters.key_end, parameters.value_open,
                 parameters.close}) ||
         (calls.form == CallForm::kGemma && token == "<|\"|>");
}

}  // namespace odmoe::server
